//! The one thread that writes: takes what is queued, writes it as records by one call, and calls the appenders back.

use std::{
    io, mem,
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    active::Active,
    batch::Batch,
    body::Body,
    error::{AppendError, is_full, is_out_of_files},
    flusher::Flusher,
    format::{FIRST_LINE, Ground, HEAD_BYTES_MAX, HEADER_BYTES, Kind, Spot},
    message::{Append, Kept, Message, PlanToWrite, Then},
    numbers::Numbers,
    reserve::Reserve,
    shared::Shared,
    spares::Spares,
};
use crate::{
    clock::{self, Instant},
    trace::Place,
    watchdog::Beat,
    wire::Spliced,
};

/// What is written by one call at most, unless a single append is more.
const GROUP_MESSAGES: usize = 1024;
pub(super) const GROUP_BYTES: u64 = 8 << 20;

/// Less than what is read: a part that moves needs a little more than it did.
const HEAD_BYTES_WRITTEN: usize = HEAD_BYTES_MAX / 2;

/// How long the writer sleeps at most before it looks for stragglers and for what it could not write before.
const TICK: Duration = Duration::from_secs(1);

/// The writer's state; one thread has it.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    inbox: Receiver<Message>,
    _flusher: Option<Flusher>,
    pub(super) reserve: Reserve,
    pub(super) spares: Spares,
    active: Option<Active>,
    pub(super) next_number: u64,
    pub(super) next_segment: u32,
    batch: Batch,
    /// Of the batch's new parts, in order.
    pub(super) places: Vec<Place>,
    pub(super) waiting: Vec<Waiting>,
    /// Their record waits for others to share it.
    pub(super) plans: Vec<PlanToWrite>,
    /// For each destination what it has and no Done record says.
    pub(super) owed: Vec<Numbers>,
    /// What the batch's Done records say.
    pub(super) said: Vec<(usize, Numbers)>,
    /// Parts that nobody needs once what is owed is written.
    released: Vec<Place>,
    /// A segment that was deleted, perhaps not for good.
    pub(super) unflushed: Option<u32>,
    /// A segment whose last parts were moved, but not yet for good.
    pub(super) moving: Option<u32>,
    /// No segment is deleted before: deleting failed.
    pub(super) tidy_again: Instant,
    /// No parts are moved before: moving failed.
    pub(super) move_again: Instant,
}

/// An append in the batch, with what of the batch's places is its own.
#[derive(Debug)]
pub(super) enum Waiting {
    /// With the number of its record.
    Spans(usize, Range<usize>, Then<Kept>),
    Plan(usize, Then<Place>),
}

/// A record in the batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) spot: Spot,
    pub(super) record: usize,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        inbox: Receiver<Message>,
        flusher: Option<Flusher>,
        reserve: Reserve,
        (next_number, next_segment): (u64, u32),
    ) -> Self {
        Self {
            shared,
            inbox,
            _flusher: flusher,
            reserve,
            spares: Spares::default(),
            active: None,
            next_number,
            next_segment,
            batch: Batch::default(),
            places: Vec::new(),
            waiting: Vec::new(),
            plans: Vec::new(),
            owed: Vec::new(),
            said: Vec::new(),
            released: Vec::new(),
            unflushed: None,
            moving: None,
            tidy_again: clock::now(),
            move_again: clock::now(),
        }
    }

    /// Works until the journal is closed or all handles are gone.
    pub(super) fn run(mut self, beat: &Beat) {
        self.tidy_up();
        while self.turn() {
            beat.beat();
        }
        self.finish();
    }

    /// One group. False: it was the last.
    fn turn(&mut self) -> bool {
        let goes_on = match self.inbox.recv_timeout(TICK) {
            Ok(first) => self.take_group(first),
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        };
        self.commit();
        // In this order: what is done is written before a segment is deleted for it.
        self.shared.space.lock().release(&mem::take(&mut self.released));
        self.tidy_up();
        goes_on
    }

    fn take_group(&mut self, first: Message) -> bool {
        let mut bytes = 0;
        let mut next = Some(first);
        for _ in 0..GROUP_MESSAGES {
            // Taken only where it is heard: what is taken from the inbox is not there for the next group.
            let Some(message) = next.take().or_else(|| self.inbox.try_recv().ok()) else { break };
            match message {
                Message::Close => return false,
                Message::Reclaim => {}
                Message::Done { destination, numbers, last } => {
                    self.owe(destination, numbers);
                    self.released.extend(last);
                }
                Message::Append(append) => {
                    let own = append.bytes();
                    self.shared.unqueue(own);
                    bytes += own;
                    self.take(append);
                }
            }
            if bytes >= GROUP_BYTES {
                break;
            }
        }
        true
    }

    fn take(&mut self, append: Append) {
        let is_reserved = self.shared.is_reserved();
        // What is there beyond it is for what gets spans out.
        let has_room = is_reserved && self.shared.used_bytes() <= self.shared.max_bytes;
        match append {
            Append::Spans { then, .. } if !is_reserved => self.fail(AppendError::Full, then),
            Append::Spans { meta, body, then } => match self.add_spans(meta, body) {
                Ok((record, places)) => self.waiting.push(Waiting::Spans(record, places, then)),
                Err(error) => self.fail(error, then),
            },
            Append::Plans(plans) => {
                for plan in plans {
                    if has_room || plan.is_small() {
                        self.plans.push(plan);
                    } else {
                        self.fail(AppendError::Full, plan.then);
                    }
                }
            }
        }
    }

    pub(super) fn fail<T>(&self, error: AppendError, then: Then<T>) {
        self.shared.count_failures(&error, 1);
        then.call(Err(error));
    }

    /// Writes the rest of the group: plans after the spans they are about, and then what is done.
    pub(super) fn commit(&mut self) {
        self.add_plans();
        self.add_done();
        // Its appenders have been told.
        let _told = self.write_batch();
    }

    fn finish(mut self) {
        if let Some(active) = self.active.take() {
            active.seal(&self.shared);
            // A last flush, whatever the setting: an ending program has the time.
            let _poisoned = self.shared.flush_file(active.number, &*active.file);
        }
        let _poisoned = self.shared.flush();
        self.reclaim();
        self.spares.clear(&self.shared);
        self.shared.gauge();
    }
}

/// From records to segments.
impl Writer {
    pub(super) fn add_record(
        &mut self,
        kind: Kind,
        head: &impl prost::Message,
        body: Body,
    ) -> Result<Added, AppendError> {
        let head_bytes = head.encoded_len();
        let bytes = (HEADER_BYTES + head_bytes) as u64 + body.bytes();
        let fits =
            head_bytes <= HEAD_BYTES_WRITTEN && bytes + FIRST_LINE.len() as u64 <= u32::MAX.into();
        if !fits {
            return Err(AppendError::TooLarge(bytes));
        }
        let (spot, ground) = self.spot(kind, bytes)?;
        let record = self.batch.push((kind, ground), spot, head, body);
        Ok(Added { spot, record })
    }

    /// Makes room for a record behind the batch.
    fn spot(&mut self, kind: Kind, bytes: u64) -> Result<(Spot, Ground), AppendError> {
        self.shared.usable()?;
        let end = self.active.as_ref().map_or(0, |active| active.bytes + self.batch.bytes());
        let is_new =
            end == 0 || (end > FIRST_LINE.len() as u64 && end + bytes > self.shared.segment_bytes);
        let first_line = if is_new { FIRST_LINE.len() as u64 } else { 0 };
        let needed = self.shared.used_bytes() + self.batch.bytes() + bytes + first_line;
        if needed + self.spares.bytes() > self.shared.max_bytes {
            self.spares.clear(&self.shared);
        }
        if needed > self.limit_bytes(kind) {
            return Err(AppendError::Full);
        }
        if is_new {
            self.change_segment()?;
        }
        let active = self.active.as_ref().ok_or(AppendError::Closed)?;
        let offset = u32::try_from(active.bytes + self.batch.bytes());
        let offset = offset.map_err(|_| AppendError::TooLarge(bytes))?;
        Ok((Spot { segment: active.number, offset }, active.ground()))
    }

    /// What gets spans out again has a reserve, and what frees a segment has one that nothing else can use up.
    fn limit_bytes(&self, kind: Kind) -> u64 {
        let max = self.shared.max_bytes;
        let reserve = match kind {
            Kind::Spans | Kind::End => 0,
            Kind::Plans | Kind::Done => max / 16,
            Kind::Moved => max / 8,
        };
        max.saturating_add(reserve)
    }

    fn change_segment(&mut self) -> Result<(), AppendError> {
        // Its appenders have been told; what it was matters only if nothing can be written any more.
        let _told = self.write_batch();
        self.shared.usable()?;
        if let Some(active) = self.active.take() {
            active.seal(&self.shared);
        }
        self.active = Some(self.begin_segment()?);
        Ok(())
    }

    pub(super) fn full_or_poison(
        &mut self,
        what: &str,
        segment: u32,
        error: &io::Error,
    ) -> AppendError {
        if is_full(error) {
            self.make_room();
            return AppendError::Full;
        }
        if is_out_of_files(error) || error.kind() == io::ErrorKind::OutOfMemory {
            return self.shared.passes(what, segment, error);
        }
        self.shared.poison(what, segment, error)
    }

    /// The disk is full: what is kept on it for later goes.
    fn make_room(&mut self) {
        self.spares.clear(&self.shared);
        self.reserve.give_up(&self.shared);
    }

    /// Writes the records that were added, and tells those who wait.
    pub(super) fn write_batch(&mut self) -> Result<(), AppendError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let (places, waiting) = (mem::take(&mut self.places), mem::take(&mut self.waiting));
        let outcome = self.write_records(!waiting.is_empty());
        let mut parts = self.batch.take_parts();
        match &outcome {
            Ok(()) => self.shared.space.lock().enlist(&places),
            Err(error) => self.shared.count_failures(error, waiting.len() as u64),
        }
        for (destination, numbers) in mem::take(&mut self.said) {
            if outcome.is_err() {
                self.owed_to(destination).merge(&numbers);
            }
        }
        for waiting in waiting {
            waiting.tell(&outcome, &places, &mut parts);
        }
        outcome
    }

    fn write_records(&mut self, somebody_waits: bool) -> Result<(), AppendError> {
        self.shared.usable()?;
        let Some(active) = &mut self.active else { return Err(AppendError::Closed) };
        let bytes = self.batch.bytes();
        let end = active.end_behind(bytes);
        if let Err(error) = self.batch.write(&*active.file, active.bytes, end) {
            let failed = active.cut_back(&self.shared, &error);
            if matches!(failed, AppendError::Full) {
                self.make_room();
            }
            return Err(failed);
        }
        active.bytes += bytes;
        self.shared.use_bytes(bytes);
        if let Some(segment) = self.shared.space.lock().segment_mut(active.number) {
            segment.bytes = active.bytes;
            segment.stretch_bytes += self.batch.stretch_bytes();
        }
        self.shared.mark_dirty(active.number, &active.file);
        self.count();
        // What is done can be lost: the destination gets it again. It goes to the disk with the next append.
        if self.shared.sync == super::SyncMode::Always && somebody_waits {
            self.shared.flush()?;
        }
        Ok(())
    }

    fn count(&self) {
        let journal = &self.shared.metrics.journal;
        journal.appended_bytes.increment(self.batch.bytes());
        for kind in self.batch.kinds() {
            journal.records.add(kind as usize, 1);
        }
    }
}

impl Waiting {
    fn tell(self, outcome: &Result<(), AppendError>, places: &[Place], parts: &mut [Vec<Spliced>]) {
        let outcome = outcome.clone();
        match self {
            Self::Spans(record, own, then) => then.call(outcome.map(|()| Kept {
                places: places.get(own).unwrap_or_default().to_vec(),
                parts: parts.get_mut(record).map(mem::take).unwrap_or_default(),
            })),
            Self::Plan(own, then) => {
                // It is there: each part got its place when the record was added.
                let place = places.get(own).copied().ok_or(AppendError::Closed);
                then.call(outcome.and(place));
            }
        }
    }
}
