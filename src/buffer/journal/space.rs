//! What is live in which segment, what moved where, and what which destination has: all that is known beside the files.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use super::{files::SegmentFile, numbers::Numbers};
use crate::{clock::Instant, trace::Place};

/// Segments that are kept open for reading.
const OPEN_FILES_MAX: usize = 128;

/// Names of destinations that are remembered beside the configured ones.
const NAMES_MAX: usize = 256;

/// The books of the journal's space.
#[derive(Debug)]
pub(super) struct Space {
    segments: BTreeMap<u32, Segment>,
    /// Live parts that are not where their first place says.
    moved: HashMap<u64, Place>,
    destinations: Vec<String>,
    configured: usize,
    /// For each destination the live parts it does not need any more.
    done: Vec<Numbers>,
    open: VecDeque<u32>,
}

/// What is known of a segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// Size of the file.
    pub(super) bytes: u64,
    /// When it was begun, or found.
    pub(super) born: Instant,
    /// Nothing is appended to it any more.
    pub(super) sealed: bool,
    /// The file that is open is the one it was written by: it can be written over.
    is_writable: bool,
    /// Parts that somebody needs.
    pub(super) live: Numbers,
    /// Their bytes.
    pub(super) live_bytes: u64,
    /// Bytes of what parts share.
    pub(super) stretch_bytes: u64,
    file: Option<Arc<dyn SegmentFile>>,
}

impl Segment {
    /// One that is being written from now on.
    pub(super) fn begun(bytes: u64, born: Instant) -> Self {
        let (live, live_bytes, stretch_bytes) = (Numbers::default(), 0, 0);
        let (sealed, is_writable, file) = (false, true, None);
        Self { bytes, born, sealed, is_writable, live, live_bytes, stretch_bytes, file }
    }

    /// One of an earlier process.
    pub(super) fn found(bytes: u64, born: Instant) -> Self {
        Self { sealed: true, is_writable: false, ..Self::begun(bytes, born) }
    }

    fn add(&mut self, place: &Place) {
        if self.live.insert(place.number) {
            self.live_bytes += u64::from(place.len);
        }
    }

    fn remove(&mut self, place: &Place) -> bool {
        let was_live = self.live.remove(place.number);
        if was_live {
            self.live_bytes = self.live_bytes.saturating_sub(u64::from(place.len));
        }
        was_live
    }

    /// All parts of a run are live, so that it can be dealt with as one.
    fn has(&self, run: &[Place]) -> bool {
        self.live.contains_all(&numbers(run))
    }

    fn remove_run(&mut self, run: &[Place]) {
        self.live.remove_range(numbers(run));
        let bytes = run.iter().map(|place| u64::from(place.len)).sum();
        self.live_bytes = self.live_bytes.saturating_sub(bytes);
    }

    /// The last quarter or less of an old segment pins the rest and all that comes behind it. What parts share counts on
    /// neither side: it moves along, and small parts below a large resource would look like stragglers when all are live.
    fn is_straggling(&self, now: Instant, age: Duration) -> bool {
        self.sealed
            && !self.live.is_empty()
            && now.saturating_duration_since(self.born) >= age
            && self.live_bytes <= self.bytes.saturating_sub(self.stretch_bytes) / 4
    }
}

/// Parts one after the other, as they were written: what becomes of them is mostly the same for all.
fn runs(places: &[Place]) -> impl Iterator<Item = &[Place]> {
    places.chunk_by(|one, next| next.number == one.number + 1 && next.segment == one.segment)
}

/// The numbers of these parts, as few ranges as follow from their order.
pub(super) fn ranges(places: &[Place]) -> impl Iterator<Item = Range<u64>> {
    places.chunk_by(|one, next| next.number == one.number + 1).map(numbers)
}

/// The numbers of a run.
fn numbers(run: &[Place]) -> Range<u64> {
    match (run.first(), run.last()) {
        (Some(first), Some(last)) => first.number..last.number + 1,
        _ => 0..0,
    }
}

impl Space {
    pub(super) fn new(destinations: Vec<String>) -> Self {
        let done = vec![Numbers::default(); destinations.len()];
        Self {
            segments: BTreeMap::new(),
            moved: HashMap::new(),
            configured: destinations.len(),
            destinations,
            done,
            open: VecDeque::new(),
        }
    }

    /// Where a part is now.
    pub(super) fn current(&self, place: &Place) -> Place {
        self.moved.get(&place.number).copied().unwrap_or(*place)
    }

    /// Somebody needs the part, and it is there.
    pub(super) fn is_live(&self, place: &Place) -> bool {
        let segment = self.segments.get(&self.current(place).segment);
        segment.is_some_and(|segment| segment.live.contains(place.number))
    }

    /// The part is the live copy, not one that was left behind by a move.
    pub(super) fn is_live_at(&self, place: &Place) -> bool {
        self.is_live(place) && self.current(place).segment == place.segment
    }

    /// The destinations' flags for a part, in the order of the configuration.
    pub(super) fn done_flags(&self, number: u64) -> Vec<bool> {
        self.done.iter().take(self.configured).map(|done| done.contains(number)).collect()
    }

    /// New parts were written.
    pub(super) fn enlist(&mut self, places: &[Place]) {
        for run in runs(places) {
            let segment = run.first().and_then(|first| self.segments.get_mut(&first.segment));
            let Some(segment) = segment else { continue };
            let bytes = run.iter().map(|place| u64::from(place.len)).sum::<u64>();
            segment.live.insert_range(numbers(run));
            segment.live_bytes += bytes;
        }
    }

    /// A live part has a copy elsewhere, which is the part from now on. False if it was not live: the copy is nothing.
    pub(super) fn relocate(&mut self, from: &Place, to: Place) -> bool {
        let was_live =
            self.segments.get_mut(&from.segment).is_some_and(|segment| segment.remove(from));
        if was_live && let Some(segment) = self.segments.get_mut(&to.segment) {
            segment.add(&to);
            self.moved.insert(to.number, to);
        }
        was_live
    }

    /// A live part that an earlier run moved.
    pub(super) fn note_moved(&mut self, place: Place) {
        self.moved.insert(place.number, place);
    }

    /// A destination does not need these parts any more. What is not live is of no interest.
    pub(super) fn note_done(&mut self, destination: usize, places: &[Place]) {
        for run in runs(places) {
            if self.live_run(run).is_some() {
                self.note_numbers_done(destination, numbers(run));
                continue;
            }
            for place in run {
                if self.is_live(place) {
                    self.note_numbers_done(destination, place.number..place.number + 1);
                }
            }
        }
    }

    fn note_numbers_done(&mut self, destination: usize, numbers: Range<u64>) {
        if let Some(done) = self.done.get_mut(destination) {
            done.insert_range(numbers);
        }
    }

    /// The segment of a run that is live, and where it was written first.
    fn live_run(&mut self, run: &[Place]) -> Option<&mut Segment> {
        let first = run.first()?;
        if !self.moved.is_empty() && run.iter().any(|part| self.moved.contains_key(&part.number)) {
            return None;
        }
        self.segments.get_mut(&first.segment).filter(|segment| segment.has(run))
    }

    /// The number of a destination, also of one that is not configured any more.
    pub(super) fn destination(&mut self, name: &str) -> Option<usize> {
        let known = self.destinations.iter().position(|known| known == name);
        if known.is_none() && self.destinations.len() < self.configured + NAMES_MAX {
            self.destinations.push(name.to_owned());
            self.done.push(Numbers::default());
            return Some(self.destinations.len() - 1);
        }
        known
    }

    pub(super) fn destination_name(&self, destination: usize) -> Option<String> {
        self.destinations.get(destination).cloned()
    }

    pub(super) fn done_mut(&mut self) -> &mut [Numbers] {
        &mut self.done
    }

    /// For each destination, those of the numbers that it has.
    pub(super) fn done_of(&self, numbers: &Numbers) -> Vec<Numbers> {
        self.done.iter().map(|done| done.intersection(numbers)).collect()
    }

    /// What every configured destination has.
    pub(super) fn done_everywhere(&self) -> Numbers {
        let mut done = self.done.iter().take(self.configured);
        let first = done.next().cloned().unwrap_or_default();
        done.fold(first, |all, done| all.intersection(done))
    }

    /// Nobody needs these parts any more. True if that emptied the oldest segment, so that it can be deleted.
    pub(super) fn release(&mut self, places: &[Place]) -> bool {
        let was_deletable = self.deletable().is_some();
        for run in runs(places) {
            if let Some(segment) = self.live_run(run) {
                segment.remove_run(run);
                self.forget_parts(numbers(run));
                continue;
            }
            for place in run {
                let place = self.current(place);
                let segment = self.segments.get_mut(&place.segment);
                if segment.is_some_and(|segment| segment.remove(&place)) {
                    self.forget_parts(place.number..place.number + 1);
                }
            }
        }
        !was_deletable && self.deletable().is_some()
    }

    fn forget_parts(&mut self, numbers: Range<u64>) {
        if !self.moved.is_empty() {
            for number in numbers.clone() {
                self.moved.remove(&number);
            }
        }
        for done in self.done.iter_mut().filter(|done| !done.is_empty()) {
            done.remove_range(numbers.clone());
        }
    }

    pub(super) fn add_segment(&mut self, number: u32, segment: Segment) {
        self.segments.insert(number, segment);
    }

    pub(super) fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(&number)
    }

    pub(super) fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.segments.get_mut(&number)
    }

    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes that somebody needs.
    pub(super) fn live_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.live_bytes).sum()
    }

    /// The oldest segment, if nobody needs anything in it.
    pub(super) fn deletable(&self) -> Option<u32> {
        let (number, oldest) = self.segments.first_key_value()?;
        (oldest.sealed && oldest.live.is_empty()).then_some(*number)
    }

    /// The oldest segment, if its last parts should move. Not if it is the only sealed one: moving gains nothing then.
    pub(super) fn straggler(&self, now: Instant, age: Duration) -> Option<u32> {
        let mut segments = self.segments.iter();
        let (number, oldest) = segments.next()?;
        let (_, next) = segments.next()?;
        (next.sealed && oldest.is_straggling(now, age)).then_some(*number)
    }

    /// The parts that are live in a segment are given up.
    pub(super) fn give_up(&mut self, number: u32) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        let lost = std::mem::take(&mut segment.live);
        segment.live_bytes = 0;
        for numbers in lost.ranges() {
            self.forget_parts(numbers);
        }
    }

    /// A segment's file, if it can be written over when the segment is gone: an earlier process's, and one that was opened
    /// again, is open for reading.
    pub(super) fn take_writable_file(&mut self, number: u32) -> Option<Arc<dyn SegmentFile>> {
        let segment = self.segments.get_mut(&number).filter(|segment| segment.is_writable)?;
        segment.is_writable = false;
        segment.file.take()
    }

    /// The segment's file is gone. Closing it takes the system as long as it had pages: not under the books' lock.
    pub(super) fn forget(&mut self, number: u32) -> Option<Segment> {
        self.segments.remove(&number)
    }

    /// A segment's file, if it is open.
    pub(super) fn open_file(&self, number: u32) -> Option<Arc<dyn SegmentFile>> {
        self.segments.get(&number)?.file.clone()
    }

    /// Keeps a segment's file open, and closes that which has been open longest if there are too many.
    pub(super) fn keep_open(&mut self, number: u32, file: Arc<dyn SegmentFile>) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        segment.file = Some(file);
        self.open.push_back(number);
        if self.open.len() > OPEN_FILES_MAX
            && let Some(longest) = self.open.pop_front()
            && let Some(segment) = self.segments.get_mut(&longest)
        {
            segment.is_writable = false;
            segment.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::clock;

    #[test]
    fn a_straggler_is_old_and_nearly_empty_and_has_a_sealed_one_behind_it() {
        let (now, age) = (clock::now(), Duration::from_mins(1));
        let stretch_bytes = 9000;
        let straggles = |old_s: u64, live: u32, sealed: bool, behind: Option<bool>| {
            let mut space = Space::new(Vec::new());
            let mut oldest = Segment { sealed, stretch_bytes, ..Segment::begun(10_000, now) };
            oldest.add(&part(1, live));
            space.add_segment(1, oldest);
            if let Some(sealed) = behind {
                space.add_segment(2, Segment { sealed, ..Segment::begun(1000, now) });
            }
            space.straggler(now + Duration::from_secs(old_s), age).is_some()
        };
        assert!(straggles(60, 250, true, Some(true)));
        assert!(!straggles(59, 250, true, Some(true)), "young");
        assert!(!straggles(60, 251, true, Some(true)), "full");
        assert!(!straggles(60, 250, true, Some(false)), "the next one is being written");
        assert!(!straggles(60, 250, true, None), "alone");
        assert!(!straggles(60, 250, false, Some(true)), "being written");
    }

    fn part(number: u64, len: u32) -> Place {
        Place { number, segment: 1, offset: NonZeroU32::MIN, len, checksum: 0 }
    }
}
