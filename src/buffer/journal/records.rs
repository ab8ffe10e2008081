//! From what is asked of the writer to records.

use std::{mem, num::NonZeroU32, ops::Range};

use bytes::Bytes;
use prost::Message;

use super::{
    body::Body,
    error::AppendError,
    format::{HEADER_BYTES, Kind, Spot, heads, runs},
    message::PlanToWrite,
    numbers::Numbers,
    writer::{Added, GROUP_BYTES, Waiting, Writer},
};
use crate::{trace::Place, wire::Spliced};

/// Covered parts in one Plans record, and ranges in one Done record, at most: their heads stay small.
const COVERS_MAX: usize = 16 * 1024;
const RUNS_MAX: usize = 64 * 1024;

impl Writer {
    pub(super) fn add_spans(
        &mut self,
        meta: Bytes,
        mut body: Body,
    ) -> Result<(usize, Range<usize>), AppendError> {
        let (first_number, stretches_len) = (self.next_number, body.stretches_len());
        let (len, checksum) = body.take_lens_and_checksums();
        let head = heads::Spans { first_number, len, checksum, meta, stretches_len };
        let Added { spot, record } = self.add_record(Kind::Spans, &head, body)?;
        let first = body_offset(spot, &head).saturating_add(stretches_len);
        Ok((record, self.number(spot.segment, first, &head.len, &head.checksum)))
    }

    /// The new parts of a record get their numbers, and places in the batch's list.
    fn number(
        &mut self,
        segment: u32,
        mut offset: NonZeroU32,
        lens: &[u32],
        checksums: &[u32],
    ) -> Range<usize> {
        let first = self.places.len();
        for (&len, &checksum) in lens.iter().zip(checksums) {
            let number = self.next_number;
            self.places.push(Place { number, segment, offset, len, checksum });
            self.next_number += 1;
            offset = offset.saturating_add(len);
        }
        first..self.places.len()
    }

    pub(super) fn add_plans(&mut self) {
        let mut plans = mem::take(&mut self.plans).into_iter().peekable();
        while plans.peek().is_some() {
            let (mut covered, mut bytes) = (0, 0);
            let mut together = Vec::new();
            while let Some(plan) = plans.next_if(|plan| {
                covered += plan.covers.places.len();
                bytes += plan.plan.len() as u64;
                together.is_empty() || (covered <= COVERS_MAX && bytes <= GROUP_BYTES)
            }) {
                together.push(plan);
            }
            self.add_plans_record(together);
        }
    }

    fn add_plans_record(&mut self, plans: Vec<PlanToWrite>) {
        let count = plans.len();
        let (mut covers, mut thens) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut body = Body::plain(plans.into_iter().map(|plan| {
            covers.push(plan.covers);
            thens.push(plan.then);
            plan.plan
        }));
        let (len, checksum) = body.take_lens_and_checksums();
        let head = heads::Plans { first_number: self.next_number, len, checksum, covers };
        match self.add_record(Kind::Plans, &head, body) {
            Ok(Added { spot, .. }) => {
                let first = body_offset(spot, &head);
                let places = self.number(spot.segment, first, &head.len, &head.checksum);
                let waiting = places.zip(thens).map(|(place, then)| Waiting::Plan(place, then));
                self.waiting.extend(waiting);
            }
            Err(error) => {
                for then in thens {
                    self.fail(error.clone(), then);
                }
            }
        }
    }

    pub(super) fn owe(&mut self, destination: usize, numbers: Vec<Range<u64>>) {
        let owed = self.owed_to(destination);
        for range in numbers {
            owed.insert_range(range);
        }
    }

    /// What Done records must still say of a destination.
    pub(super) fn owed_to(&mut self, destination: usize) -> &mut Numbers {
        while self.owed.len() <= destination {
            self.owed.push(Numbers::default());
        }
        #[expect(clippy::indexing_slicing, reason = "made long enough above")]
        &mut self.owed[destination]
    }

    pub(super) fn add_done(&mut self) {
        for destination in 0..self.owed.len() {
            let numbers = mem::take(self.owed_to(destination));
            let name = self.shared.space.lock().destination_name(destination);
            let Some(name) = name.filter(|_| !numbers.is_empty()) else { continue };
            let ranges: Vec<_> = numbers.ranges().collect();
            for ranges in ranges.chunks(RUNS_MAX) {
                let numbers: Numbers = ranges.iter().cloned().collect();
                let head = heads::Done { destination: name.clone(), runs: runs(ranges) };
                match self.add_record(Kind::Done, &head, Body::default()) {
                    Ok(_) => self.said.push((destination, numbers)),
                    Err(_) => self.owed_to(destination).merge(&numbers),
                }
            }
        }
    }

    /// A record of parts that were in an older segment; their lengths and checksums there are of no matter. Where they are
    /// now, once they are written.
    pub(super) fn write_moved(
        &mut self,
        mut head: heads::Moved,
        parts: Vec<Spliced>,
    ) -> Result<Vec<Place>, AppendError> {
        let mut body = Body::of(parts);
        head.stretches_len = body.stretches_len();
        let (lens, checksums) = body.take_lens_and_checksums();
        for ((part, len), checksum) in head.parts.iter_mut().zip(lens).zip(checksums) {
            (part.len, part.checksum) = (len, checksum);
        }
        let Added { spot, .. } = self.add_record(Kind::Moved, &head, body)?;
        self.write_batch()?;
        let mut offset = body_offset(spot, &head).saturating_add(head.stretches_len);
        let place = |part: &heads::MovedPart| {
            let heads::MovedPart { number, len, checksum, .. } = *part;
            let place = Place { number, segment: spot.segment, offset, len, checksum };
            offset = offset.saturating_add(len);
            place
        };
        Ok(head.parts.iter().map(place).collect())
    }
}

fn body_offset(spot: Spot, head: &impl Message) -> NonZeroU32 {
    let head = u32::try_from(HEADER_BYTES + head.encoded_len()).unwrap_or(u32::MAX);
    NonZeroU32::new(spot.offset.saturating_add(head)).unwrap_or(NonZeroU32::MAX)
}
