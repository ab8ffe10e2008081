//! The spans of one trace in one request.

use super::{Place, SpanRef, TraceKey};
use crate::wire::{Malformed, Spliced};

/// Spans of exactly one trace, at least one, as they came. The bytes are an `ExportTraceServiceRequest` of just these
/// spans, so that a trace's fragments one after the other are the trace.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Whose spans.
    pub key: TraceKey,
    /// Wire bytes; the headers of resources are shared with other traces of the request.
    pub bytes: Spliced,
    /// The spans in `bytes`, in wire order.
    pub spans: Vec<SpanRef>,
    /// Where the journal has the bytes; `bytes` is empty while only the journal has them.
    pub place: Option<Place>,
}

/// What a fragment costs beside its bytes and spans: the struct, its share of a map and of the allocator.
pub(super) const OVERHEAD_BYTES: usize = 160;

impl Fragment {
    /// Only the journal has the bytes.
    pub fn is_spilled(&self) -> bool {
        self.bytes.is_empty() && self.place.is_some()
    }

    /// Bytes of the spans themselves, wherever they are.
    pub fn wire_bytes(&self) -> u64 {
        let spilled = self.place.map_or(0, |place| u64::from(place.len));
        spilled.max(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    /// Memory this fragment holds, without the bytes that can be left to the journal.
    pub fn needed_bytes(&self) -> u64 {
        let in_journal = self.place.is_some() && !self.bytes.is_empty();
        let bytes = if in_journal { self.bytes.held_bytes() } else { 0 };
        self.held_bytes() - u64::try_from(bytes).unwrap_or(0)
    }

    /// Memory this fragment holds.
    pub fn held_bytes(&self) -> u64 {
        let spans = self.spans.capacity() * size_of::<SpanRef>();
        u64::try_from(self.bytes.held_bytes() + spans + OVERHEAD_BYTES).unwrap_or(u64::MAX)
    }
}

/// What [`super::split`] made of a request.
#[derive(Debug)]
pub struct Split {
    /// One per trace, in the order in which the traces first appear.
    pub fragments: Vec<Fragment>,
    /// Spans that can't be taken: `rejected_spans` of the OTLP partial success.
    pub rejected: Rejected,
}

/// Spans refused one by one, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Trace id absent, of a wrong length, or zero.
    pub trace_id: u64,
    /// Span id absent, of a wrong length, or zero.
    pub span_id: u64,
}

impl Rejected {
    /// All of them.
    pub fn spans(self) -> u64 {
        self.trace_id + self.span_id
    }
}

/// A request that can't be read at all.
pub type SplitError = Malformed;
