//! What the pipeline knows of a received span without decoding it.

use crate::wire::{SpanId, SpanKind};

/// One received span: where it lies in its fragment and what the scan read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRef {
    /// First byte of the span message in the fragment's own bytes ([`Spliced::own`](crate::wire::Spliced::own)).
    pub offset: u32,
    /// Length of the span message.
    pub len: u32,
    /// Number of the resource spans entry of the fragment that holds the span.
    pub resource: u32,
    /// Span id.
    pub id: SpanId,
    /// Parent span id; `None` for a root. A parent of a wrong length counts as none.
    pub parent: Option<SpanId>,
    /// Span kind.
    pub kind: SpanKind,
    /// Begin in nanoseconds since 1970.
    pub start_ns: u64,
    /// End in nanoseconds since 1970.
    pub end_ns: u64,
}

/// A received span as weaving sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppSpan {
    /// Span id; several received spans may share one.
    pub id: SpanId,
    /// Parent span id; `None` for a root.
    pub parent: Option<SpanId>,
    /// Span kind.
    pub kind: SpanKind,
    /// Begin in nanoseconds since 1970, by the application's clock.
    pub start_ns: u64,
    /// End in nanoseconds since 1970.
    pub end_ns: u64,
    /// Number of the process: spans with byte-equal OTLP resources share it.
    pub process: usize,
}
