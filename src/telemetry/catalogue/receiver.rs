//! Series of the receivers.

use metrics::Counter;

use super::declare::{Declare, Family, Labels};
use crate::trace::{Refusal, Signal};

/// See [`Metrics::receiver`](super::Metrics::receiver).
#[derive(Debug)]
pub struct ReceiverMetrics {
    transports: [TransportMetrics; 2],
    signals: [SignalMetrics; Signal::ALL.len()],
}

impl ReceiverMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        let transports =
            ["grpc", "http"].map(|transport| TransportMetrics::declare(declare, transport));
        let signals = Signal::ALL.map(|signal| SignalMetrics::declare(declare, signal));
        Self { transports, signals }
    }

    /// The series of a signal that passes through.
    pub fn signal(&self, signal: Signal) -> &SignalMetrics {
        let [metrics, logs] = &self.signals;
        match signal {
            Signal::Metrics => metrics,
            Signal::Logs => logs,
        }
    }

    /// The series of one transport.
    pub fn of(&self, transport: Transport) -> &TransportMetrics {
        let [grpc, http] = &self.transports;
        match transport {
            Transport::Grpc => grpc,
            Transport::Http => http,
        }
    }
}

/// How OTLP came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
}

/// Receiver series of one transport.
#[derive(Debug)]
pub struct TransportMetrics {
    /// Spans taken.
    pub accepted_spans: Counter,
    /// Spans of requests that were read and then refused, by [`Refusal`].
    pub refused_spans: Family<Counter>,
    /// Spans refused for good: 0 a bad trace id, 1 a bad span id.
    pub rejected_spans: Family<Counter>,
    /// By [`RequestOutcome`].
    pub requests: Family<Counter>,
    /// Requests whose answer waited for the way out.
    pub paced_requests: Counter,
}

impl TransportMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>, transport: &'static str) -> Self {
        let labels: Labels<'_> = &[("receiver", "otlp"), ("transport", transport)];
        Self {
            accepted_spans: declare.counter(
                "tracestitch_receiver_accepted_spans_total",
                labels,
                "Spans taken from senders.",
            ),
            refused_spans: declare.counters(
                "tracestitch_receiver_refused_spans_total",
                labels,
                "reason",
                &Refusal::ALL.map(Refusal::label),
                "Spans of requests that were read and then refused for the moment; their senders come again.",
            ),
            rejected_spans: declare.counters(
                "tracestitch_receiver_rejected_spans_total",
                labels,
                "reason",
                &["trace_id", "span_id", "other_id"],
                "Spans refused for good by partial success: their trace or span id is zero or of a wrong length, or the id of their parent or a link is of a wrong length.",
            ),
            requests: declare.counters(
                "tracestitch_receiver_requests_total",
                labels,
                "outcome",
                &RequestOutcome::LABELS,
                "Export requests by how they ended.",
            ),
            paced_requests: declare.counter(
                "tracestitch_receiver_paced_requests_total",
                labels,
                "Requests taken whose answer waited up to 50 ms: what goes out is behind what comes in.",
            ),
        }
    }
}

/// How a request ended at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// All spans taken.
    Accepted,
    /// Some spans taken, some not.
    Partial,
    /// Not taken now: the sender comes again.
    Refused,
    /// Not readable as OTLP.
    Malformed,
    /// Over the size limit.
    TooLarge,
    /// Without a token that is known.
    Unauthenticated,
}

impl RequestOutcome {
    const LABELS: [&str; 6] =
        ["accepted", "partial", "refused", "malformed", "too_large", "unauthenticated"];
}

/// Series of a signal that is not traces. Counted by [`PassOutcome`].
#[derive(Debug)]
pub struct SignalMetrics {
    /// Requests.
    pub requests: Family<Counter>,
    /// Their bytes, without compression.
    pub bytes: Family<Counter>,
}

impl SignalMetrics {
    fn declare(declare: &mut Declare<'_>, signal: Signal) -> Self {
        let labels: Labels<'_> = &[("receiver", "otlp"), ("signal", signal.label())];
        Self {
            requests: declare.counters(
                "tracestitch_receiver_passed_requests_total",
                labels,
                "outcome",
                &PassOutcome::LABELS,
                "Requests of metrics and logs, by what became of them on their way through (forward_other_signals).",
            ),
            bytes: declare.counters(
                "tracestitch_receiver_passed_bytes_total",
                labels,
                "outcome",
                &PassOutcome::LABELS,
                "Bytes of metrics and logs, without compression, by what became of them; of what was not read, none.",
            ),
        }
    }
}

/// What became of a request that is not traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassOutcome {
    /// The destination took it, whole or in part.
    Passed,
    /// Not taken now, here or by the destination: the sender comes again.
    Refused,
    /// Never taken, here or by the destination.
    Failed,
    /// No destination is named for it.
    NotForwarded,
}

impl PassOutcome {
    const LABELS: [&str; 4] = ["passed", "refused", "failed", "not_forwarded"];
}
