//! The body of a record to be written: its parts, and before them, once, what is spliced into several of them.
//!
//! An SDK's request names its resource once for hundreds of spans of many traces. Written out for each trace's part it
//! would be half of all that goes to the disk, and more where a resource says much.
//!
//! A body is laid out by who appends it: the bytes to be summed are in that processor's cache.

use std::{mem, ptr, sync::Arc};

use bytes::Bytes;
use foldhash::HashMap;

use super::table::{Entry, put_table, table_bytes};
use crate::wire::{Shared, Splice, Spliced};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Body {
    stretches: Vec<Arc<Shared>>,
    stretches_len: u64,
    /// What each part begins with: its table, and of a plan its first piece.
    fronts: Vec<u8>,
    front_lens: Vec<u32>,
    parts: Vec<Spliced>,
    lens: Vec<u32>,
    checksums: Vec<u32>,
    bytes: u64,
}

/// Memory that laying out a part takes until it is written, beside what is spliced into it: a slot in each list.
const PART_BYTES: usize = size_of::<Spliced>() + 3 * size_of::<u32>();

/// Memory that these parts take beside themselves while they wait to be written.
pub(super) fn waiting_bytes<'a>(parts: impl Iterator<Item = &'a Spliced>) -> usize {
    parts.map(|part| PART_BYTES + table_bytes(part.splices().len())).sum()
}

/// A part into which nothing is spliced, in two pieces.
#[derive(Debug)]
pub(super) struct Plain {
    /// Its table and its first piece.
    front: Vec<u8>,
    bytes: Bytes,
    checksum: u32,
}

/// What stands before the parts: the stretches, each once.
#[derive(Debug, Default)]
struct Front {
    all: Vec<Arc<Shared>>,
    len: u64,
    /// By address.
    known: HashMap<*const Shared, Stretch>,
}

/// Where a stretch stands in the body.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    offset: u64,
    len: usize,
    checksum: u32,
}

impl Body {
    /// These parts, with what they share.
    pub(super) fn of(parts: Vec<Spliced>) -> Self {
        let mut front = Front::default();
        for parts in parts.chunk_by(|one, next| ptr::eq(one.splices(), next.splices())) {
            front.add(parts.first().map_or(&[], Spliced::splices));
        }
        let entries = parts.iter().map(|part| table_bytes(part.splices().len())).sum();
        let mut body = Self {
            stretches_len: front.len,
            bytes: front.len,
            fronts: Vec::with_capacity(entries),
            front_lens: Vec::with_capacity(parts.len()),
            lens: Vec::with_capacity(parts.len()),
            checksums: Vec::with_capacity(parts.len()),
            ..Self::default()
        };
        for part in &parts {
            let start = body.fronts.len();
            put_table(&mut body.fronts, front.entries(part.splices(), body.bytes));
            let table = body.fronts.get(start..).unwrap_or_default();
            let checksum = crc32c::crc32c_append(crc32c::crc32c(table), part.own());
            body.note(table.len(), part, checksum);
        }
        Self { stretches: front.all, parts, ..body }
    }

    /// Parts that share nothing.
    pub(super) fn plain(parts: impl IntoIterator<Item = Plain>) -> Self {
        let mut body = Self::default();
        for Plain { front, bytes, checksum } in parts {
            body.fronts.extend_from_slice(&front);
            let part = bytes.into();
            body.note(front.len(), &part, checksum);
            body.parts.push(part);
        }
        body
    }

    fn note(&mut self, front: usize, part: &Spliced, checksum: u32) {
        let len = front + part.own().len();
        self.front_lens.push(number(front));
        self.lens.push(number(len));
        self.checksums.push(checksum);
        self.bytes += len as u64;
    }

    /// Bytes of all of it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes before the first part. A body of 4 GiB or more is refused.
    pub(super) fn stretches_len(&self) -> u32 {
        u32::try_from(self.stretches_len).unwrap_or(u32::MAX)
    }

    /// Bytes and checksum of each part, for the head; they are not here any more then.
    pub(super) fn take_lens_and_checksums(&mut self) -> (Vec<u32>, Vec<u32>) {
        (mem::take(&mut self.lens), mem::take(&mut self.checksums))
    }

    /// How many slices there are.
    pub(super) fn slice_count(&self) -> usize {
        self.stretches.len() + 2 * self.parts.len()
    }

    /// What is to be written, one after the other.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut fronts = self.fronts.as_slice();
        let parts = self.parts.iter().zip(&self.front_lens).flat_map(move |(part, &len)| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let (front, rest) = fronts.split_at_checked(len).unwrap_or_default();
            fronts = rest;
            [front, part.own()]
        });
        self.stretches.iter().map(|stretch| stretch.bytes()).chain(parts)
    }

    /// The parts, as they were given.
    pub(super) fn into_parts(self) -> Vec<Spliced> {
        self.parts
    }
}

impl Plain {
    pub(super) fn new([first, bytes]: [Bytes; 2]) -> Self {
        let mut front = Vec::with_capacity(table_bytes(0) + first.len());
        put_table(&mut front, [].into_iter());
        front.extend_from_slice(&first);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&front), &bytes);
        Self { front, bytes, checksum }
    }

    pub(super) fn len(&self) -> usize {
        self.front.len() + self.bytes.len()
    }
}

impl Front {
    fn add(&mut self, splices: &[Splice]) {
        for Splice { shared, .. } in splices {
            let bytes = shared.bytes();
            self.known.entry(Arc::as_ptr(shared)).or_insert_with(|| {
                let offset = self.len;
                self.len += bytes.len() as u64;
                self.all.push(Arc::clone(shared));
                Stretch { offset, len: bytes.len(), checksum: crc32c::crc32c(bytes) }
            });
        }
    }

    /// The table of a part that stands there.
    fn entries(&self, splices: &[Splice], part: u64) -> impl ExactSizeIterator<Item = Entry> {
        splices.iter().map(move |splice| {
            let known = self.known.get(&Arc::as_ptr(&splice.shared)).copied();
            let unknown = Stretch { offset: 0, len: 0, checksum: 0 };
            let Stretch { offset, len, checksum } = known.unwrap_or(unknown);
            let back = u32::try_from(part - offset).unwrap_or(u32::MAX);
            Entry { before: splice.at, back, len: number(len), checksum, level: splice.level }
        })
    }
}

/// What has 4 GiB or more is refused with its record, so that its length never counts.
fn number(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
