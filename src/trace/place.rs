//! Where bytes lie in the journal.

use std::num::NonZeroU32;

/// One part of a journal record: a fragment, or a plan, without what it shares with others of the record. The number is its identity for good; the rest is
/// where it was written first, and may have moved since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Counted up from the journal's first part, across restarts.
    pub number: u64,
    /// Number of the segment file.
    pub segment: u32,
    /// First byte in the segment; never 0, where the segment's first line is. So `Option<Place>` is no larger.
    pub offset: NonZeroU32,
    /// Bytes there, not of the message: what it shares stands elsewhere, and a table of that is in front.
    pub len: u32,
    /// CRC-32C of these bytes.
    pub checksum: u32,
}
