//! What is found on the disk: recovery ends, finds nothing twice, reads what it found, and the journal goes on.
//!
//! No random bytes have the right checksum: they get it, and the right offset, wherever there is a record's marker.
#![no_main]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, mpsc},
};

use libfuzzer_sys::fuzz_target;
use tracestitch::{
    buffer::journal::{Journal, MemoryFiles, Settings, SyncMode},
    telemetry::Metrics,
};

const MARKER: &[u8] = b"\xF1ts\xFEj\xC0\n\xFF";
const HEADER_BYTES: usize = 32;

/// Offset, segment and checksum of each record are what they should be; the segment may be an earlier one.
fn repaired(segment: u32, mut bytes: Vec<u8>) -> Vec<u8> {
    let places: Vec<usize> =
        bytes.windows(8).enumerate().filter(|(_, at)| *at == MARKER).map(|(at, _)| at).collect();
    for at in places {
        let record = &mut bytes[at..];
        if record.len() < HEADER_BYTES {
            continue;
        }
        record[12..16].copy_from_slice(&(at as u32).to_le_bytes());
        let is_old = record[24] % 4 == 3;
        record[24..28].copy_from_slice(&(segment - u32::from(is_old)).to_le_bytes());
        let head = u32::from_le_bytes([record[16], record[17], record[18], record[19]]) as usize;
        let head = record.get(HEADER_BYTES..HEADER_BYTES.saturating_add(head));
        let Some(head) = head else { continue };
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&record[8..HEADER_BYTES - 4]), head);
        record[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

fn settings(files: &MemoryFiles) -> Settings {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    let metrics = Arc::clone(METRICS.get_or_init(|| Arc::new(Metrics::new(&[]))));
    Settings {
        sync: SyncMode::Never,
        max_bytes: 1 << 24,
        files: Arc::new(files.clone()),
        ..Settings::new(PathBuf::from("/journal"), vec!["a".to_owned()], metrics)
    }
}

fn recovered(files: &MemoryFiles) -> BTreeSet<u64> {
    let Ok((journal, recovery)) = Journal::open(settings(files)) else { return BTreeSet::new() };
    let mut numbers = BTreeSet::new();
    for part in recovery {
        assert!(numbers.insert(part.place.number), "a part came twice");
        // Damaged or not: it is said.
        let _read = journal.read(&part.place);
    }
    let (then, outcome) = mpsc::channel();
    journal.append_spans(Vec::new(), vec![vec![7; 9].into()], move |places| {
        let _gone = then.send(places);
    });
    let places = outcome.recv().expect("is called");
    if let Ok(places) = places {
        let number = places.places[0].number;
        assert!(!numbers.contains(&number), "a number given twice");
        numbers.insert(number);
    }
    journal.close();
    numbers
}

fuzz_target!(|data: &[u8]| {
    let files = MemoryFiles::new();
    let (first, second) = data.split_at(data.len() / 2);
    let segment = |number: u32| Path::new("/journal").join(format!("{number:08}.journal"));
    let line: &[u8] = b"tracestitch journal 3\n";
    files.put(&segment(1), repaired(1, [line, first].concat()));
    files.put(&segment(2), repaired(2, [line, second].concat()));
    let found = recovered(&files);
    let again = recovered(&files);
    assert!(found.is_subset(&again), "what was found once is found again");
});
