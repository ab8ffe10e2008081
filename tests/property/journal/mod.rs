//! The journal: what was kept is there after a restart, whatever happened to the process, the disk and the bytes.
//!
//! How: journals of small segments on files in memory, which can fail, die or lose power at any operation.

mod damage;
mod faults;
mod limits;
mod model;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

use bytes::Bytes;
use tracestitch::{
    buffer::journal::{
        AppendError, Content, Journal, MemoryFiles, Recovered, Recovery, Settings, SyncMode,
    },
    telemetry::Metrics,
    trace::Place,
    wire::Spliced,
};

pub(crate) const DIRECTORY: &str = "/journal";
pub(crate) const DESTINATIONS: [&str; 2] = ["a", "b"];

/// Small segments that move at once, all on the disk at once.
pub(crate) fn settings(files: &MemoryFiles) -> Settings {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    let metrics = Arc::clone(METRICS.get_or_init(|| Arc::new(Metrics::new(&[]))));
    let destinations = DESTINATIONS.map(str::to_owned).to_vec();
    Settings {
        sync: SyncMode::Always,
        max_bytes: 1 << 20,
        segment_bytes: 400,
        straggler_age: Duration::ZERO,
        files: Arc::new(files.clone()),
        ..Settings::new(PathBuf::from(DIRECTORY), destinations, metrics)
    }
}

/// The same, and nothing moves.
pub(crate) fn patient(files: &MemoryFiles) -> Settings {
    Settings { straggler_age: Duration::from_hours(1), ..settings(files) }
}

pub(crate) fn open(files: &MemoryFiles) -> (Journal, Recovery) {
    Journal::open(settings(files)).expect("opens")
}

pub(crate) fn segment(number: u32) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{number:08}.journal"))
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Appends and waits for the answer.
pub(crate) fn append(
    journal: &Journal,
    meta: &str,
    parts: Vec<Bytes>,
) -> Result<Vec<Place>, AppendError> {
    let (then, outcome) = mpsc::channel();
    let given: Vec<Spliced> = parts.into_iter().map(Into::into).collect();
    let parts = given.clone();
    journal.append_spans(meta.into(), parts, move |kept| then.send(kept).expect("waits"));
    let kept = outcome.recv().expect("is called");
    kept.map(|kept| {
        assert_eq!(kept.parts, given, "the parts come back");
        kept.places
    })
}

pub(crate) fn append_plan(
    journal: &Journal,
    covers: &[Place],
    plan: Bytes,
) -> Result<Place, AppendError> {
    let (then, outcome) = mpsc::channel();
    let then = move |place| then.send(place).expect("waits");
    journal.append_plans([(covers.to_vec(), plan, then)]);
    outcome.recv().expect("is called")
}

/// What a start finds, by number; a number that comes twice is an error.
pub(crate) fn by_number(recovery: &mut Recovery) -> BTreeMap<u64, Recovered> {
    let mut found = BTreeMap::new();
    for recovered in recovery {
        let number = recovered.place.number;
        assert!(found.insert(number, recovered).is_none(), "{number} came twice");
    }
    found
}

pub(crate) fn meta(recovered: &Recovered) -> &[u8] {
    match &recovered.content {
        Content::Spans { meta } => meta,
        Content::Plan { .. } => panic!("a plan"),
    }
}
