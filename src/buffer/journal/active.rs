//! The segment that is being written: how it begins, over what, and how it ends.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use super::{
    batch::write_all,
    error::{AppendError, is_full},
    files::SegmentFile,
    format::{FIRST_LINE, Ground, HEADER_BYTES, Spot, write_end},
    shared::Shared,
    space::Segment,
    writer::Writer,
};
use crate::clock;

/// See the module.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) number: u32,
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) bytes: u64,
    /// What is behind, up to here, is of an earlier segment.
    old_end: u64,
}

impl Active {
    pub(super) fn ground(&self) -> Ground {
        if self.bytes < self.old_end { Ground::Old } else { Ground::Fresh }
    }

    /// Where an End is to stand behind so many more bytes, if one is needed.
    pub(super) fn end_behind(&self, bytes: u64) -> Option<Spot> {
        let offset = u32::try_from(self.bytes + bytes).ok()?;
        (self.ground() == Ground::Old).then_some(Spot { segment: self.number, offset })
    }

    /// After a failed write: on a full disk the segment ends behind its last whole record again, and the next append may
    /// find room. All else is for good.
    pub(super) fn cut_back(&mut self, shared: &Shared, error: &io::Error) -> AppendError {
        if !is_full(error) {
            return shared.poison("writing", self.number, error);
        }
        match self.file.set_len(self.bytes) {
            Ok(()) => {
                self.old_end = 0;
                AppendError::Full
            }
            Err(error) => shared.poison("cutting", self.number, &error),
        }
    }

    /// Nothing more is written to it.
    pub(super) fn seal(&self, shared: &Shared) {
        if self.ground() == Ground::Old {
            // The End stays: without it the last record would be taken for one that was cut off, should a part of it be
            // damaged. Should cutting fail: what is behind the End takes room, and does no harm.
            let _left = self.file.set_len(self.bytes + HEADER_BYTES as u64);
        }
        if let Some(segment) = shared.space.lock().segment_mut(self.number) {
            segment.sealed = true;
        }
    }
}

impl Writer {
    pub(super) fn begin_segment(&mut self) -> Result<Active, AppendError> {
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
        let file = if let Some(spare) = self.spares.take(&self.shared, number) {
            self.shared.metrics.journal.reused_segments.increment(1);
            spare
        } else {
            let created = self.shared.files.create(&self.shared.path(number));
            (created.map_err(|error| self.full_or_poison("creating", number, &error))?, 0)
        };
        self.shared.sync_directory(number).inspect_err(|_| {
            // It holds nothing yet, and its name may not last.
            let _left = self.shared.files.remove(&self.shared.path(number));
        })?;
        Ok(file)
    }
}
