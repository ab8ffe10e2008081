//! Parts as they are read: put together of their own bytes and the stretches that are spliced in.

use std::io;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    files::{SegmentFile, read_exact},
    table::{Entry, table},
};
use crate::trace::Place;

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
    bytes: Bytes,
}

/// A part's bytes, `None` if they are not what was written.
pub(super) fn read_part(
    file: &dyn SegmentFile,
    place: &Place,
    recent: &Recent,
) -> io::Result<Option<Bytes>> {
    let offset = place.offset.get();
    if u64::from(offset) + u64::from(place.len) > file.size_bytes()? {
        return Ok(None);
    }
    let Some(part) = read_checked(file, offset, place.len, place.checksum)? else {
        return Ok(None);
    };
    let Some((entries, own)) = table(&part) else { return Ok(None) };
    let (entries, own): (Vec<_>, _) = (entries.collect(), part.slice(own..));
    if entries.is_empty() {
        return Ok(Some(own));
    }
    let Some(len) = whole_len(&own, &entries) else { return Ok(None) };
    let (mut whole, mut from) = (Vec::with_capacity(len), 0);
    for entry in entries {
        let Some(stretch) = recent.stretch(file, place, &entry)? else { return Ok(None) };
        let before = usize::try_from(entry.before).ok();
        let before = before.and_then(|before| Some((own.get(from..before)?, before)));
        let Some((own, before)) = before else { return Ok(None) };
        whole.extend_from_slice(own);
        whole.extend_from_slice(&stretch);
        from = before;
    }
    whole.extend_from_slice(own.get(from..).unwrap_or_default());
    Ok(Some(whole.into()))
}

/// As many as a record has at most.
fn whole_len(own: &[u8], entries: &[Entry]) -> Option<usize> {
    let spliced: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
    let whole = u32::try_from(spliced + own.len() as u64).ok()?;
    usize::try_from(whole).ok()
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
    ) -> io::Result<Option<Bytes>> {
        let segment = place.segment;
        let Entry { back, len, checksum, .. } = *entry;
        // It stands before the part, and the part is in the file.
        let offset = place.offset.get().checked_sub(back).filter(|_| len <= back);
        let Some(offset) = offset else { return Ok(None) };
        let slot = usize::try_from(segment ^ offset).unwrap_or_default() % REMEMBERED;
        let known = self.0.lock().get(slot).cloned().flatten();
        if let Some(Stretch { bytes, .. }) = known.filter(|known| {
            (known.segment, known.offset, known.checksum) == (segment, offset, checksum)
                && u32::try_from(known.bytes.len()) == Ok(len)
        }) {
            return Ok(Some(bytes));
        }
        let read = read_checked(file, offset, len, checksum)?;
        if let Some(bytes) = read.clone().filter(|bytes| bytes.len() <= REMEMBERED_BYTES_MAX)
            && let Some(slot) = self.0.lock().get_mut(slot)
        {
            *slot = Some(Stretch { segment, offset, checksum, bytes });
        }
        Ok(read)
    }
}
