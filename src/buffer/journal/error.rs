//! What can go wrong with a journal, each with what to do about it.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
};

/// The journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory. Usually a second instance with the same configuration.
    #[error(
        "the journal directory {directory} is in use by another process: stop it, or give each instance a directory of its own"
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// A segment of a release that this one can't read, usually after a downgrade.
    #[error(
        "{file} has version {found} of the journal's format, and this release reads {needed}: run a release that reads version {found} until the journal is empty, or move the directory away"
    )]
    Version {
        /// The segment.
        file: PathBuf,
        /// Its version.
        found: u64,
        /// The version that this release reads.
        needed: u64,
    },
    /// A file or the directory can't be read or made: usually permissions, or a failing disk.
    #[error(
        "cannot {what} {path}: {source}; the journal's directory must be readable and writable"
    )]
    Files {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start the journal's thread: {0}")]
    Thread(io::Error),
}

/// Bytes were not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room, by `max_bytes` or on the disk. It passes when traces are delivered: come again.
    #[error("the journal is full")]
    Full,
    /// The record would not fit the format, whatever the room.
    #[error("{0} bytes are more than one record of the journal can hold")]
    TooLarge(u64),
    /// A write or fsync failed, so that nobody knows what is on the disk; nothing is kept until a restart.
    #[error("the journal can't be written since: {0}")]
    Poisoned(Arc<str>),
    /// The program is ending.
    #[error("the journal is closed")]
    Closed,
}

/// Bytes can't be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They were released, and their segment is deleted.
    #[error("part {number} is not in the journal any more")]
    Gone {
        /// The part.
        number: u64,
    },
    /// The checksum does not fit: the disk lost or changed bytes.
    #[error("part {number} is damaged, in {file} at {offset}")]
    Damaged {
        /// The part.
        number: u64,
        /// The segment.
        file: PathBuf,
        /// Where the part begins in it.
        offset: u32,
    },
    /// The system can't read the file.
    #[error("cannot read part {number} in {file}: {source}")]
    Io {
        /// The part.
        number: u64,
        /// The segment.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The process or the system has too many open files: nothing was done, and it passes.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    // EMFILE and ENFILE, which have no kind; the same on all systems there are.
    const TOO_MANY_FILES: [i32; 2] = [24, 23];
    error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

/// There is no room on the disk.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
