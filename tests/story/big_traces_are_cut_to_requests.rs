//! Scenario: a trace of 11 MiB, in requests of 7 MiB and of 1 MiB.
//! Guarantees: it is woven and arrives whole, every span once, in requests that a backend with the usual limit of 4 MiB
//! takes.

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

const SPANS: u64 = 1_100;
const SPAN_BYTES: usize = 10 * 1024;
const SPANS_IN_FIRST: usize = 700;
const SPANS_PER_REQUEST: usize = 100;
/// The default of `batch.max_size`, and what gRPC servers take.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

#[tokio::test]
async fn big_traces_are_cut_to_requests() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let setup = Setup {
        // A trace's share of it is more than 11 MiB.
        memory: "limit: 512MiB",
        buffer: "idle: 2s",
        deepflow: "timeout: 20s, deadline: 30s, reask: []",
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    let spans: Vec<Span> = (1..=SPANS).map(large).collect();
    let (first, others) = spans.split_at(SPANS_IN_FIRST);
    world.send(&support::request("shop", first.to_vec())).await;
    for part in others.chunks(SPANS_PER_REQUEST) {
        world.send(&support::request("shop", part.to_vec())).await;
    }
    world.settled(spans.len()).await;

    let sizes: Vec<_> = world.backend.received().iter().map(|request| request.body.len()).collect();
    assert!(sizes.iter().all(|&bytes| bytes <= REQUEST_BYTES_MAX), "{sizes:?}");
    assert!((3..10).contains(&sizes.len()), "as few as can be: {sizes:?}");
    let added = support::assert_arrived(&spans, support::spans_at(&world.backend));
    assert!(!added.is_empty());
    assert_eq!(world.metric("tracestitch_buffer_released_traces_total{reason=\"idle\"}"), 1);
    world.end(&[]).await;
}

fn large(number: u64) -> Span {
    let mut span = support::span(1, number);
    span.attributes.push(support::text("large", &"x".repeat(SPAN_BYTES)));
    span
}
