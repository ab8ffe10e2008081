//! EVERY metric: name, kind, labels, help. Handles are made once and exist at 0 from the first scrape.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::{
    ledger::{DropReason, Ledger},
    memory::{Budget, Stage},
    trace::{Refusal, Release, Skip},
};

/// One metric, as the reference lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `tracestitch_…`
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Names of the labels, and their values where these are a closed set.
    pub labels: Vec<(&'static str, Vec<String>)>,
    /// One sentence.
    pub help: &'static str,
}

/// Handles of all metrics, by room.
pub struct Metrics {
    /// Where spans come in.
    pub receiver: ReceiverMetrics,
    /// Where traces wait.
    pub buffer: BufferMetrics,
    /// Where what waits outlives the process.
    pub journal: JournalMetrics,
    /// Where DeepFlow is asked.
    pub completion: CompletionMetrics,
    /// Where answers become spans.
    pub weaving: WeavingMetrics,
    exporters: Vec<Arc<ExporterMetrics>>,
    ledger: Vec<LedgerMetrics>,
    memory: MemoryMetrics,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    entries: Vec<Entry>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

/// One series for each value of a closed set.
#[derive(Debug)]
pub struct Family<H>(Vec<H>);

impl<H> Family<H> {
    /// The series of the value with this number.
    pub fn of(&self, number: usize) -> Option<&H> {
        self.0.get(number)
    }
}

impl Family<Counter> {
    /// Counts for the value with this number.
    pub fn add(&self, number: usize, count: u64) {
        if let Some(counter) = self.of(number) {
            counter.increment(count);
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
}

impl RequestOutcome {
    const LABELS: [&str; 5] = ["accepted", "partial", "refused", "malformed", "too_large"];
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
}

/// See [`Metrics::receiver`].
#[derive(Debug)]
pub struct ReceiverMetrics {
    transports: [TransportMetrics; 2],
}

impl ReceiverMetrics {
    /// The series of one transport.
    pub fn of(&self, transport: Transport) -> &TransportMetrics {
        let [grpc, http] = &self.transports;
        match transport {
            Transport::Grpc => grpc,
            Transport::Http => http,
        }
    }
}

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

/// See [`Metrics::journal`].
#[derive(Debug)]
pub struct JournalMetrics {
    /// Bytes of all segments.
    pub bytes: Gauge,
    /// Bytes they may have.
    pub max_bytes: Gauge,
    /// Files.
    pub segments: Gauge,
    /// Bytes written.
    pub appended_bytes: Counter,
    /// Records written: 0 spans, 1 plans, 2 done, 3 moved.
    pub records: Family<Counter>,
    /// Time of one flush.
    pub sync_duration_seconds: Histogram,
    /// Records and parts that can't be read.
    pub damaged_records: Counter,
    /// Parts copied out of old segments.
    pub moved_parts: Counter,
    /// Appends not kept, by [`WriteFailure`].
    pub write_failures: Family<Counter>,
}

/// Why the journal did not keep an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFailure {
    /// No room, by `max_bytes` or on the disk.
    Full,
    /// A write or a flush failed, now or before.
    Poisoned,
}

impl WriteFailure {
    const LABELS: [&str; 2] = ["full", "poisoned"];
}

/// See [`Metrics::completion`].
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
    /// App spans posted.
    pub posted_spans: Counter,
    /// App spans not posted: by [`NotPosted`].
    pub not_posted_spans: Family<Counter>,
}

/// How an ask ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskOutcome {
    /// With system or network spans.
    Found,
    /// With nothing yet.
    NotFound,
    /// With a fault of the server, or none at all.
    Retry,
    /// With a refusal for good.
    Rejected,
}

impl AskOutcome {
    const LABELS: [&str; 4] = ["found", "not_found", "retry", "rejected"];
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

/// See [`Metrics::weaving`].
#[derive(Debug)]
pub struct WeavingMetrics {
    /// 0 system, 1 network.
    pub added_spans: Family<Counter>,
    /// App spans with a new parent.
    pub reparented_spans: Counter,
    /// Found spans left out because `weaving.network_spans` is `off`.
    pub omitted_spans: Counter,
    /// Parents that went out and were found wrong later.
    pub stale_parents: Counter,
    /// Calls that were left for the next part of their trace.
    pub deferred_calls: Counter,
    /// Spans over the limits on what is known of a trace's earlier parts: 0 received ones not remembered, 1 found ones
    /// left out.
    pub beyond_limit_spans: Family<Counter>,
    /// Received spans whose trace had gone on already: 0 enriched, 1 forwarded.
    pub late_spans: Family<Counter>,
}

/// Series of one exporter.
#[derive(Debug)]
pub struct ExporterMetrics {
    /// Received spans delivered.
    pub sent_spans: Counter,
    /// Added spans delivered.
    pub sent_added_spans: Counter,
    /// Received spans given up, by [`DropReason`].
    pub send_failed_spans: Family<Counter>,
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

#[derive(Debug)]
struct LedgerMetrics {
    accepted: Counter,
    held: Gauge,
    delivered: Counter,
    dropped: Family<Counter>,
    unaccounted: Gauge,
}

#[derive(Debug)]
struct MemoryMetrics {
    limit: Gauge,
    stages: Family<Gauge>,
}

const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 45.0, 120.0];
/// How late spans come: as far as traces are remembered.
const LATENESS: [f64; 8] = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const BYTES: [f64; 7] =
    [1024.0, 16384.0, 131_072.0, 524_288.0, 1_048_576.0, 2_097_152.0, 4_194_304.0];

impl Metrics {
    /// All metrics, for these exporters.
    pub fn new(exporters: &[String]) -> Self {
        // Buckets are always set: without them histograms would be summaries, which can't be aggregated. The builder
        // refuses only empty lists.
        let builder = PrometheusBuilder::new();
        let builder = builder
            .set_buckets(&SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)
            })
            .and_then(|builder| {
                let late = Matcher::Full("tracestitch_late_span_age_seconds".to_owned());
                builder.set_buckets_for_metric(late, &LATENESS)
            })
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let mut declare = Declare { recorder: &recorder, entries: Vec::new() };
        declare.build_info();
        let receiver = ReceiverMetrics {
            transports: ["grpc", "http"].map(|transport| declare.transport(transport)),
        };
        let buffer = declare.buffer();
        let journal = declare.journal();
        let completion = declare.completion();
        let weaving = declare.weaving();
        let memory = declare.memory();
        let ledger = exporters.iter().map(|name| declare.ledger(name)).collect();
        let exporters = exporters.iter().map(|name| Arc::new(declare.exporter(name))).collect();
        let entries = declare.entries;
        let handle = recorder.handle();
        let process = metrics_process::Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        Self {
            receiver,
            buffer,
            journal,
            completion,
            weaving,
            exporters,
            ledger,
            memory,
            recorder,
            handle,
            process,
            entries,
        }
    }

    /// The series of the exporter with this number.
    pub fn exporter(&self, number: usize) -> Option<Arc<ExporterMetrics>> {
        self.exporters.get(number).cloned()
    }

    /// The text Prometheus scrapes, with ledger, memory and process as they stand.
    pub fn render(&self, ledger: &Ledger, budget: &Budget) -> String {
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        for (series, books) in self.ledger.iter().zip(ledger.snapshot()) {
            series.accepted.absolute(u64::try_from(books.accepted).unwrap_or(0));
            series.delivered.absolute(u64::try_from(books.delivered).unwrap_or(0));
            series.held.set(number(books.held));
            series.unaccounted.set(number(books.unaccounted()));
            for reason in DropReason::ALL {
                if let Some(counter) = series.dropped.of(reason as usize) {
                    counter.absolute(u64::try_from(books.dropped(reason)).unwrap_or(0));
                }
            }
        }
        self.memory.limit.set(bytes(budget.limit_bytes()));
        for stage in Stage::ALL {
            if let Some(gauge) = self.memory.stages.of(stage as usize) {
                gauge.set(bytes(budget.stage_bytes(stage)));
            }
        }
        self.handle.render()
    }

    /// Empties the histograms' sample stores; to be called every few seconds, or they grow between scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// What is declared, for the reference.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// How often [`Metrics::upkeep`] is due.
pub const UPKEEP: Duration = Duration::from_secs(5);

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn number(value: i64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn bytes(value: u64) -> f64 {
    value as f64
}

/// Registers, describes and remembers.
struct Declare<'a> {
    recorder: &'a PrometheusRecorder,
    entries: Vec<Entry>,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Declare<'_> {
    fn counter(&mut self, name: &'static str, labels: Labels<'_>, help: &'static str) -> Counter {
        self.recorder.describe_counter(name.into(), None, help.into());
        self.remember(name, "counter", labels, help);
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    fn gauge(&mut self, name: &'static str, labels: Labels<'_>, help: &'static str) -> Gauge {
        self.recorder.describe_gauge(name.into(), None, help.into());
        self.remember(name, "gauge", labels, help);
        let gauge = self.recorder.register_gauge(&key(name, labels), &METADATA);
        gauge.set(0.0);
        gauge
    }

    fn histogram(
        &mut self,
        name: &'static str,
        labels: Labels<'_>,
        help: &'static str,
    ) -> Histogram {
        self.recorder.describe_histogram(name.into(), None::<Unit>, help.into());
        self.remember(name, "histogram", labels, help);
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    fn counters(
        &mut self,
        name: &'static str,
        labels: Labels<'_>,
        label: &'static str,
        values: &[&str],
        help: &'static str,
    ) -> Family<Counter> {
        let with = |value| [labels, &[(label, value)]].concat();
        Family(values.iter().map(|value| self.counter(name, &with(value), help)).collect())
    }

    fn gauges(
        &mut self,
        name: &'static str,
        label: &'static str,
        values: &[&str],
        help: &'static str,
    ) -> Family<Gauge> {
        Family(values.iter().map(|value| self.gauge(name, &[(label, value)], help)).collect())
    }

    fn remember(
        &mut self,
        name: &'static str,
        kind: &'static str,
        labels: Labels<'_>,
        help: &'static str,
    ) {
        let entry = if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry
        } else {
            let labels = labels.iter().map(|(label, _)| (*label, Vec::new())).collect();
            self.entries.push(Entry { name, kind, labels, help });
            let Some(entry) = self.entries.last_mut() else { return };
            entry
        };
        for ((_, values), (_, value)) in entry.labels.iter_mut().zip(labels) {
            if !values.iter().any(|known| known == value) {
                values.push((*value).to_owned());
            }
        }
    }

    fn build_info(&mut self) {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        self.gauge(
            "tracestitch_build_info",
            &version,
            "Always 1; the label is the version that runs.",
        )
        .set(1.0);
    }

    fn transport(&mut self, transport: &'static str) -> TransportMetrics {
        let labels: Labels<'_> = &[("receiver", "otlp"), ("transport", transport)];
        TransportMetrics {
            accepted_spans: self.counter(
                "tracestitch_receiver_accepted_spans_total",
                labels,
                "Spans taken from senders.",
            ),
            refused_spans: self.counters(
                "tracestitch_receiver_refused_spans_total",
                labels,
                "reason",
                &Refusal::ALL.map(Refusal::label),
                "Spans of requests that were read and then refused for the moment; their senders come again.",
            ),
            rejected_spans: self.counters(
                "tracestitch_receiver_rejected_spans_total",
                labels,
                "reason",
                &["trace_id", "span_id"],
                "Spans refused for good by partial success: their trace or span id is zero or of a wrong length.",
            ),
            requests: self.counters(
                "tracestitch_receiver_requests_total",
                labels,
                "outcome",
                &RequestOutcome::LABELS,
                "Export requests by how they ended.",
            ),
        }
    }

    fn buffer(&mut self) -> BufferMetrics {
        BufferMetrics {
            traces: self.gauge("tracestitch_buffer_traces", &[], "Traces that are still open."),
            spans: self.gauge("tracestitch_buffer_spans", &[], "Spans of open traces."),
            released_traces: self.counters(
                "tracestitch_buffer_released_traces_total",
                &[],
                "reason",
                &Release::ALL.map(Release::label),
                "Traces released, by why. idle is the good one.",
            ),
            trace_age_seconds: self.histogram(
                "tracestitch_buffer_trace_age_seconds",
                &[],
                "Time from a trace's first span to its release.",
            ),
            tombstones: self.gauge(
                "tracestitch_buffer_tombstones",
                &[],
                "Traces that went on and are remembered for spans that come later.",
            ),
            forgotten_traces: self.counter(
                "tracestitch_buffer_forgotten_traces_total",
                &[],
                "Traces that went on and were forgotten before their time, to make room for others.",
            ),
            waiting_parts: self.gauge(
                "tracestitch_buffer_waiting_parts",
                &[],
                "Parts of traces that wait until an earlier part of theirs has gone on.",
            ),
            late_span_age_seconds: self.histogram(
                "tracestitch_late_span_age_seconds",
                &[],
                "Time from when a trace went on to when spans that came later were released.",
            ),
            parked_traces: self.gauge(
                "tracestitch_buffer_parked_traces",
                &[],
                "Woven traces that wait in the journal until their destinations can take them.",
            ),
            spilled_bytes: self.counter(
                "tracestitch_buffer_spilled_bytes_total",
                &[],
                "Memory that came free because waiting spans were left to the journal alone.",
            ),
        }
    }

    fn journal(&mut self) -> JournalMetrics {
        JournalMetrics {
            bytes: self.gauge("tracestitch_journal_bytes", &[], "Bytes of the journal's files."),
            max_bytes: self.gauge(
                "tracestitch_journal_max_bytes",
                &[],
                "Bytes the journal's files may have; then senders are refused.",
            ),
            segments: self.gauge(
                "tracestitch_journal_segments",
                &[],
                "Files of the journal; the oldest one is deleted when nothing in it is needed.",
            ),
            appended_bytes: self.counter(
                "tracestitch_journal_appended_bytes_total",
                &[],
                "Bytes written to the journal.",
            ),
            records: self.counters(
                "tracestitch_journal_records_total",
                &[],
                "kind",
                &["spans", "plans", "done", "moved"],
                "Records written to the journal.",
            ),
            sync_duration_seconds: self.histogram(
                "tracestitch_journal_sync_duration_seconds",
                &[],
                "Time of one flush of a journal's file to the disk.",
            ),
            damaged_records: self.counter(
                "tracestitch_journal_damaged_records_total",
                &[],
                "Records and parts of the journal that can't be read; the log names file and offset.",
            ),
            moved_parts: self.counter(
                "tracestitch_journal_moved_parts_total",
                &[],
                "Parts copied out of an old file of the journal, so that it could be deleted.",
            ),
            write_failures: self.counters(
                "tracestitch_journal_write_failures_total",
                &[],
                "reason",
                &WriteFailure::LABELS,
                "Appends to the journal that were not kept. full passes; poisoned stays until a restart.",
            ),
        }
    }

    fn completion(&mut self) -> CompletionMetrics {
        CompletionMetrics {
            requests: self.counters(
                "tracestitch_completion_requests_total",
                &[],
                "outcome",
                &AskOutcome::LABELS,
                "Asks by how they ended.",
            ),
            request_duration_seconds: self.histogram(
                "tracestitch_completion_request_duration_seconds",
                &[],
                "Time of one ask.",
            ),
            completed_traces: self.counter(
                "tracestitch_completion_completed_traces_total",
                &[],
                "Traces for which DeepFlow had system or network spans.",
            ),
            skipped_traces: self.counters(
                "tracestitch_completion_skipped_traces_total",
                &[],
                "reason",
                &Skip::ALL.map(Skip::label),
                "Traces that went on as they came, by why.",
            ),
            in_flight: self.gauge(
                "tracestitch_completion_in_flight_requests",
                &[],
                "Asks under way.",
            ),
            waiting_traces: self.gauges(
                "tracestitch_completion_waiting_traces",
                "ask",
                &["first", "later"],
                "Traces that wait for a slot for their first ask, or for the time of a later one.",
            ),
            mode: self.gauges(
                "tracestitch_completion_mode",
                "mode",
                &Mode::LABELS,
                "1 for the mode in force.",
            ),
            truncated_answers: self.counter(
                "tracestitch_completion_truncated_answers_total",
                &[],
                "Answers with as many rows as DeepFlow returns at most: there are more.",
            ),
            posted_spans: self.counter(
                "tracestitch_completion_posted_spans_total",
                &[],
                "Received spans posted to DeepFlow.",
            ),
            not_posted_spans: self.counters(
                "tracestitch_completion_not_posted_spans_total",
                &[],
                "reason",
                &NotPosted::LABELS,
                "Received spans not posted; they are forwarded and woven all the same.",
            ),
        }
    }

    fn weaving(&mut self) -> WeavingMetrics {
        WeavingMetrics {
            added_spans: self.counters(
                "tracestitch_weaving_added_spans_total",
                &[],
                "kind",
                &["system", "network"],
                "Spans added to traces.",
            ),
            reparented_spans: self.counter(
                "tracestitch_weaving_reparented_spans_total",
                &[],
                "Received spans that hang below an added span now.",
            ),
            omitted_spans: self.counter(
                "tracestitch_weaving_omitted_spans_total",
                &[],
                "Network spans left out because weaving.network_spans is off.",
            ),
            stale_parents: self.counter(
                "tracestitch_weaving_stale_parents_total",
                &[],
                "Parents that went out with a part of a trace and were found wrong with a later one. They stay.",
            ),
            deferred_calls: self.counter(
                "tracestitch_weaving_deferred_calls_total",
                &[],
                "Calls found for a part of a trace that wait for the next one, for no span of theirs was there yet.",
            ),
            beyond_limit_spans: self.counters(
                "tracestitch_weaving_beyond_limit_spans_total",
                &[],
                "kind",
                &["received", "found"],
                "Spans of traces in parts with more than 10000 received or added ones: received spans that are not remembered for later parts, found spans that are left out.",
            ),
            late_spans: self.counters(
                "tracestitch_late_spans_total",
                &[],
                "action",
                &["enriched", "forwarded"],
                "Received spans whose trace had gone on already: enriched with the context of what went before, or forwarded as they came.",
            ),
        }
    }

    fn memory(&mut self) -> MemoryMetrics {
        MemoryMetrics {
            limit: self.gauge(
                "tracestitch_memory_limit_bytes",
                &[],
                "Bytes of spans that may be held before senders are refused.",
            ),
            stages: self.gauges(
                "tracestitch_memory_bytes",
                "stage",
                &Stage::ALL.map(Stage::label),
                "Bytes of spans held, by stage.",
            ),
        }
    }

    fn ledger(&mut self, destination: &str) -> LedgerMetrics {
        let labels: Labels<'_> = &[("destination", destination)];
        LedgerMetrics {
            accepted: self.counter(
                "tracestitch_ledger_accepted_spans_total",
                labels,
                "Ledger: spans owed to a destination.",
            ),
            held: self.gauge(
                "tracestitch_ledger_held_spans",
                labels,
                "Ledger: spans held for a destination.",
            ),
            delivered: self.counter(
                "tracestitch_ledger_delivered_spans_total",
                labels,
                "Ledger: spans a destination has.",
            ),
            dropped: self.counters(
                "tracestitch_ledger_dropped_spans_total",
                labels,
                "reason",
                &DropReason::ALL.map(DropReason::label),
                "Ledger: spans given up for a destination, by why.",
            ),
            unaccounted: self.gauge(
                "tracestitch_ledger_unaccounted_spans",
                labels,
                "Ledger: accepted - delivered - dropped - held. Must be 0.",
            ),
        }
    }

    fn exporter(&mut self, exporter: &str) -> ExporterMetrics {
        let labels: Labels<'_> = &[("exporter", exporter)];
        ExporterMetrics {
            sent_spans: self.counter(
                "tracestitch_exporter_sent_spans_total",
                labels,
                "Received spans delivered.",
            ),
            sent_added_spans: self.counter(
                "tracestitch_exporter_sent_added_spans_total",
                labels,
                "Added system and network spans delivered.",
            ),
            send_failed_spans: self.counters(
                "tracestitch_exporter_send_failed_spans_total",
                labels,
                "reason",
                &DropReason::ALL.map(DropReason::label),
                "Received spans given up, by why.",
            ),
            dead_lettered_spans: self.counter(
                "tracestitch_exporter_dead_lettered_spans_total",
                labels,
                "Received spans put into the dead-letter file; tracestitch replay sends them again.",
            ),
            requests: self.counters(
                "tracestitch_exporter_requests_total",
                labels,
                "outcome",
                &SendOutcome::LABELS,
                "Export requests by how they ended.",
            ),
            split_requests: self.counter(
                "tracestitch_exporter_split_requests_total",
                labels,
                "Requests sent in halves because the destination takes no larger ones.",
            ),
            trimmed_spans: self.counter(
                "tracestitch_exporter_trimmed_spans_total",
                labels,
                "Added network spans left out of traces that are larger than the exporter's profile allows.",
            ),
            cut_attributes: self.counter(
                "tracestitch_exporter_cut_attributes_total",
                labels,
                "Attributes of added spans cut to the length that the exporter's profile allows.",
            ),
            request_duration_seconds: self.histogram(
                "tracestitch_exporter_request_duration_seconds",
                labels,
                "Time of one export request.",
            ),
            request_bytes: self.histogram(
                "tracestitch_exporter_request_size_bytes",
                labels,
                "Size of one export request before compression.",
            ),
            queue_bytes: self.gauge(
                "tracestitch_exporter_queue_size_bytes",
                labels,
                "Bytes of traces waiting to be sent or being sent.",
            ),
            queue_capacity_bytes: self.gauge(
                "tracestitch_exporter_queue_capacity_bytes",
                labels,
                "Bytes the queue may hold.",
            ),
            in_flight_requests: self.gauge(
                "tracestitch_exporter_in_flight_requests",
                labels,
                "Export requests under way.",
            ),
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("tracestitch", Level::INFO, None);

fn key(name: &'static str, labels: Labels<'_>) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}
