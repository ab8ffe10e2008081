//! Stretches that were read, each once: neighbouring parts have the same ones.

use std::{io, sync::Arc};

use foldhash::HashMap;
use parking_lot::Mutex;

use super::{
    part::{Source, read_checked},
    table::Entry,
};
use crate::{trace::Place, wire::Shared};

/// Of the stretches that were read last so many are remembered for all readers, 1 MiB of them …
const RECENT_MAX: usize = 256;
/// … and longer ones are not, which no fragment has.
const RECENT_BYTES_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Stretches {
    known: Mutex<HashMap<Key, Arc<Shared>>>,
    most: usize,
    longest: usize,
}

/// Where a stretch stands, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    segment: u32,
    offset: u32,
    len: u32,
    checksum: u32,
}

impl Stretches {
    /// For parts that are read here and there.
    pub(super) fn recent() -> Self {
        Self { known: Mutex::default(), most: RECENT_MAX, longest: RECENT_BYTES_MAX }
    }

    /// For the parts of one record: each stretch is there once, however many they are.
    pub(super) fn of_a_record() -> Self {
        Self { known: Mutex::default(), most: usize::MAX, longest: usize::MAX }
    }

    /// A stretch of that part.
    pub(super) fn stretch(
        &self,
        source: &(impl Source + ?Sized),
        place: &Place,
        entry: &Entry,
    ) -> io::Result<Option<Arc<Shared>>> {
        let Entry { back, len, checksum, .. } = *entry;
        // It stands before the part, and the part is in the file.
        let offset = place.offset.get().checked_sub(back).filter(|_| len <= back);
        let Some(offset) = offset else { return Ok(None) };
        let key = Key { segment: place.segment, offset, len, checksum };
        if let Some(known) = self.known.lock().get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(bytes) = read_checked(source, offset, len, checksum)? else { return Ok(None) };
        let shared = Shared::new([&*bytes].into_iter());
        if bytes.len() <= self.longest {
            self.remember(key, &shared);
        }
        Ok(Some(shared))
    }

    fn remember(&self, key: Key, shared: &Arc<Shared>) {
        let mut known = self.known.lock();
        if known.len() >= self.most {
            // What is read next is in records behind these.
            known.clear();
        }
        known.insert(key, Arc::clone(shared));
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::Path};

    use super::*;
    use crate::{
        buffer::journal::files::{Files, MemoryFiles},
        wire::Level,
    };

    fn place(offset: u32) -> Place {
        let offset = NonZeroU32::new(offset).expect("behind the first line");
        Place { number: 1, segment: 1, offset, len: 0, checksum: 0 }
    }

    #[test]
    fn a_stretch_is_read_where_it_stands_and_with_its_checksum() {
        let files = MemoryFiles::new();
        let path = Path::new("/segment");
        let bytes: Vec<u8> = (0..100).collect();
        files.put(path, bytes.clone());
        let file = files.open(path).expect("is there");
        let stretches = Stretches::recent();
        let read = |at: u32, back, len: u32, checksum| {
            let entry = Entry { before: 0, back, len, checksum, level: Level::Resource };
            stretches.stretch(&*file, &place(at), &entry).expect("can be read")
        };
        let checksum = crc32c::crc32c(&bytes[40..60]);
        let first = read(90, 50, 20, checksum).expect("as it was written");
        assert_eq!(first.bytes(), &bytes[40..60]);
        let again = read(80, 40, 20, checksum).expect("the same");
        assert!(Arc::ptr_eq(&first, &again));
        assert!(read(90, 50, 20, checksum + 1).is_none(), "not what was read before");
        assert!(read(90, 50, 19, checksum).is_none());
        assert!(read(90, 91, 20, checksum).is_none(), "before the file");
        assert!(read(90, 19, 20, checksum).is_none(), "into the part");
    }
}
