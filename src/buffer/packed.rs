//! What is kept of a parked trace, in as few bytes as can be: an outage parks millions.

use std::num::NonZeroU32;

use prost::encoding::{decode_varint, encode_varint};

use crate::{
    ledger::Destination,
    trace::{Parked, Place},
};

/// A parked trace as varints: its place in the order of all, its life, who lacks it, its parts.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

/// What was packed.
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
    pub(super) fn new(sequence: u64, parked: &Parked) -> Self {
        let Parked { places, lacking, life, .. } = parked;
        // Mostly enough.
        let mut out = Vec::with_capacity(24 + 4 * lacking.len() + 20 * places.len());
        encode_varint(sequence, &mut out);
        encode_varint(life.map_or(0, |life| life.saturating_add(1)), &mut out);
        encode_varint(wide(lacking.len()), &mut out);
        for (destination, spans) in lacking {
            encode_varint(wide(destination.0), &mut out);
            encode_varint(*spans, &mut out);
        }
        let mut before = 0;
        for Place { number, segment, offset, len, checksum } in places {
            // Parts of one request follow each other.
            encode_varint(number.wrapping_sub(before), &mut out);
            encode_varint(u64::from(*segment), &mut out);
            encode_varint(u64::from(offset.get()), &mut out);
            encode_varint(u64::from(*len), &mut out);
            out.extend_from_slice(&checksum.to_le_bytes());
            before = *number;
        }
        Self(out.into_boxed_slice())
    }

    /// See [`Self::new`].
    pub(super) fn sequence(&self) -> u64 {
        next(&mut &*self.0)
    }

    /// Memory this takes: the allocator's rounding and a place in a list included.
    pub(super) fn bytes(&self) -> u64 {
        wide(self.0.len().next_multiple_of(16) + SLOT_BYTES)
    }

    pub(super) fn unpack(&self) -> Unpacked {
        let mut rest = &*self.0;
        let _sequence = next(&mut rest);
        let life = next(&mut rest).checked_sub(1);
        let lacking = (0..next(&mut rest)).map(|_| {
            let destination = usize::try_from(next(&mut rest)).unwrap_or(usize::MAX);
            (Destination(destination), next(&mut rest))
        });
        let lacking = lacking.collect();
        let (mut places, mut number) = (Vec::new(), 0_u64);
        while !rest.is_empty() {
            number = number.wrapping_add(next(&mut rest));
            let segment = narrow(next(&mut rest));
            let offset = NonZeroU32::new(narrow(next(&mut rest))).unwrap_or(NonZeroU32::MIN);
            let len = narrow(next(&mut rest));
            let (checksum, behind) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
            let checksum = u32::from_le_bytes(*checksum);
            rest = behind;
            places.push(Place { number, segment, offset, len, checksum });
        }
        Unpacked { places, lacking, life }
    }
}

/// The bytes are our own: it is always there.
fn next(bytes: &mut &[u8]) -> u64 {
    decode_varint(bytes).unwrap_or_default()
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::{
        memory::{Budget, Stage},
        trace::Durable,
        wire::Spliced,
    };

    #[derive(Debug)]
    struct Nowhere;

    impl Durable for Nowhere {
        fn failure(&self) -> Option<String> {
            None
        }

        fn read(&self, _: &Place) -> Option<Spliced> {
            None
        }

        fn done(&self, _: Destination, _: Vec<Place>, _: Vec<Place>) {}

        fn release(&self, _: &[Place]) {}

        fn park(&self, _: Parked) {}
    }

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
            let memory = Budget::new(1).claim(Stage::Parked, 0);
            let plan = places[places.len() - 1];
            let durable = Arc::new(Nowhere);
            let parked =
                Parked::new(durable, places.clone(), plan, lacking.clone(), life, memory);
            let packed = Packed::new(sequence, &parked);
            prop_assert_eq!(packed.sequence(), sequence);
            prop_assert!(packed.bytes() >= wide(packed.0.len()));
            prop_assert_eq!(packed.unpack(), Unpacked { places, lacking, life });
        }
    }
}
