//! Where traces leave: each destination has its own queue, batches and retries, and a say in what becomes of the
//! traces that it can't take.

mod accounts;
mod addresses;
mod batch;
mod behind;
mod body;
mod config;
mod courier;
mod dead_letter;
mod debug;
mod environment;
mod error;
mod grpc_answer;
mod headers;
mod missed;
mod otlp;
mod otlp_grpc;
mod otlp_http;
mod outage;
mod profile;
mod queue;
mod queued;
mod relay;
pub mod replay;
mod share;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use self::{
    accounts::Accounts,
    behind::Behind,
    courier::Transport,
    dead_letter::DeadLetters,
    outage::Outage,
    queue::{Limits, Queue},
};
pub use self::{
    config::{Config, DebugConfig, ExporterConfig, OnOutage, Profile},
    dead_letter::DeadLetterConfig,
    environment::{FromEnvironment, from_environment, variables},
    otlp::{
        BatchConfig, BodyEncoding, Compression, KeepaliveConfig, OtlpConfig, OtlpHttpConfig,
        QueueConfig, RetryConfig,
    },
    otlp_http::ClientError,
};
use crate::{
    clock,
    ledger::Destination,
    memory::{Budget, Stage},
    telemetry::Metrics,
    tls::{Reloads, TlsError},
    trace::{EnrichedTrace, Relay},
    watchdog::Watchdog,
};

/// A destination that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of `tls` can't be used.
    #[error("cannot use TLS for exporter {exporter}")]
    Tls {
        /// The destination.
        exporter: String,
        /// Which file, and why.
        source: TlsError,
    },
    /// The operating system gives no thread.
    #[error("cannot start the thread that writes dead letters")]
    DeadLetterThread(#[source] std::io::Error),
    /// The HTTP client can't be made.
    #[error("cannot make the HTTP client of exporter {exporter}")]
    Client {
        /// The destination.
        exporter: String,
        /// Why.
        source: ClientError,
    },
    /// The endpoint can't be used.
    #[error("cannot use the endpoint of exporter {exporter}")]
    Endpoint {
        /// The destination.
        exporter: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Of a destination's answer.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// All destinations, running.
#[derive(Debug)]
pub struct Exporters {
    queues: Vec<Queue>,
    relays: Vec<(String, Arc<dyn Relay>)>,
    all: Vec<Destination>,
    dead_letters: Option<Arc<DeadLetters>>,
    relieved: Arc<AtomicBool>,
}

impl Exporters {
    /// Starts every destination; how far they are behind is to be seen in the budget. Connections are made when they are
    /// needed, and again when they break.
    pub fn start(
        config: &Config,
        dead_letter: &DeadLetterConfig,
        budget: &Budget,
        metrics: &Metrics,
        watchdog: &Arc<Watchdog>,
        reloads: &Reloads,
    ) -> Result<Self, StartError> {
        let dead_letters = DeadLetters::start(dead_letter, config.names(), watchdog)?;
        let relieved = Arc::new(AtomicBool::new(false));
        let (mut queues, mut relays) = (Vec::new(), Vec::new());
        for (number, (name, exporter)) in config.0.iter().enumerate() {
            let Some(metrics) = metrics.exporter(number) else { continue };
            let destination = Destination(number);
            let accounts = Arc::new(Accounts { name: name.clone(), destination, metrics });
            let outage = Arc::new(Outage {
                on_outage: OnOutage::of(exporter, destination),
                is_first: number == 0,
                relieved: Arc::clone(&relieved),
                dead_letters: dead_letters.clone(),
                accounts,
            });
            let transport = Transport::new(name, exporter, reloads)?;
            relays.extend(transport.relay().map(|relay| (name.clone(), relay)));
            let limits = Limits::of(exporter);
            queues.push(Queue::start(transport, limits, outage, budget.limit_bytes(), watchdog));
        }
        budget.goes_out_by(Arc::new(Behind(queues.iter().map(Queue::behind).collect())));
        let all = (0..queues.len()).map(Destination).collect();
        Ok(Self { queues, relays, all, dead_letters, relieved })
    }

    /// The destination of this name, for signals that pass through; `None` when it takes none.
    pub fn relay(&self, name: &str) -> Option<Arc<dyn Relay>> {
        let mut relays = self.relays.iter();
        relays.find(|(known, _)| known == name).map(|(_, relay)| Arc::clone(relay))
    }

    /// Hands a trace to every destination that lacks it. Waits while a destination that holds has no room and there is
    /// no journal where the trace could wait.
    pub async fn send(&self, trace: Arc<EnrichedTrace>) {
        self.send_to(trace, &self.all).await;
    }

    /// The same, for these destinations. Others that lack the trace get it when they have room, as long as it is in
    /// memory; a trace that no destination has taken when this returns is not.
    pub async fn send_to(&self, trace: Arc<EnrichedTrace>, destinations: &[Destination]) {
        trace.lease.hold(Stage::Export, trace.held_bytes());
        let mut missing = Vec::new();
        // The first comes last: the others have the trace when it has to wait.
        for (number, queue) in self.queues.iter().enumerate().rev() {
            let destination = Destination(number);
            let lacks = trace.lease.lacks(destination);
            if lacks && !(destinations.contains(&destination) && queue.push(&trace).await) {
                missing.push(queue);
            }
        }
        // Who lacks it need not wait until those who have it are through with it.
        if Arc::strong_count(&trace) > 1 {
            for queue in missing {
                queue.missed(&trace);
            }
        }
    }

    /// A trace from the journal can come: the destination's queue is less than half full, or the destination does not
    /// hold what finds no room there (it never does, or not while relieved), so that the trace is settled all the same.
    pub fn is_ready(&self, destination: Destination) -> bool {
        self.queues.get(destination.0).is_some_and(Queue::is_ready)
    }

    /// While true, destinations behind the first put into the dead-letter file what they would hold: the journal is
    /// nearly full, and senders are refused only when that did not help.
    pub fn relieve(&self, relieved: bool) {
        let was_relieved = self.relieved.swap(relieved, Relaxed);
        if relieved && !was_relieved {
            tracing::warn!("further destinations dead-letter what they would hold");
        }
        if was_relieved && !relieved {
            tracing::info!("further destinations hold again");
        }
    }

    /// Sends what is queued. What is not sent by then stays in the journal, or is given up with its account.
    pub async fn close(self, within: Duration) {
        let end = clock::now() + within;
        let closing = self.queues.into_iter().map(|queue| tokio::spawn(queue.close(within)));
        for closing in closing.collect::<Vec<_>>() {
            if let Err(error) = closing.await {
                tracing::error!(%error, "an exporter ended badly");
            }
        }
        if let Some(dead_letters) = self.dead_letters {
            // What is to be written is written in no time, but for a moment.
            dead_letters.close(end.max(clock::now() + Duration::from_secs(1))).await;
        }
    }
}
