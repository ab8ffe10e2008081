//! Scenario: the backend answers UNAVAILABLE for a while; or its process ends and another one starts at the same port.
//! Guarantees: senders notice nothing, nothing is lost, and every span arrives once.

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::demo::backend::{Backend, BackendFault};

use crate::support::{self, Setup, World};

const RETRIED: &str =
    "tracestitch_exporter_requests_total{exporter=\"otlp/backend\",outcome=\"retry\"}";

#[tokio::test]
async fn backend_that_is_unavailable_gets_everything_once() {
    let world = World::start(Setup::without_deepflow()).await;
    world.backend.set_fault(BackendFault::Unavailable);
    let sent = send(&world, 1..=20).await;
    support::until("a request is tried again", || world.metric(RETRIED) >= 2).await;
    let books = support::books(world.watched());
    assert_eq!((books.delivered, books.held), (0, books.accepted));

    world.backend.set_fault(BackendFault::None);
    world.settled(sent.len()).await;
    let added = support::assert_arrived(&sent, support::spans_at(&world.backend));
    assert_eq!(added, []);
    world.end(&[]).await;
}

#[tokio::test]
async fn backend_that_starts_again_gets_everything_once() {
    let mut world = World::start(Setup::without_deepflow()).await;
    let before = send(&world, 1..=5).await;
    world.settled(before.len()).await;
    let port = world.backend.address().port();
    let elsewhere = Backend::start(0).await.expect("a free port");
    let first = std::mem::replace(&mut world.backend, elsewhere);
    support::assert_arrived(&before, support::spans_at(&first));
    first.stop().await;

    let during = send(&world, 6..=25).await;
    support::until("a request is tried again", || world.metric(RETRIED) >= 2).await;
    let second = Backend::start(port).await.expect("its port is free again");
    world.settled(before.len() + during.len()).await;
    support::assert_arrived(&during, support::spans_at(&second));
    world.end(&[]).await;
    second.stop().await;
}

async fn send(world: &World, traces: impl Iterator<Item = u128>) -> Vec<Span> {
    let mut sent = Vec::new();
    for trace in traces {
        let request = support::trace(trace, 3);
        world.send(&request).await;
        sent.extend(support::spans_of(&request));
    }
    sent
}
