//! The journal: what was kept is there after a restart, whatever happened to the process, the disk and the bytes.
//!
//! How: journals of small segments on files in memory, which can fail, die or lose power at any operation.

mod damage;
mod faults;
mod limits;
mod model;
mod sharing;

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
    wire::{Level, Shared, Splice, Spliced, Splices},
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
        segment_bytes: 1500,
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
    let given = spliced(parts);
    let parts = given.clone();
    journal.append_spans(meta.into(), parts, move |kept| then.send(kept).expect("waits"));
    let kept = outcome.recv().expect("is called");
    kept.map(|kept| {
        assert_eq!(kept.parts, given, "the parts come back");
        kept.places
    })
}

/// Every destination has them, and nobody needs them any more.
pub(crate) fn end(journal: &Journal, places: &[Place]) {
    for destination in 0..DESTINATIONS.len() {
        journal.done(destination, places);
    }
    journal.release(places);
}

/// Others come and go: segments are filled, and nobody needs what is in them.
pub(crate) fn others_pass(journal: &Journal) {
    for _ in 0..12 {
        let fast = append(journal, "fast", vec![Bytes::from(vec![7; 100])]).expect("kept");
        end(journal, &fast);
    }
}

/// The same parts; of each the middle and the end are spliced in, and equal ones are shared.
fn spliced(parts: Vec<Bytes>) -> Vec<Spliced> {
    let mut known: BTreeMap<Bytes, Arc<Shared>> = BTreeMap::new();
    let mut shared = |bytes: Bytes| {
        let shared =
            known.entry(bytes.clone()).or_insert_with(|| Shared::new([&*bytes].into_iter()));
        Arc::clone(shared)
    };
    let spliced = |part: Bytes| {
        let cuts = [part.len() / 3, part.len() * 2 / 3, part.len() * 5 / 6];
        if cuts[0] < 2 {
            return part.into();
        }
        let [first, middle, third, last] = [
            part.slice(..cuts[0]),
            part.slice(cuts[0]..cuts[1]),
            part.slice(cuts[1]..cuts[2]),
            part.slice(cuts[2]..),
        ];
        let own = Bytes::from([first.clone(), third].concat());
        let splices = [(first.len(), middle), (own.len(), last)].map(|(at, bytes)| {
            let at = u32::try_from(at).expect("small");
            Splice { at, level: Level::Resource, shared: shared(bytes) }
        });
        Spliced::new(own, Some(Splices::new(splices, 0)))
    };
    parts.into_iter().map(spliced).collect()
}

pub(crate) fn append_plan(
    journal: &Journal,
    covers: &[Place],
    mut plan: Bytes,
) -> Result<Place, AppendError> {
    let (then, outcome) = mpsc::channel();
    let then = move |place| then.send(place).expect("waits");
    let first = plan.split_to(plan.len() / 2);
    journal.append_plans([(covers.to_vec(), [first, plan], then)]);
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
