//! Bytes that outlive the process: segments of records on disk, written by one thread.
//!
//! The journal knows records and their parts, not traces. A part is the bytes of a fragment or of a plan and has a number
//! for good; a [`Place`] says where it is. `format.rs` specifies the files byte by byte.
//!
//! ```text
//!  append_spans  append_plan  done                    release            read
//!        └──────────┼──────────┘                         │                 │ pread from any thread
//!                   ▼ queue                              ▼                 ▼
//!             journal-writer ──▶ segments ◀── what is live in each, what moved where
//! ```
//!
//! - **Group commit.** The writer takes what is queued and writes it by one vectored call; then it calls the appenders back.
//!   With `sync: always` a flush comes before, with an interval a thread of its own flushes.
//! - **Space** is given back by the file, oldest first, for a `Done` record stands behind the parts it settles: as long as
//!   a part is there, so is what is known of it. The last parts of an old segment are moved, together with what is known
//!   of them, so that one slow trace can't pin the disk.
//! - **A full disk passes**: the file is cut back to its last whole record and the next append tries again. Any other failed
//!   write, and any failed flush, poisons: nobody knows what is on disk then, and nothing is pretended.

mod error;
mod files;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    error::{AppendError, OpenError, ReadError},
    files::{Disk, Fault, Files, Lock, MemoryFiles, SegmentFile, Survives},
};
use crate::{telemetry::Metrics, trace::Place};

/// When what was written is flushed to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Before an append is answered.
    Always,
    /// So often, beside the appends.
    Interval(Duration),
    /// When the system thinks fit.
    Never,
}

/// Where and how to keep bytes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Holds the segments and the lock file.
    pub directory: PathBuf,
    /// When to flush.
    pub sync: SyncMode,
    /// Bytes that all segments may have together.
    pub max_bytes: u64,
    /// Bytes of a segment, unless one record has more. Never more than an eighth of `max_bytes`.
    pub segment_bytes: u32,
    /// The last parts of a segment are moved when it is so old.
    pub straggler_age: Duration,
    /// Names of the configured destinations, in the order of their numbers.
    pub destinations: Vec<String>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// Where is counted.
    pub metrics: Arc<Metrics>,
}

/// A journal. Clones are handles of the same; the last one to go ends its threads.
#[derive(Debug, Clone)]
pub struct Journal;

impl Journal {
    /// Opens or makes the journal, and says what an earlier run left in it.
    pub fn open(settings: Settings) -> Result<(Self, Recovery), OpenError> {
        unimplemented!("{settings:?}")
    }

    /// Keeps the parts of one request as one record, with what the caller has to say of it.
    ///
    /// `then` is called in the writer's thread, or here if the journal can't take anything: it must be short.
    pub fn append_spans(
        &self,
        meta: Vec<u8>,
        parts: Vec<Bytes>,
        then: impl FnOnce(Result<Vec<Place>, AppendError>) + Send + 'static,
    ) {
        let _ = (meta, parts);
        then(Err(AppendError::Closed));
    }

    /// Keeps the plan of the trace that has these parts, in this order.
    pub fn append_plan(
        &self,
        covers: &[Place],
        plan: Bytes,
        then: impl FnOnce(Result<Place, AppendError>) + Send + 'static,
    ) {
        let _ = (covers, plan);
        then(Err(AppendError::Closed));
    }

    /// These parts need not go to this destination again, nor after a restart.
    pub fn done(&self, _destination: usize, _places: &[Place]) {}

    /// Nobody needs these parts any more.
    pub fn release(&self, _places: &[Place]) {}

    /// The bytes of a part.
    pub fn read(&self, place: &Place) -> Result<Bytes, ReadError> {
        Err(ReadError::Gone { number: place.number })
    }

    /// Bytes of all segments.
    pub fn used_bytes(&self) -> u64 {
        0
    }

    /// Bytes that all segments may have.
    pub fn max_bytes(&self) -> u64 {
        0
    }

    /// Whether an append of so many bytes would find room behind all that is queued.
    pub fn has_room(&self, _bytes: u64) -> bool {
        false
    }

    /// Why nothing can be kept any more.
    pub fn poisoned(&self) -> Option<String> {
        None
    }

    /// Writes and flushes what is queued, and ends the threads. Appends after it are answered with `Closed`.
    pub fn close(&self) {}
}

/// What an earlier run left, in the journal's order. While it is there, nothing is moved in the journal.
#[derive(Debug)]
pub struct Recovery;

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
    /// Bytes of the parts that are live.
    pub fn live_bytes(&self) -> u64 {
        0
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.live_bytes() == 0
    }

    /// The next live part. Its bytes are not read: [`Journal::read`] does.
    #[expect(clippy::should_implement_trait, reason = "an iterator would borrow")]
    pub fn next(&mut self) -> Option<Recovered> {
        None
    }
}
