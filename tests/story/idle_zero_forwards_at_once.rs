//! Scenario: `buffer.idle: 0s`, and two spans of one trace, one after the other.
//! Guarantees: nothing is grouped and nothing waits: each is forwarded as it came.

use crate::support::{self, Setup, World};

#[tokio::test]
async fn idle_zero_forwards_at_once() {
    let setup = Setup { buffer: "idle: 0s, max_age: 60s", ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    let spans = support::spans(1, 2);
    for (number, span) in spans.iter().enumerate() {
        world.send(&support::request("shop", vec![span.clone()])).await;
        world.settled(number + 1).await;
        assert_eq!(world.backend.span_count(), number as u64 + 1);
    }
    assert_eq!(support::assert_arrived(&spans, support::spans_at(&world.backend)), []);
    assert_eq!(world.backend.received().len(), 2);
    assert_eq!(world.metric("tracestitch_buffer_released_traces_total{reason=\"idle\"}"), 2);
    world.end(&[]).await;
}
