//! The dead-letter file: where spans are put down that a destination can't take, as OTLP/JSON lines.
//!
//! A thread of its own encodes and writes, for both would hold up the runtime. Spans are settled when the operating
//! system says that they are on the disk.

pub(super) mod line;
mod series;
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
use super::{StartError, accounts::Accounts};
use crate::{
    clock::Instant,
    config::{ByteSize, Problems},
    ledger::DropReason,
    trace::{EnrichedTrace, Origin, Piece},
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
    /// Pieces, each with the trace that it is a piece of.
    pub(super) parts: Vec<(Arc<EnrichedTrace>, Piece)>,
}

/// A letter, and its place among those that wait to be written.
type Posted = (Letter, Option<OwnedSemaphorePermit>);

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct DeadLetters {
    letters: Mutex<Option<mpsc::Sender<Posted>>>,
    places: Arc<Semaphore>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Of whole traces that wait to be written, in KiB. Batches that were given up come on top of it: these are as many as
/// may be under way.
const WAITING_KIB_MAX: u32 = 64 * 1024;

impl DeadLetters {
    /// `None` when it is switched off. Directory and files are made when they are needed.
    pub(super) fn start(config: &DeadLetterConfig) -> Result<Option<Arc<Self>>, StartError> {
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
        thread::Builder::new()
            .name("dead-letter".to_owned())
            .spawn(move || {
                Writer::new(limits).run(&letters);
                // Nobody may be waiting for it.
                let _gone = end.send(());
            })
            .map_err(StartError::DeadLetterThread)?;
        Ok(Some(Arc::new(Self {
            letters: Mutex::new(Some(sender)),
            places: Arc::new(Semaphore::new(
                usize::try_from(WAITING_KIB_MAX).unwrap_or(usize::MAX),
            )),
            ended: Mutex::new(Some(ended)),
        })))
    }

    /// Takes a letter as soon as not too many bytes wait before it.
    pub(super) async fn put_when_room(&self, letter: Letter) {
        let bytes: usize = letter.parts.iter().map(|(_, piece)| piece.bytes.len()).sum();
        let places = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let places = places.clamp(1, WAITING_KIB_MAX);
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_many_owned(places).await.ok();
        self.post(letter, place);
    }

    /// Takes a letter at once.
    pub(super) fn put(&self, letter: Letter) {
        self.post(letter, None);
    }

    fn post(&self, letter: Letter, place: Option<OwnedSemaphorePermit>) {
        let sent = match &*self.letters.lock() {
            Some(letters) => letters.send((letter, place)).map_err(|mpsc::SendError(back)| back),
            None => Err((letter, place)),
        };
        // The thread has ended, and no other one writes.
        if let Err((letter, _)) = sent {
            for (trace, piece) in &letter.parts {
                let reason = DropReason::DeadLetterFailed;
                letter.accounts.dropped(&trace.lease, reason, piece.app_spans);
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
