//! The spans of a message, found without putting it together.

use super::{
    Malformed, Spliced,
    field::{self, DEPTH_MAX, WireType},
    layout::{SpanEntry, scan_span},
    spliced::Splice,
};

impl Spliced {
    /// The spans of an `ExportTraceServiceRequest` that was validated before, each with the number of its resource spans.
    /// Their bodies are places in the own bytes.
    pub fn for_each_span(&self, mut each: impl FnMut(usize, SpanEntry)) -> Result<(), Malformed> {
        let (own, mut resource) = (&**self.own(), 0);
        let mut walk = Walk { own, at: 0, spliced: 0, splices: self.splices() };
        walk.children(self.len(), 1, |walk, end| {
            walk.children(end, 2, |walk, end| {
                walk.children(end, 2, |walk, end| {
                    let body = walk.at..end - walk.spliced;
                    walk.at = body.end;
                    each(resource, scan_span::<false>(own, body, 0, DEPTH_MAX)?);
                    Ok(())
                })
            })?;
            resource += 1;
            Ok(())
        })
    }
}

/// A walk over the own bytes of a message, by the lengths of the whole one.
struct Walk<'a> {
    own: &'a [u8],
    at: usize,
    /// Bytes that were spliced in so far.
    spliced: usize,
    /// What is still to come.
    splices: &'a [Splice],
}

impl Walk<'_> {
    /// Enters the fields with this number of a message that ends there; what else there is is skipped.
    fn children(
        &mut self,
        end: usize,
        number: u32,
        mut enter: impl FnMut(&mut Self, usize) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        while self.position() < end {
            let (other, wire) = field::key(self.own, &mut self.at)?;
            if (other, wire) != (number, WireType::Delimited) {
                field::skip(self.own, &mut self.at, other, wire, DEPTH_MAX)?;
                continue;
            }
            let len = field::varint(self.own, &mut self.at)?;
            let len = usize::try_from(len).map_err(|_| Malformed::Truncated)?;
            let position = self.at + self.spliced;
            enter(self, position.checked_add(len).ok_or(Malformed::Truncated)?)?;
        }
        Ok(())
    }

    /// Bytes of the whole message before the next own one.
    fn position(&mut self) -> usize {
        while let Some((next, rest)) = self.splices.split_first()
            && next.at() <= self.at
        {
            self.spliced += next.shared.bytes().len();
            self.splices = rest;
        }
        self.at + self.spliced
    }
}
