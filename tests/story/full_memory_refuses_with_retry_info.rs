//! Scenario: the backend is down and senders go on until memory is full.
//! Guarantees: they are told to come again later, over gRPC by UNAVAILABLE with `RetryInfo` and over HTTP by 503 with
//! Retry-After; what was acknowledged is delivered when the backend is back, once, and then spans are taken again.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::{Code, metadata::MetadataMap};
use tracestitch::{
    demo::backend::BackendFault,
    wire::status::{RpcStatus, retry_delay},
};

use crate::support::{self, Setup, World, http};

/// The smallest limit there is.
const MEMORY: &str = "limit: 64MiB";
const REQUEST_BYTES: usize = 1024 * 1024;
const REQUESTS_MAX: usize = 100;

#[tokio::test]
async fn full_memory_refuses_with_retry_info() {
    let setup = Setup { memory: MEMORY, ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    world.backend.set_fault(BackendFault::Unavailable);
    let mut acknowledged = Vec::new();
    let mut requests = (1..).map(large).take(REQUESTS_MAX);

    let refused = loop {
        let request = requests.next().expect("memory gets full at last");
        match world.sender.send(&request).await {
            Ok(_) => acknowledged.extend(support::spans_of(&request)),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let delay = retry_delay(&refused).expect("a RetryInfo");
    assert!(!delay.is_zero());
    assert!(acknowledged.len() >= 20, "not before memory is full: {}", acknowledged.len());

    let client = http::client();
    let response = loop {
        let request = requests.next().expect("memory gets full at last");
        let response = http::post(&client, &world, request.encode_to_vec()).await;
        match response.status().as_u16() {
            200 => acknowledged.extend(support::spans_of(&request)),
            _ => break response,
        }
    };
    assert_eq!(response.status(), 503);
    let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    assert!(seconds.and_then(|seconds| seconds.parse().ok()).is_some_and(|s: u64| s > 0));
    let body = response.bytes().await.expect("a body");
    let status = RpcStatus::decode(body).expect("a google.rpc.Status");
    assert_eq!(status.code, Code::Unavailable as i32);
    assert!(retry_delay(&status.into_tonic()).is_some());
    for transport in ["grpc", "http"] {
        let refused = format!(
            "tracestitch_receiver_requests_total{{receiver=\"otlp\",transport=\"{transport}\",outcome=\"refused\"}}"
        );
        assert_eq!(world.metric(&refused), 1);
    }
    let used: u64 = world.watched().budget.used_bytes();
    assert!(used <= world.watched().budget.limit_bytes(), "{used}");

    world.backend.set_fault(BackendFault::None);
    world.settled(acknowledged.len()).await;
    let again = requests.next().expect("there is another one");
    world.send(&again).await;
    acknowledged.extend(support::spans_of(&again));
    world.settled(acknowledged.len()).await;
    let added = support::assert_arrived(&acknowledged, support::spans_at(&world.backend));
    assert_eq!(added, [], "what was refused was not kept");
    world.end(&[]).await;
}

/// Scenario: a sender that announces a large request and goes away in the middle of it.
/// Guarantees: the memory that was taken for it is given back.
#[tokio::test]
async fn who_goes_away_leaves_no_memory_taken() {
    let world = World::start(Setup { memory: MEMORY, ..Setup::without_deepflow() }).await;
    let used = || world.watched().budget.used_bytes();
    let address = world.pipeline.http().expect("OTLP/HTTP is on");
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: story\r\ncontent-type: application/x-protobuf\r\n\
                content-length: 10000000\r\n\r\n";
    connection.write_all(head.as_bytes()).await.expect("it is read");
    connection.write_all(&vec![0; 2 * REQUEST_BYTES]).await.expect("it is read");
    let announced = u64::try_from(REQUEST_BYTES).expect("not so many");
    support::until("memory is taken for what was read", || used() > announced).await;
    drop(connection);
    support::until("it is given back", || used() == 0).await;
    world.end(&[]).await;
}

/// Scenario: a limit of memory below the limit of a request; requests that just fit, and ones that never do.
/// Guarantees: the former are taken, the latter refused for good.
#[tokio::test]
async fn what_never_fits_is_not_to_come_again() {
    let setup =
        Setup { memory: MEMORY, receiver: "max_request_size: 128MiB", ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    let client = http::client();
    let sized = |megabytes: usize| {
        let mut request = large(1);
        let spans = &mut request.resource_spans[0].scope_spans[0].spans;
        spans[0].attributes.push(support::text("larger", &"x".repeat(megabytes * REQUEST_BYTES)));
        request.encode_to_vec()
    };
    assert_eq!(http::post(&client, &world, sized(26)).await.status(), 200);
    world.settled(1).await;
    // Spans have 38 MB of that limit, and those of new traces the first three quarters.
    for megabytes in [34, 64] {
        let body = sized(megabytes);
        let response = http::post(&client, &world, body.clone()).await;
        http::refused(response, 413, Code::ResourceExhausted).await;
        let sent = world.sender.send_raw(body.into(), MetadataMap::new()).await;
        let status = sent.expect_err("refused");
        assert_eq!((status.code(), retry_delay(&status)), (Code::ResourceExhausted, None));
    }
    world.end(&[]).await;
}

fn large(trace: u128) -> ExportTraceServiceRequest {
    let mut spans = support::spans(trace, 1);
    spans[0].attributes.push(support::text("large", &"x".repeat(REQUEST_BYTES)));
    support::request("shop", spans)
}
