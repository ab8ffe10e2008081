//! A trace that no longer grows.

use std::sync::Arc;

use super::{Fragment, Lease, Sent, SpanRef, TraceKey, written};
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

    /// More of the trace may come: it was not quiet, but too large, too old, or in the way.
    pub fn is_part(self) -> bool {
        matches!(self, Self::MaxAge | Self::Spans | Self::Bytes | Self::Memory)
    }

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

/// One whole trace, or the next part of one; each span is released once.
#[derive(Debug)]
pub struct QuietTrace {
    /// Whose trace.
    pub key: TraceKey,
    /// In order of arrival; none if only what was found is still to go out.
    pub fragments: Vec<Fragment>,
    /// When the first span came.
    pub first_arrival: Instant,
    /// When the last span came.
    pub last_arrival: Instant,
    /// When it was released. A part may have to wait for an earlier one since; what it may still wait for counts from here.
    pub released: Instant,
    /// Why it was released.
    pub release: Release,
    /// Further parts may come: what has no place in the trace yet can wait for them.
    pub more: bool,
    /// What earlier parts left behind.
    pub sent: Option<Arc<Sent>>,
    /// Ends when the trace is delivered.
    pub lease: Lease,
}

impl QuietTrace {
    /// Some of its spans are in the journal alone.
    pub fn is_spilled(&self) -> bool {
        self.fragments.iter().any(Fragment::is_spilled)
    }

    /// Reads its received spans, those of earlier parts first. What is in the journal alone is read there, fragment by
    /// fragment, so that its bytes stay there; what can't be read is left out. Holds the trace's bytes, but not the trace.
    pub fn known_spans(&self) -> impl FnOnce() -> Vec<SpanRef> + Send + use<> {
        let (sent, fragments) = (self.sent.clone(), self.fragments.clone());
        let durable = self.lease.durable();
        let read_back = move |fragment: &Fragment| {
            let place = fragment.place.filter(|_| fragment.is_spilled())?;
            Some(written(durable.as_ref()?.read(&place)?)?.1)
        };
        move || {
            let sent = sent.iter().flat_map(|sent| sent.span_refs());
            let own = fragments
                .iter()
                .flat_map(|fragment| read_back(fragment).as_ref().unwrap_or(fragment).span_refs());
            sent.chain(own).collect()
        }
    }
}
