//! Room that is kept on the disk for what gets spans out again. On a full disk it is given to plans and to what is done:
//! a trace that went out without its plan would not come again as it was.

use std::{
    io::{self, IoSlice},
    path::PathBuf,
    time::Duration,
};

use super::{batch::write_all, shared::Shared};
use crate::clock::{self, Instant};

/// How long after the disk was full it is tried again to take the room.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// Written at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A file of zeros, which goes when the disk is full. Until it is there again no spans are taken, and no plans but small
/// ones.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    is_there: bool,
    try_again: Instant,
}

impl Reserve {
    /// Of 0 bytes there is none, and nothing waits for it.
    pub(super) fn new(shared: &Shared, bytes: u64) -> Self {
        let path = shared.directory.join("reserve");
        // What an earlier run left of it; mostly there is none.
        let _gone = shared.files.remove(&path);
        let mut reserve = Self { path, bytes, is_there: false, try_again: clock::now() };
        reserve.keep(shared);
        reserve
    }

    /// Takes the room, if it is not taken.
    pub(super) fn keep(&mut self, shared: &Shared) {
        if self.bytes == 0 || self.is_there || clock::now() < self.try_again {
            return;
        }
        self.is_there = self.write(shared).is_ok();
        if !self.is_there {
            let _gone = shared.files.remove(&self.path);
            self.try_again = clock::now() + TRY_EVERY;
        }
        shared.set_reserved(self.is_there);
    }

    /// The disk is full: the room is for what gets spans out again.
    pub(super) fn give_up(&mut self, shared: &Shared) {
        if self.is_there && shared.files.remove(&self.path).is_ok() {
            tracing::warn!(
                file = %self.path.display(),
                "the journal's disk is full: senders are refused, and traces go out unenriched, until there is room"
            );
            self.is_there = false;
            self.try_again = clock::now() + TRY_EVERY;
            shared.set_reserved(false);
        }
    }

    fn write(&self, shared: &Shared) -> io::Result<()> {
        let file = shared.files.create(&self.path)?;
        let zeros = vec![0; CHUNK_BYTES];
        let mut written = 0;
        while written < self.bytes {
            let rest = usize::try_from(self.bytes - written).unwrap_or(usize::MAX);
            let chunk = zeros.get(..rest.min(CHUNK_BYTES)).unwrap_or_default();
            write_all(&*file, &mut [IoSlice::new(chunk)], written)?;
            written += chunk.len() as u64;
        }
        Ok(())
    }
}
