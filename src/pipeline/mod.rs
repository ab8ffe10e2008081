//! The rooms put together: receiver → buffer → completion → weaving → exporter.

mod outgoing;
mod threads;
mod weavers;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use self::{
    outgoing::{Outgoing, send_parked},
    threads::Threads,
    weavers::start_weavers,
};
use crate::{
    admin,
    buffer::{self, Keeper},
    clock,
    completion::{self, Ending, deepflow::ClientError},
    config::{Interval, MemoryShare, Problem, Problems},
    exporter::{self, Exporters},
    ledger::Ledger,
    memory::{Budget, machine, rate::keep_rate, resident},
    receiver::{self, Receivers},
    telemetry::{Metrics, Watched, logs},
    tls::{Reloads, keep_reloading},
    trace::{Durable, Intake, Lives},
    watchdog::Watchdog,
    weaving,
};

pub use crate::buffer::Tuning;

/// The whole configuration: the sum of the rooms'.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where spans come in.
    pub receivers: receiver::Config,
    /// How much memory spans may take.
    pub memory: MemoryConfig,
    /// When a trace is whole.
    pub buffer: buffer::Config,
    /// Who is asked what the network saw.
    pub completion: completion::Config,
    /// How found spans become part of a trace.
    pub weaving: weaving::Config,
    /// Where traces go, by `type` or `type/name`. `on_outage` says what becomes of traces that a destination can't
    /// take.
    pub exporters: exporter::Config,
    /// Where traces go that a destination can't take or refuses for good: OTLP/JSON lines, one series of files for
    /// each destination. `tracestitch replay FILE` sends them again.
    pub dead_letter: exporter::DeadLetterConfig,
    /// Health, metrics, the ledger and the last traces over HTTP.
    pub admin: admin::Config,
    /// Log lines on standard error.
    pub logs: logs::Config,
    /// What happens at SIGTERM.
    pub shutdown: ShutdownConfig,
}

/// How much memory spans may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// A share of the cgroup's or machine's memory, or bytes, for everything that holds spans. Beyond it senders are
    /// asked to come again later.
    pub limit: MemoryShare,
}

/// What happens at SIGTERM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownConfig {
    /// keep: asks and requests under way are finished, all else stays in the journal for the next start; it takes 5 s
    /// at most. drain: nothing new is taken, traces that have waited 5 s are asked for once, all are sent; for disks
    /// that go with the process. Without a journal keep is the same as drain.
    pub mode: ShutdownMode,
    /// Draining ends then, whatever is left. Stay below the orchestrator's grace (Kubernetes: 30 s).
    pub drain_timeout: Interval,
}

/// See [`ShutdownConfig::mode`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownMode {
    /// Leave it to the journal.
    #[default]
    Keep,
    /// Send everything.
    Drain,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { limit: MemoryShare::Percent(60) }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { mode: ShutdownMode::Keep, drain_timeout: Interval::from_secs(25) }
    }
}

/// Below this the program can't hold a single large request.
const MEMORY_BYTES_MIN: u64 = 64 * 1024 * 1024;

impl Config {
    /// Notes all that can't be used.
    pub fn check(&self, problems: &mut Problems) {
        let (kept, urls) = (&self.receivers.otlp.include_metadata, self.exporters.urls());
        problems.within("receivers", |problems| self.receivers.check(problems));
        problems.within("buffer", |problems| self.buffer.check(problems));
        problems.within("completion", |problems| self.completion.check(kept, problems));
        problems.within("exporters", |problems| {
            self.exporters.check(kept, &self.dead_letter, problems);
            for (path, _) in urls.iter().filter(|(_, url)| self.receivers.is_reached_by(url)) {
                let hint =
                    Some("name the backend's address, or let the receiver listen at another port");
                problems.push(
                    path,
                    "tracestitch would send to itself: a receiver listens there",
                    hint,
                );
            }
        });
        if let Some(name) = self.receivers.otlp.forward_other_signals.name()
            && !self.exporters.relays().contains(&name)
        {
            let relays = self.exporters.relays().join(", ");
            let hint = format!("exporters that do: {relays}");
            let hint = if relays.is_empty() { "no exporter does, say none" } else { &hint };
            let problem = format!("there is no exporter {name} that takes metrics and logs");
            problems.push("receivers.otlp.forward_other_signals", problem, Some(hint));
        }
        problems.within("dead_letter", |problems| self.dead_letter.check(problems));
        problems.within("admin", |problems| self.admin.check(problems));
        problems.within("logs", |problems| self.logs.check(problems));
        if let MemoryShare::Bytes(bytes) = self.memory.limit
            && bytes.get() < MEMORY_BYTES_MIN
        {
            problems.push("memory.limit", "must be at least 64MiB", None);
        }
        if self.shutdown.drain_timeout.is_zero() {
            problems.push(
                "shutdown.drain_timeout",
                "must be longer than 0s",
                Some("25s is the default"),
            );
        }
    }

    /// What can be used, but leaves a door open.
    pub fn warnings(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.within("receivers", |problems| self.receivers.warn(problems));
        problems.within("completion", |problems| self.completion.warn(problems));
        problems.within("exporters", |problems| self.exporters.warn(problems));
        problems.within("admin", |problems| self.admin.warn(problems));
        problems.into_vec()
    }

    fn memory_limit_bytes(&self) -> u64 {
        self.memory.limit.of(machine::memory_bytes())
    }
}

/// A pipeline that can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See the source.
    #[error(transparent)]
    Receiver(#[from] receiver::StartError),
    /// See the source.
    #[error(transparent)]
    Buffer(#[from] buffer::StartError),
    /// See the source.
    #[error(transparent)]
    Completion(#[from] ClientError),
    /// See the source.
    #[error(transparent)]
    Exporter(#[from] exporter::StartError),
    /// See the source.
    #[error(transparent)]
    Admin(#[from] admin::StartError),
    /// The operating system refuses.
    #[error("cannot start the runtime that sends to the destinations")]
    Threads(#[source] io::Error),
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    receivers: Receivers,
    buffer: Arc<buffer::Buffer>,
    completion: JoinHandle<()>,
    weavers: JoinSet<()>,
    handing: JoinHandle<()>,
    reloading: Option<JoinHandle<()>>,
    rating: JoinHandle<()>,
    parked: Option<JoinHandle<()>>,
    parked_end: watch::Sender<bool>,
    exporters: Arc<Exporters>,
    /// Where they run: it ends after them.
    _threads: Threads,
    admin: admin::Admin,
    ending: watch::Sender<Ending>,
    shutdown: ShutdownConfig,
    /// What operators see of it.
    pub watched: Watched,
}

/// What is not settled after so long is left to the journal, which then has a moment to be written.
const KEEP_TIMEOUT: Duration = Duration::from_millis(4200);

impl Pipeline {
    /// Starts every room, back to front, so that nothing comes in before it can go out.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_on(config, Tuning::default()).await
    }

    /// The same with other files, or a journal that goes by more quickly: for tests.
    pub async fn start_on(config: &Config, tuning: Tuning) -> Result<Self, StartError> {
        let names = config.exporters.names();
        let metrics = Arc::new(Metrics::new(&names));
        let budget = Budget::new(spans_share(config.memory_limit_bytes()));
        let lives = Lives::new(config.admin.recent_traces, &names, &budget);
        let ledger = Ledger::new(names);
        let watchdog = Watchdog::new();
        let watched = Watched {
            metrics: Arc::clone(&metrics),
            ledger: Arc::clone(&ledger),
            budget: Arc::clone(&budget),
            watchdog: Arc::clone(&watchdog),
            lives,
            durable: Arc::default(),
        };
        let reloads = Reloads::default();
        let admin = admin::Admin::start(&config.admin, watched.clone(), &reloads).await?;
        let threads = Threads::start().map_err(StartError::Threads)?;
        let exporters = threads.within(|| {
            let (exporters, letters) = (&config.exporters, &config.dead_letter);
            Exporters::start(exporters, letters, &budget, &metrics, &watchdog, &reloads)
        })?;
        let exporters = Arc::new(exporters);
        let capacity_bytes = buffer_share(config, &budget);
        let (buffer, quiet) =
            buffer::Buffer::start(&config.buffer, tuning, capacity_bytes, &watched)?;
        if let Some(keeper) = buffer.keeper() {
            // Set once, here.
            let _first = watched.durable.set(Arc::clone(keeper) as Arc<dyn Durable>);
        }
        let (ending, ended) = watch::channel(Ending::No);
        let (completed, completion) = completion::start(
            &config.completion,
            &budget,
            Arc::clone(&metrics),
            &watchdog,
            (quiet, ended),
            &reloads,
        )?;
        let (outgoing, handing) = threads
            .within(|| Outgoing::start(Arc::clone(&buffer), Arc::clone(&exporters), &watched));
        let weavers = start_weavers(completed, &config.weaving, &buffer, &outgoing, &watched);
        let (parked_end, parked) = start_parked(config, &buffer, &exporters, &watched);
        buffer.recover()?;
        let intake: Arc<dyn Intake> = Arc::clone(&buffer) as Arc<dyn Intake>;
        let relay = config.receivers.otlp.forward_other_signals.name();
        let ways = (intake, relay.and_then(|name| exporters.relay(name)));
        let receivers =
            Receivers::start(&config.receivers, ways, budget, &metrics, &watchdog, &reloads)
                .await?;
        let reloading = start_reloading(reloads, &watched);
        let rating = start_rating(&watched);
        admin.set_ready(true);
        Ok(Self {
            receivers,
            buffer,
            completion,
            weavers,
            handing,
            reloading,
            rating,
            parked,
            parked_end,
            exporters,
            _threads: threads,
            admin,
            ending,
            shutdown: config.shutdown.clone(),
            watched,
        })
    }

    /// Where OTLP/gRPC is taken.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.receivers.grpc
    }

    /// Where OTLP/HTTP is taken.
    pub fn http(&self) -> Option<SocketAddr> {
        self.receivers.http
    }

    /// Where the admin pages are.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Where the process is this pipeline and nothing else: keeps it within `memory.limit`, also what no stage accounts
    /// for. The task goes on until it is aborted.
    pub fn guard_resident_memory(&self, config: &Config) -> JoinHandle<()> {
        let (budget, limit) = (Arc::clone(&self.watched.budget), config.memory_limit_bytes());
        let work = move |beat| resident::guard(budget, limit, beat);
        tokio::spawn(self.watched.watchdog.supervise("resident memory", work))
    }

    /// Takes nothing new and ends, by `shutdown.mode`: everything is sent within the drain timeout, or left to the
    /// journal within 5 s. What can do neither has its account (`dropped{reason="shutdown"}`).
    pub async fn end(mut self) -> Watched {
        let keeps = self.shutdown.mode == ShutdownMode::Keep && self.buffer.keeper().is_some();
        let within = if keeps { KEEP_TIMEOUT } else { self.shutdown.drain_timeout.get() };
        let end = clock::now() + within;
        self.admin.set_ready(false);
        self.watched.watchdog.let_end();
        self.receivers.close().await;
        if keeps {
            // From now on a trace that is let go is left to the journal.
            self.watched.ledger.end();
            self.parked_end.send_replace(true);
            self.ending.send_replace(Ending::Keep);
            self.buffer.keep().await;
        } else {
            // The other half is for sending.
            let answers_end = end.checked_sub(within / 2).unwrap_or(end);
            self.ending.send_replace(Ending::Drain(answers_end));
            self.buffer.drain(answers_end).await;
        }
        // A moment is kept for the exporters, which give up what is left.
        let weaving_end = end.checked_sub(within / 10).unwrap_or(end);
        let ledger = &self.watched.ledger;
        let sends_parked = self.buffer.keeper().filter(|_| !keeps);
        let woven = hand_on_all(&mut self.weavers, &mut self.handing, sends_parked);
        if tokio::time::timeout_at(weaving_end, woven).await.is_err() {
            tracing::warn!("not all traces could be handed on before the end");
            ledger.end();
            self.weavers.shutdown().await;
            end_task(&mut self.handing).await;
        }
        end_task(&mut self.completion).await;
        ledger.end();
        self.parked_end.send_replace(true);
        if let Some(mut parked) = self.parked.take()
            && tokio::time::timeout_at(end, &mut parked).await.is_err()
        {
            end_task(&mut parked).await;
        }
        if let Ok(exporters) = Arc::try_unwrap(self.exporters) {
            exporters.close(end.saturating_duration_since(clock::now())).await;
        } else {
            tracing::error!("the exporters are still in use");
        }
        if let Some(keeper) = self.buffer.keeper().cloned() {
            // Flushing may take a disk's time.
            let _closed = tokio::task::spawn_blocking(move || keeper.close()).await;
        }
        if let Some(mut reloading) = self.reloading.take() {
            end_task(&mut reloading).await;
        }
        end_task(&mut self.rating).await;
        self.admin.stop().await;
        // Nobody can look at them any more.
        self.watched.lives.forget();
        self.watched
    }
}

/// Ends a task that may have ended, and waits until it holds nothing any more.
async fn end_task(task: &mut JoinHandle<()>) {
    if !task.is_finished() {
        task.abort();
        // Cancelled, as it should be.
        let _cancelled = task.await;
    }
}

/// Waits until all is woven and handed to the exporters, also what waited in the journal for room.
async fn hand_on_all(
    weavers: &mut JoinSet<()>,
    handing: &mut JoinHandle<()>,
    keeper: Option<&Arc<Keeper>>,
) {
    while weavers.join_next().await.is_some() {}
    // Ended, as all who hand to it have.
    let _ended = handing.await;
    while keeper.is_some_and(|keeper| keeper.parked_traces() > 0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Of the memory limit, so much is for what is not spans: the program itself, connections, what the allocator keeps ready.
fn spans_share(limit_bytes: u64) -> u64 {
    limit_bytes - (limit_bytes / 5 * 2).min(BESIDE_SPANS_BYTES)
}

/// Measured under overload: what is resident beside the bytes that are accounted for.
const BESIDE_SPANS_BYTES: u64 = 96 * 1024 * 1024;

/// The rest is for requests being read and traces on their way out. Where a journal has the spans the buffer needs only
/// what finds them again.
fn buffer_share(config: &Config, budget: &Budget) -> u64 {
    let percent = if config.buffer.journal.enabled { 50 } else { 70 };
    budget.limit_bytes() / 100 * percent
}

fn start_reloading(reloads: Reloads, watched: &Watched) -> Option<JoinHandle<()>> {
    if reloads.is_empty() {
        return None;
    }
    let metrics = Arc::clone(&watched.metrics);
    let work = move |beat| keep_reloading(reloads, metrics, beat);
    Some(tokio::spawn(watched.watchdog.supervise("TLS files", work)))
}

fn start_rating(watched: &Watched) -> JoinHandle<()> {
    let budget = Arc::clone(&watched.budget);
    tokio::spawn(watched.watchdog.supervise("memory rate", move |beat| keep_rate(budget, beat)))
}

fn start_parked(
    config: &Config,
    buffer: &buffer::Buffer,
    exporters: &Arc<Exporters>,
    watched: &Watched,
) -> (watch::Sender<bool>, Option<JoinHandle<()>>) {
    let (end, ended) = watch::channel(false);
    let parked = buffer.keeper().map(|keeper| {
        let rate_bytes = config.buffer.journal.replay_rate.get();
        let (keeper, exporters) = (Arc::clone(keeper), Arc::clone(exporters));
        let metrics = Arc::clone(&watched.metrics);
        let work = move |beat| send_parked(keeper, exporters, rate_bytes, metrics, ended, beat);
        tokio::spawn(watched.watchdog.supervise("replay", work))
    });
    (end, parked)
}
