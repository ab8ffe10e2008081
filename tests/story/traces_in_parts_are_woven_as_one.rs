//! Scenario: a trace has more spans than one may have, and goes out in parts.
//! Guarantees: each span arrives once, each added one, too, and hangs below what is there; none of it counts as late.

use std::collections::HashSet;

use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

const SPANS: usize = 25;

#[tokio::test]
async fn traces_in_parts_are_woven_as_one() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let buffer = "idle: 300ms, max_spans_per_trace: 10";
    let world = World::with(deepflow, Setup { buffer, ..Setup::default() }).await;
    let spans = support::spans(1, u64::try_from(SPANS).expect("small"));
    for part in spans.chunks(5) {
        world.send(&support::request("shop", part.to_vec())).await;
    }
    world.settled(SPANS).await;

    let arrived = support::spans_at(&world.backend);
    let added = support::assert_arrived(&spans, arrived.clone());
    let ids: HashSet<&[u8]> = arrived.iter().map(|span| &*span.span_id).collect();
    assert_eq!(ids.len(), arrived.len(), "nothing comes twice");
    let is_here = |parent: &[u8]| parent.is_empty() || ids.contains(parent);
    assert!(arrived.iter().all(|span| is_here(&span.parent_span_id)));
    // Each CLIENT span makes a call, and each call is seen at three points of its client.
    assert!(added.len() >= SPANS.div_ceil(2) * 3, "{} added", added.len());
    assert!(world.metric("tracestitch_buffer_released_traces_total{reason=\"max_spans\"}") >= 2);
    let late = ["enriched", "forwarded"].map(|action| {
        world.metric(&format!("tracestitch_late_spans_total{{action=\"{action}\"}}"))
    });
    assert_eq!(late, [0, 0]);
    world.end(&[]).await;
}
