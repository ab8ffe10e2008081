//! Series of the buffer.

use metrics::{Counter, Gauge, Histogram};

use super::declare::{Declare, Family};
use crate::trace::Release;

/// See [`Metrics::buffer`].
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
