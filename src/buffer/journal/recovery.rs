//! What an earlier run left, part by part: the third reading, at the pace of who asks.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::Bytes;

use super::{
    ahead::Ahead,
    error::ReadError,
    format::{Record, Stored},
    numbers::Numbers,
    scan::{Found, Scan},
    shared::Shared,
};
use crate::{trace::Place, wire::Spliced};

/// What an earlier run left, in the journal's order. As long as it is there and not at its end, nothing is moved in the
/// journal. What is not asked for stays for the next start.
#[derive(Debug)]
pub struct Recovery {
    shared: Arc<Shared>,
    segments: VecDeque<u32>,
    scan: Option<Scan>,
    /// The same segment's parts.
    ahead: Option<(u32, Ahead)>,
    /// Of the record that was read last.
    parts: VecDeque<Stored>,
    covered: Numbers,
    live_bytes: u64,
    /// The parts that were given out: a number that stands twice in a segment, which no writer of ours does, counts once.
    given: Numbers,
}

/// A part that an earlier run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Where it is now.
    pub place: Place,
    /// What it is.
    pub content: Content,
    /// For each configured destination: need not go there again. A plan is done where all it covers is done.
    pub done: Vec<bool>,
    /// A plan that is live, too, covers these spans: it says how they go out.
    pub covered: bool,
}

/// What a part is, and what its record said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Spans of one request.
    Spans {
        /// What the writer had to say of the request.
        meta: Bytes,
    },
    /// What becomes of a trace.
    Plan {
        /// The trace's parts, as they were given with the plan, where they are now. Some may be gone or damaged.
        covers: Vec<Place>,
    },
}

impl Recovery {
    pub(super) fn new(shared: Arc<Shared>, segments: Vec<u32>, covered: Numbers) -> Self {
        let live_bytes = shared.space.lock().live_bytes();
        let segments = segments.into();
        let (scan, ahead) = (None, None);
        let (parts, given) = (VecDeque::new(), Numbers::default());
        Self { shared, segments, scan, ahead, parts, covered, live_bytes, given }
    }

    /// Bytes of the parts that were live at the start, without what they share.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Nothing was left.
    pub fn is_empty(&self) -> bool {
        self.live_bytes == 0
    }

    /// A part of this, best before the next is asked for: then it takes no reading of its own. Nothing moves meanwhile.
    pub fn read(&self, place: &Place) -> Result<Spliced, ReadError> {
        match &self.ahead {
            Some((segment, ahead)) if *segment == place.segment => {
                self.shared.read_from(ahead, place)
            }
            _ => self.shared.read(place),
        }
    }

    fn next_part(&mut self) -> Option<Stored> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Some(part);
            }
            self.parts = self.next_record()?.into();
        }
    }

    fn next_record(&mut self) -> Option<Vec<Stored>> {
        loop {
            match self.scan.as_mut().and_then(Scan::next) {
                Some(Ok(Found::Record(Record::Parts(parts) | Record::Moved(parts)))) => {
                    return Some(parts.stored);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.give_up_segment(&error);
                    self.scan = None;
                }
                None => self.open_next_segment()?,
            }
        }
    }

    /// `None`: there is none.
    fn open_next_segment(&mut self) -> Option<()> {
        let segment = *self.segments.front()?;
        self.scan = None;
        let has_live = self
            .shared
            .space
            .lock()
            .segment(segment)
            .is_some_and(|segment| !segment.live.is_empty());
        match self.open(segment) {
            Ok(opened) => {
                let (scan, ahead) = opened.filter(|_| has_live).unzip();
                (self.scan, self.ahead) = (scan, ahead.map(|ahead| (segment, ahead)));
            }
            Err(error) => self.give_up_segment(&error),
        }
        self.segments.pop_front();
        Some(())
    }

    fn open(&self, segment: u32) -> io::Result<Option<(Scan, Ahead)>> {
        let Some(file) = self.shared.file(segment)? else { return Ok(None) };
        Ok(Some((Scan::new(Arc::clone(&file), segment)?, Ahead::new(file)?)))
    }

    /// Its parts stay in it for the next start.
    fn give_up_segment(&self, error: &io::Error) {
        self.shared.metrics.journal.damaged_records.increment(1);
        tracing::error!(%error, "a segment of the journal can't be read any more; what is left in it waits for the next start");
    }

    fn recovered(&self, part: Stored) -> Recovered {
        let space = self.shared.space.lock();
        let Stored { place, content } = part;
        match content {
            Content::Spans { .. } => {
                let done = space.done_flags(place.number);
                Recovered { place, content, done, covered: self.covered.contains(place.number) }
            }
            Content::Plan { covers } => {
                let covers: Vec<_> = covers.iter().map(|place| space.current(place)).collect();
                let live = covers.iter().filter(|place| space.is_live(place));
                let flags = live.map(|place| space.done_flags(place.number));
                let done = flags.reduce(|all, one| {
                    all.into_iter().zip(one).map(|(all, one)| all && one).collect()
                });
                let done = done.unwrap_or_else(|| space.done_flags(place.number));
                Recovered { place, content: Content::Plan { covers }, done, covered: false }
            }
        }
    }
}

/// Only live parts; their bytes are not read, [`super::Journal::read`] does.
impl Iterator for Recovery {
    type Item = Recovered;

    fn next(&mut self) -> Option<Recovered> {
        loop {
            let Some(part) = self.next_part() else {
                self.shared.recovered();
                return None;
            };
            let is_live = self.shared.space.lock().is_live_at(&part.place);
            if is_live && self.given.insert(part.place.number) {
                return Some(self.recovered(part));
            }
        }
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.shared.recovered();
    }
}
