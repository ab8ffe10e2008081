//! Scenario: spans without a usable id, or with a parent or a link that has none, bytes that are no OTLP, requests over the size limit, media types and paths that
//! are not served; over gRPC and over HTTP, compressed and not.
//! Guarantees: bad spans are refused by partial success and their neighbours kept; every refusal has the code that makes
//! a sender do the right thing, and none of those for good asks it to come again.

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    trace::v1::{Span, span::Link},
};
use prost::Message;
use reqwest::Response;
use tonic::{
    Code,
    codec::CompressionEncoding::{Gzip, Zstd},
    metadata::MetadataMap,
    transport::Endpoint,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracestitch::wire::status::retry_delay;

use crate::support::{self, Setup, World, http};

const SMALL: &str = "max_request_size: 64KiB";
/// No start of a protobuf message.
const GARBAGE: &[u8] = b"\xff\xff no OTLP";

/// Seven spans of which only the second can be kept, and that one.
fn mostly_bad() -> (ExportTraceServiceRequest, Span) {
    let spans = support::spans(1, 7);
    let [first, good, third, fourth, fifth, sixth, seventh] = spans.try_into().expect("seven");
    let link = |trace_id: usize, span_id: usize| Link {
        trace_id: vec![1; trace_id],
        span_id: vec![1; span_id],
        ..Link::default()
    };
    let good = Span { links: vec![link(16, 8), link(0, 0)], ..good };
    let bad = [
        Span { trace_id: vec![0; 16], ..first },
        good.clone(),
        Span { trace_id: vec![1; 15], ..third },
        Span { span_id: vec![0; 8], ..fourth },
        Span { parent_span_id: vec![1; 4], ..fifth },
        Span { links: vec![link(16, 8), link(15, 8)], ..sixth },
        Span { links: vec![link(16, 16)], ..seventh },
    ];
    (support::request("shop", bad.to_vec()), good)
}

fn too_large() -> Vec<u8> {
    let mut spans = support::spans(1, 1);
    spans[0].attributes.push(support::text("large", &"x".repeat(100_000)));
    support::request("shop", spans).encode_to_vec()
}

fn assert_partial(answer: impl bytes::Buf) {
    let answer = ExportTraceServiceResponse::decode(answer).expect("an answer");
    let partial = answer.partial_success.expect("a partial success");
    assert_eq!(partial.rejected_spans, 6);
    assert!(partial.error_message.contains("trace id"), "{}", partial.error_message);
}

/// So many requests ended like this.
fn ended(world: &World, transport: &str, outcome: &str) -> u64 {
    let labels = format!("receiver=\"otlp\",transport=\"{transport}\",outcome=\"{outcome}\"");
    world.metric(&format!("tracestitch_receiver_requests_total{{{labels}}}"))
}

#[tokio::test]
async fn bad_spans_are_refused_alone_over_grpc() {
    let world = World::start(Setup { receiver: SMALL, ..Setup::without_deepflow() }).await;
    let (request, good) = mostly_bad();
    let answer = world.sender.send(&request).await.expect("taken in part");
    assert_partial(answer);

    let send = async |sender: &tracestitch::demo::sender::Sender, body: Vec<u8>| {
        sender.send_raw(body.into(), MetadataMap::new()).await.expect_err("refused")
    };
    let status = send(&world.sender, GARBAGE.to_vec()).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let senders = [
        world.sender.clone(),
        support::sender(&world.pipeline).compressing(Gzip),
        support::sender(&world.pipeline).compressing(Zstd),
    ];
    for sender in &senders {
        let status = send(sender, too_large()).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(retry_delay(&status), None, "or it would be sent again for ever");
    }
    let fine = [2, 3, 4].map(|id| support::trace(id, 2));
    for (sender, request) in senders.iter().zip(&fine) {
        assert!(sender.send(request).await.expect("the request is taken").is_empty());
    }

    let mut sent = vec![good];
    sent.extend(fine.iter().flat_map(support::spans_of));
    world.settled(sent.len()).await;
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    let outcomes = ["accepted", "partial", "refused", "malformed", "too_large"];
    let counted = outcomes.map(|outcome| ended(&world, "grpc", outcome));
    assert_eq!(counted, [3, 1, 0, 1, 3]);
    for (reason, spans) in [("trace_id", 2), ("span_id", 1), ("other_id", 3)] {
        let labels = format!("receiver=\"otlp\",transport=\"grpc\",reason=\"{reason}\"");
        let series = format!("tracestitch_receiver_rejected_spans_total{{{labels}}}");
        assert_eq!(world.metric(&series), spans, "{reason}");
    }
    world.end(&[]).await;
}

/// An SDK's usual mistake.
#[tokio::test]
async fn otlp_http_at_the_port_of_grpc_is_told_so() {
    let world = World::start(Setup::without_deepflow()).await;
    let address = world.pipeline.grpc().expect("OTLP/gRPC is on");
    let post = http::client().post(format!("http://{address}/v1/traces"));
    let post = post.header("content-type", "application/x-protobuf");
    let answer = post.body(support::trace(1, 1).encode_to_vec()).send().await.expect("an answer");
    assert_eq!(answer.status(), 415);
    let text = answer.text().await.expect("a text");
    assert!(text.contains("usually 4318"), "{text}");
    assert_eq!(ended(&world, "grpc", "malformed"), 1);
    world.end(&[]).await;
}

#[tokio::test]
async fn grpc_health_says_serving_until_the_end_begins() {
    let world = World::start(Setup::without_deepflow()).await;
    let address = world.pipeline.grpc().expect("OTLP/gRPC is on");
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URL").connect_lazy();
    let mut health = HealthClient::new(channel);
    for service in ["", "opentelemetry.proto.collector.trace.v1.TraceService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.expect("an answer").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    // Who watches keeps a request under way, and is told before it is cut off.
    let service = "opentelemetry.proto.collector.trace.v1.TraceService".to_owned();
    let watch = health.watch(HealthCheckRequest { service }).await;
    let mut told = watch.expect("an answer").into_inner();
    let first = told.message().await.expect("an answer").expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    let last = async {
        let last = told.message().await.expect("an answer").expect("a status");
        drop((told, health));
        last.status()
    };
    let ((), last) = tokio::join!(world.end(&[]), last);
    assert_eq!(last, ServingStatus::NotServing);
}

#[tokio::test]
async fn bad_spans_are_refused_alone_over_http() {
    let world = World::start(Setup { receiver: SMALL, ..Setup::without_deepflow() }).await;
    let client = http::client();
    let (request, good) = mostly_bad();
    let response = http::post(&client, &world, request.encode_to_vec()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(http::header(&response, "content-type"), http::PROTOBUF);
    assert_partial(response.bytes().await.expect("a body"));

    let fine = [2, 3, 4, 5].map(|id| support::trace(id, 2));
    let bodies = fine.each_ref().map(Message::encode_to_vec);
    let encodings = ["identity", "gzip", "zstd", "deflate"];
    for (encoding, body) in encodings.iter().zip(&bodies) {
        let response = post(&client, &world, encoding, http::compressed(encoding, body)).await;
        assert_eq!(response.status(), 200, "{encoding}");
        assert!(response.bytes().await.expect("a body").is_empty(), "{encoding}");
    }

    for encoding in encodings {
        let response = post(&client, &world, encoding, http::compressed(encoding, GARBAGE)).await;
        http::refused(response, 400, Code::InvalidArgument).await;
        let response =
            post(&client, &world, encoding, http::compressed(encoding, &too_large())).await;
        http::refused(response, 413, Code::ResourceExhausted).await;
    }
    for encoding in ["gzip", "zstd", "deflate"] {
        let response = post(&client, &world, encoding, GARBAGE.to_vec()).await;
        http::refused(response, 400, Code::InvalidArgument).await;
    }
    for encoding in ["br", "gzip, gzip"] {
        let response = post(&client, &world, encoding, GARBAGE.to_vec()).await;
        http::refused(response, 415, Code::InvalidArgument).await;
    }
    let twice = http::to(&client, &world, http::PROTOBUF).header("content-encoding", "gzip");
    let response = http::send(twice.header("content-encoding", "gzip"), GARBAGE).await;
    http::refused(response, 415, Code::InvalidArgument).await;
    let response = http::send(http::to(&client, &world, "text/plain"), "{}").await;
    http::refused(response, 415, Code::InvalidArgument).await;
    let metrics = http::url(&world).replace("/v1/traces", "/v1/metrics");
    let response = client.post(metrics).body("").send().await.expect("an answer");
    http::refused(response, 404, Code::Unimplemented).await;
    let response = client.get(http::url(&world)).send().await.expect("an answer");
    http::refused(response, 405, Code::InvalidArgument).await;

    let mut sent = vec![good];
    sent.extend(fine.iter().flat_map(support::spans_of));
    world.settled(sent.len()).await;
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    let outcomes = ["accepted", "partial", "refused", "malformed", "too_large"];
    let counted = outcomes.map(|outcome| ended(&world, "http", outcome));
    assert_eq!(counted, [4, 1, 0, 11, 4]);
    world.end(&[]).await;
}

async fn post(client: &reqwest::Client, world: &World, encoding: &str, body: Vec<u8>) -> Response {
    let request = http::to(client, world, http::PROTOBUF).header("content-encoding", encoding);
    http::send(request, body).await
}
