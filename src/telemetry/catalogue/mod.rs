//! EVERY metric: name, kind, labels, help. Handles are made once and exist at 0 from the first scrape.
//!
//! One file for each who counts; `declare` is how.

mod buffer;
mod completion;
mod connections;
mod declare;
mod exporter;
mod journal;
mod ledger;
mod memory;
mod receiver;
mod tls;
mod watchdog;
mod weaving;

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use self::{
    buffer::BufferMetrics,
    completion::{CompletionMetrics, Mode, NotPosted},
    connections::{Accepted, Closed, ConnectionMetrics, ConnectionsMetrics, Listening},
    declare::{Entry, Family},
    exporter::{ExporterMetrics, SendOutcome},
    journal::{JournalMetrics, WriteFailure},
    receiver::{
        PassOutcome, ReceiverMetrics, RequestOutcome, SignalMetrics, Transport, TransportMetrics,
    },
    tls::{DEEPFLOW, ReloadOutcome, TlsMetrics},
    weaving::WeavingMetrics,
};
use self::{
    declare::Declare, ledger::LedgerMetrics, memory::MemoryMetrics, watchdog::WatchdogMetrics,
};
use crate::{ledger::Ledger, memory::Budget};

/// Handles of all metrics, by room.
pub struct Metrics {
    /// Where spans come in.
    pub receiver: ReceiverMetrics,
    /// What listens.
    pub connections: ConnectionsMetrics,
    /// TLS files.
    pub tls: TlsMetrics,
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
    watchdog: WatchdogMetrics,
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
        build_info(&mut declare);
        let receiver = ReceiverMetrics::declare(&mut declare);
        let connections = ConnectionsMetrics::declare(&mut declare);
        let tls = TlsMetrics::declare(&mut declare, exporters);
        let buffer = BufferMetrics::declare(&mut declare);
        let journal = JournalMetrics::declare(&mut declare);
        let completion = CompletionMetrics::declare(&mut declare);
        let weaving = WeavingMetrics::declare(&mut declare);
        let memory = MemoryMetrics::declare(&mut declare);
        let watchdog = WatchdogMetrics::declare(&mut declare);
        let names = || exporters.iter().map(String::as_str);
        let ledger = names().map(|name| LedgerMetrics::declare(&mut declare, name)).collect();
        let exporters =
            names().map(|name| Arc::new(ExporterMetrics::declare(&mut declare, name))).collect();
        let entries = declare.entries;
        let handle = recorder.handle();
        let process = metrics_process::Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        Self {
            receiver,
            connections,
            tls,
            buffer,
            journal,
            completion,
            weaving,
            exporters,
            ledger,
            memory,
            watchdog,
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

    /// The text Prometheus scrapes, with ledger, memory, stuck tasks and process as they stand.
    pub fn render(&self, ledger: &Ledger, budget: &Budget, stuck: usize) -> String {
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        for (series, books) in self.ledger.iter().zip(ledger.snapshot()) {
            series.show(&books);
        }
        self.memory.show(budget);
        self.watchdog.show(stuck);
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

fn build_info(declare: &mut Declare<'_>) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    declare
        .gauge("tracestitch_build_info", &version, "Always 1; the label is the version that runs.")
        .set(1.0);
}
