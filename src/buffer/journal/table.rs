//! The table that a part begins with: the stretches that are spliced into its own bytes. `format.rs` specifies it.

use bytes::Buf;

use crate::wire::Level;

const COUNT_BYTES: usize = 4;
const ENTRY_BYTES: usize = 20;

/// A stretch that is spliced in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The own byte before which it stands.
    pub(super) before: u32,
    /// Offset of the part less that of the stretch.
    pub(super) back: u32,
    pub(super) len: u32,
    /// CRC-32C of the stretch.
    pub(super) checksum: u32,
    pub(super) level: Level,
}

fn code(level: Level) -> u32 {
    match level {
        Level::Resource => 1,
        Level::Scope => 2,
    }
}

/// Bytes of a table of so many entries.
pub(super) fn table_bytes(entries: usize) -> usize {
    COUNT_BYTES + entries * ENTRY_BYTES
}

/// Writes a table.
pub(super) fn put_table(out: &mut Vec<u8>, entries: impl ExactSizeIterator<Item = Entry>) {
    // A record has less than 4 GiB, and so fewer entries.
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for Entry { before, back, len, checksum, level } in entries {
        for number in [before, back, len, checksum, code(level)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// A part's table, and how many bytes it has; `None` if the part is too short for it, or it is not one.
pub(super) fn table(part: &[u8]) -> Option<(Vec<Entry>, usize)> {
    let mut rest = part;
    let count = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
    let bytes = count.checked_mul(ENTRY_BYTES)?.checked_add(COUNT_BYTES)?;
    let entries = part.get(COUNT_BYTES..bytes)?.chunks_exact(ENTRY_BYTES);
    let entry = |mut entry: &[u8]| {
        let mut number = || entry.try_get_u32_le().ok();
        let (before, back, len, checksum) = (number()?, number()?, number()?, number()?);
        let level = number()?;
        let level = [Level::Resource, Level::Scope].into_iter().find(|of| code(*of) == level)?;
        Some(Entry { before, back, len, checksum, level })
    };
    Some((entries.map(entry).collect::<Option<_>>()?, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_is_read_as_it_was_written(
            entries in proptest::collection::vec(any::<([u32; 4], bool)>(), 0..5),
            own in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let entries = entries
                .into_iter()
                .map(|([before, back, len, checksum], is_scope)| {
                    let level = if is_scope { Level::Scope } else { Level::Resource };
                    Entry { before, back, len, checksum, level }
                });
            let entries: Vec<_> = entries.collect();
            let mut part = Vec::new();
            put_table(&mut part, entries.iter().copied());
            prop_assert_eq!(part.len(), table_bytes(entries.len()));
            part.extend(&own);
            let (read, bytes) = table(&part).expect("a table");
            prop_assert_eq!(read, entries);
            prop_assert_eq!(&part[bytes..], own);
        }
    }

    #[test]
    fn what_is_too_short_or_of_no_known_level_is_no_table() {
        assert!(table(&[]).is_none());
        assert!(table(&[0, 0, 0]).is_none());
        assert!(table(&[1, 0, 0, 0, 7]).is_none());
        assert!(table(&[255; 40]).is_none());
        let mut part = vec![1, 0, 0, 0];
        part.resize(24, 0);
        assert!(table(&part).is_none());
        part[20] = 1;
        assert!(table(&part).is_some());
    }
}
