//! The spans of one trace in one request.

use super::{Place, SpanRef, TraceId};
use crate::wire::{Malformed, Spliced, layout::SpanEntry};

/// Spans of exactly one trace, at least one, as they came. The bytes are an `ExportTraceServiceRequest` of just these
/// spans, so that a trace's fragments one after the other are the trace.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Wire bytes; the headers of resources and scopes are shared with other traces of the request.
    pub bytes: Spliced,
    /// How many spans are in them.
    pub spans: u32,
    /// Where the journal has the bytes; `bytes` is empty while only the journal has them.
    pub place: Option<Place>,
    /// How many they are then.
    pub spilled_len: u32,
}

/// A fragment's slot in a list, which may have some to spare.
const SLOT_BYTES: usize = size_of::<Fragment>();
/// What the allocator rounds its bytes up by.
const ROUNDING_BYTES: usize = 48;

/// What a fragment costs beside its bytes.
pub(super) const OVERHEAD_BYTES: usize = SLOT_BYTES + ROUNDING_BYTES;

impl Fragment {
    /// Only the journal has the bytes.
    pub fn is_spilled(&self) -> bool {
        self.bytes.is_empty() && self.place.is_some()
    }

    /// Bytes of the spans themselves, wherever they are.
    pub fn wire_bytes(&self) -> u64 {
        if self.is_spilled() {
            return self.spilled_len.into();
        }
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    /// Memory this fragment holds.
    pub fn held_bytes(&self) -> u64 {
        let bytes = if self.is_spilled() { 0 } else { self.bytes.held_bytes() + ROUNDING_BYTES };
        u64::try_from(SLOT_BYTES + bytes).unwrap_or(u64::MAX)
    }

    /// What of it can be left to the journal.
    pub fn loose_bytes(&self) -> u64 {
        let slot = u64::try_from(SLOT_BYTES).unwrap_or(u64::MAX);
        if self.place.is_some() { self.held_bytes() - slot } else { 0 }
    }

    /// The spans in `bytes`, in wire order. They are read there each time: most fragments are not looked into again before
    /// they leave, and an index of their spans would take a tenth of the memory that they wait in.
    pub fn span_refs(&self) -> Vec<SpanRef> {
        let mut spans = Vec::with_capacity(usize::try_from(self.spans).unwrap_or(0));
        // The bytes were scanned before: this can't fail.
        let _scanned = self.bytes.for_each_span(|resource, span| {
            spans.extend(span_ref(resource, &span));
        });
        spans
    }
}

/// `None` can't be for spans that passed the scan: they have an id, and a request is below 4 GiB.
fn span_ref(resource: usize, span: &SpanEntry) -> Option<SpanRef> {
    Some(SpanRef {
        offset: u32::try_from(span.body.start).ok()?,
        len: u32::try_from(span.body.len()).ok()?,
        resource: u32::try_from(resource).ok()?,
        id: span.id?,
        parent: span.parent,
        kind: span.kind,
        start_ns: span.start_ns,
        end_ns: span.end_ns,
    })
}

/// What [`super::split`] made of a request.
#[derive(Debug)]
pub struct Split {
    /// One per trace, in the order in which the traces first appear.
    pub fragments: Vec<(TraceId, Fragment)>,
    /// Spans that can't be taken: `rejected_spans` of the OTLP partial success.
    pub rejected: Rejected,
}

impl Split {
    /// The fragments, for those who know whose they are.
    pub fn into_fragments(self) -> Vec<Fragment> {
        self.fragments.into_iter().map(|(_, fragment)| fragment).collect()
    }
}

/// Spans refused one by one, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Trace id absent, of a wrong length, or zero.
    pub trace_id: u64,
    /// Span id absent, of a wrong length, or zero.
    pub span_id: u64,
    /// The parent or a link with an id of a wrong length.
    pub other_id: u64,
}

impl Rejected {
    /// All of them.
    pub fn spans(self) -> u64 {
        self.trace_id + self.span_id + self.other_id
    }
}

/// A request that can't be read at all.
pub type SplitError = Malformed;
