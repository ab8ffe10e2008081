//! Scenario: two destinations and little memory; the first one is down, and holds: what it lacks waits in the journal. Far more
//! comes in than its traces could have of the memory, if much of each stayed there.
//! Guarantees: all is taken meanwhile, and the second destination gets it; what is kept of waiting traces has a stage of
//! its own, and the first one gets all of it when it is back.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tracestitch::{
    clock,
    demo::backend::{Backend, BackendFault},
    wire::status::retry_delay,
};

use crate::support::{self, PATIENCE, Setup, World};

const REQUESTS: u128 = 150;
const TRACES: u128 = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn first_destination_down_holds_up_nobody_soon() {
    let second = Backend::start(0).await.expect("a free port");
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::start(Setup {
        // The smallest limit there is.
        memory: "limit: 64MiB",
        buffer: "idle: 200ms",
        journal: format!("directory: '{}'", directory.path().display()),
        exporter: "retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}",
        exporters: format!("otlp/second: {{endpoint: '{}', on_outage: hold}}", second.url()),
        ..Setup::without_deepflow()
    })
    .await;
    world.backend.set_fault(BackendFault::Unavailable);
    for number in 0..REQUESTS {
        let traces = number * TRACES + 1..=(number + 1) * TRACES;
        let spans = traces.map(|trace| support::span(trace, 1)).collect();
        send(&world, &support::request("shop", spans)).await;
    }
    let all = u64::try_from(REQUESTS * TRACES).expect("not so many");
    support::until("the second has everything", || second.span_count() == all).await;
    let stage = |stage| world.metric(&format!("tracestitch_memory_bytes{{stage=\"{stage}\"}}"));
    let parked = world.metric("tracestitch_buffer_parked_traces");
    assert!(parked > all / 2, "the queue of the first one has no room for more: {parked}");
    assert!(stage("parked") <= parked * 100, "{} {parked}", stage("parked"));

    world.backend.set_fault(BackendFault::None);
    support::until("the first has everything", || world.backend.span_count() == all).await;
    support::until("nothing is kept", || stage("parked") == 0).await;
    world.settled(usize::try_from(all).expect("not so many")).await;
    world.end(&[]).await;
    second.stop().await;
}

/// As senders do: again, when it is said to.
async fn send(world: &World, request: &ExportTraceServiceRequest) {
    let late = clock::now() + PATIENCE;
    while let Err(status) = world.sender.send(request).await {
        assert!(clock::now() < late, "{status}");
        tokio::time::sleep(retry_delay(&status).expect("a RetryInfo")).await;
    }
}
