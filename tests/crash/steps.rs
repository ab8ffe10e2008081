//! [`SteppedFiles`]: the real files, but the process is killed at a chosen step of the journal, and the disk can be small.

use std::{
    fs,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use serde::{Deserialize, Serialize};
use tracestitch::buffer::journal::{Disk, Files, Lock, SegmentFile};

/// What the journal does with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Records are written.
    Append,
    /// A group of records is made to survive a power loss.
    GroupSync,
    /// A new segment is begun behind a full one.
    SegmentChange,
    /// A segment that nobody needs is deleted.
    Reclaim,
    /// What is left in an old segment is written again.
    Reappend,
    /// What an earlier run left is read.
    Replay,
}

impl Step {
    pub(crate) const ALL: [Self; 6] = [
        Self::Append,
        Self::GroupSync,
        Self::SegmentChange,
        Self::Reclaim,
        Self::Reappend,
        Self::Replay,
    ];
}

/// When, seen from the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// Nothing of it is done.
    Before,
    /// Half of the bytes are written. Of steps that can't be half done nothing is.
    Midway,
    /// It is done, and nobody knows.
    After,
}

impl Moment {
    pub(crate) const ALL: [Self; 3] = [Self::Before, Self::Midway, Self::After];
}

/// Where the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) step: Step,
    pub(crate) moment: Moment,
    /// At the first such step for 1.
    pub(crate) nth: u64,
}

/// How a record of parts that were moved begins: see `src/buffer/journal/format.rs`.
const MARKER: [u8; 8] = [0xF1, b't', b's', 0xFE, b'j', 0xC0, 0x0A, 0xFF];
const MOVED: u8 = 4;

/// See above. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct SteppedFiles(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: Option<Target>,
    /// Where is written what was hit.
    hit: PathBuf,
    steps: AtomicU64,
    /// A segment of this process is there.
    began: AtomicBool,
    capacity_bytes: u64,
    used_bytes: AtomicU64,
}

impl SteppedFiles {
    /// Files on a disk that holds so many bytes of segments, those in the directory included.
    pub(crate) fn new(
        target: Option<Target>,
        hit: PathBuf,
        directory: &Path,
        capacity_bytes: Option<u64>,
    ) -> Self {
        let there = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        let used_bytes = there.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
        Self(Arc::new(Shared {
            target,
            hit,
            steps: AtomicU64::new(0),
            began: AtomicBool::new(false),
            capacity_bytes: capacity_bytes.unwrap_or(u64::MAX),
            used_bytes: AtomicU64::new(used_bytes),
        }))
    }

    fn wrap(&self, file: Arc<dyn SegmentFile>, is_own: bool) -> Arc<dyn SegmentFile> {
        Arc::new(SteppedFile { shared: Arc::clone(&self.0), file, is_own })
    }
}

impl Shared {
    /// Does it whole, unless this is where the process ends.
    fn step<R>(&self, step: Step, whole: impl FnOnce() -> R, half: impl FnOnce()) -> R {
        let target = self.target.filter(|target| target.step == step);
        let is_it = |target: &Target| self.steps.fetch_add(1, Relaxed) + 1 == target.nth;
        match target.filter(is_it).map(|target| target.moment) {
            None => return whole(),
            Some(Moment::Before) => {}
            Some(Moment::Midway) => half(),
            Some(Moment::After) => drop(whole()),
        }
        fs::write(&self.hit, format!("{step:?}")).expect("a file");
        die()
    }

    /// Half of the bytes, as they are.
    fn write_half(file: &dyn SegmentFile, slices: &[IoSlice<'_>], offset: u64) {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        file.write_at(&[IoSlice::new(half)], offset).expect("the disk has room");
    }

    /// As much as the disk takes.
    fn write(
        &self,
        file: &dyn SegmentFile,
        slices: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let before = file.size_bytes()?;
        let free = self.capacity_bytes.saturating_sub(self.used_bytes.load(Relaxed));
        let room = free.saturating_add(before.saturating_sub(offset));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let written = match room {
            0 => return Err(io::ErrorKind::StorageFull.into()),
            room if room < bytes => {
                let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                file.write_at(&[IoSlice::new(bytes.get(..room).unwrap_or_default())], offset)?
            }
            _ => file.write_at(slices, offset)?,
        };
        self.used_bytes.fetch_add(file.size_bytes()?.saturating_sub(before), Relaxed);
        Ok(written)
    }

    fn freed(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Relaxed);
    }
}

/// By kill -9, as a process can't do to itself. Other threads go on until it comes, as they would.
fn die() -> ! {
    let id = std::process::id().to_string();
    Command::new("kill").args(["-9", &id]).status().expect("there is kill");
    loop {
        thread::park();
    }
}

impl Files for SteppedFiles {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        Disk.create_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        Disk.lock(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        Disk.list(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let create = || Disk.create(path);
        // The first segment of a process is no change.
        let created = if self.0.began.swap(true, Relaxed) {
            self.0.step(Step::SegmentChange, create, || ())
        } else {
            create()
        };
        created.map(|file| self.wrap(file, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Disk.open(path).map(|file| self.wrap(file, false))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.0.step(Step::Reclaim, || Disk.remove(path), || ())?;
        self.0.freed(bytes);
        Ok(())
    }

    /// A segment that nobody needs is set aside, or becomes the next one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let is_begun = to.extension().is_some_and(|extension| extension == "journal");
        let step = if is_begun { Step::SegmentChange } else { Step::Reclaim };
        self.0.step(step, || Disk.rename(from, to), || ())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        Disk.sync_directory(directory)
    }
}

#[derive(Debug)]
struct SteppedFile {
    shared: Arc<Shared>,
    file: Arc<dyn SegmentFile>,
    /// Of this process, not of an earlier one.
    is_own: bool,
}

impl SegmentFile for SteppedFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let is_moved = |slice: &IoSlice<'_>| {
            slice.starts_with(&MARKER) && slice.get(MARKER.len()) == Some(&MOVED)
        };
        let is_reappend = slices.iter().any(is_moved);
        let step = if is_reappend { Step::Reappend } else { Step::Append };
        let half = || Shared::write_half(&*self.file, slices, offset);
        self.shared.step(step, || self.shared.write(&*self.file, slices, offset), half)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = || self.file.read_at(into, offset);
        if self.is_own { read() } else { self.shared.step(Step::Replay, read, || ()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.step(Step::GroupSync, || self.file.sync(), || ())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.file.size_bytes()?;
        self.file.set_len(len)?;
        self.shared.freed(before.saturating_sub(len));
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }
}
