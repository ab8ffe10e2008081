//! Files in memory that fail when they are told to: for tests of what a crash leaves behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Files, Lock, SegmentFile};

/// What happens at an operation that changes something: create, write, cut, sync, rename, remove, sync of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and changes nothing.
    Fails(io::ErrorKind),
    /// A write takes only so many bytes, and says so.
    Short(usize),
    /// The process dies in the middle: a write gets half of its bytes in, all else does not happen, and neither does
    /// anything after it.
    Dies,
}

/// What a restart finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// All that was written: the process was killed, the system was not.
    Written,
    /// What was synced: the power went out.
    Synced,
    /// What was synced, and the first half of what was written since: the power went out meanwhile.
    Torn,
    /// What was synced, and the last half of what was written since: pages go to the disk in any order.
    TornLate,
}

/// Files in memory. Clones see the same files.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    files: BTreeMap<PathBuf, MemoryFile>,
    /// The directory as of its last sync.
    durable: BTreeMap<PathBuf, MemoryFile>,
    locked: BTreeSet<PathBuf>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    capacity: Option<usize>,
    dead: bool,
}

#[derive(Debug, Clone)]
struct MemoryFile {
    /// Not the one that is open for reading.
    is_writable: bool,
    content: Arc<Mutex<Content>>,
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// From the first byte written since the last sync to the last one.
    written: Range<usize>,
}

impl MemoryFiles {
    /// No files, no faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operation with this number, counted from 0, ends like that.
    pub fn fail(&self, operation: u64, fault: Fault) {
        self.0.lock().faults.insert(operation, fault);
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// All files together may have so many bytes; `None`: any.
    pub fn limit_bytes(&self, capacity: Option<usize>) {
        self.0.lock().capacity = capacity;
    }

    /// An operation met [`Fault::Dies`].
    pub fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// What the next process finds. The files here stay what they are.
    #[must_use]
    pub fn after(&self, survives: Survives) -> Self {
        let world = self.0.lock();
        let files = match survives {
            Survives::Written => &world.files,
            Survives::Synced | Survives::Torn | Survives::TornLate => &world.durable,
        };
        let next = Self::new();
        for (path, file) in files {
            next.put(path, file.content.lock().surviving(survives));
        }
        next
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().files.keys().cloned().collect()
    }

    /// What is in a file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let file = self.0.lock().files.get(path).cloned()?;
        let bytes = file.content.lock().bytes.clone();
        Some(bytes)
    }

    /// Makes a file have these bytes, for good.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let file = self.file();
        *file.content.lock() = Content { synced: bytes.clone(), bytes, written: 0..0 };
        let mut world = self.0.lock();
        world.durable.insert(path.to_owned(), file.clone());
        world.files.insert(path.to_owned(), file);
    }

    fn file(&self) -> MemoryFile {
        MemoryFile { is_writable: true, content: Arc::default(), world: Arc::clone(&self.0) }
    }
}

impl Content {
    fn surviving(&self, survives: Survives) -> Vec<u8> {
        match survives {
            Survives::Written => self.bytes.clone(),
            Survives::Synced => self.synced.clone(),
            Survives::Torn => self.synced_with(self.written.start..self.middle()),
            Survives::TornLate => self.synced_with(self.middle()..self.written.end),
        }
    }

    fn middle(&self) -> usize {
        self.written.start + self.written.len() / 2
    }

    fn synced_with(&self, written: Range<usize>) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        write(&mut bytes, self.bytes.get(written.clone()).unwrap_or_default(), written.start);
        bytes
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        write(&mut self.bytes, bytes, offset);
        let end = offset + bytes.len();
        self.written = if self.written.is_empty() {
            offset..end
        } else {
            self.written.start.min(offset)..self.written.end.max(end)
        };
    }
}

/// Over what is there; a gap before it is zeros.
fn write(into: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    let end = offset + bytes.len();
    if !bytes.is_empty() && into.len() < end {
        into.resize(end, 0);
    }
    if let Some(there) = into.get_mut(offset..end) {
        there.copy_from_slice(bytes);
    }
}

impl World {
    /// Counts an operation; `Some` if it is not simply to be done.
    fn count(&mut self) -> io::Result<Option<Fault>> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        let fault = self.faults.get(&self.operations).copied();
        self.operations += 1;
        match fault {
            Some(Fault::Fails(kind)) => Err(kind.into()),
            Some(Fault::Dies) => {
                self.dead = true;
                Ok(fault)
            }
            _ => Ok(fault),
        }
    }

    /// Counts an operation that is done wholly or not at all.
    fn whole(&mut self) -> io::Result<()> {
        match self.count()? {
            Some(Fault::Dies) => Err(io::Error::other("the process dies")),
            _ => Ok(()),
        }
    }

    fn room(&self) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        let used: usize = self.files.values().map(|file| file.content.lock().bytes.len()).sum();
        capacity.saturating_sub(used)
    }
}

impl Files for MemoryFiles {
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        if !self.0.lock().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { path: path.to_owned(), world: Arc::clone(&self.0) }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let here = self.paths().into_iter().filter(|path| path.parent() == Some(directory));
        let names = here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(names.collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.file();
        let mut world = self.0.lock();
        world.whole()?;
        if world.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.files.insert(path.to_owned(), file.clone());
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.0.lock().files.get(path).cloned();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { is_writable: false, ..file }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.whole()?;
        world.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.whole()?;
        let file = world.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.whole()?;
        world.durable = world.files.clone();
        Ok(())
    }
}

impl SegmentFile for MemoryFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if !self.is_writable {
            return Err(io::Error::other("open for reading"));
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut world = self.world.lock();
        let fault = world.count()?;
        let within = self.content.lock().bytes.len().saturating_sub(offset);
        let room = world.room().saturating_add(within);
        if room == 0 && !all.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = match fault {
            Some(Fault::Short(len)) => len.max(1),
            Some(Fault::Dies) => all.len() / 2,
            _ => all.len(),
        };
        let part = all.get(..len.min(room)).unwrap_or(&all);
        self.content.lock().write(part, offset);
        if fault == Some(Fault::Dies) {
            return Err(io::Error::other("the process dies"));
        }
        Ok(part.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.bytes.get(from..).unwrap_or_default();
        let len = rest.len().min(into.len());
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.world.lock().whole()?;
        let Content { bytes, synced, written } = &mut *self.content.lock();
        synced.clone_from(bytes);
        *written = 0..0;
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.world.lock().whole()?;
        self.content.lock().bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.content.lock().bytes.len() as u64)
    }
}

#[derive(Debug)]
struct MemoryLock {
    path: PathBuf,
    world: Arc<Mutex<World>>,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.world.lock().locked.remove(&self.path);
    }
}

impl Lock for MemoryLock {}
