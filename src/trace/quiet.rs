//! A trace that no longer grows.

use super::{Fragment, Lease, TraceKey};
use crate::clock::Instant;

/// Why a trace was released. The label of `tracestitch_buffer_released_traces_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// No new span for `buffer.idle`.
    Idle,
    /// Open for `buffer.max_age`.
    MaxAge,
    /// `buffer.max_spans_per_trace` reached.
    Spans,
    /// `buffer.max_bytes_per_trace` reached.
    Bytes,
    /// Least recently touched while memory was short.
    Memory,
    /// The program is shutting down.
    Shutdown,
}

impl Release {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::MaxAge, Self::Spans, Self::Bytes, Self::Memory, Self::Shutdown];

    /// The reason as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MaxAge => "max_age",
            Self::Spans => "max_spans",
            Self::Bytes => "max_bytes",
            Self::Memory => "memory",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One whole trace, released once.
#[derive(Debug)]
pub struct QuietTrace {
    /// Whose trace.
    pub key: TraceKey,
    /// In order of arrival, at least one.
    pub fragments: Vec<Fragment>,
    /// When the first span came.
    pub first_arrival: Instant,
    /// When the last span came.
    pub last_arrival: Instant,
    /// Why it was released.
    pub release: Release,
    /// Ends when the trace is delivered.
    pub lease: Lease,
}

impl QuietTrace {
    /// Number of received spans.
    pub fn spans(&self) -> usize {
        self.fragments.iter().map(|fragment| fragment.spans.len()).sum()
    }
}
