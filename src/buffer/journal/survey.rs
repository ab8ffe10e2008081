//! What an earlier run left: reads the heads of all records twice, so that memory does not depend on how much there is.
//!
//! 1. Which parts there are, which copy of a part counts, and which destination has what.
//! 2. Which parts are live: spans that some destination lacks, and plans that are about such spans and whole.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use super::{
    Content, Settings,
    error::OpenError,
    files::{Lock, SegmentFile},
    format::{Parts, Record, Stored, VERSION, is_spare, segment_number},
    numbers::Numbers,
    part::read_part,
    scan::{Found, Scan, other_version_of},
    shared::Shared,
    space::Segment,
};
use crate::{clock, trace::Place};

/// Takes the directory for this process.
pub(super) fn lock(settings: &Settings) -> Result<Box<dyn Lock>, OpenError> {
    let Settings { directory, files, .. } = settings;
    files.create_directory(directory).map_err(failed("make", directory))?;
    let path = directory.join("lock");
    files.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { directory: directory.clone() },
        _ => failed("lock", &path)(error),
    })
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Files { what, path, source }
}

/// What there is.
#[derive(Debug)]
pub(super) struct Surveyed {
    /// In order.
    pub(super) segments: Vec<u32>,
    /// Higher than any that was ever said.
    pub(super) next_number: u64,
    /// Spans that go out by a plan.
    pub(super) covered: Numbers,
}

/// Fills the journal's books.
pub(super) fn survey(shared: &Shared) -> Result<Surveyed, OpenError> {
    let names = shared.files.list(&shared.directory);
    let names = names.map_err(failed("list", &shared.directory))?;
    let segments = segments(&names);
    // All of them before anything else: a journal of another version is left as it is.
    for segment in &segments {
        register(shared, *segment)?;
    }
    for spare in names.iter().filter(|name| is_spare(name)) {
        // Should it stay: nothing reads it.
        let _left = shared.files.remove(&shared.directory.join(spare));
    }
    let mut presence = Presence::default();
    for segment in &segments {
        presence.read(shared, *segment)?;
    }
    let mut liveness = Liveness {
        wanted: presence.seen.clone().without(&shared.space.lock().done_everywhere()),
        presence: &presence,
        live: Numbers::default(),
        covered: Numbers::default(),
    };
    for segment in &segments {
        liveness.read(shared, *segment)?;
    }
    let Liveness { live, covered, .. } = liveness;
    for done in shared.space.lock().done_mut() {
        *done = done.intersection(&live);
    }
    Ok(Surveyed { segments, next_number: presence.highest + 1, covered })
}

fn segments(names: &[String]) -> Vec<u32> {
    let mut segments: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
    segments.sort_unstable();
    segments
}

fn register(shared: &Shared, segment: u32) -> Result<(), OpenError> {
    let path = shared.path(segment);
    let look = || {
        let file = shared.files.open(&path)?;
        Ok((other_version_of(&*file)?, file.size_bytes()?))
    };
    let (other_version, bytes) = look().map_err(failed("read", &path))?;
    if let Some(found) = other_version {
        return Err(OpenError::Version { file: path, found, needed: VERSION });
    }
    shared.use_bytes(bytes);
    shared.space.lock().add_segment(segment, Segment::found(bytes, clock::now()));
    Ok(())
}

/// Calls with each record of a segment, and with its file.
fn each_record(
    shared: &Shared,
    segment: u32,
    mut damaged: impl FnMut(u64, u64),
    mut record: impl FnMut(Record, &Arc<dyn SegmentFile>) -> io::Result<()>,
) -> Result<(), OpenError> {
    let mut read = || {
        let Some(file) = shared.file(segment)? else { return Ok(()) };
        let mut scan = Scan::new(Arc::clone(&file), segment)?;
        while let Some(found) = scan.next() {
            match found? {
                Found::Record(found) => record(found, &file)?,
                Found::Damage { offset, bytes } => damaged(offset, bytes),
            }
        }
        Ok(())
    };
    read().map_err(failed("read", &shared.path(segment)))
}

/// The first reading.
#[derive(Debug, Default)]
struct Presence {
    /// The segment's parts, as far as it has the copy that counts.
    parts: BTreeMap<u32, Numbers>,
    seen: Numbers,
    highest: u64,
}

impl Presence {
    fn read(&mut self, shared: &Shared, segment: u32) -> Result<(), OpenError> {
        let damaged = |offset, bytes| shared.damaged_stretch(segment, offset, bytes);
        each_record(shared, segment, damaged, |record, file| {
            match record {
                Record::Parts(parts) => parts.stored.iter().for_each(|part| self.part(part)),
                Record::Moved(parts) => {
                    for part in &parts.stored {
                        self.copy(part, shared, &**file)?;
                    }
                }
                Record::Done(name, numbers) => self.done(shared, &name, &numbers),
                Record::End => {}
            }
            Ok(())
        })
    }

    fn part(&mut self, part: &Stored) {
        self.note(part);
        if self.seen.insert(part.place.number) {
            self.parts.entry(part.place.segment).or_default().insert(part.place.number);
        }
    }

    /// A copy counts if it is whole: the power may have gone before it was on the disk, and then the original is there.
    fn copy(&mut self, part: &Stored, shared: &Shared, file: &dyn SegmentFile) -> io::Result<()> {
        self.note(part);
        let Place { number, segment, .. } = part.place;
        if read_part(file, &part.place, &shared.stretches)?.is_none() {
            shared.damaged(&part.place);
            return Ok(());
        }
        if !self.seen.insert(number) {
            for parts in self.parts.values_mut() {
                parts.remove(number);
            }
        }
        self.parts.entry(segment).or_default().insert(number);
        Ok(())
    }

    fn note(&mut self, part: &Stored) {
        self.highest = self.highest.max(part.place.number);
        if let Content::Plan { covers } = &part.content {
            let covered = covers.iter().map(|place| place.number);
            self.highest = covered.fold(self.highest, u64::max);
        }
    }

    fn done(&mut self, shared: &Shared, name: &str, numbers: &Numbers) {
        if let Some(last) = numbers.ranges().last() {
            self.highest = self.highest.max(last.end - 1);
        }
        let mut space = shared.space.lock();
        if let Some(destination) = space.destination(name)
            && let Some(done) = space.done_mut().get_mut(destination)
        {
            done.merge(numbers);
        }
    }
}

/// The second reading.
struct Liveness<'a> {
    presence: &'a Presence,
    /// Parts that some destination lacks.
    wanted: Numbers,
    live: Numbers,
    covered: Numbers,
}

impl Liveness<'_> {
    fn read(&mut self, shared: &Shared, segment: u32) -> Result<(), OpenError> {
        let Some(here) = self.presence.parts.get(&segment) else { return Ok(()) };
        // Damage was counted by the first reading.
        let damaged = |_, _| {};
        each_record(shared, segment, damaged, |record, file| {
            let (parts, are_copies) = match record {
                Record::Parts(parts) => (parts, false),
                Record::Moved(parts) => (parts, true),
                Record::Done(..) | Record::End => return Ok(()),
            };
            let Parts { stretches_len, stored } = parts;
            let mut live = Vec::new();
            for part in stored.into_iter().filter(|part| here.contains(part.place.number)) {
                if self.is_live(&part, shared, &**file)? && self.live.insert(part.place.number) {
                    live.push(part.place);
                }
            }
            let mut space = shared.space.lock();
            space.enlist(&live);
            if let Some(segment) = space.segment_mut(segment) {
                segment.stretch_bytes += u64::from(stretches_len);
            }
            if are_copies {
                for place in live {
                    space.note_moved(place);
                }
            }
            Ok(())
        })
    }

    fn is_live(
        &mut self,
        part: &Stored,
        shared: &Shared,
        file: &dyn SegmentFile,
    ) -> io::Result<bool> {
        let Content::Plan { covers } = &part.content else {
            return Ok(self.wanted.contains(part.place.number));
        };
        // The first plan of a span counts: the span may have gone out by it.
        let is_wanted = covers.iter().any(|place| self.wanted.contains(place.number))
            && !covers.iter().any(|place| self.covered.contains(place.number));
        if !is_wanted {
            return Ok(false);
        }
        // The spans of a plan that can't be read must not wait for it.
        if read_part(file, &part.place, &shared.stretches)?.is_none() {
            shared.damaged(&part.place);
            return Ok(false);
        }
        for place in covers {
            self.covered.insert(place.number);
        }
        Ok(true)
    }
}
