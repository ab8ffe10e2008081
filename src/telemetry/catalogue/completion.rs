//! Series of completion.

use metrics::{Counter, Gauge, Histogram};

use super::declare::{Declare, Family};
use crate::trace::{AskOutcome, Skip};

/// See [`Metrics::completion`](super::Metrics::completion).
#[derive(Debug)]
pub struct CompletionMetrics {
    /// By [`AskOutcome`].
    pub requests: Family<Counter>,
    /// Time of one ask.
    pub request_duration_seconds: Histogram,
    /// Traces that got system or network spans.
    pub completed_traces: Counter,
    /// By [`Skip`].
    pub skipped_traces: Family<Counter>,
    /// Asks under way.
    pub in_flight: Gauge,
    /// Traces waiting: 0 for their first ask, 1 for a later one.
    pub waiting_traces: Family<Gauge>,
    /// 1 for the mode in force, by [`Mode`].
    pub mode: Family<Gauge>,
    /// Answers that hold no more than the backend's limit of rows.
    pub truncated_answers: Counter,
    /// Rows left out of answers.
    pub unusable_rows: Counter,
    /// App spans posted.
    pub posted_spans: Counter,
    /// App spans not posted: by [`NotPosted`].
    pub not_posted_spans: Family<Counter>,
}

impl CompletionMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        Self {
            requests: declare.counters(
                "tracestitch_completion_requests_total",
                &[],
                "outcome",
                &AskOutcome::ALL.map(AskOutcome::label),
                "Asks by how they ended.",
            ),
            request_duration_seconds: declare.histogram(
                "tracestitch_completion_request_duration_seconds",
                &[],
                "Time of one ask.",
            ),
            completed_traces: declare.counter(
                "tracestitch_completion_completed_traces_total",
                &[],
                "Traces for which DeepFlow had system or network spans.",
            ),
            skipped_traces: declare.counters(
                "tracestitch_completion_skipped_traces_total",
                &[],
                "reason",
                &Skip::ALL.map(Skip::label),
                "Traces that went on as they came, by why.",
            ),
            in_flight: declare.gauge(
                "tracestitch_completion_in_flight_requests",
                &[],
                "Asks under way.",
            ),
            waiting_traces: declare.gauges(
                "tracestitch_completion_waiting_traces",
                "ask",
                &["first", "later"],
                "Traces that wait for a slot for their first ask, or for the time of a later one.",
            ),
            mode: declare.gauges(
                "tracestitch_completion_mode",
                "mode",
                &Mode::LABELS,
                "1 for the mode in force.",
            ),
            unusable_rows: declare.counter(
                "tracestitch_completion_unusable_rows_total",
                &[],
                "Rows of answers that were left out: they have no id to make a span id from.",
            ),
            truncated_answers: declare.counter(
                "tracestitch_completion_truncated_answers_total",
                &[],
                "Answers with as many rows as DeepFlow returns at most: there are more.",
            ),
            posted_spans: declare.counter(
                "tracestitch_completion_posted_spans_total",
                &[],
                "Received spans posted to DeepFlow.",
            ),
            not_posted_spans: declare.counters(
                "tracestitch_completion_not_posted_spans_total",
                &[],
                "reason",
                &NotPosted::LABELS,
                "Received spans not posted; they are forwarded and woven all the same.",
            ),
        }
    }
}

/// How completion stands towards DeepFlow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Asking.
    Normal,
    /// The circuit breaker is open: traces go on at once.
    BreakerOpen,
    /// A few asks are let through to see whether DeepFlow is back.
    HalfOpen,
    /// None of the last asks found anything: one probe a second goes on.
    NothingFound,
    /// Switched off.
    Disabled,
}

impl Mode {
    /// Every mode's label.
    pub const LABELS: [&str; 5] =
        ["normal", "breaker_open", "half_open", "nothing_found", "disabled"];
}

/// Why an app span was not posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPosted {
    /// Starts more than `max_window` from the trace's median start.
    Window,
    /// Lies more than five minutes in the future.
    Future,
    /// Left out of a reduced list; the answer is the same.
    Reduced,
}

impl NotPosted {
    const LABELS: [&str; 3] = ["outside_window", "in_future", "reduced"];
}
