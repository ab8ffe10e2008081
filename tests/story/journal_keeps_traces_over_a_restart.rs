//! Scenario: spans are taken and their program ends, by `shutdown.mode: keep`; another one starts on the same journal.
//! Guarantees: it ends at once, hands the spans back to the journal, and the next one delivers each of them once, with
//! what `DeepFlow` saw of them; the journal is empty then.

use std::{path::Path, time::Duration};

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::{
    clock,
    demo::{
        backend::{Backend, BackendFault},
        deepflow::DeepflowConfig,
    },
    pipeline::Pipeline,
};

use crate::support::{self, Setup, World};

fn setup(directory: &Path, buffer: &'static str) -> Setup<'static> {
    let journal = format!("directory: '{}'", directory.display());
    Setup { buffer, journal, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_traces_wait_on_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let mut world = World::with(deepflow, setup(directory.path(), "idle: 1h, max_age: 2h")).await;
    let sent = send(&world, 1..=40).await;
    let ended = clock::now();
    let next = Pipeline::start(
        &setup(directory.path(), "idle: 300ms").config(&world.deepflow.url(), &world.backend.url()),
    );
    let first = std::mem::replace(
        &mut world.pipeline,
        {
            drop(next);
            Pipeline::start(&Setup::without_deepflow().config(
                &world.deepflow.url(),
                &world.backend.url(),
            ))
            .await
            .expect("a pipeline")
        },
    );
    let watched = first.end().await;
    assert!(clock::now() < ended + Duration::from_secs(5), "keeping takes no time");
    let books = support::books(&watched);
    let all = i64::try_from(sent.len()).expect("not so many");
    assert_eq!((books.accepted, books.handed_back, books.unaccounted()), (all, all, 0));
    assert_eq!(world.backend.span_count(), 0);
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
