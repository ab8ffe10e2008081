//! [`Stand`]: a sink, a ledger and a directory for one program after the other.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tracestitch::clock;

use super::{
    figures::{Row, mib, micros},
    hook::Hook,
    ledger::Ledger,
    load::Load,
    program::Program,
    sink::Sink,
};

/// When for so long nothing arrives, beside the wait, what is missing is lost.
const PATIENCE: Duration = Duration::from_secs(45);

/// How a program is configured.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The program.
    pub(crate) binary: Arc<Path>,
    pub(crate) idle: Duration,
    pub(crate) has_journal: bool,
    /// DeepFlow is asked for each trace.
    pub(crate) asks: bool,
}

/// What a program stands on. It goes, directory and all, when it is dropped.
#[derive(Debug)]
pub(crate) struct Stand {
    setup: Setup,
    directory: TempDir,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) sink: Sink,
    hook: Option<Hook>,
}

impl Stand {
    pub(crate) async fn new(setup: Setup) -> Self {
        let ledger = Arc::<Ledger>::default();
        let sink = Sink::start(Arc::clone(&ledger), setup.idle).await;
        let hook = if setup.asks { Some(Hook::start().await) } else { None };
        let directory = tempfile::tempdir().expect("a directory");
        Self { setup, directory, ledger, sink, hook }
    }

    /// Starts a program.
    pub(crate) async fn program(&self) -> Program {
        self.program_that_waits(self.setup.idle).await
    }

    /// Starts a program that waits otherwise.
    pub(crate) async fn program_that_waits(&self, idle: Duration) -> Program {
        let config = self.directory.path().join("config.yaml");
        fs::write(&config, self.config(idle)).expect("a file");
        Program::start(&self.setup.binary, &config, self.directory.path().join("log")).await
    }

    fn config(&self, idle: Duration) -> String {
        let endpoint = self.hook.as_ref().map_or("http://127.0.0.1:9".to_owned(), Hook::url);
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, \
             http: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
             memory: {{limit: 4GiB}}\n\
             buffer: {{idle: {idle}ms, journal: {{enabled: {journal}, directory: '{directory}/journal', \
             sync: 200ms, replay_rate: 0B}}}}\n\
             completion: {{deepflow: {{enabled: {asks}, endpoint: '{endpoint}', max_in_flight: 64, \
             max_wait: 30s, max_queued: 1000000}}}}\n\
             exporters: {{otlp/sink: {{endpoint: '{sink}'}}}}\n\
             dead_letter: {{directory: '{directory}/dead-letter'}}\n\
             admin: {{endpoint: '127.0.0.1:0'}}\n\
             logs: {{format: json}}\n",
            idle = idle.as_millis(),
            journal = self.setup.has_journal,
            directory = self.directory.path().display(),
            asks = self.setup.asks,
            sink = self.sink.url(),
        )
    }

    /// One program under one load, from its start until all has come out.
    pub(crate) async fn run(&self, scenario: impl Into<String>, load: &Load) -> Row {
        let program = self.program().await;
        let idle = program.resident();
        let before = program.cpu();
        let offered = load.send(program.doors, &self.ledger).await;
        self.sink.settle(offered.spans, self.setup.idle + PATIENCE).await;
        let cpu = program.cpu().saturating_sub(before);
        let verdict = self.sink.verdict();
        let spans = verdict.spans;
        let mut row = Row::new(scenario, &verdict);
        row.cpu_us_per_span = Some(micros(cpu, spans));
        row.spans_per_s = Some(rate(offered.spans, offered.took));
        row.rss_idle_mib = Some(mib(idle));
        row.rss_peak_mib = Some(mib(program.peak()));
        row.refused = offered.refused;
        program.end().await;
        row
    }

    /// So many spans wait in a program: it, and their bytes.
    pub(crate) async fn filled(&self, load: &Load) -> (Program, u64) {
        let program = self.program().await;
        let offered = load.send(program.doors, &self.ledger).await;
        (program, offered.wire_bytes)
    }

    /// From a moment until the last span came.
    pub(crate) async fn until_all_came(&self, spans: u64, since: clock::Instant) -> Duration {
        self.sink.settle(spans, PATIENCE).await;
        self.sink.verdict().last.map_or(Duration::ZERO, |last| last - since)
    }
}

/// Spans a second.
#[allow(clippy::cast_precision_loss, reason = "counts of spans are far below 2^52")]
pub(crate) fn rate(spans: u64, took: Duration) -> f64 {
    spans as f64 / took.as_secs_f64().max(1e-6)
}
