//! Records that are written by one call: heads in one buffer, bodies where they are.

use std::{
    io::{self, IoSlice},
    ops::Range,
};

use prost::Message;

use super::{
    body::Body,
    files::SegmentFile,
    format::{Ground, Kind, Spot, write_end, write_head},
};
use crate::wire::Spliced;

/// Slices that the system takes in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// Whole records, ready to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    heads: Vec<u8>,
    bytes: u64,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    kind: Kind,
    head: Range<usize>,
    body: Body,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of all records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of what their parts share.
    pub(super) fn stretch_bytes(&self) -> u64 {
        self.records.iter().map(|record| u64::from(record.body.stretches_len())).sum()
    }

    /// What the records are.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.records.iter().map(|record| record.kind)
    }

    /// Takes a record that will stand there; gives its number in the batch.
    pub(super) fn push(
        &mut self,
        (kind, ground): (Kind, Ground),
        spot: Spot,
        head: &impl Message,
        body: Body,
    ) -> usize {
        let start = self.heads.len();
        let body_len = u32::try_from(body.bytes()).unwrap_or(u32::MAX);
        write_head(&mut self.heads, (kind, ground), spot, head, body_len);
        self.bytes += (self.heads.len() - start) as u64 + body.bytes();
        self.records.push(Record { kind, head: start..self.heads.len(), body });
        self.records.len() - 1
    }

    /// Writes all records from there on, with an End behind them if something is to be told from them; or fails somewhere
    /// in between.
    pub(super) fn write(
        &self,
        file: &dyn SegmentFile,
        offset: u64,
        end: Option<Spot>,
    ) -> io::Result<()> {
        let mut end_bytes = Vec::new();
        if let Some(end) = end {
            write_end(&mut end_bytes, end);
        }
        let count = self.records.iter().map(|record| record.body.slice_count() + 1);
        let mut slices = Vec::with_capacity(count.sum::<usize>() + 1);
        for Record { head, body, .. } in &self.records {
            slices.push(IoSlice::new(self.heads.get(head.clone()).unwrap_or_default()));
            slices.extend(body.slices().map(IoSlice::new));
        }
        slices.push(IoSlice::new(&end_bytes));
        write_all(file, &mut slices, offset)
    }

    /// Empties it, and keeps its memory; gives the records' parts, by their numbers.
    pub(super) fn take_parts(&mut self) -> Vec<Vec<Spliced>> {
        self.heads.clear();
        self.bytes = 0;
        self.records.drain(..).map(|record| record.body.into_parts()).collect()
    }
}

/// Writes all slices from there on, by as many calls as it takes.
pub(super) fn write_all(
    file: &dyn SegmentFile,
    slices: &mut [IoSlice<'_>],
    offset: u64,
) -> io::Result<()> {
    let (mut rest, mut at) = (slices, offset);
    // Empty slices at the front would make a call that writes nothing.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let now = rest.get(..SLICES_MAX).unwrap_or(rest);
        match file.write_at(now, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut rest, written);
                at += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
