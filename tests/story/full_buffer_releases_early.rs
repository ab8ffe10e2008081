//! Scenario: more open traces than the buffer's share of memory holds, each sent in two halves.
//! The sender is no faster than what leaves early goes out: else memory fills behind the buffer, another story.
//! Guarantees: no sender is refused; the traces that were touched least recently leave early, as they came and without
//! being asked for, and show it; those touched last stay open; every span arrives once.

use std::collections::HashSet;

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

/// 80 MB in all; the limit is 64 MiB, the buffer's share 70 % of it.
const TRACES: u128 = 4_000;
/// The second half is the smaller one.
const HALVES_BYTES: [usize; 2] = [12 * 1024, 8 * 1024];
const TRACES_PER_REQUEST: usize = 50;
/// On its way out at a time, a sixteenth of the limit.
const LEAVING_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[tokio::test]
async fn full_buffer_releases_early() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let setup = Setup { memory: "limit: 64MiB", buffer: "idle: 60s", ..Setup::default() };
    let world = World::with(deepflow, setup).await;
    let mut sent = Vec::new();
    let traces: Vec<u128> = (1..=TRACES).collect();
    let leaving = || {
        let stage = |stage| world.metric(&format!("tracestitch_memory_bytes{{stage=\"{stage}\"}}"));
        stage("answers") + stage("export")
    };
    for some in traces.chunks(TRACES_PER_REQUEST) {
        support::until("what left is nearly gone", || leaving() < LEAVING_BYTES_MAX).await;
        for (number, bytes) in (1..).zip(HALVES_BYTES) {
            let spans: Vec<Span> = some.iter().map(|trace| large(*trace, number, bytes)).collect();
            world.send(&support::request("shop", spans.clone())).await;
            sent.extend(spans);
        }
    }
    let released = || world.metric("tracestitch_buffer_released_traces_total{reason=\"memory\"}");
    support::until("the buffer is down to its share", || released() > 1_000).await;
    let arrived = || world.backend.span_count() > 2_000;
    support::until("what left has arrived", arrived).await;
    let early: HashSet<_> =
        support::spans_at(&world.backend).into_iter().map(|span| span.trace_id).collect();
    assert!(early.contains(1_u128.to_be_bytes().as_slice()), "the oldest left first");
    assert!(!early.contains(TRACES.to_be_bytes().as_slice()), "the youngest is still open");
    assert!(world.deepflow.requests().is_empty(), "asking would take memory");

    let World { deepflow, backend, pipeline, .. } = world;
    let watched = pipeline.end().await;
    support::assert_balanced(&watched, &[]);
    let mut added = support::assert_arrived(&sent, support::spans_at(&backend));
    // Those that stayed to the end may have waited for long enough to be asked for.
    added.retain(|span| early.contains(&span.trace_id));
    assert_eq!(added.len(), 0, "what left early is as it came");
    let skipped = "tracestitch_completion_skipped_traces_total{reason=\"memory\"}";
    let released = "tracestitch_buffer_released_traces_total{reason=\"memory\"}";
    assert_eq!(support::metric(&watched, skipped), support::metric(&watched, released));
    deepflow.stop().await;
    backend.stop().await;
}

fn large(trace: u128, number: u64, bytes: usize) -> Span {
    let mut span = support::span(trace, number);
    span.attributes.push(support::text("large", &"x".repeat(bytes)));
    span
}
