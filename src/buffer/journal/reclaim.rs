//! Space is given back: the oldest segments are deleted when nobody needs them, and the last parts of old ones move.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    Content,
    error::AppendError,
    format::{Record, Stored, covers, heads},
    numbers::Numbers,
    part::read_part,
    scan::{Found, Scan},
    stretches::Stretches,
    writer::Writer,
};
use crate::{
    clock,
    wire::{Shared, Spliced},
};

/// Bytes of one Moved record, unless one part has more.
const MOVED_BYTES: usize = 4 << 20;

/// How long space is left alone when something failed.
const TIDY_AGAIN: Duration = Duration::from_secs(10);

impl Writer {
    /// What is due beside writing.
    pub(super) fn tidy_up(&mut self) {
        let now = clock::now();
        if now >= self.move_again {
            self.move_stragglers();
        }
        if now >= self.tidy_again {
            self.settle_moves();
            self.reclaim();
        }
        self.spares.expire(&self.shared, now);
        self.reserve.keep(&self.shared);
        self.shared.gauge();
    }

    /// Gives the oldest segments up, as long as nobody needs anything in them. Never others: a segment holds what is done
    /// of those before it.
    pub(super) fn reclaim(&mut self) {
        loop {
            // In order, so that after a power loss no segment is there whose Done records are not.
            if let Some(segment) = self.unflushed {
                if self.shared.sync_directory(segment).is_err() {
                    return self.tidy_later();
                }
                self.unflushed = None;
            }
            let oldest = self.shared.space.lock().deletable();
            let Some(segment) = oldest.filter(|segment| self.moving != Some(*segment)) else {
                return;
            };
            if !self.spare(segment) && !self.delete(segment) {
                return self.tidy_later();
            }
            let forgotten = self.shared.space.lock().forget(segment);
            self.shared.give_back(forgotten.map_or(0, |segment| segment.bytes));
            self.unflushed = Some(segment);
        }
    }

    /// Keeps the segment's file for one to come, if that is worth it.
    fn spare(&mut self, segment: u32) -> bool {
        self.shared.forget_dirty(segment);
        let file = self.shared.space.lock().take_writable_file(segment);
        file.is_some_and(|file| self.spares.keep(&self.shared, segment, file, clock::now()))
    }

    fn delete(&self, segment: u32) -> bool {
        let path = self.shared.path(segment);
        match self.shared.files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "cannot delete a segment of the journal; trying again");
                false
            }
            _ => true,
        }
    }

    fn move_stragglers(&mut self) {
        if self.moving.is_some() || self.shared.is_recovering() || self.shared.is_poisoned() {
            return;
        }
        let age = self.shared.straggler_age;
        let Some(segment) = self.shared.space.lock().straggler(clock::now(), age) else { return };
        self.moving = Some(segment);
        if let Err(error) = self.move_parts(segment) {
            tracing::warn!(file = %self.shared.path(segment).display(), %error, "cannot move the last parts of a segment");
            // Segments are deleted meanwhile: on a full disk that is what makes room for moving.
            self.move_again = clock::now() + TIDY_AGAIN;
        }
    }

    fn tidy_later(&mut self) {
        self.tidy_again = clock::now() + TIDY_AGAIN;
    }

    /// The copies, and what is known of them, must be on the disk before the originals go.
    fn settle_moves(&mut self) {
        if self.moving.is_none() {
            return;
        }
        self.commit();
        // On a full disk nothing can be said before the segment is gone. Waiting for it would be for ever; so it is said
        // right after, and a crash in between sends again what is done.
        if self.shared.flush().is_ok() {
            self.moving = None;
        }
    }

    fn move_parts(&mut self, segment: u32) -> Result<(), MoveError> {
        let live = self.owe_again(segment);
        let Some(file) = self.shared.file(segment)? else { return Ok(()) };
        let mut scan = Scan::new(file.clone(), segment)?;
        let mut load = Load::default();
        while let Some(found) = scan.next() {
            let Found::Record(Record::Parts(parts) | Record::Moved(parts)) = found? else {
                continue;
            };
            // What they share is found again by address, however much it is.
            let stretches = Stretches::of_a_record();
            for part in parts.stored.into_iter().filter(|part| live.contains(part.place.number)) {
                let Some(bytes) = read_part(&*file, &part.place, &stretches)? else {
                    self.shared.damaged(&part.place);
                    continue;
                };
                load.add(part, bytes);
                if load.bytes >= MOVED_BYTES {
                    self.move_load(std::mem::take(&mut load))?;
                }
            }
        }
        self.move_load(load)?;
        // What is still live here could not be read.
        self.shared.space.lock().give_up(segment);
        Ok(())
    }

    /// Done records in this segment will be gone with it: what they say of the parts that move is said again. Both are
    /// taken at one moment, or a part released in between would be without.
    fn owe_again(&mut self, segment: u32) -> Numbers {
        let (live, done) = {
            let space = self.shared.space.lock();
            let live =
                space.segment(segment).map(|segment| segment.live.clone()).unwrap_or_default();
            let done = space.done_of(&live);
            (live, done)
        };
        for (destination, numbers) in done.iter().enumerate() {
            self.owed_to(destination).merge(numbers);
        }
        live
    }

    fn move_load(&mut self, load: Load) -> Result<(), AppendError> {
        if load.parts.is_empty() {
            return Ok(());
        }
        let (originals, head, bytes) = load.record();
        let copies = self.write_moved(head, bytes)?;
        let mut space = self.shared.space.lock();
        for (original, copy) in originals.iter().zip(copies) {
            space.relocate(&original.place, copy);
        }
        self.shared.metrics.journal.moved_parts.increment(originals.len() as u64);
        Ok(())
    }
}

/// Parts on their way.
#[derive(Debug, Default)]
struct Load {
    parts: Vec<(Stored, Spliced)>,
    /// What is spliced in, by address.
    shared: HashSet<*const Shared>,
    /// Of the record to come, nearly.
    bytes: usize,
}

impl Load {
    fn add(&mut self, part: Stored, bytes: Spliced) {
        let head = match &part.content {
            Content::Spans { meta } => meta.len(),
            Content::Plan { covers } => covers.len() * 24,
        };
        let new = bytes.splices().iter().map(|splice| &splice.shared);
        let new = new.filter(|shared| self.shared.insert(Arc::as_ptr(shared)));
        let shared: usize = new.map(|shared| shared.bytes().len()).sum();
        self.bytes += bytes.own().len() + shared + head + 24;
        self.parts.push((part, bytes));
    }

    /// The parts of one request share their meta.
    fn record(self) -> (Vec<Stored>, heads::Moved, Vec<Spliced>) {
        let mut metas = Metas::default();
        let mut head = heads::Moved::default();
        for (Stored { place, content }, _) in &self.parts {
            let kind = match content {
                Content::Spans { meta } => heads::moved_part::Kind::Spans(metas.index(meta)),
                Content::Plan { covers: places } => heads::moved_part::Kind::Plan(covers(places)),
            };
            let (number, kind) = (place.number, Some(kind));
            head.parts.push(heads::MovedPart { number, kind, ..Default::default() });
        }
        head.metas = metas.all;
        let (parts, bytes) = self.parts.into_iter().unzip();
        (parts, head, bytes)
    }
}

#[derive(Debug, Default)]
struct Metas {
    all: Vec<Bytes>,
    known: HashMap<Bytes, u32>,
}

impl Metas {
    fn index(&mut self, meta: &Bytes) -> u32 {
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let index = *self.known.entry(meta.clone()).or_insert(next);
        if index == next {
            self.all.push(meta.clone());
        }
        index
    }
}

/// Why parts stay where they are.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Write(#[from] AppendError),
}
