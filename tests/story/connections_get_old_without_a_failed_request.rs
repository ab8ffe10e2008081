//! Scenario: `max_connection_age` is a moment, and a sender goes on over one channel.
//! Guarantees: connections end at their age and others take their place. A request is either answered or was not taken up at
//! all: sent again it arrives once.

use crate::support::{self, Setup, World};

#[tokio::test]
async fn connections_get_old_without_a_failed_request() {
    let grpc = "keepalive: {max_connection_age: 200ms, max_connection_age_grace: 5s}".to_owned();
    let world = World::start(Setup { grpc, ..Setup::without_deepflow() }).await;
    let old = "tracestitch_connections_closed_total{listener=\"grpc\",reason=\"age\"}";
    let mut sent = Vec::new();
    for number in 1.. {
        if world.metric(old) >= 3 {
            break;
        }
        let trace = support::trace(number, 1);
        while let Err(status) = world.sender.send(&trace).await {
            // The channel was about to put it on the connection that ended, and does not try again by itself.
            assert!(std::error::Error::source(&status).is_some(), "the receiver refused: {status}");
        }
        sent.extend(support::spans_of(&trace));
    }
    world.settled(sent.len()).await;
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    world.end(&[]).await;
}
