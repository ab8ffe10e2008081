//! Bytes are missing or wrong: what was not hit is there.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use bytes::Bytes;
use tracestitch::{
    buffer::journal::{Journal, MemoryFiles, OpenError, ReadError, Settings},
    trace::Place,
};

use super::{
    append, append_plan, by_number, bytes, end, open, others_pass, patient, segment, settings,
};

/// What a record begins with.
const MARKER: &[u8] = b"\xF1ts\xFEj\xC0\n\xFF";

/// A record as it was written: its bytes in the segment, and its parts.
struct Written {
    range: Range<usize>,
    head: Range<usize>,
    parts: BTreeMap<u64, (Place, Bytes)>,
    /// Of each part, where its bytes stand: its own, and those that are spliced in.
    stand: BTreeMap<u64, Vec<Range<usize>>>,
}

/// A segment with records of all kinds but moved ones.
struct Segment {
    number: u32,
    content: Vec<u8>,
    /// What stood there before it was written.
    old: Vec<u8>,
    written: Vec<Written>,
}

impl Segment {
    /// In a new file.
    fn fresh() -> Self {
        let files = MemoryFiles::new();
        let (journal, _recovery) = Journal::open(roomy(&files)).expect("opens");
        Self::written(&files, &journal, 1, Vec::new(), Vec::new())
    }

    /// Over one that nobody needs any more, and that was longer.
    fn over_old() -> Self {
        let files = MemoryFiles::new();
        let (journal, _recovery) = Journal::open(roomy(&files)).expect("opens");
        let mut round = 0;
        let mut fill = || {
            round += 1;
            let parts = vec![Bytes::from(vec![round; 77]), Bytes::from(vec![100 + round; 9])];
            (append(&journal, "filling", parts.clone()).expect("kept"), parts)
        };
        let (mut first, mut last) = (Vec::new(), fill());
        let mut old = Vec::new();
        while last.0[0].segment < 3 {
            if last.0[0].segment == 1 {
                old = files.content(&segment(1)).expect("a segment");
                first.extend(last.0);
            } else if !first.is_empty() {
                end(&journal, &std::mem::take(&mut first));
            }
            last = fill();
        }
        let content = files.content(&segment(3)).expect("a segment");
        assert_eq!(content.len(), old.len(), "written over");
        let written = vec![Written::read(&content, last.0, last.1)];
        Self::written(&files, &journal, 3, old, written)
    }

    fn written(
        files: &MemoryFiles,
        journal: &Journal,
        number: u32,
        old: Vec<u8>,
        mut written: Vec<Written>,
    ) -> Self {
        let content = || files.content(&segment(number)).expect("a segment");
        for round in 0..6 {
            let second = bytes("second, a little longer");
            let parts = vec![bytes(&format!("first of {round}")), second.clone(), second];
            let places = append(journal, "meta", parts.clone()).expect("kept");
            written.push(Written::read(&content(), places.clone(), parts));
            if round == 2 {
                // Done for one destination only: all stays live.
                journal.done(0, &places);
            }
            if round == 4 {
                let plan = bytes("what becomes of it");
                let place = append_plan(journal, &places, plan.clone()).expect("kept");
                written.push(Written::read(&content(), vec![place], vec![plan]));
            }
        }
        let content = content();
        Self { number, content, old, written }
    }

    /// As it was when so many of its bytes were written.
    fn cut(&self, cut: usize) -> Vec<u8> {
        [&self.content[..cut], self.old.get(cut..).unwrap_or_default()].concat()
    }

    /// A journal of this segment alone.
    fn with(&self, content: Vec<u8>) -> MemoryFiles {
        let files = MemoryFiles::new();
        files.put(&segment(self.number), content);
        files
    }
}

impl Written {
    fn read(content: &[u8], places: Vec<Place>, parts: Vec<Bytes>) -> Self {
        let first = places[0].offset.get() as usize;
        let start = content[..first].windows(8).rposition(|bytes| bytes == MARKER);
        let start = start.expect("a record's start");
        let end = places.last().map(|place| place.offset.get() + place.len).expect("a part");
        let head = start..start + 32 + number(content, start + 16);
        let stand = places.iter().map(|place| (place.number, stands(content, place))).collect();
        let parts = places.into_iter().zip(parts);
        let parts = parts.map(|(place, bytes)| (place.number, (place, bytes))).collect();
        Self { range: start..end as usize, head, parts, stand }
    }
}

fn number(content: &[u8], at: usize) -> usize {
    u32::from_le_bytes(content[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Where a part's bytes stand, as the table before its own bytes says.
fn stands(content: &[u8], place: &Place) -> Vec<Range<usize>> {
    let part = place.offset.get() as usize;
    let stretch = |entry: usize| {
        let entry = part + 4 + entry * 20;
        let start = part - number(content, entry + 4);
        start..start + number(content, entry + 8)
    };
    let own = part..part + place.len as usize;
    (0..number(content, part)).map(stretch).chain([own]).collect()
}

/// Nothing is moved.
fn roomy(files: &MemoryFiles) -> Settings {
    Settings { segment_bytes: 2048, max_bytes: 16 << 20, ..patient(files) }
}

#[test]
fn a_journal_cut_at_any_byte_has_all_whole_records_before_and_nothing_else() {
    for segment in [Segment::fresh(), Segment::over_old()] {
        for cut in 0..=segment.content.len() {
            check_cut(&segment, cut);
        }
    }
}

fn check_cut(cut_segment: &Segment, cut: usize) {
    let Segment { number, written, .. } = cut_segment;
    let content = cut_segment.cut(cut);
    let files = cut_segment.with(content.clone());
    let (journal, mut recovery) = open(&files);
    let found = by_number(&mut recovery);
    let whole = written.iter().filter(|record| record.range.end <= cut);
    let whole: BTreeMap<_, _> = whole.flat_map(|record| record.parts.clone()).collect();
    assert!(found.keys().eq(whole.keys()), "{number} cut at {cut}: {:?}", found.keys());
    for (place, bytes) in whole.values() {
        assert_eq!(journal.read(place).expect("whole").to_bytes(), *bytes);
    }
    // And it goes on, under new numbers, beside what is there.
    let next = append(&journal, "next", vec![bytes("new")]).expect("kept");
    assert!(whole.keys().all(|number| *number < next[0].number));
    let there = files.content(&segment(*number));
    assert_eq!(there, (!whole.is_empty()).then_some(content), "old bytes stay as they are or go");
}

#[test]
fn a_flipped_bit_costs_what_it_hit_and_no_more() {
    for segment in [Segment::fresh(), Segment::over_old()] {
        let end = segment.written.last().expect("a record").range.end;
        let behind = (end..segment.content.len()).step_by(13);
        for at in (0..end).chain(behind) {
            for bit in [0, 1, 4, 7] {
                let mut content = segment.content.clone();
                content[at] ^= 1 << bit;
                check_flipped(at, &segment.with(content), &segment.written);
            }
        }
    }
}

fn check_flipped(at: usize, files: &MemoryFiles, written: &[Written]) {
    let opened = Journal::open(settings(files));
    if let Err(OpenError::Version { .. }) = opened {
        // The version's digit became another one.
        return assert_eq!(at, "tracestitch journal ".len());
    }
    let (journal, mut recovery) = opened.expect("opens");
    let found = by_number(&mut recovery);
    for record in written {
        let head_is_hit = record.head.contains(&at);
        for (place, bytes) in record.parts.values() {
            let is_hit = record.stand[&place.number].iter().any(|range| range.contains(&at));
            match journal.read(place) {
                Ok(read) => assert!(read.to_bytes() == *bytes && !is_hit),
                Err(ReadError::Damaged { .. }) => assert!(is_hit),
                Err(other) => panic!("{other}"),
            }
            // A plan that can't be read is none, and neither is one whose spans are gone.
            let is_lost = head_is_hit
                || is_plan(bytes) && (is_hit || !found.contains_key(&(place.number - 1)));
            assert_eq!(found.contains_key(&place.number), !is_lost, "{place:?}, {at}");
        }
    }
    let any_found = |number: &u64| written.iter().any(|record| record.parts.contains_key(number));
    assert!(found.keys().all(any_found), "nothing is made up");
}

fn is_plan(bytes: &Bytes) -> bool {
    bytes.starts_with(b"what becomes")
}

/// A span that carries a journal as its data, whose own head is lost.
#[test]
fn a_record_within_somebodys_data_is_not_taken_for_one() {
    let inner = Segment::fresh().content;
    let files = MemoryFiles::new();
    let settings_ = || Settings { segment_bytes: 1 << 20, max_bytes: 16 << 20, ..settings(&files) };
    let (journal, recovery) = Journal::open(settings_()).expect("opens");
    drop(recovery);
    let first = append(&journal, "", vec![Bytes::from(inner)]).expect("kept");
    let second = append(&journal, "", vec![bytes("behind")]).expect("kept");
    journal.close();
    let mut content = files.content(&segment(1)).expect("a segment");
    content["tracestitch journal 3\n".len()] ^= 1;
    files.put(&segment(1), content);
    let (_journal, mut recovery) = Journal::open(settings_()).expect("opens");
    let found = by_number(&mut recovery);
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [second[0].number]);
    assert_ne!(first[0].number, second[0].number);
}

/// The copy of a moved part is damaged while the original is still there: the power went out before it was on the disk.
#[test]
fn a_moved_copy_counts_only_if_it_is_whole() {
    let files = MemoryFiles::new();
    let settings = |straggler_age| Settings { straggler_age, ..settings(&files) };
    let (journal, recovery) = Journal::open(settings(Duration::from_hours(1))).expect("opens");
    drop(recovery);
    let slow = append(&journal, "slow", vec![bytes("slow")]).expect("kept");
    others_pass(&journal);
    journal.close();
    let original = files.content(&segment(1)).expect("pinned by the slow one");
    let (journal, recovery) = Journal::open(settings(Duration::ZERO)).expect("opens");
    drop(recovery);
    append(&journal, "", vec![bytes("wakes the writer")]).expect("kept");
    append(&journal, "", vec![bytes("and once more")]).expect("kept");
    journal.close();
    assert_eq!(files.content(&segment(1)), None, "moved");
    files.put(&segment(1), original);
    let moved: Vec<_> = files.paths();
    let newest = moved.last().expect("the copy's segment");
    let mut content = files.content(newest).expect("is there");
    let at = content.windows(4).position(|part| part == b"slow").expect("meta first");
    let at =
        at + 1 + content[at + 1..].windows(4).position(|part| part == b"slow").expect("the part");
    content[at] ^= 1;
    files.put(newest, content);
    let (journal, mut recovery) = Journal::open(settings(Duration::ZERO)).expect("opens");
    let found = by_number(&mut recovery);
    let recovered = &found[&slow[0].number];
    assert_eq!(recovered.place.segment, 1);
    assert_eq!(journal.read(&recovered.place).expect("the original").to_bytes(), bytes("slow"));
}

/// It would pin its segment for ever.
#[test]
fn a_part_that_cant_be_read_is_given_up_when_it_should_move() {
    let files = MemoryFiles::new();
    let (journal, recovery) = Journal::open(patient(&files)).expect("opens");
    drop(recovery);
    let slow = append(&journal, "", vec![bytes("hit"), bytes("not hit")]).expect("kept");
    others_pass(&journal);
    journal.close();
    let mut content = files.content(&segment(1)).expect("pinned by the slow ones");
    content[slow[0].offset.get() as usize] ^= 1;
    files.put(&segment(1), content);
    let (journal, recovery) = open(&files);
    drop(recovery);
    for _ in 0..2 {
        append(&journal, "", vec![bytes("a turn of the writer")]).expect("kept");
    }
    journal.close();
    assert_eq!(files.content(&segment(1)), None);
    assert!(matches!(journal.read(&slow[0]), Err(ReadError::Gone { .. })));
    assert_eq!(journal.read(&slow[1]).expect("moved").to_bytes(), bytes("not hit"));
}
