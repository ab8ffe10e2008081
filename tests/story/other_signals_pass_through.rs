//! Scenario: SDKs send metrics and logs to the endpoint of traces, over gRPC and HTTP, in protobuf and JSON; to a pipeline
//! that passes them on to a gRPC or an HTTP destination, which takes them, is overloaded, refuses them, or is slow.
//! Guarantees: they arrive byte for byte, once; the destination's answer comes back with its code, its delay and what it
//! refuses; a slow destination never takes the traces' place; everything is counted.

use bytes::Bytes;
use prost::Message as _;
use reqwest::{RequestBuilder, Response};
use tonic::{Code, Status, codec::CompressionEncoding, metadata::MetadataMap};
use tracestitch::{
    pipeline::Pipeline,
    trace::Signal,
    wire::status::{RpcStatus, retry_delay},
};

use crate::support::{
    self, Setup, World,
    http::{self, JSON, PROTOBUF},
    http_backend::{Answer, HttpBackend},
};

/// Not a request of any signal: nobody here looks into it.
const BODY: &[u8] = b"\x0a\x03abc, as it came";

struct Scene {
    backend: HttpBackend,
    pipeline: Pipeline,
}

impl Scene {
    /// Passes to an HTTP destination with these keys.
    async fn to_http(keys: &str) -> Self {
        let backend = HttpBackend::start().await;
        let keys = format!("endpoint: '{}', {keys}", backend.url());
        let setup = Setup {
            receiver: "include_metadata: [x-org], forward_other_signals: otlp_http/other",
            only: format!("debug: {{}}, otlp_http/other: {{{keys}}}"),
            ..Setup::without_deepflow()
        };
        let config = setup.config("http://127.0.0.1:9", "http://127.0.0.1:9");
        Self { backend, pipeline: Pipeline::start(&config).await.expect("a pipeline") }
    }

    fn post(&self, path: &str, content_type: &str) -> RequestBuilder {
        let address = self.pipeline.http().expect("OTLP/HTTP is on");
        let request = http::client().post(format!("http://{address}{path}"));
        request.header("content-type", content_type)
    }

    fn counted(&self, what: &str, signal: &str, outcome: &str) -> u64 {
        counted(&self.pipeline, what, signal, outcome)
    }
}

fn counted(pipeline: &Pipeline, what: &str, signal: &str, outcome: &str) -> u64 {
    let labels = format!("receiver=\"otlp\",signal=\"{signal}\",outcome=\"{outcome}\"");
    let series = format!("tracestitch_receiver_passed_{what}_total{{{labels}}}");
    support::metric(&pipeline.watched, &series)
}

async fn call(pipeline: &Pipeline, signal: Signal, body: &[u8]) -> Result<Bytes, Status> {
    let sender = support::sender(pipeline).compressing(CompressionEncoding::Zstd);
    let mut headers = MetadataMap::new();
    headers.insert("x-org", "seven".parse().expect("a text"));
    sender.call(signal.grpc_path(), Bytes::copy_from_slice(body), headers).await
}

fn failure(code: u16, headers: Vec<(&'static str, String)>) -> Answer {
    let body = RpcStatus::new(Code::Unknown, "words of the destination").encode_to_vec();
    let headers = [headers, vec![("content-type", PROTOBUF.to_owned())]].concat();
    Answer { code, headers, body }
}

async fn status(response: Response) -> RpcStatus {
    RpcStatus::decode(response.bytes().await.expect("a body")).expect("a Status")
}

#[tokio::test]
async fn they_arrive_as_they_came() {
    let keys = "compression: gzip, headers: {x-tenant: '${origin:x-org}', x-key: secret}";
    let scene = Scene::to_http(keys).await;
    let answer = Answer {
        code: 200,
        headers: vec![("content-type", PROTOBUF.to_owned())],
        body: b"\x0a\x02\x08\x01".to_vec(),
    };
    scene.backend.answers([answer.clone(), answer.clone()]);
    let answered = call(&scene.pipeline, Signal::Metrics, BODY).await.expect("taken");
    assert_eq!(answered.as_ref(), answer.body);
    let sent = scene.post("/v1/logs", PROTOBUF).header("x-org", "seven");
    let sent = sent.header("content-encoding", "zstd");
    let response = http::send(sent, http::compressed("zstd", BODY)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(http::header(&response, "content-type"), PROTOBUF);
    assert_eq!(response.bytes().await.expect("a body").as_ref(), answer.body);
    let text = r#"{"resourceMetrics": "as it came"}"#;
    let response = http::send(scene.post("/v1/metrics", JSON).header("x-org", "seven"), text).await;
    assert_eq!((response.status().as_u16(), http::header(&response, "content-type")), (200, JSON));
    assert_eq!(response.text().await.expect("a body"), "{}");

    let requests = scene.backend.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/v1/metrics", "/v1/logs", "/v1/metrics"]);
    for (request, body) in requests.iter().zip([BODY, BODY, text.as_bytes()]) {
        assert_eq!(request.plain(), body);
        assert_eq!((request.header("x-tenant"), request.header("x-key")), ("seven", "secret"));
    }
    assert_eq!(requests[2].header("content-type"), JSON);
    let bytes = u64::try_from(BODY.len() + text.len()).expect("small");
    assert_eq!(scene.counted("requests", "metrics", "passed"), 2);
    assert_eq!(scene.counted("bytes", "metrics", "passed"), bytes);
    assert_eq!(scene.counted("requests", "logs", "passed"), 1);
    support::assert_balanced(&scene.pipeline.end().await, &[]);
}

#[tokio::test]
async fn the_answer_of_an_http_destination_comes_back() {
    let scene = Scene::to_http("").await;
    for (http_code, grpc_code) in [
        (429, Code::ResourceExhausted),
        (503, Code::Unavailable),
        (400, Code::InvalidArgument),
        (401, Code::Unauthenticated),
        (413, Code::ResourceExhausted),
        (500, Code::Internal),
    ] {
        let is_retryable = [429, 503].contains(&http_code);
        let delay =
            || if is_retryable { vec![("retry-after", "7".to_owned())] } else { Vec::new() };
        scene.backend.answers([failure(http_code, delay()), failure(http_code, delay())]);
        let response = http::send(scene.post("/v1/metrics", PROTOBUF), BODY).await;
        assert_eq!(response.status(), http_code);
        let retry_after = if is_retryable { "7" } else { "" };
        assert_eq!(http::header(&response, "retry-after"), retry_after, "{http_code}");
        let said = status(response).await;
        assert!(said.message.contains("words of the destination"), "{said:?}");
        let refused = call(&scene.pipeline, Signal::Metrics, BODY).await.expect_err("refused");
        assert_eq!(refused.code(), grpc_code, "{http_code}: {refused}");
        assert_eq!(retry_delay(&refused).map(|delay| delay.as_secs()), is_retryable.then_some(7));
    }
    assert_eq!(scene.backend.requests().len(), 12, "nothing is sent twice");
    assert_eq!(scene.counted("requests", "metrics", "refused"), 4);
    assert_eq!(scene.counted("requests", "metrics", "failed"), 8);
    let Scene { backend, pipeline } = scene;
    drop(backend);
    let gone = call(&pipeline, Signal::Logs, BODY).await.expect_err("nobody is there");
    assert_eq!(gone.code(), Code::Unavailable, "{gone}");
    pipeline.end().await;
}

/// The demo's backend takes traces alone.
#[tokio::test]
async fn the_answer_of_a_grpc_destination_comes_back() {
    let receiver = "forward_other_signals: otlp/backend";
    let world = World::start(Setup { receiver, ..Setup::without_deepflow() }).await;
    let refused = call(&world.pipeline, Signal::Logs, BODY).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
    let client = http::client();
    let url = http::url(&world).replace("traces", "logs");
    let post = client.post(&url).header("content-type", PROTOBUF);
    let response = http::send(post, BODY).await;
    assert_eq!(response.status(), 404);
    assert_eq!(Code::from_i32(status(response).await.code), Code::Unimplemented);
    assert_eq!(counted(&world.pipeline, "requests", "logs", "failed"), 2);

    let post = client.post(&url).header("content-type", JSON);
    let response = http::send(post, "{}").await;
    assert_eq!(response.status(), 415);
    let said = response.text().await.expect("a body");
    assert!(said.contains("send application/x-protobuf"), "{said}");
    world.end(&[]).await;
}

#[tokio::test]
async fn a_slow_destination_leaves_traces_their_place() {
    let receiver = "forward_other_signals: otlp_http/slow, max_request_size: 8MiB";
    // Somebody who listens and never answers.
    let silent = tokio::net::TcpListener::bind(support::ANY_PORT).await.expect("a free port");
    let slow = format!("http://{}", silent.local_addr().expect("an address"));
    let exporters = format!("otlp_http/slow: {{endpoint: '{slow}', timeout: 3s, on_outage: drop}}");
    let setup = Setup {
        receiver,
        exporters,
        memory: "limit: 128MiB",
        drain_timeout: "2s",
        ..Setup::without_deepflow()
    };
    let world = World::start(setup).await;
    let url = http::url(&world).replace("traces", "metrics");
    let large = vec![0; 6 * 1024 * 1024];
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (request, large) = (http::client().post(&url), large.clone());
        senders.spawn(async move {
            let request = request.header("content-type", PROTOBUF);
            http::send(request, large).await.status().as_u16()
        });
    }
    support::until("metrics crowd", || {
        counted(&world.pipeline, "requests", "metrics", "refused") >= 8
    })
    .await;
    let budget = &world.watched().budget;
    assert!(budget.takes_new_traces().is_ok(), "{} bytes are held", budget.used_bytes());
    world.send(&support::trace(1, 2)).await;
    let ended = senders.join_all().await;
    assert!(ended.iter().all(|code| [503, 504].contains(code)), "{ended:?}");
    support::until("traces went out", || world.backend.span_count() == 2).await;
    world.pipeline.end().await;
}

#[tokio::test]
async fn limits_are_those_of_traces() {
    let receiver = "forward_other_signals: otlp/backend, max_request_size: 64KiB";
    let world = World::start(Setup { receiver, ..Setup::without_deepflow() }).await;
    let large = vec![0; 100_000];
    let refused = call(&world.pipeline, Signal::Metrics, &large).await.expect_err("too large");
    assert_eq!((refused.code(), retry_delay(&refused)), (Code::ResourceExhausted, None));
    let url = http::url(&world).replace("traces", "metrics");
    let post = http::client().post(&url).header("content-type", PROTOBUF);
    let response = http::send(post, large).await;
    assert_eq!(response.status(), 413);
    assert_eq!(counted(&world.pipeline, "requests", "metrics", "failed"), 2);
    world.end(&[]).await;
}
