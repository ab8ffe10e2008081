//! Parts as they are read: their own bytes, and the stretches that are spliced in. Those that neighbours share on the disk
//! they share in memory, too.

use std::{io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    files::{SegmentFile, read_exact},
    table::{Entry, table},
};
use crate::{
    trace::Place,
    wire::{Shared, Splice, Spliced, Splices},
};

/// Stretches that are remembered: neighbouring parts have the same ones.
const REMEMBERED: usize = 64;
/// Longer ones are not.
const REMEMBERED_BYTES_MAX: usize = 4096;

/// The stretches that were read last.
#[derive(Debug)]
pub(super) struct Recent(Mutex<[Option<Stretch>; REMEMBERED]>);

#[derive(Debug, Clone)]
struct Stretch {
    segment: u32,
    offset: u32,
    checksum: u32,
    bytes: Arc<Shared>,
}

/// A part, `None` if it is not what was written.
pub(super) fn read_part(
    file: &dyn SegmentFile,
    place: &Place,
    recent: &Recent,
) -> io::Result<Option<Spliced>> {
    let offset = place.offset.get();
    if u64::from(offset) + u64::from(place.len) > file.size_bytes()? {
        return Ok(None);
    }
    let Some(part) = read_checked(file, offset, place.len, place.checksum)? else {
        return Ok(None);
    };
    let Some((entries, own)) = table(&part) else { return Ok(None) };
    let own = part.slice(own..);
    if entries.is_empty() {
        return Ok(Some(own.into()));
    }
    if !fit(&own, &entries) {
        return Ok(None);
    }
    let mut share_bytes = Splices::list_share_bytes(entries.len(), 1);
    let mut splices = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(shared) = recent.stretch(file, place, &entry)? else { return Ok(None) };
        // Who else has it is not known.
        share_bytes += Shared::share_bytes(shared.bytes().len(), 1);
        splices.push(Splice { at: entry.before, level: entry.level, shared });
    }
    Ok(Some(Spliced::new(own, Some(Splices::new(splices, share_bytes)))))
}

/// Stretches stand in ascending places of the own bytes, and all of it is no more than a record.
fn fit(own: &[u8], entries: &[Entry]) -> bool {
    let ascend = entries.is_sorted_by_key(|entry| entry.before);
    let last = entries.last().and_then(|last| usize::try_from(last.before).ok());
    let spliced: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
    ascend
        && last.is_some_and(|last| last <= own.len())
        && u32::try_from(spliced + own.len() as u64).is_ok()
}

/// Bytes that end before the file does, `None` if they have another checksum.
fn read_checked(
    file: &dyn SegmentFile,
    offset: u32,
    len: u32,
    checksum: u32,
) -> io::Result<Option<Bytes>> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    read_exact(file, &mut bytes, offset.into())?;
    Ok((crc32c::crc32c(&bytes) == checksum).then(|| bytes.into()))
}

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new([const { None }; REMEMBERED]))
    }
}

impl Recent {
    /// A stretch of that part.
    fn stretch(
        &self,
        file: &dyn SegmentFile,
        place: &Place,
        entry: &Entry,
    ) -> io::Result<Option<Arc<Shared>>> {
        let segment = place.segment;
        let Entry { back, len, checksum, .. } = *entry;
        // It stands before the part, and the part is in the file.
        let offset = place.offset.get().checked_sub(back).filter(|_| len <= back);
        let Some(offset) = offset else { return Ok(None) };
        let slot = usize::try_from(segment ^ offset).unwrap_or_default() % REMEMBERED;
        let known = self.0.lock().get(slot).cloned().flatten();
        if let Some(Stretch { bytes, .. }) = known.filter(|known| {
            (known.segment, known.offset, known.checksum) == (segment, offset, checksum)
                && u32::try_from(known.bytes.bytes().len()) == Ok(len)
        }) {
            return Ok(Some(bytes));
        }
        let Some(bytes) = read_checked(file, offset, len, checksum)? else { return Ok(None) };
        let bytes = Shared::new([&*bytes].into_iter());
        if bytes.bytes().len() <= REMEMBERED_BYTES_MAX
            && let Some(slot) = self.0.lock().get_mut(slot)
        {
            *slot = Some(Stretch { segment, offset, checksum, bytes: Arc::clone(&bytes) });
        }
        Ok(Some(bytes))
    }
}
