//! From what is asked of the writer to records.

use std::{mem, num::NonZeroU32, ops::Range};

use bytes::Bytes;
use prost::Message as _;

use super::{
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
        parts: Vec<Spliced>,
    ) -> Result<(usize, Range<usize>), AppendError> {
        let head = heads::Spans {
            first_number: self.next_number,
            len: parts.iter().map(|part| len(part.len())).collect(),
            checksum: parts.iter().map(checksum).collect(),
            meta,
        };
        let body: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let Added { spot, record } = self.add_record(Kind::Spans, &head, body, parts)?;
        Ok((record, self.number(spot, head.encoded_len(), &head.len, &head.checksum)))
    }

    /// The new parts of a record get their numbers, and places in the batch's list.
    fn number(&mut self, spot: Spot, head: usize, lens: &[u32], checksums: &[u32]) -> Range<usize> {
        let first = self.places.len();
        let mut offset = body_offset(spot, head);
        for (&len, &checksum) in lens.iter().zip(checksums) {
            let number = self.next_number;
            self.places.push(Place { number, segment: spot.segment, offset, len, checksum });
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
        let mut head = heads::Plans {
            first_number: self.next_number,
            len: Vec::with_capacity(count),
            checksum: Vec::with_capacity(count),
            covers: Vec::with_capacity(count),
        };
        let (mut parts, mut thens) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut body = 0;
        for PlanToWrite { covers, plan, then } in plans {
            head.len.push(len(plan.len()));
            head.checksum.push(crc32c::crc32c(&plan));
            head.covers.push(covers);
            body += plan.len() as u64;
            parts.push(plan.into());
            thens.push(then);
        }
        match self.add_record(Kind::Plans, &head, body, parts) {
            Ok(Added { spot, .. }) => {
                let places = self.number(spot, head.encoded_len(), &head.len, &head.checksum);
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
                match self.add_record(Kind::Done, &head, 0, Vec::new()) {
                    Ok(_) => self.said.push((destination, numbers)),
                    Err(_) => self.owed_to(destination).merge(&numbers),
                }
            }
        }
    }

    /// A record of parts that were in an older segment. Where they are now, once they are written.
    pub(super) fn write_moved(
        &mut self,
        head: &heads::Moved,
        parts: Vec<Bytes>,
    ) -> Result<Vec<Place>, AppendError> {
        let body = parts.iter().map(|part| part.len() as u64).sum();
        let parts = parts.into_iter().map(Spliced::from).collect();
        let Added { spot, .. } = self.add_record(Kind::Moved, head, body, parts)?;
        self.write_batch()?;
        let mut offset = body_offset(spot, head.encoded_len());
        let place = |part: &heads::MovedPart| {
            let heads::MovedPart { number, len, checksum, .. } = *part;
            let place = Place { number, segment: spot.segment, offset, len, checksum };
            offset = offset.saturating_add(len);
            place
        };
        Ok(head.parts.iter().map(place).collect())
    }
}

fn body_offset(spot: Spot, head: usize) -> NonZeroU32 {
    let head = u32::try_from(HEADER_BYTES + head).unwrap_or(u32::MAX);
    NonZeroU32::new(spot.offset.saturating_add(head)).unwrap_or(NonZeroU32::MAX)
}

/// A part over 4 GiB is refused with its record, so that its length never counts.
fn len(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn checksum(part: &Spliced) -> u32 {
    part.stretches().fold(0, crc32c::crc32c_append)
}
