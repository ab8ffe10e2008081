//! What is kept of a parked trace, in as few bytes as can be: an outage parks millions.

use std::num::NonZeroU32;

use crate::{
    ledger::Destination,
    trace::Place,
    wire::field::{put_varint, varint},
};

/// A parked trace as varints: its place in the order of all, its life, who lacks it, its parts.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

/// What is packed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// The parts; the last one is the plan.
    pub(super) places: Vec<Place>,
    pub(super) lacking: Vec<(Destination, u64)>,
    pub(super) life: Option<u64>,
}

/// A place in a list that grows by doubling.
const SLOT_BYTES: usize = 2 * size_of::<Packed>();

impl Packed {
    pub(super) fn new(sequence: u64, unpacked: &Unpacked) -> Self {
        let Unpacked { places, lacking, life } = unpacked;
        // Mostly enough.
        let mut out = Vec::with_capacity(24 + 4 * lacking.len() + 20 * places.len());
        put(&mut out, sequence);
        put(&mut out, life.map_or(0, |life| life.saturating_add(1)));
        put_varint(&mut out, lacking.len());
        for (destination, spans) in lacking {
            put_varint(&mut out, destination.0);
            put(&mut out, *spans);
        }
        let mut before = 0;
        for Place { number, segment, offset, len, checksum } in places {
            // Parts of one request follow each other.
            put(&mut out, number.wrapping_sub(before));
            put(&mut out, u64::from(*segment));
            put(&mut out, u64::from(offset.get()));
            put(&mut out, u64::from(*len));
            out.extend_from_slice(&checksum.to_le_bytes());
            before = *number;
        }
        Self(out.into_boxed_slice())
    }

    /// See [`Self::new`].
    pub(super) fn sequence(&self) -> u64 {
        Reader { bytes: &self.0, at: 0 }.number()
    }

    /// Memory this takes: the allocator's rounding and a place in a list included.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.0.len().next_multiple_of(16) + SLOT_BYTES).unwrap_or(u64::MAX)
    }

    pub(super) fn unpack(&self) -> Unpacked {
        let mut reader = Reader { bytes: &self.0, at: 0 };
        let _sequence = reader.number();
        let life = reader.number().checked_sub(1);
        let lacking = (0..reader.number()).map(|_| {
            let destination = usize::try_from(reader.number()).unwrap_or(usize::MAX);
            (Destination(destination), reader.number())
        });
        let lacking = lacking.collect();
        let mut places: Vec<Place> = Vec::new();
        while reader.at < self.0.len() {
            let before = places.last().map_or(0, |place| place.number);
            places.push(Place {
                number: before.wrapping_add(reader.number()),
                segment: reader.small_number(),
                offset: NonZeroU32::new(reader.small_number()).unwrap_or(NonZeroU32::MIN),
                len: reader.small_number(),
                checksum: reader.checksum(),
            });
        }
        Unpacked { places, lacking, life }
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    put_varint(out, usize::try_from(number).unwrap_or(usize::MAX));
}

/// The bytes are our own: what is asked for is always there.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self) -> u64 {
        varint(self.bytes, &mut self.at).unwrap_or_default()
    }

    fn small_number(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    fn checksum(&mut self) -> u32 {
        let checksum = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk);
        self.at += size_of::<u32>();
        checksum.map_or(0, |checksum| u32::from_le_bytes(*checksum))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn places() -> impl Strategy<Value = Vec<Place>> {
        let place = (any::<u64>(), any::<u32>(), 1..=u32::MAX, any::<u32>(), any::<u32>());
        let place = place.prop_map(|(number, segment, offset, len, checksum)| {
            let offset = NonZeroU32::new(offset).expect("from 1 on");
            Place { number, segment, offset, len, checksum }
        });
        vec(place, 1..20)
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(
            sequence: u64,
            places in places(),
            lacking in vec((0..5_usize, any::<u64>()), 0..5),
            life in option::of(0..u64::MAX),
        ) {
            let lacking: Vec<_> =
                lacking.into_iter().map(|(number, spans)| (Destination(number), spans)).collect();
            let unpacked = Unpacked { places, lacking, life };
            let packed = Packed::new(sequence, &unpacked);
            prop_assert_eq!(packed.sequence(), sequence);
            prop_assert!(packed.bytes() >= u64::try_from(packed.0.len()).expect("small"));
            prop_assert_eq!(packed.unpack(), unpacked);
        }
    }
}
