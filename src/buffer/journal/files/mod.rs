//! All that the journal does with files, as traits: the one place where faults are injected.

mod disk;
mod double;

use std::{
    fmt,
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

pub use self::{
    disk::Disk,
    double::{Fault, MemoryFiles, Survives},
};

/// A directory of segments.
pub trait Files: fmt::Debug + Send + Sync {
    /// Makes the directory if it is not there.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Takes the lock file until the answer is dropped; `WouldBlock` if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Names of the files in the directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// A new file to write; it must not exist.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;

    /// A file to read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;

    /// Deletes a file. Those that have it open can still read it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, which no file has. Those that have it open go on.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes creations, removals and new names in the directory survive a power loss.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// One segment.
pub trait SegmentFile: fmt::Debug + Send + Sync {
    /// Writes there as much as goes in one call, and says how much that was; the file grows as needed. By one thread at a
    /// time.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Reads from there as much as comes in one call; 0 at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes what was written survive a power loss.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Bytes in the file. Never 0 for a segment with records.
    fn size_bytes(&self) -> io::Result<u64>;
}

/// Held while a process has the directory.
pub trait Lock: fmt::Debug + Send + Sync {}

/// Reads exactly these bytes.
pub(super) fn read_exact(file: &dyn SegmentFile, into: &mut [u8], offset: u64) -> io::Result<()> {
    let read = read_up_to(file, into, offset)?;
    if read < into.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Fills the buffer unless the file ends before.
pub(super) fn read_up_to(
    file: &dyn SegmentFile,
    into: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut at = offset;
    let mut rest = into;
    let mut read = 0;
    while !rest.is_empty() {
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(len) => {
                rest = rest.get_mut(len..).unwrap_or_default();
                read += len;
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
