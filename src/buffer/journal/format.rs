//! What a segment looks like on disk, byte by byte.
//!
//! A segment is a file `00000001.journal`, `00000002.journal`, …; the number is the segment's. It begins with the line
//! `tracestitch journal 3\n`, in ASCII: the format's name and version. Records follow one another without gaps:
//!
//! ```text
//! offset  bytes
//!      0      8  marker, F1 74 73 FE 6A C0 0A FF
//!      8      1  kind: 1 Spans, 2 Plans, 3 Done, 4 Moved, 5 End
//!      9      1  ground: 1 nothing stood here before, 2 a segment that nobody needed any more
//!     10      2  zero
//!     12      4  offset of this record in its segment, that is of the marker
//!     16      4  length of the head
//!     20      4  length of the body
//!     24      4  number of the segment
//!     28      4  CRC-32C of the bytes 8 to 27 and the head
//!     32         head: the message of that kind in proto/tracestitch/journal/v1/journal.proto; an End has none
//!      …         body: stretches that parts have in common, then the parts that the head lists, one after the other
//! ```
//!
//! Integers are little-endian. The checksum of the header does not cover the body: each part has its own in the head, so
//! that damage to one part costs only that part, and damage to a stretch those that it is spliced into. Behind damage a reader looks for the next marker with a whole record;
//! that a record says where it stands keeps a marker within somebody's data from being taken for one.
//!
//! A part begins with a table of the stretches that are spliced into it; its own bytes follow. Stretches stand in the
//! body once, before the first part, and have their checksum in each table that names them:
//!
//! ```text
//! bytes
//!     4  number of stretches
//!        for each, in order:
//!     4    the own byte before which it stands
//!     4    offset of the part less that of the stretch
//!     4    length of the stretch
//!     4    CRC-32C of the stretch
//!     4    what it is the header of: 1 a resource, 2 a scope
//!     …  own bytes
//! ```
//!
//! A segment may be written over one that nobody needs any more: the file is renamed, and what is behind the new records
//! is old. Old records are known by the number of their segment. What is written over old bytes ends with an End, which
//! the next write begins over; so behind a record of ground 2 comes another record or an End, or it was cut off.
//!
//! A record without its whole body was cut off and counts for nothing. Every part has a number, counted up from 1 over
//! the whole journal and all restarts. A `Moved` record's parts have been in an earlier segment under the same number; the
//! copy replaces the original if its checksum holds.
//!
//! Versions 1 and 2 were never in a release, and are not read.

use std::{num::NonZeroU32, ops::Range, path::Path};

use bytes::{Buf, Bytes};
use prost::Message;

use super::{Content, numbers::Numbers};
use crate::trace::Place;

#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
pub(super) mod heads {
    include!(concat!(env!("OUT_DIR"), "/journal/tracestitch.journal.v1.rs"));
}

/// The version that is written and read.
pub(super) const VERSION: u64 = 3;

/// What a segment begins with.
pub(super) const FIRST_LINE: &[u8] = b"tracestitch journal 3\n";

const NAME: &[u8] = b"tracestitch journal ";

/// What a record begins with. Bytes that UTF-8 does not have, so that no text holds it.
pub(super) const MARKER: [u8; 8] = [0xF1, b't', b's', 0xFE, b'j', 0xC0, 0x0A, 0xFF];

/// Bytes before the head.
pub(super) const HEADER_BYTES: usize = 32;

/// Bytes of a head: more is neither written nor read.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 20;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Spans,
    Plans,
    Done,
    Moved,
    /// What comes behind it is of an earlier segment.
    End,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Spans, Self::Plans, Self::Done, Self::Moved, Self::End];

    fn code(self) -> u8 {
        match self {
            Self::Spans => 1,
            Self::Plans => 2,
            Self::Done => 3,
            Self::Moved => 4,
            Self::End => 5,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// What stood where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// Nothing.
    Fresh,
    /// A segment that nobody needed any more.
    Old,
}

impl Ground {
    const ALL: [Self; 2] = [Self::Fresh, Self::Old];

    fn code(self) -> u8 {
        match self {
            Self::Fresh => 1,
            Self::Old => 2,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|ground| ground.code() == code)
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// The version of the format that a segment says it has at its beginning, if that is another one. What begins like no
/// journal is cut off or damaged.
pub(super) fn other_version(start: &[u8]) -> Option<u64> {
    version(start).filter(|version| *version != VERSION)
}

fn version(start: &[u8]) -> Option<u64> {
    let digits = start.strip_prefix(NAME)?;
    let end = digits.iter().position(|byte| *byte == b'\n')?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// The name of a segment's file.
pub(super) fn file_name(segment: u32) -> String {
    format!("{segment:08}.journal")
}

/// The name of a segment's file when nobody needs it any more, until another segment is written over it.
pub(super) fn spare_name(segment: u32) -> String {
    format!("{segment:08}{SPARE}")
}

/// A file of this name is such a one.
pub(super) fn is_spare(name: &str) -> bool {
    name.ends_with(SPARE)
}

const SPARE: &str = ".spare";

/// The segment that a file of this name is.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    let stem = Path::new(name).file_stem()?.to_str()?;
    let number = stem.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// What stands before the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    kind: Kind,
    pub(super) ground: Ground,
    pub(super) segment: u32,
    pub(super) head_bytes: usize,
    pub(super) body_bytes: u32,
    /// Of what the header's checksum covers of itself.
    fixed_checksum: u32,
    checksum: u32,
}

impl Header {
    /// The header at this offset of a file, if there is one.
    pub(super) fn parse(bytes: &[u8], offset: u32) -> Option<Self> {
        let fixed = bytes.strip_prefix(&MARKER)?;
        let mut rest = fixed;
        let kind = Kind::of_code(rest.try_get_u8().ok()?)?;
        let ground = Ground::of_code(rest.try_get_u8().ok()?)?;
        if rest.try_get_u16_le().ok()? != 0 || rest.try_get_u32_le().ok()? != offset {
            return None;
        }
        let head_bytes = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
        let body_bytes = rest.try_get_u32_le().ok()?;
        let segment = rest.try_get_u32_le().ok()?;
        let fixed = fixed.get(..fixed.len() - rest.len())?;
        let checksum = rest.try_get_u32_le().ok()?;
        (head_bytes <= HEAD_BYTES_MAX).then_some(Self {
            kind,
            ground,
            segment,
            head_bytes,
            body_bytes,
            fixed_checksum: crc32c::crc32c(fixed),
            checksum,
        })
    }

    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        (HEADER_BYTES + self.head_bytes) as u64 + u64::from(self.body_bytes)
    }

    /// Whether this is the head that was written with the header.
    fn holds(&self, head: &[u8]) -> bool {
        crc32c::crc32c_append(self.fixed_checksum, head) == self.checksum
    }
}

/// Writes header and head of a record that will stand there.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    (kind, ground): (Kind, Ground),
    Spot { segment, offset }: Spot,
    head: &impl Message,
    body_bytes: u32,
) {
    let start = out.len();
    let head_bytes = u32::try_from(head.encoded_len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[kind.code(), ground.code(), 0, 0]);
    for number in [offset, head_bytes, body_bytes, segment, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    // A Vec grows: encoding into it fails for no message.
    head.encode(out).unwrap_or_default();
    let covered = out.get(start..).unwrap_or_default();
    let fixed = crc32c::crc32c(covered.get(MARKER.len()..CHECKSUM_AT).unwrap_or_default());
    let checksum = crc32c::crc32c_append(fixed, covered.get(HEADER_BYTES..).unwrap_or_default());
    if let Some(field) = out.get_mut(start + CHECKSUM_AT..start + HEADER_BYTES) {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Writes the End that will stand there.
pub(super) fn write_end(out: &mut Vec<u8>, spot: Spot) {
    write_head(out, (Kind::End, Ground::Old), spot, &(), 0);
}

const CHECKSUM_AT: usize = HEADER_BYTES - 4;

/// A record as it is read: what its head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Parts of a Spans or Plans record.
    Parts(Parts),
    /// Parts of a Moved record.
    Moved(Parts),
    /// Numbers that a destination does not need any more.
    Done(String, Numbers),
    /// What comes behind it is of an earlier segment.
    End,
}

/// The parts in a record's body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Bytes of what is spliced into them, before the first.
    pub(super) stretches_len: u32,
    pub(super) stored: Vec<Stored>,
}

/// A part in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) place: Place,
    pub(super) content: Content,
}

impl Record {
    /// Reads a head, `None` if it is not what the header promised.
    pub(super) fn parse(header: &Header, head: Bytes, at: Spot) -> Option<Self> {
        if !header.holds(&head) {
            return None;
        }
        let body = at.offset.checked_add(u32::try_from(HEADER_BYTES + head.len()).ok()?)?;
        let end = body.checked_add(header.body_bytes)?;
        let mut layout = Layout { segment: at.segment, at: body, end };
        let record = match header.kind {
            Kind::Spans => Self::Parts(layout.spans(heads::Spans::decode(head).ok()?)?),
            Kind::Plans => {
                let stored = layout.plans(&heads::Plans::decode(head).ok()?)?;
                Self::Parts(Parts { stretches_len: 0, stored })
            }
            Kind::Moved => Self::Moved(layout.moved(heads::Moved::decode(head).ok()?)?),
            Kind::Done => done(heads::Done::decode(head).ok()?)?,
            Kind::End => Self::End,
        };
        (layout.at == layout.end).then_some(record)
    }
}

/// Gives the parts of a record their places, one after the other.
struct Layout {
    segment: u32,
    at: u32,
    end: u32,
}

impl Layout {
    fn next(&mut self, number: u64, len: u32, checksum: u32) -> Option<Place> {
        let offset = NonZeroU32::new(self.at)?;
        let place = Place { number, segment: self.segment, offset, len, checksum };
        self.at = self.at.checked_add(len).filter(|at| *at <= self.end)?;
        // The last number can't be followed by another, nor end a range.
        (number < u64::MAX).then_some(place)
    }

    fn run(&mut self, first: u64, lens: &[u32], checksums: &[u32]) -> Option<Vec<Place>> {
        if lens.len() != checksums.len() {
            return None;
        }
        let parts = lens.iter().zip(checksums).zip(0..);
        parts
            .map(|((len, checksum), nth)| self.next(first.checked_add(nth)?, *len, *checksum))
            .collect()
    }

    fn spans(&mut self, head: heads::Spans) -> Option<Parts> {
        let stretches_len = self.stretches(head.stretches_len)?;
        let places = self.run(head.first_number, &head.len, &head.checksum)?;
        let content = Content::Spans { meta: head.meta };
        let stored = places.into_iter().map(|place| Stored { place, content: content.clone() });
        Some(Parts { stretches_len, stored: stored.collect() })
    }

    fn stretches(&mut self, len: u32) -> Option<u32> {
        self.at = self.at.checked_add(len).filter(|at| *at <= self.end)?;
        Some(len)
    }

    fn plans(&mut self, head: &heads::Plans) -> Option<Vec<Stored>> {
        let places = self.run(head.first_number, &head.len, &head.checksum)?;
        if places.len() != head.covers.len() {
            return None;
        }
        let plans = places.into_iter().zip(&head.covers);
        plans.map(|(place, covers)| Some(Stored { place, content: plan(covers)? })).collect()
    }

    fn moved(&mut self, head: heads::Moved) -> Option<Parts> {
        let stretches_len = self.stretches(head.stretches_len)?;
        let metas = head.metas;
        let stored = |part: heads::MovedPart| {
            let content = match part.kind? {
                heads::moved_part::Kind::Spans(meta) => {
                    let meta = metas.get(usize::try_from(meta).ok()?)?.clone();
                    Content::Spans { meta }
                }
                heads::moved_part::Kind::Plan(covers) => plan(&covers)?,
            };
            Some(Stored { place: self.next(part.number, part.len, part.checksum)?, content })
        };
        let stored = head.parts.into_iter().map(stored).collect::<Option<_>>()?;
        Some(Parts { stretches_len, stored })
    }
}

fn plan(covers: &heads::Covers) -> Option<Content> {
    let mut number = 0_u64;
    let place = |place: &heads::Place| {
        number = number.checked_add_signed(place.number_delta)?;
        let heads::Place { segment, offset, len, checksum, .. } = *place;
        Some(Place { number, segment, offset: NonZeroU32::new(offset)?, len, checksum })
    };
    Some(Content::Plan { covers: covers.places.iter().map(place).collect::<Option<_>>()? })
}

/// A plan's covered parts, as its head lists them.
pub(super) fn covers(places: &[Place]) -> heads::Covers {
    let mut before = 0_u64;
    let place = |place: &Place| {
        let number_delta = place.number.wrapping_sub(before).cast_signed();
        before = place.number;
        let Place { segment, offset, len, checksum, .. } = *place;
        heads::Place { number_delta, segment, offset: offset.get(), len, checksum }
    };
    heads::Covers { places: places.iter().map(place).collect() }
}

/// Ranges as gaps and lengths.
pub(super) fn runs(ranges: &[Range<u64>]) -> Vec<u64> {
    let mut before = 0;
    let run = |range: &Range<u64>| {
        let run = [range.start - before, range.end - range.start];
        before = range.end;
        run
    };
    ranges.iter().flat_map(run).collect()
}

fn done(head: heads::Done) -> Option<Record> {
    let (mut numbers, mut at) = (Numbers::default(), 0_u64);
    for run in head.runs.chunks(2) {
        let [gap, len] = run else { return None };
        let start = at.checked_add(*gap)?;
        at = start.checked_add(*len)?;
        numbers.insert_range(start..at);
    }
    Some(Record::Done(head.destination, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segments_name_is_its_number() {
        assert_eq!(file_name(7), "00000007.journal");
        assert_eq!(file_name(u32::MAX), "4294967295.journal");
        for segment in [0, 1, 99_999_999, 100_000_000, u32::MAX] {
            assert_eq!(segment_number(&file_name(segment)), Some(segment));
        }
        assert!(is_spare(&spare_name(7)) && !is_spare(&file_name(7)));
        for other in [
            "lock",
            "7.journal",
            "00000007.spare",
            "00000007.journal.bak",
            "+0000007.journal",
            ".journal",
        ] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }

    #[test]
    fn a_first_line_says_its_version() {
        assert_eq!(version(FIRST_LINE), Some(VERSION));
        assert_eq!(other_version(FIRST_LINE), None);
        assert_eq!(other_version(b"tracestitch journal 2\nrest"), Some(2));
        assert_eq!(other_version(b"tracestitch journal 4\nrest"), Some(4));
        for cut_off in ["tracestitch journal 12", "tracestitch jour", ""] {
            assert_eq!(other_version(cut_off.as_bytes()), None);
        }
    }

    #[test]
    fn done_numbers_are_runs() {
        let runs = runs(&[5..8, 10..11]);
        assert_eq!(runs, [5, 3, 2, 1]);
        let head = heads::Done { destination: "a".to_owned(), runs };
        let Some(Record::Done(name, numbers)) = done(head) else { panic!("a Done record") };
        assert_eq!(
            (name.as_str(), numbers.ranges().collect::<Vec<_>>()),
            ("a", vec![5..8, 10..11])
        );
    }

    #[test]
    fn heads_that_promise_too_much_are_none() {
        let head = heads::Done { destination: String::new(), runs: vec![u64::MAX, 1] };
        assert_eq!(done(head), None);
        let mut layout = Layout { segment: 1, at: 100, end: 110 };
        assert_eq!(layout.run(1, &[11], &[0]), None);
        let mut layout = Layout { segment: 1, at: 100, end: 110 };
        assert_eq!(layout.run(u64::MAX, &[1, 1], &[0, 0]), None);
    }
}
