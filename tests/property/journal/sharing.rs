//! What the parts of a request have in common stands on the disk once, and is shared when they are read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use tracestitch::{
    buffer::journal::{Journal, MemoryFiles, Settings},
    trace::Place,
    wire::{Level, Shared, Splice, Spliced, Splices},
};

use super::{append, by_number, end, others_pass, patient, segment, settings};

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
    others_pass(&journal);
    journal.close();
    let original = files.content(&segment(1));
    let (journal, recovery) =
        Journal::open(Settings { straggler_age: Duration::ZERO, ..settings(&files) })
            .expect("opens");
    check(&journal, &places, &given);
    drop(recovery);
    for _ in 0..2 {
        append(&journal, "", vec![Bytes::from_static(b"a turn of the writer")]).expect("kept");
    }
    journal.close();
    let original = original.expect("pinned by the slow ones");
    assert_eq!(files.content(&segment(1)), None, "moved");
    let copies: Vec<_> = (2..100).filter(|number| headers_in(&files, *number) > 0).collect();
    assert_eq!((copies.len(), headers_in(&files, copies[0])), (1, 1));
    check(&journal, &places, &given);

    // The power went out before the copy's header was on the disk.
    let mut copy = files.content(&segment(copies[0])).expect("has the copies");
    let at = copy.windows(HEADER.len()).position(|bytes| bytes == HEADER).expect("a header");
    copy[at] ^= 1;
    files.put(&segment(copies[0]), copy);
    files.put(&segment(1), original);
    let (journal, mut recovery) = Journal::open(patient(&files)).expect("opens");
    let found = by_number(&mut recovery);
    assert!(places.iter().all(|place| found[&place.number].place.segment == 1), "the originals");
    check(&journal, &places, &given);
}

/// More headers than are remembered for readers here and there, and of lengths that like to meet in a table of 64.
#[test]
fn however_many_headers_there_are_each_moves_once() {
    let files = MemoryFiles::new();
    let (journal, recovery) =
        Journal::open(Settings { segment_bytes: 1 << 20, max_bytes: 64 << 20, ..patient(&files) })
            .expect("opens");
    drop(recovery);
    let header = |number: u16| [number.to_be_bytes(), [b'h'; 2]].concat().repeat(16);
    let headers: Vec<_> =
        (0..300).map(|number| Shared::new([&*header(number)].into_iter())).collect();
    let part = |number: usize| {
        let levels = [(Level::Resource, number), (Level::Scope, number + 1)];
        let splices = levels.map(|(level, number)| Splice {
            at: 0,
            level,
            shared: Arc::clone(&headers[number % headers.len()]),
        });
        Spliced::new(Bytes::from_static(b"own"), Some(Splices::new(splices, 0)))
    };
    let given: Vec<_> = (0..600).map(part).collect();
    let places = append_shared(&journal, given.clone());
    let fast = append(&journal, "", vec![Bytes::from(vec![7; 400_000])]).expect("kept");
    append(&journal, "", vec![Bytes::from(vec![7; 900_000])]).expect("kept");
    append(&journal, "", vec![Bytes::from(vec![7; 900_000])]).expect("kept");
    let before = journal.used_bytes();
    end(&journal, &fast);
    journal.close();
    let (journal, recovery) =
        Journal::open(Settings { segment_bytes: 1 << 20, max_bytes: 64 << 20, ..settings(&files) })
            .expect("opens");
    drop(recovery);
    for _ in 0..2 {
        append(&journal, "", vec![Bytes::from_static(b"a turn of the writer")]).expect("kept");
    }
    assert_eq!(files.content(&segment(1)), None, "moved");
    assert!(journal.used_bytes() < before - 350_000, "{} of {before}", journal.used_bytes());
    for (place, given) in places.iter().zip(&given) {
        assert_eq!(&journal.read(place).expect("is there"), given);
    }
}

/// Over several segments, as a start does it.
#[test]
fn what_an_earlier_run_left_is_read_in_large_steps_and_is_the_same() {
    let files = MemoryFiles::new();
    let roomy = || Settings { segment_bytes: 2 << 20, max_bytes: 64 << 20, ..patient(&files) };
    let (journal, recovery) = Journal::open(roomy()).expect("opens");
    drop(recovery);
    let mut given = BTreeMap::new();
    for round in 0..40 {
        let words = |number: usize| "word ".repeat((round * 31 + number * 17) % 400);
        let words: Vec<_> = (0..200).map(words).collect();
        let words: Vec<_> = words.iter().map(|words| format!(" {words}")).collect();
        let parts = parts(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let places = append_shared(&journal, parts.clone());
        given.extend(places.iter().map(|place| place.number).zip(parts));
    }
    journal.close();
    let (_journal, mut recovery) = Journal::open(roomy()).expect("opens");
    let mut segments = BTreeSet::new();
    while let Some(recovered) = recovery.next() {
        segments.insert(recovered.place.segment);
        let part = given.remove(&recovered.place.number).expect("was given, and comes once");
        assert_eq!(recovery.read(&recovered.place).expect("is there"), part);
    }
    assert!(given.is_empty() && segments.len() > 2, "{segments:?}");
}
