//! Scenario: the program ends and leaves spans to its journal, where some of them are damaged before the next start.
//! Guarantees: the others arrive; the damage is counted; the file goes as if the damaged spans had been delivered, however much
//! of it they are.

use std::{fs, path::Path};

use crate::support::{self, Setup, World};

fn setup(directory: &Path, buffer: &'static str) -> Setup<'static> {
    let journal = format!("directory: '{}'", directory.display());
    Setup { buffer, journal, ..Setup::without_deepflow() }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_spans_keep_no_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::start(setup(directory.path(), "idle: 1h, max_age: 2h")).await;
    for trace in [1, 2] {
        world.send(&support::trace(trace, 1)).await;
    }
    world.pipeline.end().await;
    let hit = support::span(1, 1).span_id;
    let files = fs::read_dir(directory.path()).expect("the journal").filter_map(Result::ok);
    let paths = files.map(|file| file.path()).filter(|path| path.is_file());
    let damaged = paths.filter_map(|path| {
        let mut bytes = fs::read(&path).ok()?;
        let at = bytes.windows(hit.len()).position(|window| window == hit)?;
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("our own file");
        Some(path)
    });
    let [file] = damaged.collect::<Vec<_>>().try_into().expect("the span is in one file");

    let world = World::start(setup(directory.path(), "idle: 300ms")).await;
    support::until("the other one arrives", || support::books(world.watched()).delivered == 1)
        .await;
    support::until("the file is gone", || !file.exists()).await;
    assert_eq!(world.metric("tracestitch_journal_damaged_records_total"), 1);
    assert_eq!(support::spans_at(&world.backend).len(), 1);
    world.end(&[]).await;
}
