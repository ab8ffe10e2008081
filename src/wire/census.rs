//! How much there is in a request, before anything is kept of it: a message of two bytes is a span, too.

use std::ops::Range;

use super::{
    Malformed,
    field::{self, DEPTH_MAX, WireType},
};

/// Of an `ExportTraceServiceRequest`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// `ResourceSpans`.
    pub resources: usize,
    /// `ScopeSpans`.
    pub scopes: usize,
    /// Spans, good or bad.
    pub spans: usize,
}

impl Census {
    /// Counts, and checks no more than it needs for that.
    pub fn of(request: &[u8]) -> Result<Self, Malformed> {
        let mut census = Self::default();
        for_each(request, 1, 0..request.len(), |resource| {
            census.resources += 1;
            for_each(request, 2, resource, |scope| {
                census.scopes += 1;
                for_each(request, 2, scope, |_| {
                    census.spans += 1;
                    Ok(())
                })
            })
        })?;
        Ok(census)
    }
}

/// The values of one field of the message in this range.
fn for_each(
    bytes: &[u8],
    wanted: u32,
    message: Range<usize>,
    mut each: impl FnMut(Range<usize>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let bytes = bytes.get(..message.end).ok_or(Malformed::Truncated)?;
    let mut at = message.start;
    while at < bytes.len() {
        match field::key(bytes, &mut at)? {
            (number, WireType::Delimited) if number == wanted => {
                each(field::delimited(bytes, &mut at)?)?;
            }
            (number, wire) => field::skip(bytes, &mut at, number, wire, DEPTH_MAX)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_there_is_counted() {
        // Two resources: one with two scopes, of which one has three spans of no byte; one with a schema URL alone.
        let request = b"\x0a\x0a\x12\x06\x12\x00\x12\x00\x12\x00\x12\x00\x0a\x03\x1a\x01x";
        let census = Census { resources: 2, scopes: 2, spans: 3 };
        assert_eq!(Census::of(request), Ok(census));
        assert_eq!(Census::of(b""), Ok(Census::default()));
        assert_eq!(Census::of(b"\x0a\x03\x12\x04\x00"), Err(Malformed::Truncated));
    }
}
