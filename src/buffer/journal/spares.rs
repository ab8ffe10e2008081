//! Files of segments that nobody needs any more, kept for those to come.
//!
//! What is written over has its pages in memory and its blocks on the disk. A new file needs both for each page, which
//! costs several times the copying where the machine is a virtual one that gives free pages back.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{files::SegmentFile, format::spare_name, shared::Shared};
use crate::clock::Instant;

/// So many are kept, 1 GiB of full ones: segments come free in bursts, for the oldest one goes first.
const KEPT_MAX: usize = 16;

/// One that was not used for so long goes.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spares {
    kept: Vec<Spare>,
}

/// A file whose content is of no interest.
#[derive(Debug)]
struct Spare {
    path: PathBuf,
    file: Arc<dyn SegmentFile>,
    bytes: u64,
    since: Instant,
}

impl Spares {
    /// Keeps the file of a segment that nobody needs. False: there are enough, the journal is so full that the room is
    /// needed, somebody may still read it, or it can't be renamed; then it is as it was.
    pub(super) fn keep(
        &mut self,
        shared: &Shared,
        segment: u32,
        mut file: Arc<dyn SegmentFile>,
        now: Instant,
    ) -> bool {
        let Ok(bytes) = file.size_bytes() else { return false };
        let fits = shared.used_bytes() + self.bytes() + bytes <= shared.max_bytes;
        if self.kept.len() >= KEPT_MAX || !fits || Arc::get_mut(&mut file).is_none() {
            return false;
        }
        let path = shared.directory.join(spare_name(segment));
        let is_kept = shared.files.rename(&shared.path(segment), &path).is_ok();
        if is_kept {
            self.kept.push(Spare { path, file, bytes, since: now });
        }
        is_kept
    }

    /// The one that was kept last, under the name of this segment, and its bytes; `None` if the journal has no room for all
    /// of it, or it can't be renamed.
    pub(super) fn take(
        &mut self,
        shared: &Shared,
        segment: u32,
    ) -> Option<(Arc<dyn SegmentFile>, u64)> {
        let fits = |last: &mut Spare| shared.used_bytes() + last.bytes <= shared.max_bytes;
        let spare = self.kept.pop_if(fits)?;
        if shared.files.rename(&spare.path, &shared.path(segment)).is_err() {
            spare.remove(shared);
            return None;
        }
        Some((spare.file, spare.bytes))
    }

    /// Bytes on the disk beside the segments.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.iter().map(|spare| spare.bytes).sum()
    }

    /// Those that were not used for long go.
    pub(super) fn expire(&mut self, shared: &Shared, now: Instant) {
        let old = |spare: &Spare| now.saturating_duration_since(spare.since) >= KEPT_FOR;
        self.kept.extract_if(.., |spare| old(spare)).for_each(|spare| spare.remove(shared));
    }

    /// All go: the room is needed.
    pub(super) fn clear(&mut self, shared: &Shared) {
        self.kept.drain(..).for_each(|spare| spare.remove(shared));
    }
}

impl Spare {
    fn remove(self, shared: &Shared) {
        // One that stays goes at the next start.
        let _left = shared.files.remove(&self.path);
    }
}
