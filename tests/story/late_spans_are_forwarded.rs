//! Scenario: a span comes after its trace was released, asked for and delivered.
//! Guarantees: it arrives, too, once, and what had arrived before does not come again.

use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

#[tokio::test]
async fn late_spans_are_forwarded() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, Setup::default()).await;
    let spans = support::spans(1, 5);
    world.send(&support::request("shop", spans[..4].to_vec())).await;
    world.settled(4).await;
    assert_eq!(support::books(world.watched()).delivered, 4);
    world.send(&support::request("shop", spans[4..].to_vec())).await;
    world.settled(5).await;

    let arrived = support::spans_at(&world.backend);
    assert!(!support::assert_arrived(&spans, arrived).is_empty());
    let asks: Vec<_> = world.deepflow.requests().iter().map(|ask| ask.spans).collect();
    assert_eq!(asks.first(), Some(&4));
    assert_eq!(world.metric("tracestitch_buffer_released_traces_total{reason=\"idle\"}"), 2);
    world.end(&[]).await;
}
