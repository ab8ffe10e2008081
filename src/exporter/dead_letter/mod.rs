//! The dead-letter file: where spans are put down that a destination can't take, as OTLP/JSON lines.
//!
//! A thread of its own encodes and writes, for both would hold up the runtime. Spans are settled when the operating
//! system says that they are on the disk.

pub(super) mod line;
mod series;
mod torn;
mod writer;

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::{series::FileLimits, writer::Writer};
use super::{StartError, accounts::Accounts, queued::Queued, share::Share};
use crate::{
    clock::Instant,
    config::{ByteSize, Problems},
    ledger::{Account, DropReason},
    trace::{Origin, Piece},
    watchdog::Watchdog,
};

/// Where traces go that a destination can't take or refuses for good: OTLP/JSON lines, one series of files for each
/// destination. `tracestitch replay FILE` sends them again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterConfig {
    /// Off: what a destination can't take is dropped, unless the destination holds.
    pub enabled: bool,
    /// Made when it is needed, for its owner alone: spans hold secrets.
    pub directory: PathBuf,
    /// Then the next file begins.
    pub max_file_size: ByteSize,
    /// Of one destination. When all are full further spans are dropped: move files away, or replay and delete them.
    pub max_files: usize,
}

impl Default for DeadLetterConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: PathBuf::from("./tracestitch-data/dead-letter"),
            max_file_size: ByteSize::from_mib(64),
            max_files: 16,
        }
    }
}

impl DeadLetterConfig {
    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        if self.enabled && self.directory.as_os_str().is_empty() {
            problems.push("directory", "is empty", Some("enabled: false switches it off"));
        }
        if self.max_file_size < ByteSize::from_mib(1) {
            problems.push("max_file_size", "must be at least 1MiB", Some("64MiB is the default"));
        }
        if self.max_files == 0 || self.max_files > 100_000 {
            problems.push("max_files", "must be between 1 and 100000", Some("16 is the default"));
        }
    }
}

/// Spans that one destination can't take, and why.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) accounts: Arc<Accounts>,
    pub(super) reason: DropReason,
    pub(super) origin: Origin,
    /// Pieces, each with the share that it is a piece of.
    pub(super) parts: Vec<(Arc<Share>, Piece)>,
}

impl Letter {
    /// A letter larger than all places has them for itself.
    fn places(&self) -> u32 {
        let bytes: usize = self.parts.iter().map(|(_, piece)| piece.bytes.len()).sum();
        u32::try_from(bytes.div_ceil(1024).clamp(1, PLACES_MAX)).unwrap_or(u32::MAX)
    }
}

/// What a letter that waits to be written takes elsewhere; given back when its spans are settled.
#[derive(Debug)]
enum Held {
    /// Among those that wait here.
    Places { _permit: Option<OwnedSemaphorePermit> },
    /// In the queue of the destination that will never have it: while letters wait there, that takes in no more.
    Queue { _queued: Vec<Arc<Queued>> },
}

/// A letter, and what it holds.
type Posted = (Letter, Held);

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct DeadLetters {
    letters: Mutex<Option<mpsc::Sender<Posted>>>,
    places: Arc<Semaphore>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Of whole traces that wait to be written, in KiB. Batches that were given up come on top of it: these have kept their room
/// in the queue.
const PLACES_MAX: usize = 64 * 1024;

impl DeadLetters {
    /// `None` when it is switched off. Directory and files are made when they are needed.
    pub(super) fn start(
        config: &DeadLetterConfig,
        destinations: Vec<String>,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Option<Arc<Self>>, StartError> {
        if !config.enabled {
            return Ok(None);
        }
        let limits = FileLimits {
            directory: config.directory.clone(),
            file_bytes_max: config.max_file_size.get(),
            files_max: config.max_files,
        };
        let (sender, letters) = mpsc::channel::<Posted>();
        let (end, ended) = oneshot::channel();
        let work = watchdog.supervise_thread("dead letters", move |beat| {
            Writer::new(limits, destinations, beat).run(&letters);
            // Nobody may be waiting for it.
            let _gone = end.send(());
        });
        thread::Builder::new()
            .name("dead-letter".to_owned())
            .spawn(work)
            .map_err(StartError::DeadLetterThread)?;
        Ok(Some(Arc::new(Self {
            letters: Mutex::new(Some(sender)),
            places: Arc::new(Semaphore::new(PLACES_MAX)),
            ended: Mutex::new(Some(ended)),
        })))
    }

    /// Takes a letter if not too many bytes wait before it, else gives it back.
    pub(super) fn put_if_room(&self, letter: Letter) -> Result<(), Letter> {
        match Arc::clone(&self.places).try_acquire_many_owned(letter.places()) {
            Ok(place) => {
                self.post(letter, Held::Places { _permit: Some(place) });
                Ok(())
            }
            Err(_) => Err(letter),
        }
    }

    /// Takes a letter as soon as not too many bytes wait before it.
    pub(super) async fn put_when_room(&self, letter: Letter) {
        // No places are left when nobody writes any more.
        let place = Arc::clone(&self.places).acquire_many_owned(letter.places()).await.ok();
        self.post(letter, Held::Places { _permit: place });
    }

    /// Less than half of the places are taken.
    pub(super) fn have_room(&self) -> bool {
        !self.places.is_closed() && self.places.available_permits() > PLACES_MAX / 2
    }

    /// From now on nothing is written, until what this gives is told to go on.
    #[cfg(test)]
    pub(super) fn hold_up(&self) -> impl FnOnce() {
        let (sender, held_up) = mpsc::channel::<Posted>();
        let thread = self.letters.lock().replace(sender).unwrap();
        move || held_up.try_iter().for_each(|posted| thread.send(posted).unwrap())
    }

    /// As if many bytes waited to be written, until what this gives is dropped.
    #[cfg(test)]
    pub(super) fn fill(&self) -> OwnedSemaphorePermit {
        let places = u32::try_from(PLACES_MAX).unwrap();
        Arc::clone(&self.places).try_acquire_many_owned(places).unwrap()
    }

    /// Takes a letter of traces that were queued, at once: their room in the queue is given back when it is written.
    pub(super) fn put_queued(&self, letter: Letter, queued: Vec<Arc<Queued>>) {
        self.post(letter, Held::Queue { _queued: queued });
    }

    fn post(&self, letter: Letter, held: Held) {
        let sent = match &*self.letters.lock() {
            Some(letters) => letters.send((letter, held)).map_err(|mpsc::SendError(back)| back),
            None => Err((letter, held)),
        };
        // The thread has ended, and no other one writes; so will the program.
        if let Err((letter, _)) = sent {
            self.places.close();
            for (share, piece) in &letter.parts {
                share.leave(piece, Account::Dropped(DropReason::DeadLetterFailed));
            }
        }
    }

    /// Waits until all letters are written, until then at the latest.
    pub(super) async fn close(&self, end: Instant) {
        drop(self.letters.lock().take());
        let Some(ended) = self.ended.lock().take() else { return };
        if tokio::time::timeout_at(end, ended).await.is_err() {
            tracing::error!("not all dead letters could be written before the end");
        }
    }
}
