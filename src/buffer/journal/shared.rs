//! What the handles, the writer and the flusher have in common.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Settings, SyncMode,
    error::{AppendError, ReadError, is_out_of_files},
    files::{Files, SegmentFile},
    format::file_name,
    part::{Source, read_part},
    space::Space,
    stretches::Stretches,
};
use crate::{
    clock,
    complaint::Complaint,
    telemetry::{Metrics, catalogue::WriteFailure},
    trace::Place,
    wire::Spliced,
};

/// One journal.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) files: Arc<dyn Files>,
    pub(super) sync: SyncMode,
    pub(super) max_bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) straggler_age: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) space: Mutex<Space>,
    pub(super) stretches: Stretches,
    /// Sum of the segments' sizes.
    used_bytes: AtomicU64,
    /// Bytes of appends that wait for the writer.
    queued_bytes: AtomicU64,
    /// Somebody reads what an earlier run left: parts stay where they are.
    recovering: AtomicBool,
    /// The disk has its reserve, or is to have none.
    reserved: AtomicBool,
    is_poisoned: AtomicBool,
    poison: Mutex<Option<Arc<str>>>,
    /// That nothing can be written now.
    passing: Complaint,
    /// Files with bytes that are not flushed, by segment.
    dirty: Mutex<Vec<(u32, Arc<dyn SegmentFile>)>>,
    flushing: Mutex<()>,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        let Settings { directory, sync, max_bytes, segment_bytes, straggler_age, .. } = settings;
        settings.metrics.journal.max_bytes.set(gauge(max_bytes));
        Self {
            directory,
            files: settings.files,
            sync,
            max_bytes,
            // Space is given back by the file: with fewer than eight the journal would be full of what nobody needs.
            segment_bytes: u64::from(segment_bytes).min(max_bytes / 8),
            straggler_age,
            metrics: settings.metrics,
            space: Mutex::new(Space::new(settings.destinations)),
            stretches: Stretches::recent(),
            used_bytes: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            recovering: AtomicBool::new(true),
            reserved: AtomicBool::new(true),
            is_poisoned: AtomicBool::new(false),
            poison: Mutex::new(None),
            passing: Complaint::default(),
            dirty: Mutex::new(Vec::new()),
            flushing: Mutex::new(()),
        }
    }

    pub(super) fn path(&self, segment: u32) -> PathBuf {
        self.directory.join(file_name(segment))
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed)
    }

    pub(super) fn use_bytes(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let owed = self.used_bytes().saturating_add(self.queued_bytes.load(Relaxed));
        owed.saturating_add(bytes) <= self.max_bytes && self.is_reserved() && !self.is_poisoned()
    }

    /// Not on a full disk, as long as its reserve is used.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved.load(Relaxed)
    }

    pub(super) fn set_reserved(&self, reserved: bool) {
        self.reserved.store(reserved, Relaxed);
    }

    pub(super) fn queue(&self, bytes: u64) {
        self.queued_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn unqueue(&self, bytes: u64) {
        self.queued_bytes.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.recovering.load(Acquire)
    }

    pub(super) fn recovered(&self) {
        self.recovering.store(false, Release);
    }

    /// Shows how much there is.
    pub(super) fn gauge(&self) {
        let journal = &self.metrics.journal;
        journal.bytes.set(gauge(self.used_bytes()));
        journal.segments.set(gauge(self.space.lock().segment_count() as u64));
    }
}

/// Poison: after a failed write or flush nobody knows what is on the disk.
impl Shared {
    pub(super) fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Acquire)
    }

    pub(super) fn poisoned(&self) -> Option<Arc<str>> {
        if self.is_poisoned() { self.poison.lock().clone() } else { None }
    }

    /// Fails if nothing can be kept any more.
    pub(super) fn usable(&self) -> Result<(), AppendError> {
        self.poisoned().map_or(Ok(()), |why| Err(AppendError::Poisoned(why)))
    }

    /// The first reason stays.
    pub(super) fn poison(&self, what: &str, segment: u32, error: &io::Error) -> AppendError {
        let mut poison = self.poison.lock();
        let why = poison.get_or_insert_with(|| {
            let file = self.path(segment);
            tracing::error!(file = %file.display(), %error, what, "the journal takes nothing any more until a restart");
            format!("{what} {} failed: {error}", file.display()).into()
        });
        self.is_poisoned.swap(true, AcqRel);
        AppendError::Poisoned(Arc::clone(why))
    }

    /// Appends that were not kept.
    pub(super) fn count_failures(&self, error: &AppendError, appends: u64) {
        let failures = &self.metrics.journal.write_failures;
        match error {
            AppendError::Full => failures.add(WriteFailure::Full as usize, appends),
            AppendError::Poisoned(_) => failures.add(WriteFailure::Poisoned as usize, appends),
            AppendError::TooLarge(_) | AppendError::Closed => {}
        }
    }
}

/// Flushing.
impl Shared {
    pub(super) fn mark_dirty(&self, segment: u32, file: &Arc<dyn SegmentFile>) {
        if self.sync == SyncMode::Never {
            return;
        }
        let mut dirty = self.dirty.lock();
        if !dirty.iter().any(|(known, _)| *known == segment) {
            dirty.push((segment, Arc::clone(file)));
        }
    }

    /// A segment that nobody needs need not be flushed.
    pub(super) fn forget_dirty(&self, segment: u32) {
        self.dirty.lock().retain(|(dirty, _)| *dirty != segment);
    }

    /// Flushes what is not flushed. When it answers, another thread's flush is over, too.
    pub(super) fn flush(&self) -> Result<(), AppendError> {
        let _one_at_a_time = self.flushing.lock();
        self.usable()?;
        let dirty = std::mem::take(&mut *self.dirty.lock());
        dirty.iter().try_for_each(|(segment, file)| self.flush_file(*segment, &**file))
    }

    pub(super) fn flush_file(
        &self,
        segment: u32,
        file: &dyn SegmentFile,
    ) -> Result<(), AppendError> {
        let start = clock::now();
        file.sync().map_err(|error| self.poison("flushing", segment, &error))?;
        let took = clock::now().duration_since(start);
        self.metrics.journal.sync_duration_seconds.record(took.as_secs_f64());
        Ok(())
    }

    /// Makes creations and removals of files last.
    pub(super) fn sync_directory(&self, segment: u32) -> Result<(), AppendError> {
        if self.sync == SyncMode::Never {
            return Ok(());
        }
        let what = "flushing the directory of";
        let synced = self.files.sync_directory(&self.directory);
        synced.map_err(|error| {
            if is_out_of_files(&error) {
                self.passes(what, segment, &error)
            } else {
                self.poison(what, segment, &error)
            }
        })
    }

    /// Nothing can be written now, and nothing is in doubt. Each append meets it: it is said once a minute.
    pub(super) fn passes(&self, what: &str, segment: u32, error: &io::Error) -> AppendError {
        if let Some(unsaid) = self.passing.due(clock::now()) {
            let file = self.path(segment);
            tracing::warn!(file = %file.display(), what, %error, unsaid, "the journal takes nothing until this has passed");
        }
        AppendError::Full
    }
}

/// Reading.
impl Shared {
    /// A segment's file, `None` if there is no such segment.
    pub(super) fn file(&self, segment: u32) -> io::Result<Option<Arc<dyn SegmentFile>>> {
        self.file_in(&mut self.space.lock(), segment)
    }

    fn file_in(&self, space: &mut Space, segment: u32) -> io::Result<Option<Arc<dyn SegmentFile>>> {
        if let Some(file) = space.open_file(segment) {
            return Ok(Some(file));
        }
        if space.segment(segment).is_none() {
            return Ok(None);
        }
        // Under the lock, so that the segment is not deleted meanwhile; it happens once for many reads.
        let file = self.files.open(&self.path(segment))?;
        space.keep_open(segment, Arc::clone(&file));
        Ok(Some(file))
    }

    /// A part, wherever it is now.
    pub(super) fn read(&self, place: &Place) -> Result<Spliced, ReadError> {
        let (place, file) = {
            let mut space = self.space.lock();
            let place = space.current(place);
            // Under the same lock: the part may be moved meanwhile, but who has its file can read it there.
            (place, self.file_in(&mut space, place.segment))
        };
        let file = file.map_err(|source| self.io_error(&place, source))?;
        let file = file.ok_or(ReadError::Gone { number: place.number })?;
        self.read_from(&*file, &place)
    }

    /// A part, from its segment.
    pub(super) fn read_from(
        &self,
        source: &(impl Source + ?Sized),
        place: &Place,
    ) -> Result<Spliced, ReadError> {
        let part = read_part(source, place, &self.stretches);
        let part = part.map_err(|source| self.io_error(place, source))?;
        part.ok_or_else(|| self.damaged(place))
    }

    fn io_error(&self, place: &Place, source: io::Error) -> ReadError {
        let Place { number, segment, .. } = *place;
        ReadError::Io { number, file: self.path(segment), source }
    }

    /// Counts and names a part that can't be read.
    pub(super) fn damaged(&self, place: &Place) -> ReadError {
        let Place { number, segment, offset, len, .. } = *place;
        let file = self.path(segment);
        self.metrics.journal.damaged_records.increment(1);
        tracing::warn!(file = %file.display(), offset, bytes = len, number, "a part in the journal is damaged");
        ReadError::Damaged { number, file, offset: offset.get() }
    }

    /// Counts and names a stretch of a segment that can't be read.
    pub(super) fn damaged_stretch(&self, segment: u32, offset: u64, bytes: u64) {
        let file = self.path(segment);
        self.metrics.journal.damaged_records.increment(1);
        tracing::warn!(file = %file.display(), offset, bytes, "a record in the journal is cut off or damaged");
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn gauge(value: u64) -> f64 {
    value as f64
}
