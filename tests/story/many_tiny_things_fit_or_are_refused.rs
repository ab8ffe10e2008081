//! Scenario: requests of a few MB that hold a million of something: spans of two bytes, empty resources, spans that are each
//! a trace, or one large resource that each of thousands of traces would take along.
//! Guarantees: what can't fit is refused for good before it takes memory, what fits goes through; memory stays within its
//! limit, and the next request is taken.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tonic::{Code, metadata::MetadataMap};
use tracestitch::wire::{Encoding, PartialSuccess, status::retry_delay};

use crate::support::{self, Setup, World, highest};

const MILLION: usize = 1_000_000;

/// With a thousand spans of any trace, so that they are put together at once.
async fn world(limit: &'static str) -> World {
    World::start(Setup { memory: limit, buffer: "idle: 50ms", ..Setup::without_deepflow() }).await
}

/// What was rejected of a request that is taken, or the status it was refused with. Memory is looked at on the way.
async fn sent(world: &World, request: Bytes) -> Result<u64, tonic::Status> {
    let budget = &world.watched().budget;
    let (highest, answer) =
        highest(budget, world.sender.send_raw(request, MetadataMap::new())).await;
    assert!(highest <= budget.limit_bytes(), "{highest} bytes of {}", budget.limit_bytes());
    Ok(PartialSuccess::of_response(Encoding::Protobuf, &answer?).rejected_spans)
}

fn is_refused_for_good(answer: Result<u64, tonic::Status>) {
    let status = answer.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(retry_delay(&status), None);
    assert!(status.message().contains("smaller batches"), "{status}");
}

async fn goes_on(world: World, spans: usize) {
    world.send(&support::trace(77, 2)).await;
    world.settled(spans + 2).await;
    world.end(&[]).await;
}

/// Of one scope.
fn request(resources: usize, spans: &[u8]) -> Bytes {
    let mut scope = ScopeSpans::default().encode_to_vec();
    scope.extend(spans);
    let resource = ResourceSpans {
        scope_spans: vec![ScopeSpans::decode(scope.as_slice()).expect("spans")],
        ..ResourceSpans::default()
    };
    let mut request = ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec();
    request.extend(b"\x0a\x00".repeat(resources));
    request.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_spans_are_counted_or_refused() {
    let tiny = request(0, &b"\x12\x00".repeat(MILLION));
    let small = world("limit: 64MiB").await;
    is_refused_for_good(sent(&small, tiny.clone()).await);
    goes_on(small, 0).await;
    let large = world("limit: 2GiB").await;
    assert_eq!(sent(&large, tiny).await.ok(), u64::try_from(MILLION).ok());
    goes_on(large, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_resources_are_passed_over_or_refused() {
    let empty = request(MILLION, b"");
    let small = world("limit: 64MiB").await;
    is_refused_for_good(sent(&small, empty.clone()).await);
    goes_on(small, 0).await;
    let large = world("limit: 1GiB").await;
    assert_eq!(sent(&large, empty).await.ok(), Some(0));
    goes_on(large, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_traces_of_one_span_go_through() {
    let spans = 100_000;
    let many = (1..=spans).map(|trace| tiny(u128::try_from(trace).expect("small")));
    let many = support::request("shop", many.collect()).encode_to_vec().into();
    let world = world("limit: 2GiB").await;
    assert_eq!(sent(&world, many).await.ok(), Some(0));
    goes_on(world, spans).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_resource_is_not_multiplied_beyond_memory() {
    let spans = (1..=10_000).map(tiny).collect();
    let mut many = support::request("shop", spans);
    let resource = many.resource_spans[0].resource.as_mut().expect("a resource");
    resource.attributes.push(support::text("large", &"x".repeat(1024 * 1024)));
    let world = world("limit: 256MiB").await;
    is_refused_for_good(sent(&world, many.encode_to_vec().into()).await);
    goes_on(world, 0).await;
}

/// A trace of one span that says nothing.
fn tiny(trace: u128) -> Span {
    Span { trace_id: trace.to_be_bytes().to_vec(), span_id: vec![1; 8], ..Span::default() }
}
