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

/// Spans of a trace that is remembered where they are, at most.
const INDEX_MAX: usize = 128;

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
    /// The spans in `fragments`, in order, where somebody has read them before; see [`Self::remember`].
    pub index: Vec<SpanRef>,
    /// Ends when the trace is delivered.
    pub lease: Lease,
}

impl QuietTrace {
    /// Some of its spans are in the journal alone.
    pub fn is_spilled(&self) -> bool {
        self.fragments.iter().any(Fragment::is_spilled)
    }

    /// Its received spans, those of earlier parts first; those that only the journal has are not among them.
    pub fn known_spans(&self) -> Vec<SpanRef> {
        let sent = self.sent.iter().flat_map(|sent| sent.span_refs());
        sent.chain(self.fragments.iter().flat_map(Fragment::span_refs)).collect()
    }

    /// Keeps what [`Self::known_spans`] said for those who would read it again soon. Of a large trace it takes much memory, and
    /// is little beside what else is done with it: that is read again.
    pub fn remember(&mut self, mut known: Vec<SpanRef>) {
        if known.len() <= INDEX_MAX && !self.is_spilled() {
            let earlier = self.sent.as_ref().map_or(0, |sent| sent.spans().len());
            self.index = known.split_off(earlier.min(known.len()));
        }
    }

    /// Memory that this takes.
    pub fn index_bytes(&self) -> u64 {
        u64::try_from(size_of_val(self.index.as_slice())).unwrap_or(u64::MAX)
    }

    /// Reads the same, and what is in the journal alone there, fragment by fragment, so that its bytes stay there; what can't
    /// be read is left out. Holds the trace's bytes, but not the trace.
    pub fn all_known_spans(&self) -> impl FnOnce() -> Vec<SpanRef> + Send + use<> {
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use bytes::Bytes;
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };
    use prost::Message as _;

    use super::*;
    use crate::{
        clock,
        ledger::Ledger,
        memory::{Budget, Stage},
        trace::{Origin, Place, SentSpan, SpanId, SpanKind, TraceId, split},
    };

    const TRACE: u128 = 9;

    /// A request of spans with these ids.
    fn fragment(ids: impl Iterator<Item = u64>) -> Fragment {
        let span = |id: u64| Span {
            trace_id: TRACE.to_be_bytes().into(),
            span_id: id.to_be_bytes().into(),
            ..Span::default()
        };
        let scope_spans =
            vec![ScopeSpans { spans: ids.map(span).collect(), ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let request = ExportTraceServiceRequest { resource_spans };
        let split = split(request.encode_to_vec().into()).expect("OTLP");
        split.into_fragments().pop().expect("one trace")
    }

    fn trace(fragments: Vec<Fragment>, sent: Option<Arc<Sent>>) -> QuietTrace {
        let memory = Budget::new(1000).claim(Stage::Answers, 0);
        let id = TraceId::from_wire(&TRACE.to_be_bytes()).expect("not zero");
        QuietTrace {
            key: TraceKey { id, origin: Origin::default() },
            fragments,
            first_arrival: clock::now(),
            last_arrival: clock::now(),
            released: clock::now(),
            release: Release::Idle,
            more: false,
            sent,
            index: Vec::new(),
            lease: Lease::new(Ledger::new(["one".to_owned()]), 0, memory),
        }
    }

    fn sent(spans: u64) -> Arc<Sent> {
        let span = |id| SentSpan {
            id: SpanId::from_number(id).expect("not zero"),
            parent: None,
            original: None,
            kind: SpanKind::Internal,
            is_stale: false,
            start_ns: 0,
            end_ns: 0,
            process: 0,
        };
        let mut sent = Sent::default();
        sent.add((1000..1000 + spans).map(span).collect(), Vec::new(), false);
        sent.into()
    }

    #[test]
    fn what_is_remembered_are_the_spans_of_its_own_fragments() {
        for earlier in [0, 3] {
            let mut trace = trace(vec![fragment(1..3), fragment(3..4)], Some(sent(earlier)));
            let known = trace.known_spans();
            assert_eq!(known.len(), 3 + usize::try_from(earlier).expect("few"));
            trace.remember(known);
            let own: Vec<_> = trace.fragments.iter().flat_map(Fragment::span_refs).collect();
            assert_eq!(trace.index, own);
            assert_eq!(
                trace.index_bytes(),
                3 * u64::try_from(size_of::<SpanRef>()).expect("small")
            );
        }
    }

    #[test]
    fn of_large_traces_and_of_those_in_the_journal_nothing_is_remembered() {
        let many = u64::try_from(INDEX_MAX).expect("few") + 1;
        let mut large = trace(vec![fragment(1..=many)], None);
        large.remember(large.known_spans());
        assert_eq!(large.index, []);
        let mut spilled = trace(vec![fragment(1..3)], None);
        let known = spilled.known_spans();
        let place = Place { number: 1, segment: 1, offset: NonZeroU32::MIN, len: 1, checksum: 0 };
        for fragment in &mut spilled.fragments {
            fragment.bytes = Bytes::new().into();
            fragment.place = Some(place);
        }
        spilled.remember(known);
        assert_eq!(spilled.index, []);
    }
}
