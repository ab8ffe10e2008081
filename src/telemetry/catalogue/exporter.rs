//! Series of one exporter.

use metrics::{Counter, Gauge, Histogram};

use super::declare::{Declare, Family, Labels};
use crate::ledger::DropReason;

/// Series of one exporter.
#[derive(Debug)]
pub struct ExporterMetrics {
    /// Received spans delivered.
    pub sent_spans: Counter,
    /// Added spans delivered.
    pub sent_added_spans: Counter,
    /// Received spans given up, by [`DropReason`].
    pub send_failed_spans: Family<Counter>,
    /// Added spans given up, by [`DropReason`].
    pub send_failed_added_spans: Family<Counter>,
    /// Received spans put into the dead-letter file.
    pub dead_lettered_spans: Counter,
    /// By [`SendOutcome`].
    pub requests: Family<Counter>,
    /// Requests sent in halves because they were too large.
    pub split_requests: Counter,
    /// Added spans left out because the trace is larger than the profile allows.
    pub trimmed_spans: Counter,
    /// Attributes of added spans cut to what the profile allows.
    pub cut_attributes: Counter,
    /// Time of one request.
    pub request_duration_seconds: Histogram,
    /// Size of one request.
    pub request_bytes: Histogram,
    /// Bytes in the queue.
    pub queue_bytes: Gauge,
    /// Bytes the queue may hold.
    pub queue_capacity_bytes: Gauge,
    /// Requests under way.
    pub in_flight_requests: Gauge,
}

impl ExporterMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>, exporter: &str) -> Self {
        let labels: Labels<'_> = &[("exporter", exporter)];
        Self {
            sent_spans: declare.counter(
                "tracestitch_exporter_sent_spans_total",
                labels,
                "Received spans delivered.",
            ),
            sent_added_spans: declare.counter(
                "tracestitch_exporter_sent_added_spans_total",
                labels,
                "Added system and network spans delivered.",
            ),
            send_failed_spans: declare.counters(
                "tracestitch_exporter_send_failed_spans_total",
                labels,
                "reason",
                &DropReason::ALL.map(DropReason::label),
                "Received spans given up, by why.",
            ),
            send_failed_added_spans: declare.counters(
                "tracestitch_exporter_send_failed_added_spans_total",
                labels,
                "reason",
                &DropReason::ALL.map(DropReason::label),
                "Added system and network spans given up, by why. A trace of nothing else never waits for room: without, it is dropped (queue_full), also where on_outage is hold.",
            ),
            dead_lettered_spans: declare.counter(
                "tracestitch_exporter_dead_lettered_spans_total",
                labels,
                "Received spans put into the dead-letter file; tracestitch replay sends them again.",
            ),
            requests: declare.counters(
                "tracestitch_exporter_requests_total",
                labels,
                "outcome",
                &SendOutcome::LABELS,
                "Export requests by how they ended.",
            ),
            split_requests: declare.counter(
                "tracestitch_exporter_split_requests_total",
                labels,
                "Requests sent in halves because the destination takes no larger ones.",
            ),
            trimmed_spans: declare.counter(
                "tracestitch_exporter_trimmed_spans_total",
                labels,
                "Added network spans left out of traces that are larger than the exporter's profile allows.",
            ),
            cut_attributes: declare.counter(
                "tracestitch_exporter_cut_attributes_total",
                labels,
                "Attributes of added spans cut to the length that the exporter's profile allows.",
            ),
            request_duration_seconds: declare.histogram(
                "tracestitch_exporter_request_duration_seconds",
                labels,
                "Time of one export request.",
            ),
            request_bytes: declare.histogram(
                "tracestitch_exporter_request_size_bytes",
                labels,
                "Size of one export request before compression.",
            ),
            queue_bytes: declare.gauge(
                "tracestitch_exporter_queue_size_bytes",
                labels,
                "Bytes of traces waiting to be sent or being sent.",
            ),
            queue_capacity_bytes: declare.gauge(
                "tracestitch_exporter_queue_capacity_bytes",
                labels,
                "Bytes the queue may hold.",
            ),
            in_flight_requests: declare.gauge(
                "tracestitch_exporter_in_flight_requests",
                labels,
                "Export requests under way.",
            ),
        }
    }
}

/// How a request to a destination ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// Delivered.
    Ok,
    /// Failed, to be tried again.
    Retry,
    /// Failed for good.
    Failed,
    /// Failed, to be sent in halves.
    TooLarge,
}

impl SendOutcome {
    const LABELS: [&str; 4] = ["ok", "retry", "failed", "too_large"];
}
