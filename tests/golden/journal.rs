//! A journal that was written stays readable.
//!
//! `journal/v3` was written when the format was made. `UPDATE=1` writes the folder if it is not there; one that is there is
//! never written again, for it stands for what is on people's disks.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use tracestitch::{
    buffer::journal::{Content, Journal, Recovered, Settings, SyncMode},
    telemetry::Metrics,
    trace::Place,
    wire::{Level, Shared, Splice, Spliced, Splices},
};

/// Segments of it were written over older ones, and some parts share stretches, those that were moved, too.
#[test]
fn a_journal_of_version_3_is_read() {
    let golden = golden("v3");
    if !golden.exists() && std::env::var_os("UPDATE").is_some() {
        write(&golden);
    }
    is_read(&golden);
}

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal").join(version)
}

fn is_read(golden: &Path) {
    // A copy, for a start changes the folder.
    let folder = tempfile::tempdir().expect("a folder");
    copy(golden, folder.path());
    let (journal, recovery) = Journal::open(settings(folder.path())).expect("opens");
    let mut found: Vec<_> = recovery.collect();
    found.sort_by_key(|recovered| recovered.place.number);
    let found: Vec<_> = found.iter().map(|recovered| line(&journal, recovered)).collect();
    assert_eq!(
        found,
        [
            "1 spans of slow: 'of shop: by hand: slow', done [true, false], covered true",
            "2 spans of slow: 'of shop: by hand: and steady', done [true, false], covered true",
            "3 plan of [1, 2]: 'hang it there', done [true, false], covered false",
            "13 spans of last: 'the end', done [false, false], covered true",
            "14 plan of [13]: 'as it came', done [false, false], covered false",
            &format!(
                "15 spans of behind: '{}', done [false, false], covered false",
                "y".repeat(300)
            ),
            "16 spans of both: 'of shop: by hand: browse', done [false, false], covered false",
            "17 spans of both: 'of shop: by hand: pay', done [false, false], covered false",
        ]
    );
    let next = append(&journal, "next", &["new"]);
    assert_eq!(next.first().map(|place| place.number), Some(18));
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a journal") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
}

fn line(journal: &Journal, recovered: &Recovered) -> String {
    let Recovered { place, content, done, covered } = recovered;
    let part = journal.read(place).expect("whole");
    let levels = [Level::Resource, Level::Scope].map(|level| part.shared(level).count());
    assert!(levels == [0, 0] || levels == [1, 1], "{levels:?}");
    let bytes = part.to_bytes();
    let what = match content {
        Content::Spans { meta } => format!("spans of {}", String::from_utf8_lossy(meta)),
        Content::Plan { covers } => {
            format!("plan of {:?}", covers.iter().map(|place| place.number).collect::<Vec<_>>())
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    format!("{} {what}: '{text}', done {done:?}, covered {covered}", place.number)
}

fn settings(directory: &Path) -> Settings {
    let destinations = ["otlp/tempo", "otlp/second"].map(str::to_owned).to_vec();
    let metrics = Arc::new(Metrics::new(&[]));
    Settings {
        sync: SyncMode::Never,
        segment_bytes: 700,
        straggler_age: Duration::ZERO,
        ..Settings::new(PathBuf::from(directory), destinations, metrics)
    }
}

fn append(journal: &Journal, meta: &str, parts: &[&str]) -> Vec<Place> {
    let parts = parts.iter().map(|part| part.as_bytes().to_vec().into());
    append_spliced(journal, meta, parts.collect())
}

/// Parts that begin with the same words.
fn append_sharing(journal: &Journal, meta: &str, parts: &[&str]) -> Vec<Place> {
    let splice = |(level, words): (Level, &str)| Splice {
        at: 0,
        level,
        shared: Shared::new([words.as_bytes()].into_iter()),
    };
    let words = [(Level::Resource, "of shop: "), (Level::Scope, "by hand: ")];
    let splices = Splices::new(words.map(splice), 0);
    let spliced = |part: &&str| {
        let own = Bytes::copy_from_slice(part.as_bytes());
        Spliced::new(own, Some(Arc::clone(&splices)))
    };
    append_spliced(journal, meta, parts.iter().map(spliced).collect())
}

fn append_spliced(journal: &Journal, meta: &str, parts: Vec<Spliced>) -> Vec<Place> {
    let (then, outcome) = mpsc::channel();
    journal.append_spans(meta.into(), parts, move |places| then.send(places).expect("waits"));
    outcome.recv().expect("is called").expect("kept").places
}

fn append_plan(journal: &Journal, covers: &[Place], plan: &'static str) -> Place {
    let (then, outcome) = mpsc::channel();
    let plan = Bytes::from_static(plan.as_bytes());
    let then = move |place| then.send(place).expect("waits");
    journal.append_plans([(covers.to_vec(), [Bytes::new(), plan], then)]);
    outcome.recv().expect("is called").expect("kept")
}

/// A trace that stays and is moved, with a plan and one destination that has it, behind others that went.
fn write(golden: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, recovery) = Journal::open(settings(folder.path())).expect("opens");
    drop(recovery);
    let mut slow = append_sharing(&journal, "slow", &["slow", "and steady"]);
    slow.push(append_plan(&journal, &slow, "hang it there"));
    journal.done(0, &slow);
    for _ in 0..9 {
        let fast = append(&journal, "fast", &[&"x".repeat(120)]);
        journal.done(0, &fast);
        journal.done(1, &fast);
        journal.release(&fast);
    }
    let last = append(&journal, "last", &["the end"]);
    append_plan(&journal, &last, "as it came");
    append(&journal, "behind", &[&"y".repeat(300)]);
    append_sharing(&journal, "both", &["browse", "pay"]);
    // As it is when the process is killed: what is behind the last record is old.
    fs::create_dir_all(golden).expect("a new folder");
    copy(folder.path(), golden);
    journal.close();
}
