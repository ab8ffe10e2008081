//! The whole picture in one process: shop → pipeline → backend, with a simulated DeepFlow beside it.

use std::{
    collections::HashMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::{
    backend::Backend,
    deepflow::{Deepflow, DeepflowConfig, Fault, WallClock},
    sender::Sender,
    shop::{self, Round},
};
use crate::{
    clock,
    config::{self, ConfigError, Environment, HttpUrl},
    ledger::Books,
    pipeline::{self, Config, Pipeline},
    telemetry::Watched,
    trace::SpanId,
};

/// Agents take their time, even when shortened.
const VISIBLE_AFTER: Duration = Duration::from_millis(600);
/// Each answer takes a while.
const LATENCY: Duration = Duration::from_millis(40);
/// A round is there and back in a few seconds; this is for slow machines.
const ROUND_PATIENCE: Duration = Duration::from_mins(1);
/// Rows that nobody will ask for any more.
const ROWS_KEPT: Duration = Duration::from_mins(2);

/// A demo that can't start.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// No free port on loopback.
    #[error("cannot listen on loopback")]
    Listen(#[from] io::Error),
    /// See the source.
    #[error(transparent)]
    Pipeline(#[from] pipeline::StartError),
    /// The demo's own configuration is wrong: a fault of this program.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See the source.
    #[error(transparent)]
    Sender(#[from] tonic::transport::Error),
    /// The receiver refused the demo's spans.
    #[error("the spans were refused: {0}")]
    Refused(String),
}

/// All parts, running.
#[derive(Debug)]
pub struct Stage {
    deepflow: Deepflow,
    backend: Backend,
    pipeline: Pipeline,
    sender: Sender,
    directory: PathBuf,
}

/// One round, there and back.
#[derive(Debug)]
pub struct Outcome {
    /// As the SDKs sent it.
    pub before: ExportTraceServiceRequest,
    /// As the backend got it.
    pub after: ExportTraceServiceRequest,
    /// Edges that should be there and are not, in words.
    pub missing: Vec<String>,
    /// Edges that are there as they should be.
    pub right: usize,
}

struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} is not read here"))
    }
}

/// The demo's configuration: free ports, shortened waits and a journal in a directory of its own, all else as by default.
pub fn config(deepflow: &str, backend: &str, directory: &Path) -> Result<Config, ConfigError> {
    let directory = directory.display();
    let text = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}
memory: {{limit: 256MiB}}
buffer: {{idle: 1s, max_age: 10s, journal: {{directory: '{directory}'}}}}
completion: {{deepflow: {{endpoint: '{deepflow}', reask: [1s, 3s], deadline: 20s}}}}
exporters: {{otlp/demo: {{endpoint: '{backend}'}}}}
admin: {{endpoint: '127.0.0.1:0'}}
shutdown: {{mode: drain}}
"
    );
    config::load("the demo's configuration", &text, &NoEnvironment, Config::check)
}

impl Stage {
    /// Starts all parts on free loopback ports.
    pub async fn start() -> Result<Self, StageError> {
        let deepflow = DeepflowConfig {
            visible_after: VISIBLE_AFTER,
            clock: WallClock::new(clock::wall_us),
            fault: Fault::Latency(LATENCY),
            ..DeepflowConfig::default()
        };
        let deepflow = Deepflow::start(deepflow, (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let backend = Backend::start(0).await?;
        let directory = directory();
        let config = config(&deepflow.url(), &backend.url(), &directory)?;
        let pipeline = Pipeline::start(&config).await?;
        let receiver = pipeline.grpc().ok_or_else(|| io::Error::other("OTLP/gRPC is off"))?;
        let sender = Sender::to(receiver)?;
        Ok(Self { deepflow, backend, pipeline, sender, directory })
    }

    /// Where the metrics are.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.pipeline.admin())
    }

    /// The simulated DeepFlow's address.
    pub fn deepflow_url(&self) -> HttpUrl {
        // Made of a socket address.
        self.deepflow.url().parse().unwrap_or_else(|_| unreachable!("a socket address makes a URL"))
    }

    /// Plays a round and sends its spans; what the agents saw goes to the simulated DeepFlow.
    pub async fn play(&self, seed: u64) -> Result<Round, StageError> {
        // The round lies a second back, so that it is over when its spans are sent.
        let start_us = clock::wall_us().saturating_sub(1_000_000);
        let round = shop::round(seed, start_us.saturating_mul(1000));
        self.deepflow.add_rows(round.rows.iter().cloned());
        let kept_us = u64::try_from(ROWS_KEPT.as_micros()).unwrap_or(u64::MAX);
        self.deepflow.forget_rows_before(start_us.saturating_sub(kept_us));
        for request in &round.requests {
            let sent = self.sender.send(request).await;
            sent.map_err(|status| StageError::Refused(status.message().to_owned()))?;
        }
        Ok(round)
    }

    /// Waits until all spans of a first round have come back, and compares.
    pub async fn outcome(&self, round: &Round) -> Outcome {
        let end = clock::now() + ROUND_PATIENCE;
        while clock::now() < end && !self.is_settled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let before = ExportTraceServiceRequest {
            resource_spans: round.requests.iter().flat_map(|r| r.resource_spans.clone()).collect(),
        };
        let after = self.backend.traces();
        let parents: HashMap<SpanId, Option<SpanId>> = self
            .backend
            .spans()
            .iter()
            .filter_map(|(_, span)| {
                Some((SpanId::from_wire(&span.span_id)?, SpanId::from_wire(&span.parent_span_id)))
            })
            .collect();
        let edges = round.expected_edges();
        let is_right = |edge: &&shop::Edge| parents.get(&edge.child) == Some(&Some(edge.parent));
        let (right, missing): (Vec<_>, Vec<_>) = edges.iter().partition(is_right);
        let missing = missing.into_iter().map(|edge| edge.words.clone()).collect();
        Outcome { before, after, missing, right: right.len() }
    }

    /// Everything that came in went out.
    fn is_settled(&self) -> bool {
        let books = self.books();
        books.accepted > 0 && books.held == 0
    }

    /// The ledger.
    pub fn books(&self) -> Books {
        self.pipeline.watched.ledger.snapshot().into_iter().next().unwrap_or_default()
    }

    /// The metrics page.
    pub fn metrics(&self) -> String {
        self.pipeline.watched.render()
    }

    /// From now on spans are only counted.
    pub fn forget(&self) {
        self.backend.forget();
    }

    /// Spans the backend has, added ones included.
    pub fn delivered(&self) -> u64 {
        self.backend.span_count()
    }

    /// Ends all parts; what can still be seen is given back.
    pub async fn end(self) -> Watched {
        let watched = self.pipeline.end().await;
        self.deepflow.stop().await;
        self.backend.stop().await;
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "the demo's directory stays");
        }
        watched
    }
}

/// Below the system's directory for temporary files; of this process and time alone.
fn directory() -> PathBuf {
    let name = format!("tracestitch-demo-{}-{}", std::process::id(), clock::wall_us());
    std::env::temp_dir().join(name)
}
