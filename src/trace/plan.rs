//! What weaving does to a trace, as data: kept in the journal, so that a trace that goes out again goes out the same.

use bytes::Bytes;

use super::SpanId;

/// What becomes of the spans of a trace. The empty plan leaves them as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Spans with another parent, in order.
    pub parents: Vec<NewParent>,
    /// The added spans, as an `ExportTraceServiceRequest`.
    pub added: Bytes,
    /// How many those are.
    pub added_spans: u64,
}

/// A received span with another parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewParent {
    /// Number of the span, counted through all fragments of the trace in their order.
    pub span: u32,
    /// `None`: it becomes a root.
    pub parent: Option<SpanId>,
}
