//! The records of a segment, one after the other, and the stretches between them that can't be read.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    files::{SegmentFile, read_exact, read_up_to},
    format::{FIRST_LINE, Ground, HEADER_BYTES, Header, MARKER, Record, Spot, other_version},
    part::read_part,
    stretches::Stretches,
};

/// Read at a record's start: most heads are in it.
const WINDOW_BYTES: usize = 4096;

/// Read at once in search of a marker.
const SEARCH_BYTES: usize = 64 * 1024;

/// Reads heads only: memory does not depend on the segment.
#[derive(Debug)]
pub(super) struct Scan {
    file: Arc<dyn SegmentFile>,
    segment: u32,
    at: u64,
    len: u64,
    window: Vec<u8>,
}

/// A record and its length.
struct Sized {
    header: Header,
    record: Record,
}

/// What is where one record ends and the next should begin.
enum Next {
    Found(Found),
    /// So many bytes of an earlier segment.
    Old(u64),
}

/// What stands in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Record(Record),
    /// Something that is no record: cut off, or damaged.
    Damage {
        offset: u64,
        bytes: u64,
    },
}

/// The version of a segment that is not of ours, and so is not read.
pub(super) fn other_version_of(file: &dyn SegmentFile) -> io::Result<Option<u64>> {
    let mut start = [0; 64];
    let len = read_up_to(file, &mut start, 0)?;
    Ok(other_version(start.get(..len).unwrap_or_default()))
}

impl Scan {
    /// From the first record on.
    pub(super) fn new(file: Arc<dyn SegmentFile>, segment: u32) -> io::Result<Self> {
        let len = file.size_bytes()?;
        let mut start = [0; FIRST_LINE.len()];
        let read = read_up_to(&*file, &mut start, 0)?;
        let start = start.get(..read).unwrap_or_default();
        // A damaged first line is damage like any other: what stands behind it is looked for.
        let at = if FIRST_LINE.starts_with(start) { read as u64 } else { 0 };
        Ok(Self { file, segment, at, len, window: vec![0; WINDOW_BYTES] })
    }

    /// The next record or damage.
    pub(super) fn next(&mut self) -> Option<io::Result<Found>> {
        while self.at < self.len {
            match self.look() {
                Ok(Next::Old(bytes)) => self.at += bytes,
                Ok(Next::Found(found)) => return Some(Ok(found)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    fn look(&mut self) -> io::Result<Next> {
        let offset = self.at;
        if let Some(Sized { header, record }) = self.record_at(offset)? {
            let bytes = header.record_bytes();
            if header.segment != self.segment {
                return Ok(Next::Old(bytes));
            }
            if record == Record::End {
                // A record of ours behind it would be one that the power loss left of several.
                return Ok(Next::Old(self.next_record(offset + bytes)? - offset));
            }
            if self.is_whole(&header, &record)? {
                self.at += bytes;
                return Ok(Next::Found(Found::Record(record)));
            }
        }
        self.at = self.next_record(offset + 1)?;
        Ok(Next::Found(Found::Damage { offset, bytes: self.at - offset }))
    }

    /// A record that begins here, whoever's it is, and for which the file is long enough.
    fn record_at(&mut self, at: u64) -> io::Result<Option<Sized>> {
        let Ok(offset) = u32::try_from(at) else { return Ok(None) };
        let read = read_up_to(&*self.file, &mut self.window, at)?;
        let window = self.window.get(..read).unwrap_or_default();
        let Some(header) = Header::parse(window, offset) else { return Ok(None) };
        if header.record_bytes() > self.len - at {
            return Ok(None);
        }
        let head = match window.get(HEADER_BYTES..HEADER_BYTES + header.head_bytes) {
            Some(head) => Bytes::copy_from_slice(head),
            None => self.head_at(at + HEADER_BYTES as u64, header.head_bytes)?,
        };
        let record = Record::parse(&header, head, Spot { segment: self.segment, offset });
        Ok(record.map(|record| Sized { header, record }))
    }

    /// The record that begins where the scan is was not cut off: the file is long enough, but what stands there may be
    /// old bytes.
    fn is_whole(&mut self, header: &Header, record: &Record) -> io::Result<bool> {
        let end = self.at + header.record_bytes();
        if header.ground != Ground::Old
            || self.is_ours_at(end)?
            || self.next_record(end)? < self.len
        {
            return Ok(true);
        }
        // Nothing of ours behind it, not even an End: the last one, cut off or with a damaged End.
        let (Record::Parts(parts) | Record::Moved(parts)) = record else { return Ok(true) };
        let recent = Stretches::of_a_record();
        for part in &parts.stored {
            if read_part(&*self.file, &part.place, &recent)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn head_at(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut head = vec![0; len];
        read_exact(&*self.file, &mut head, at)?;
        Ok(head.into())
    }

    fn is_ours_at(&mut self, at: u64) -> io::Result<bool> {
        let found = self.record_at(at)?;
        Ok(found.is_some_and(|found| found.header.segment == self.segment))
    }

    /// Where the next record of this segment begins, or the end.
    fn next_record(&mut self, from: u64) -> io::Result<u64> {
        let mut chunk = vec![0; SEARCH_BYTES];
        let mut at = from;
        while at < self.len {
            let read = read_up_to(&*self.file, &mut chunk, at)?;
            let bytes = chunk.get(..read).unwrap_or_default();
            for candidate in markers(bytes) {
                let offset = at + candidate as u64;
                // Somebody's data may be full of markers: what can be told from here is not read again.
                let header = bytes.get(candidate..candidate + HEADER_BYTES);
                if header.is_none_or(|header| is_header(header, offset))
                    && self.is_ours_at(offset)?
                {
                    return Ok(offset);
                }
            }
            if read < SEARCH_BYTES {
                break;
            }
            // A marker may lie across the border.
            at += (SEARCH_BYTES - (MARKER.len() - 1)) as u64;
        }
        Ok(self.len)
    }
}

fn is_header(bytes: &[u8], offset: u64) -> bool {
    u32::try_from(offset).is_ok_and(|offset| Header::parse(bytes, offset).is_some())
}

fn markers(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let [first, ..] = MARKER;
    let starts = bytes.iter().enumerate().filter(move |(_, byte)| **byte == first);
    starts
        .map(|(at, _)| at)
        .filter(|at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(&MARKER)))
}
