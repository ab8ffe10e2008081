//! Scenario: spans are taken and their program ends, by `shutdown.mode: keep`; another one starts on the same journal.
//! Guarantees: it ends at once and hands the spans back to the journal; the next one delivers each of them once, with the
//! age it has, and with what `DeepFlow` saw of them.

use std::{path::Path, time::Duration};

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::{
    clock,
    demo::{backend::BackendFault, deepflow::DeepflowConfig},
};

use crate::support::{self, Setup, World};

fn setup(directory: &Path, buffer: &'static str) -> Setup<'static> {
    let journal = format!("directory: '{}'", directory.display());
    Setup { buffer, journal, ..Setup::default() }
}

fn all(sent: &[Span]) -> i64 {
    i64::try_from(sent.len()).expect("not so many")
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_were_open_are_completed_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, setup(directory.path(), "idle: 1h, max_age: 2h")).await;
    let sent = send(&world, 1..=40).await;
    let began = clock::now();
    let (watched, world) = world.restarted(setup(directory.path(), "idle: 300ms")).await;
    assert!(clock::now() < began + Duration::from_secs(5), "keeping takes no time");
    let books = support::books(&watched);
    assert_eq!(
        (books.accepted, books.handed_back, books.unaccounted()),
        (all(&sent), all(&sent), 0)
    );

    support::until("all is recovered and delivered", || {
        let books = support::books(world.watched());
        books.recovered == all(&sent) && books.delivered == all(&sent)
    })
    .await;
    let added = support::assert_arrived(&sent, support::spans_at(&world.backend));
    assert!(!added.is_empty(), "DeepFlow was asked");
    let (_, world) = world.restarted(setup(directory.path(), "idle: 300ms")).await;
    let books = support::books(world.watched());
    assert_eq!((books.recovered, books.held), (0, 0), "nothing comes twice");
    world.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_were_woven_go_out_the_same_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, setup(directory.path(), "idle: 200ms")).await;
    world.backend.set_fault(BackendFault::Unavailable);
    let sent = send(&world, 1..=40).await;
    support::until("all are woven", || {
        world.metric("tracestitch_completion_completed_traces_total") == 40
    })
    .await;
    let asks = world.deepflow.requests().len();
    let (watched, world) = world.restarted(setup(directory.path(), "idle: 300ms")).await;
    let books = support::books(&watched);
    assert_eq!((books.handed_back, books.unaccounted()), (all(&sent), 0), "{books:?}");

    world.backend.set_fault(BackendFault::None);
    support::until("all is delivered", || support::books(world.watched()).delivered == all(&sent))
        .await;
    let added = support::assert_arrived(&sent, support::spans_at(&world.backend));
    assert!(!added.is_empty());
    assert_eq!(world.deepflow.requests().len(), asks, "it is not asked again");
    world.end(&[]).await;
}

async fn send(world: &World, traces: impl Iterator<Item = u128>) -> Vec<Span> {
    let mut sent = Vec::new();
    for trace in traces {
        let request = support::trace(trace, 4);
        world.send(&request).await;
        sent.extend(support::spans_of(&request));
    }
    sent
}
