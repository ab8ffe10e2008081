//! Scenario: a `DeepFlow` that gives 20 answers a second, under 5,000 traces a second.
//! Guarantees: no sender is refused; every span arrives about as soon as the wait for a slot and one ask allow, and not
//! when `DeepFlow` would have got round to it (after eight minutes); what it can answer is used, the rest is counted.

use std::time::Duration;

use tracestitch::{
    clock,
    demo::deepflow::{DeepflowConfig, Fault},
};

use crate::support::{self, Setup, World};

const TRACES: u128 = 10_000;
const TRACES_PER_REQUEST: u128 = 100;
/// A request of 100 traces every 20 ms are 5,000 traces/s.
const PACE: Duration = Duration::from_millis(20);
/// Idle, wait for a slot, time of an ask: 500 ms + 300 ms + 2 s; and slack for slow machines.
const ON_TIME: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_deepflow_delays_nobody() {
    let deepflow = DeepflowConfig {
        synthesise: true,
        fault: Fault::Capacity { answers_per_s: 20.0 },
        ..DeepflowConfig::default()
    };
    let setup = Setup {
        buffer: "idle: 500ms",
        deepflow: "max_wait: 300ms, timeout: 2s, deadline: 3s, reask: []",
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    let requests: Vec<_> = (0..TRACES / TRACES_PER_REQUEST)
        .map(|number| {
            let first = 1 + number * TRACES_PER_REQUEST;
            let traces = first..first + TRACES_PER_REQUEST;
            support::request("shop", traces.flat_map(|trace| support::spans(trace, 2)).collect())
        })
        .collect();

    let mut pace = tokio::time::interval(PACE);
    for request in &requests {
        pace.tick().await;
        world.send(request).await;
    }
    let sent: Vec<_> = requests.iter().flat_map(support::spans_of).collect();
    let last_sent = clock::now();
    world.settled(sent.len()).await;
    let took = clock::now() - last_sent;
    assert!(took < ON_TIME, "{took:?}");

    let added = support::assert_arrived(&sent, support::spans_at(&world.backend));
    let found = world.metric("tracestitch_completion_requests_total{outcome=\"found\"}");
    let skipped =
        world.metric("tracestitch_completion_skipped_traces_total{reason=\"over_capacity\"}");
    assert!(found >= 10, "some traces are completed: {found}");
    assert!(!added.is_empty());
    assert!(skipped > 5_000, "most traces go on without: {skipped}");
    let refused = "tracestitch_receiver_requests_total{receiver=\"otlp\",transport=\"grpc\",outcome=\"refused\"}";
    assert_eq!(world.metric(refused), 0);
    world.end(&[]).await;
}
