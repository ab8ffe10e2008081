//! Series of the buffer.

use metrics::{Counter, Gauge, Histogram};

use super::declare::{Declare, Family};
use crate::trace::Release;

/// See [`Metrics::buffer`](super::Metrics::buffer).
#[derive(Debug)]
pub struct BufferMetrics {
    /// Open traces.
    pub traces: Gauge,
    /// Their spans.
    pub spans: Gauge,
    /// By [`Release`].
    pub released_traces: Family<Counter>,
    /// Time from first span to release.
    pub trace_age_seconds: Histogram,
    /// Released traces whose life is not told.
    pub untold_traces: Counter,
    /// Traces remembered after they went on.
    pub tombstones: Gauge,
    /// Traces forgotten before their time.
    pub forgotten_traces: Counter,
    /// Parts that wait for an earlier part of their trace.
    pub waiting_parts: Gauge,
    /// Time from an earlier part's way out to the release of late spans.
    pub late_span_age_seconds: Histogram,
    /// Traces that wait in the journal for their destinations.
    pub parked_traces: Gauge,
    /// Memory that came free because spans' bytes were left to the journal.
    pub spilled_bytes: Counter,
}

impl BufferMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        Self {
            traces: declare.gauge("tracestitch_buffer_traces", &[], "Traces that are still open."),
            spans: declare.gauge("tracestitch_buffer_spans", &[], "Spans of open traces."),
            released_traces: declare.counters(
                "tracestitch_buffer_released_traces_total",
                &[],
                "reason",
                &Release::ALL.map(Release::label),
                "Traces released, by why. idle is the good one.",
            ),
            trace_age_seconds: declare.histogram(
                "tracestitch_buffer_trace_age_seconds",
                &[],
                "Time from a trace's first span to its release.",
            ),
            untold_traces: declare.counter(
                "tracestitch_buffer_untold_traces_total",
                &[],
                "Released traces that explain and /traces know nothing of: they were more than 1000 a second, memory was short, or admin.recent_traces is 0.",
            ),
            tombstones: declare.gauge(
                "tracestitch_buffer_tombstones",
                &[],
                "Traces that went on and are remembered for spans that come later.",
            ),
            forgotten_traces: declare.counter(
                "tracestitch_buffer_forgotten_traces_total",
                &[],
                "Traces that went on and were forgotten before their time, to make room for others.",
            ),
            waiting_parts: declare.gauge(
                "tracestitch_buffer_waiting_parts",
                &[],
                "Parts of traces that wait until an earlier part of theirs has gone on.",
            ),
            late_span_age_seconds: declare.histogram(
                "tracestitch_late_span_age_seconds",
                &[],
                "Time from when a trace went on to when spans that came later were released.",
            ),
            parked_traces: declare.gauge(
                "tracestitch_buffer_parked_traces",
                &[],
                "Woven traces that wait in the journal until their destinations can take them.",
            ),
            spilled_bytes: declare.counter(
                "tracestitch_buffer_spilled_bytes_total",
                &[],
                "Memory that came free because waiting spans were left to the journal alone.",
            ),
        }
    }
}
