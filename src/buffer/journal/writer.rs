//! The one thread that writes: takes what is queued, writes it as records by one call, and calls the appenders back.

use std::{
    io::{self, ErrorKind, IoSlice},
    mem,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    batch::{Batch, write_all},
    error::AppendError,
    files::SegmentFile,
    flusher::Flusher,
    format::{FIRST_LINE, Ground, HEAD_BYTES_MAX, HEADER_BYTES, Kind, Spot, write_end},
    message::{Append, Kept, Message, PlanToWrite, Then},
    numbers::Numbers,
    reserve::Reserve,
    shared::Shared,
    space::Segment,
    spares::{Spare, Spares},
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
    next_segment: u32,
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
    /// A segment whose last parts were moved, but not yet for good.
    pub(super) moving: Option<u32>,
    /// No segment is deleted before: deleting failed.
    pub(super) tidy_again: Instant,
    /// No parts are moved before: moving failed.
    pub(super) move_again: Instant,
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    number: u32,
    file: Arc<dyn SegmentFile>,
    bytes: u64,
    /// What is behind, up to here, is of an earlier segment.
    old_end: u64,
}

impl Active {
    fn ground(&self) -> Ground {
        if self.bytes < self.old_end { Ground::Old } else { Ground::Fresh }
    }

    /// Where an End is to stand behind so many more bytes, if one is needed.
    fn end_behind(&self, bytes: u64) -> Option<Spot> {
        let offset = u32::try_from(self.bytes + bytes).ok()?;
        (self.ground() == Ground::Old).then_some(Spot { segment: self.number, offset })
    }
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
        self.tidy_up();
        goes_on
    }

    fn take_group(&mut self, first: Message) -> bool {
        let mut bytes = 0;
        let mut next = Some(first);
        for _ in 0..GROUP_MESSAGES {
            match next {
                None => break,
                Some(Message::Close) => return false,
                Some(Message::Reclaim) => {}
                Some(Message::Done { destination, numbers }) => self.owe(destination, numbers),
                Some(Message::Append(append)) => {
                    let own = append.bytes();
                    self.shared.unqueue(own);
                    bytes += own;
                    self.take(append);
                }
            }
            if bytes >= GROUP_BYTES {
                break;
            }
            next = self.inbox.try_recv().ok();
        }
        true
    }

    fn take(&mut self, append: Append) {
        let is_reserved = self.shared.is_reserved();
        match append {
            Append::Spans { then, .. } if !is_reserved => self.fail(AppendError::Full, then),
            Append::Spans { meta, parts, then } => match self.add_spans(meta, parts) {
                Ok((record, places)) => self.waiting.push(Waiting::Spans(record, places, then)),
                Err(error) => self.fail(error, then),
            },
            Append::Plans(plans) => {
                for plan in plans {
                    if is_reserved || plan.is_small() {
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
            self.seal(&active);
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
        body: u64,
        parts: Vec<Spliced>,
    ) -> Result<Added, AppendError> {
        let head_bytes = head.encoded_len();
        let bytes = (HEADER_BYTES + head_bytes) as u64 + body;
        let fits =
            head_bytes <= HEAD_BYTES_WRITTEN && bytes + FIRST_LINE.len() as u64 <= u32::MAX.into();
        let body = u32::try_from(body).ok().filter(|_| fits).ok_or(AppendError::TooLarge(bytes))?;
        let (spot, ground) = self.spot(kind, bytes)?;
        let record = self.batch.push((kind, ground), spot, head, body, parts);
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
            self.seal(&active);
        }
        self.active = Some(self.begin_segment()?);
        Ok(())
    }

    fn seal(&self, active: &Active) {
        if active.ground() == Ground::Old {
            // The End stays: without it the last record would be taken for one that was cut off, should a part of it be
            // damaged. Should cutting fail: what is behind the End takes room, and does no harm.
            let _left = active.file.set_len(active.bytes + HEADER_BYTES as u64);
        }
        if let Some(segment) = self.shared.space.lock().segment_mut(active.number) {
            segment.sealed = true;
        }
    }

    fn begin_segment(&mut self) -> Result<Active, AppendError> {
        let number = self.next_segment;
        self.next_segment = number.checked_add(1).ok_or(AppendError::Full)?;
        let (file, old_end) = self.file_for(number)?;
        let bytes = FIRST_LINE.len() as u64;
        let active = Active { number, file, bytes, old_end };
        let mut start = FIRST_LINE.to_vec();
        if let Some(end) = active.end_behind(0) {
            write_end(&mut start, end);
        }
        if let Err(error) = write_all(&*active.file, &mut [IoSlice::new(&start)], 0) {
            // What is left of the file is an empty segment, should it not go.
            let _left = self.shared.files.remove(&self.shared.path(number));
            return Err(self.full_or_poison("writing", number, &error));
        }
        self.shared.mark_dirty(number, &active.file);
        self.shared.use_bytes(bytes);
        let mut space = self.shared.space.lock();
        space.add_segment(number, Segment::begun(bytes, clock::now()));
        space.keep_open(number, Arc::clone(&active.file));
        Ok(active)
    }

    /// A segment's file, and how much of an earlier one's bytes it has. Its name is on the disk before anything is written
    /// over: under the earlier name the new bytes would be damage.
    fn file_for(&mut self, number: u32) -> Result<(Arc<dyn SegmentFile>, u64), AppendError> {
        let path = self.shared.path(number);
        let spare = self.spares.take(&self.shared);
        let (file, old_end) = if let Some(spare) = spare.filter(|spare| self.renamed(spare, &path))
        {
            self.shared.metrics.journal.reused_segments.increment(1);
            (spare.file, spare.bytes)
        } else {
            let created = self.shared.files.create(&path);
            (created.map_err(|error| self.full_or_poison("creating", number, &error))?, 0)
        };
        self.shared.sync_directory(number)?;
        Ok((file, old_end))
    }

    fn renamed(&self, spare: &Spare, path: &Path) -> bool {
        let is_renamed = self.shared.files.rename(&spare.path, path).is_ok();
        if !is_renamed {
            // One that stays goes at the next start.
            let _left = self.shared.files.remove(&spare.path);
        }
        is_renamed
    }

    fn full_or_poison(&mut self, what: &str, segment: u32, error: &io::Error) -> AppendError {
        if is_full(error) {
            self.make_room();
            return AppendError::Full;
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
            let failed = cut_back(&self.shared, active, &error);
            if matches!(failed, AppendError::Full) {
                self.make_room();
            }
            return Err(failed);
        }
        active.bytes += bytes;
        self.shared.use_bytes(bytes);
        if let Some(segment) = self.shared.space.lock().segment_mut(active.number) {
            segment.bytes = active.bytes;
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

/// After a failed write: on a full disk the segment ends behind its last whole record again, and the next append may find
/// room. All else is for good.
fn cut_back(shared: &Shared, active: &mut Active, error: &io::Error) -> AppendError {
    if !is_full(error) {
        return shared.poison("writing", active.number, error);
    }
    match active.file.set_len(active.bytes) {
        Ok(()) => {
            active.old_end = 0;
            AppendError::Full
        }
        Err(error) => shared.poison("cutting", active.number, &error),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
