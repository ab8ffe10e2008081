//! Parts as they are read: their own bytes, and the stretches that are spliced in. Those that neighbours share on the disk
//! they share in memory, too.

use std::io;

use bytes::Bytes;

use super::{
    files::{SegmentFile, read_exact},
    stretches::Stretches,
    table::{Entry, table},
};
use crate::{
    trace::Place,
    wire::{Shared, Splice, Spliced, Splices},
};

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
pub(super) fn read_checked(
    source: &(impl Source + ?Sized),
    offset: u32,
    len: u32,
    checksum: u32,
) -> io::Result<Option<Bytes>> {
    let bytes = source.bytes(offset, len)?;
    Ok(bytes.filter(|bytes| crc32c::crc32c(bytes) == checksum))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::wire::Level;

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
}
