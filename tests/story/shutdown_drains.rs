//! Scenario: the program is told to end while traces are open, also by a signal, also twice, also without a backend.
//! Guarantees: all traces are delivered; those that have waited 5 s are asked for, younger ones are not; what can't be
//! sent has its account. A first SIGTERM ends with exit code 0, a second one at once with 1.

use std::{
    collections::HashSet,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tracestitch::{
    clock,
    demo::{
        backend::{Backend, BackendFault},
        deepflow::{DeepflowConfig, Fault},
    },
    ledger::DropReason,
};

use crate::support::{self, Setup, World, http, program::Program};

/// Longer than any of these tests: only the shutdown releases.
const OPEN: &str = "idle: 60s";
/// Traces that have waited so long are asked for.
const ASKED_AFTER: Duration = Duration::from_secs(5);

#[tokio::test]
async fn open_traces_are_delivered_and_old_ones_asked_for() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, Setup { buffer: OPEN, ..Setup::default() }).await;
    let (old, young) = (support::trace(1, 3), support::trace(2, 3));
    world.send(&old).await;
    let old_enough = clock::now() + ASKED_AFTER;
    support::until("the trace is old enough", || clock::now() > old_enough).await;
    world.send(&young).await;
    assert_eq!(support::books(world.watched()).held, 6);

    let World { deepflow, backend, pipeline, .. } = world;
    let watched = pipeline.end().await;
    support::assert_balanced(&watched, &[]);
    let sent = [support::spans_of(&old), support::spans_of(&young)].concat();
    let added = support::assert_arrived(&sent, support::spans_at(&backend));
    assert!(added.iter().all(|span| span.trace_id == 1_u128.to_be_bytes()));
    assert!(!added.is_empty());
    let asked: Vec<_> = deepflow.requests().into_iter().map(|ask| ask.trace_id).collect();
    assert_eq!(asked, [format!("{:032x}", 1)]);
    let metric = |series| support::metric(&watched, series);
    assert_eq!(metric("tracestitch_buffer_released_traces_total{reason=\"shutdown\"}"), 2);
    assert_eq!(metric("tracestitch_completion_skipped_traces_total{reason=\"shutdown\"}"), 1);
    deepflow.stop().await;
    backend.stop().await;
}

/// Scenario: senders go on, over gRPC and HTTP, while the program drains.
/// Guarantees: they are asked to come again or find nobody there; what was acknowledged is delivered, all of it, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_that_go_on_lose_nothing() {
    let world = World::start(Setup { buffer: OPEN, ..Setup::without_deepflow() }).await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut senders = JoinSet::new();
    for number in 1..=4_u128 {
        let (sender, client, url) =
            (support::sender(&world.pipeline), http::client(), http::url(&world));
        let acknowledged = Arc::clone(&acknowledged);
        senders.spawn(async move {
            for trace in (number << 20).. {
                let request = support::trace(trace, 2);
                let taken = match number % 2 {
                    0 => sender.send(&request).await.map(drop).map_err(|status| said(&status)),
                    _ => post(&client, &url, &request).await,
                };
                match taken {
                    Ok(()) => {
                        let mut acknowledged = acknowledged.lock().expect("no panics");
                        acknowledged.extend(support::spans_of(&request));
                    }
                    // Not before the end, and never for good.
                    Err(code) => return assert_eq!(code, Code::Unavailable),
                }
            }
        });
    }
    let taken = || acknowledged.lock().expect("no panics").len();
    support::until("they are at it", || taken() > 200).await;
    let World { deepflow, backend, pipeline, .. } = world;
    let watched = pipeline.end().await;
    senders.join_all().await;
    support::assert_balanced(&watched, &[]);
    let sent = acknowledged.lock().expect("no panics").clone();
    // A request whose answer was lost with its connection may be there, too.
    let others = support::assert_arrived(&sent, support::spans_at(&backend));
    let ids: HashSet<_> = others.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), others.len(), "also these once");
    deepflow.stop().await;
    backend.stop().await;
}

/// What the program answered; a closed connection counts as nobody there.
fn said(status: &Status) -> Code {
    if status.source().is_some() { Code::Unavailable } else { status.code() }
}

async fn post(
    client: &reqwest::Client,
    url: &str,
    request: &ExportTraceServiceRequest,
) -> Result<(), Code> {
    let post = client.post(url).header("content-type", "application/x-protobuf");
    match post.body(request.encode_to_vec()).send().await.map(|response| response.status()) {
        Ok(status) if status == 200 => Ok(()),
        Ok(status) if status != 503 => Err(Code::Internal),
        _ => Err(Code::Unavailable),
    }
}

/// Scenario: `DeepFlow` hangs, and an ask may take longer than the program has to end.
/// Guarantees: its trace is delivered as it came, in time.
#[tokio::test]
async fn who_is_asked_for_at_the_end_is_not_lost() {
    let deepflow = DeepflowConfig { fault: Fault::Hang, ..DeepflowConfig::default() };
    let setup = Setup {
        deepflow: "timeout: 60s, deadline: 60s, max_in_flight: 1, max_wait: 60s",
        drain_timeout: "3s",
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    let traces = [1, 2].map(|trace| support::trace(trace, 3));
    for trace in &traces {
        world.send(trace).await;
    }
    support::until("one is asked for", || !world.deepflow.requests().is_empty()).await;
    let World { deepflow, backend, pipeline, .. } = world;
    let began = clock::now();
    let watched = pipeline.end().await;
    assert!(clock::now() - began < Duration::from_secs(30));
    support::assert_balanced(&watched, &[]);
    let sent: Vec<_> = traces.iter().flat_map(support::spans_of).collect();
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&backend)), []);
    let skipped = "tracestitch_completion_skipped_traces_total{reason=\"shutdown\"}";
    assert_eq!(support::metric(&watched, skipped), 2);
    deepflow.stop().await;
    backend.stop().await;
}

/// Scenario: the backend is down when the program ends.
/// Guarantees: it says at once that it is not ready any more, tries for as long as it may, and accounts for the rest.
#[tokio::test]
async fn what_cannot_be_sent_has_its_account() {
    let setup = Setup { buffer: OPEN, drain_timeout: "2s", ..Setup::without_deepflow() };
    let World { deepflow, backend, pipeline, sender } = World::start(setup).await;
    backend.set_fault(BackendFault::Unavailable);
    sender.send(&support::trace(1, 3)).await.expect("the request is taken");
    let (client, readyz) = (http::client(), format!("http://{}/readyz", pipeline.admin()));
    let ready = async || client.get(&readyz).send().await.map(|response| response.status());
    assert_eq!(ready().await.expect("an answer"), 200);
    let draining = tokio::spawn(pipeline.end());
    while ready().await.expect("the pages stay to the end") != 503 {}
    assert!(!draining.is_finished());
    let watched = draining.await.expect("it ends");
    support::assert_balanced(&watched, &[(DropReason::Shutdown, 3)]);
    deepflow.stop().await;
    backend.stop().await;
}

#[tokio::test]
async fn sigterm_delivers_and_exits_with_0() {
    let backend = Backend::start(0).await.expect("a free port");
    let mut program = run(&backend);
    let sent = program.send_a_trace().await;
    program.terminate();
    let status = program.ended().await;
    assert_eq!(status.code(), Some(0), "{}", program.said());
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&backend)), []);
    assert!(program.said().contains("the ledger at the end"));
    backend.stop().await;
}

#[tokio::test]
async fn second_signal_exits_with_1_at_once() {
    let backend = Backend::start(0).await.expect("a free port");
    backend.set_fault(BackendFault::Unavailable);
    let mut program = run(&backend);
    program.send_a_trace().await;
    program.terminate();
    support::until("it says what it does", || program.said().contains("shutting down")).await;
    let signalled = clock::now();
    program.terminate();
    let status = program.ended().await;
    let took = clock::now() - signalled;
    assert_eq!(status.code(), Some(1), "{}", program.said());
    assert!(took < Duration::from_secs(15), "long before the drain timeout of 60s: {took:?}");
    assert!(program.said().contains("second signal"), "{}", program.said());
    backend.stop().await;
}

fn run(backend: &Backend) -> Program {
    let setup = Setup { buffer: OPEN, drain_timeout: "60s", ..Setup::without_deepflow() };
    Program::run(&setup.yaml("http://127.0.0.1:9", &backend.url()))
}
