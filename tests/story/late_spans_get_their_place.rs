//! Scenario: a span comes after its trace was released, asked for and delivered.
//! Guarantees: it arrives, too, once, with the rows of the calls it makes; what had arrived before does not come again,
//! and what is added hangs below what is there.

use std::collections::HashSet;

use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

#[tokio::test]
async fn late_spans_get_their_place() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, Setup::default()).await;
    let spans = support::spans(1, 5);
    world.send(&support::request("shop", spans[..4].to_vec())).await;
    world.settled(4).await;
    assert_eq!(support::books(world.watched()).delivered, 4);
    let first = support::spans_at(&world.backend);
    world.send(&support::request("shop", spans[4..].to_vec())).await;
    world.settled(5).await;

    let arrived = support::spans_at(&world.backend);
    let added = support::assert_arrived(&spans, arrived.clone());
    assert!(arrived.len() > first.len() + 1, "rows of the late span's call are added");
    let ids: HashSet<&[u8]> = arrived.iter().map(|span| &*span.span_id).collect();
    assert_eq!(ids.len(), arrived.len(), "nothing comes twice");
    assert!(
        added
            .iter()
            .all(|span| ids.contains(&*span.parent_span_id) || span.parent_span_id.is_empty())
    );
    // The whole trace is asked for again: rows are looked for in the time of the posted spans.
    let asks: Vec<_> = world.deepflow.requests().iter().map(|ask| ask.spans).collect();
    assert_eq!((asks.first(), asks.last()), (Some(&4), Some(&5)));
    assert_eq!(world.metric("tracestitch_buffer_released_traces_total{reason=\"idle\"}"), 2);
    assert_eq!(world.metric("tracestitch_late_spans_total{action=\"enriched\"}"), 1);
    assert_eq!(world.metric("tracestitch_late_span_age_seconds_count"), 1);
    world.end(&[]).await;
}
