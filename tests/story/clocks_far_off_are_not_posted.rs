//! Scenario: in a trace one process has its clock at 1970, another one ten minutes in the future.
//! Guarantees: their spans are not posted, for DeepFlow would scan days of rows, and are counted; the trace is enriched all
//! the same, and they arrive in it.

use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

const SECOND_NS: u64 = 1_000_000_000;

#[tokio::test]
async fn clocks_far_off_are_not_posted() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, Setup::default()).await;
    let mut spans = support::spans(1, 5);
    let future_ns = spans[4].start_time_unix_nano + 600 * SECOND_NS;
    for (span, start_ns) in spans[3..].iter_mut().zip([SECOND_NS, future_ns]) {
        span.start_time_unix_nano = start_ns;
        span.end_time_unix_nano = start_ns + SECOND_NS;
    }
    world.send(&support::request("shop", spans.clone())).await;
    world.settled(spans.len()).await;

    let asked: Vec<usize> = world.deepflow.requests().iter().map(|ask| ask.spans).collect();
    assert_eq!(asked, [3]);
    for (reason, spans) in [("outside_window", 1), ("in_future", 1), ("reduced", 0)] {
        let series =
            format!("tracestitch_completion_not_posted_spans_total{{reason=\"{reason}\"}}");
        assert_eq!(world.metric(&series), spans, "{reason}");
    }
    let added = support::assert_arrived(&spans, support::spans_at(&world.backend));
    assert!(added.iter().any(|span| span.parent_span_id == spans[2].span_id));
    world.end(&[]).await;
}
