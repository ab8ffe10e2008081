//! What the pipeline knows of a received span without decoding it.

use super::SpanId;

/// OTLP's span kinds (trace.proto `Span.SpanKind`); a number this version does not know counts as unspecified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpanKind {
    /// 0, or not known.
    #[default]
    Unspecified,
    /// 1
    Internal,
    /// 2
    Server,
    /// 3
    Client,
    /// 4
    Producer,
    /// 5
    Consumer,
}

impl SpanKind {
    /// The kind behind a wire number.
    pub fn from_wire(number: u64) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// The wire number.
    pub fn to_wire(self) -> i32 {
        match self {
            Self::Unspecified => 0,
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
        }
    }

    /// CLIENT or PRODUCER: the span makes a call.
    pub fn is_caller(self) -> bool {
        matches!(self, Self::Client | Self::Producer)
    }

    /// SERVER or CONSUMER: the span answers a call.
    pub fn is_callee(self) -> bool {
        matches!(self, Self::Server | Self::Consumer)
    }
}

/// One received span: where it lies in its fragment and what the scan read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRef {
    /// First byte of the span message in the fragment's bytes.
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
