//! Parts as they are read: their own bytes, and the stretches that are spliced in. Those that neighbours share on the disk
//! they share in memory, too.

use std::{io, sync::Arc};

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::Mutex;

use super::{
    files::{SegmentFile, read_exact},
    table::{Entry, table},
};
use crate::{
    trace::Place,
    wire::{Shared, Splice, Spliced, Splices},
};

/// Of the stretches that were read last so many are remembered for all readers, 1 MiB of them …
const RECENT_MAX: usize = 256;
/// … and longer ones are not, which no fragment has.
const RECENT_BYTES_MAX: usize = 4096;

/// Stretches that were read: neighbouring parts have the same ones.
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

/// Where parts are read from.
pub(super) trait Source {
    /// These bytes, `None` if the file ends before.
    fn bytes(&self, offset: u32, len: u32) -> io::Result<Option<Bytes>>;
}

impl Source for dyn SegmentFile + '_ {
    fn bytes(&self, offset: u32, len: u32) -> io::Result<Option<Bytes>> {
        if u64::from(offset) + u64::from(len) > self.size_bytes()? {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        read_exact(self, &mut bytes, offset.into())?;
        Ok(Some(bytes.into()))
    }
}

/// A part, `None` if it is not what was written.
pub(super) fn read_part(
    source: &(impl Source + ?Sized),
    place: &Place,
    stretches: &Stretches,
) -> io::Result<Option<Spliced>> {
    let part = read_checked(source, place.offset.get(), place.len, place.checksum)?;
    let Some(part) = part else { return Ok(None) };
    let Some((entries, own)) = table(&part) else { return Ok(None) };
    let own = part.slice(own..);
    if entries.is_empty() {
        return Ok(Some(own.into()));
    }
    if !fit(&own, place, &entries) {
        return Ok(None);
    }
    // The table is still there, behind the own bytes.
    let table_bytes = part.len() - own.len();
    let mut share_bytes = table_bytes + Splices::list_share_bytes(entries.len(), 1);
    let mut splices = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(shared) = stretches.stretch(source, place, &entry)? else { return Ok(None) };
        // Who else has it is not known.
        share_bytes += Shared::share_bytes(shared.bytes().len(), 1);
        splices.push(Splice { at: entry.before, level: entry.level, shared });
    }
    Ok(Some(Spliced::new(own, Some(Splices::new(splices, share_bytes)))))
}

/// Stretches go into ascending places of the own bytes, and all of them stand before the part: it is no larger than its
/// segment.
fn fit(own: &[u8], place: &Place, entries: &[Entry]) -> bool {
    let ascend = entries.is_sorted_by_key(|entry| entry.before);
    let last = entries.last().and_then(|last| usize::try_from(last.before).ok());
    let spliced: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
    ascend && last.is_some_and(|last| last <= own.len()) && spliced <= u64::from(place.offset.get())
}

/// Bytes, `None` if they are not all there or have another checksum.
fn read_checked(
    source: &(impl Source + ?Sized),
    offset: u32,
    len: u32,
    checksum: u32,
) -> io::Result<Option<Bytes>> {
    let bytes = source.bytes(offset, len)?;
    Ok(bytes.filter(|bytes| crc32c::crc32c(bytes) == checksum))
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
    fn stretch(
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
    use std::num::NonZeroU32;

    use super::*;
    use crate::{buffer::journal::files::MemoryFiles, wire::Level};

    fn place(offset: u32) -> Place {
        let offset = NonZeroU32::new(offset).expect("behind the first line");
        Place { number: 1, segment: 1, offset, len: 0, checksum: 0 }
    }

    fn entry(before: u32, len: u32) -> Entry {
        Entry { before, back: 50, len, checksum: 0, level: Level::Scope }
    }

    #[test]
    fn stretches_that_cant_be_those_of_the_part_are_none() {
        let own = [7; 10];
        assert!(fit(&own, &place(100), &[entry(0, 50), entry(3, 50), entry(10, 0)]));
        assert!(!fit(&own, &place(100), &[entry(3, 1), entry(2, 1)]), "descending");
        assert!(!fit(&own, &place(100), &[entry(11, 1)]), "behind the own bytes");
        assert!(!fit(&own, &place(100), &[entry(0, 50), entry(0, 51)]), "more than there is");
        let most = entry(0, u32::MAX);
        assert!(!fit(&own, &place(u32::MAX), &[most, most]));
    }

    #[test]
    fn a_stretch_is_read_where_it_stands_and_with_its_checksum() {
        let files = MemoryFiles::new();
        let path = std::path::Path::new("/segment");
        let bytes: Vec<u8> = (0..100).collect();
        files.put(path, bytes.clone());
        let file = crate::buffer::journal::files::Files::open(&files, path).expect("is there");
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
