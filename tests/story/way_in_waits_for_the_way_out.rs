//! Scenario: a backend is slower than senders; or it takes nothing at all.
//! Guarantees: while little waits for it nobody waits for an answer, then senders do, each for no more than a moment; a backend
//! that takes nothing delays nobody. Senders are not refused, and everything arrives once.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use tracestitch::{clock, demo::backend::BackendFault};

use crate::support::{self, Setup, World};

const PACED: &str =
    "tracestitch_receiver_paced_requests_total{receiver=\"otlp\",transport=\"grpc\"}";
const RETRIED: &str =
    "tracestitch_exporter_requests_total{exporter=\"otlp/backend\",outcome=\"retry\"}";
/// The queue has room for more than what senders wait longest for, 48 MiB.
const EXPORTER: &str = "sending_queue: {max_size: 100MiB}, \
    retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}";
const REQUEST_BYTES: usize = 2 * 1024 * 1024;
const REQUESTS: u128 = 40;
const LONGEST: Duration = Duration::from_millis(50);
/// A request of this size takes a moment by itself, more so on a slow machine.
const MOMENT: Duration = Duration::from_secs(5);

async fn world() -> World {
    let setup = Setup { memory: "limit: 1GiB", exporter: EXPORTER, ..Setup::without_deepflow() };
    World::start(setup).await
}

#[tokio::test]
async fn the_way_in_waits_for_the_way_out() {
    let world = world().await;
    let mut sent = send(&world, 1..=1).await;
    world.settled(sent.len()).await;
    assert_eq!(world.metric(PACED), 0, "nothing waits");

    world.backend.set_fault(BackendFault::Slow(Duration::from_secs(6)));
    sent.extend(send(&world, 2..=REQUESTS).await);
    support::until("much waits", || world.watched().budget.behind_bytes() > 48 << 20).await;
    let paced = world.metric(PACED);
    let begun = clock::now();
    sent.extend(send(&world, REQUESTS + 1..=REQUESTS + 1).await);
    let waited = clock::now() - begun;
    assert!((LONGEST..LONGEST + MOMENT).contains(&waited), "the sender waits {waited:?}");
    assert_eq!(world.metric(PACED), paced + 1);

    world.backend.set_fault(BackendFault::None);
    delivered(world, &sent).await;
}

#[tokio::test]
async fn nobody_waits_for_a_backend_that_takes_nothing() {
    let world = world().await;
    world.backend.set_fault(BackendFault::Unavailable);
    let mut sent = send(&world, 1..=1).await;
    support::until("a request is tried again", || world.metric(RETRIED) >= 1).await;
    sent.extend(send(&world, 2..=REQUESTS).await);
    let bytes = u64::try_from(REQUEST_BYTES).expect("small") * 39;
    support::until("much waits", || world.watched().budget.used_bytes() > bytes).await;
    sent.extend(send(&world, REQUESTS + 1..=REQUESTS + 1).await);
    assert_eq!(world.metric(PACED), 0);

    world.backend.set_fault(BackendFault::None);
    delivered(world, &sent).await;
}

async fn delivered(world: World, sent: &[Span]) {
    world.settled(sent.len()).await;
    assert_eq!(support::assert_arrived(sent, support::spans_at(&world.backend)), []);
    world.end(&[]).await;
}

async fn send(world: &World, numbers: impl Iterator<Item = u128>) -> Vec<Span> {
    let mut sent = Vec::new();
    for number in numbers {
        let request = large(number);
        world.send(&request).await;
        sent.extend(support::spans_of(&request));
    }
    sent
}

/// A trace whose spans say much.
fn large(number: u128) -> ExportTraceServiceRequest {
    let mut request = support::trace(number, 4);
    let scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
    for span in scopes.flat_map(|scope| &mut scope.spans) {
        span.trace_state = "x".repeat(REQUEST_BYTES / 4);
    }
    request
}
