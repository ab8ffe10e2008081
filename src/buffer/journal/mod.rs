//! Bytes that outlive the process: segments of records on disk, written by one thread.
//!
//! The journal knows records and their parts, not traces. A part is a fragment or a plan and has a number for good; a
//! [`Place`] says where it is. What parts of a record share is written once. `format.rs` specifies the files byte by byte.
//!
//! ```text
//!  append_spans  append_plans done                    release            read
//!        └──────────┼──────────┘                         │                 │ pread from any thread
//!                   ▼ queue                              ▼                 ▼
//!             journal-writer ──▶ segments ◀── what is live in each, what moved where
//! ```
//!
//! - **Group commit.** The writer takes what is queued and writes it by one vectored call; then it calls the appenders back.
//!   With `sync: always` a flush comes before, with an interval a thread of its own flushes.
//! - **Space** is given back by the file, oldest first, for a `Done` record stands behind the parts it settles: as long as
//!   a part is there, so is what is known of it. The last parts of an old segment are moved, together with what is known
//!   of them, so that one slow trace can't pin the disk. A file that came free is kept for a while: a segment to come is
//!   written over it.
//! - **A full disk passes**: the file is cut back to its last whole record and the next append tries again. Any other failed
//!   write, and any failed flush, poisons: nobody knows what is on disk then, and nothing is pretended.

mod active;
mod ahead;
mod batch;
mod body;
mod error;
mod files;
mod flusher;
mod format;
mod message;
mod numbers;
mod part;
mod reclaim;
mod records;
mod recovery;
mod reserve;
mod scan;
mod shared;
mod space;
mod spares;
mod stretches;
mod survey;
mod table;
mod writer;

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use self::{
    body::{Body, Plain},
    flusher::Flusher,
    message::{Append, Message, PlanToWrite, Then},
    reserve::Reserve,
    shared::Shared,
    space::ranges,
    writer::Writer,
};
pub use self::{
    error::{AppendError, OpenError, ReadError},
    files::{Disk, Fault, Files, Lock, MemoryFiles, SegmentFile, Survives},
    message::Kept,
    recovery::{Content, Recovered, Recovery},
};
use crate::{telemetry::Metrics, trace::Place, watchdog::Watchdog, wire::Spliced};

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
    /// Room on the disk, beside `max_bytes`, for what gets spans out again when the disk is full; 0 for none.
    pub reserve_bytes: u64,
    /// The last parts of a segment are moved when it is so old.
    pub straggler_age: Duration,
    /// Names of the configured destinations, in the order of their numbers.
    pub destinations: Vec<String>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// Where is counted.
    pub metrics: Arc<Metrics>,
    /// Who looks after the journal's threads.
    pub watchdog: Arc<Watchdog>,
}

/// A journal. Clones are handles of the same; the last one to go closes it.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Settings {
    /// Real files, flushed five times a second, 10 GiB at most.
    pub fn new(directory: PathBuf, destinations: Vec<String>, metrics: Arc<Metrics>) -> Self {
        Self {
            directory,
            sync: SyncMode::Interval(Duration::from_millis(200)),
            max_bytes: 10 << 30,
            segment_bytes: 64 << 20,
            reserve_bytes: 0,
            straggler_age: Duration::from_mins(1),
            destinations,
            files: Arc::new(Disk),
            metrics,
            watchdog: Watchdog::new(),
        }
    }
}

impl Journal {
    /// Opens or makes the journal, and says what an earlier run left in it.
    pub fn open(settings: Settings) -> Result<(Self, Recovery), OpenError> {
        let lock = survey::lock(&settings)?;
        let watchdog = Arc::clone(&settings.watchdog);
        let reserve_bytes = settings.reserve_bytes;
        let shared = Arc::new(Shared::new(settings));
        let survey::Surveyed { segments, next_number, covered } = survey::survey(&shared)?;
        let next_segment = segments.last().map_or(1, |last| last.saturating_add(1));
        let flusher = match shared.sync {
            SyncMode::Interval(every) => {
                Some(Flusher::start(Arc::clone(&shared), every, &watchdog))
            }
            SyncMode::Always | SyncMode::Never => None,
        };
        let flusher = flusher.transpose().map_err(OpenError::Thread)?;
        let (queue, inbox) = mpsc::channel();
        let recovery = Recovery::new(Arc::clone(&shared), segments, covered);
        let reserve = Reserve::new(&shared, reserve_bytes);
        let next = (next_number, next_segment);
        let writer = Writer::new(Arc::clone(&shared), inbox, flusher, reserve, next);
        let work = watchdog.supervise_thread("journal writer", move |beat| {
            writer.run(&beat);
            // Only now another process may have the directory.
            drop(lock);
        });
        let writer = thread::Builder::new().name("journal-writer".to_owned()).spawn(work);
        let writer = Mutex::new(Some(writer.map_err(OpenError::Thread)?));
        Ok((Self(Arc::new(Handle { shared, queue, writer })), recovery))
    }

    /// Keeps the parts of one request as one record, with what the caller has to say of it.
    ///
    /// `then` is called once, in the writer's thread, or here if the journal takes nothing: it must be short. Nothing is
    /// copied; the parts come back with their places.
    pub fn append_spans(
        &self,
        meta: Vec<u8>,
        parts: Vec<Spliced>,
        then: impl FnOnce(Result<Kept, AppendError>) + Send + 'static,
    ) {
        let (body, then) = (Body::of(parts), Then::new(then));
        self.append(Append::Spans { meta: meta.into(), body, then });
    }

    /// Memory that an append of these parts takes beside them until it is answered.
    pub fn append_bytes<'a>(parts: impl Iterator<Item = &'a Spliced>) -> usize {
        body::waiting_bytes(parts)
    }

    /// Keeps plans: each of the trace that has these parts, in this order. A plan is given in two pieces, of which the second
    /// one is not copied. On a full disk only small ones are kept. Their `then` are called as with `append_spans`, each for itself.
    pub fn append_plans<T>(&self, plans: impl IntoIterator<Item = (Vec<Place>, [Bytes; 2], T)>)
    where
        T: FnOnce(Result<Place, AppendError>) + Send + 'static,
    {
        let plans = plans.into_iter().map(|(covers, plan, then)| {
            let covers = format::covers(&covers);
            PlanToWrite { covers, plan: Plain::new(plan), then: Then::new(then) }
        });
        let plans: Vec<_> = plans.collect();
        if !plans.is_empty() {
            self.append(Append::Plans(plans));
        }
    }

    fn append(&self, append: Append) {
        if let Err(error) = self.0.shared.usable() {
            self.0.shared.count_failures(&error, append.answers());
            return append.fail(&error);
        }
        self.0.shared.queue(append.bytes());
        self.send(Message::Append(append));
    }

    /// These parts need not go to this destination again, nor after a restart.
    pub fn done(&self, destination: usize, places: &[Place]) {
        self.0.shared.space.lock().note_done(destination, places);
        self.say_done(destination, ranges(places).collect(), Vec::new());
    }

    /// The same for parts in any order; of those in `last` this destination was the last one that needed them, and they are
    /// released.
    pub fn settle(&self, destination: usize, mut places: Vec<Place>, mut last: Vec<Place>) {
        places.sort_unstable_by_key(|place| place.number);
        last.sort_unstable_by_key(|place| place.number);
        let numbers = ranges(&places).chain(ranges(&last)).collect();
        self.0.shared.space.lock().note_done(destination, &places);
        self.say_done(destination, numbers, last);
    }

    fn say_done(&self, destination: usize, numbers: Vec<Range<u64>>, last: Vec<Place>) {
        self.send(Message::Done { destination, numbers, last });
    }

    /// Nobody needs these parts any more. After a restart they are back unless they are done for every destination.
    pub fn release(&self, places: &[Place]) {
        if self.0.shared.space.lock().release(places) {
            self.send(Message::Reclaim);
        }
    }

    /// A part, wherever it is now.
    pub fn read(&self, place: &Place) -> Result<Spliced, ReadError> {
        self.0.shared.read(place)
    }

    /// Bytes of all segments.
    pub fn used_bytes(&self) -> u64 {
        self.0.shared.used_bytes()
    }

    /// Bytes that all segments may have.
    pub fn max_bytes(&self) -> u64 {
        self.0.shared.max_bytes
    }

    /// Whether an append of so many bytes would find room behind all that is queued.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.0.shared.has_room(bytes)
    }

    /// Why nothing can be kept any more.
    pub fn poisoned(&self) -> Option<String> {
        self.0.shared.poisoned().map(|why| why.to_string())
    }

    /// Writes and flushes what is queued, and ends the threads; waits for that. What is appended after it is answered with
    /// [`AppendError::Closed`]; reading goes on.
    pub fn close(&self) {
        self.0.close();
    }

    fn send(&self, message: Message) {
        // Behind `close` the message comes back, and drops with the callback's answer.
        drop(self.0.queue.send(message));
    }
}

impl Handle {
    fn close(&self) {
        drop(self.queue.send(Message::Close));
        let writer = self.writer.lock().take();
        // The last handle may have gone in a callback, which is the writer itself.
        if let Some(writer) = writer.filter(|writer| writer.thread().id() != thread::current().id())
        {
            let _panicked = writer.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
