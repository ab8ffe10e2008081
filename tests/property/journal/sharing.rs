//! What the parts of a request have in common stands on the disk once, and is shared when they are read back.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use tracestitch::{
    buffer::journal::{Journal, MemoryFiles, Settings},
    trace::Place,
    wire::{Level, Shared, Splice, Spliced, Splices},
};

use super::{append, patient, segment, settings};

const HEADER: &[u8] = b"a resource that says much of itself";

/// Parts below the same resource.
fn parts(words: &[&str]) -> Vec<Spliced> {
    let shared = Shared::new([HEADER].into_iter());
    let splices = Splices::new([Splice { at: 1, level: Level::Resource, shared }], 0);
    let part = |words: &&str| {
        let own = Bytes::copy_from_slice(words.as_bytes());
        Spliced::new(own, Some(Arc::clone(&splices)))
    };
    words.iter().map(part).collect()
}

fn append_shared(journal: &Journal, parts: Vec<Spliced>) -> Vec<Place> {
    let (then, outcome) = mpsc::channel();
    journal.append_spans(Vec::new(), parts, move |kept| then.send(kept).expect("waits"));
    outcome.recv().expect("is called").expect("kept").places
}

fn headers_in(files: &MemoryFiles, number: u32) -> usize {
    let content = files.content(&segment(number)).unwrap_or_default();
    content.windows(HEADER.len()).filter(|bytes| *bytes == HEADER).count()
}

fn check(journal: &Journal, places: &[Place], given: &[Spliced]) {
    let read: Vec<_> = places.iter().map(|place| journal.read(place).expect("is there")).collect();
    assert_eq!(read, given);
    let shared: Vec<_> = read.iter().flat_map(|part| part.shared(Level::Resource)).collect();
    assert_eq!(shared.len(), given.len());
    assert!(shared.windows(2).all(|pair| Arc::ptr_eq(pair[0], pair[1])), "one in memory");
}

#[test]
fn shared_headers_are_written_once_and_move_along() {
    let files = MemoryFiles::new();
    let given = parts(&["first", "second", "third"]);
    let (journal, recovery) = Journal::open(patient(&files)).expect("opens");
    drop(recovery);
    let places = append_shared(&journal, given.clone());
    assert_eq!(headers_in(&files, 1), 1);
    check(&journal, &places, &given);
    for _ in 0..12 {
        let fast = append(&journal, "", vec![Bytes::from(vec![7; 100])]).expect("kept");
        journal.done(0, &fast);
        journal.done(1, &fast);
        journal.release(&fast);
    }
    journal.close();
    let (journal, recovery) =
        Journal::open(Settings { straggler_age: Duration::ZERO, ..settings(&files) })
            .expect("opens");
    check(&journal, &places, &given);
    drop(recovery);
    for _ in 0..2 {
        append(&journal, "", vec![Bytes::from_static(b"a turn of the writer")]).expect("kept");
    }
    journal.close();
    assert_eq!(files.content(&segment(1)), None, "moved");
    let copies: usize = (2..100).map(|number| headers_in(&files, number)).sum();
    assert_eq!(copies, 1);
    check(&journal, &places, &given);
}
