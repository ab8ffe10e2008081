//! Where traces wait until they are quiet.

mod open_trace;
mod quiet;
mod store;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::quiet::Wait;
use self::{
    open_trace::OpenTrace,
    quiet::{Verdict, quiet},
    store::{Closed, Store, shape},
};
use crate::{
    clock,
    config::{ByteSize, Interval, Problems},
    ledger::Ledger,
    memory::{Reservation, Stage},
    telemetry::{Metrics, Watched},
    trace::{Arrival, Arrivals, Intake, Lease, Lives, QuietTrace, Refusal, Release, TraceKey},
    watchdog::{Beat, Watchdog},
};

/// When a trace is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A trace is quiet after so long without a new span. DeepFlow shows a request 5 to 20 s after its response, so a
    /// shorter wait would ask too early. 0s forwards at once and groups nothing.
    pub idle: Interval,
    /// A trace that never gets quiet is released after so long.
    pub max_age: Interval,
    /// A trace is released when it has so many spans; what comes later is a trace of its own.
    pub max_spans_per_trace: u64,
    /// A trace is released when its spans take so much memory.
    pub max_bytes_per_trace: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle: Interval::from_secs(15),
            max_age: Interval::from_secs(120),
            max_spans_per_trace: 50_000,
            max_bytes_per_trace: ByteSize::from_mib(32),
        }
    }
}

impl Config {
    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        if self.max_age < self.idle {
            problems.push("max_age", "is shorter than idle", Some("2m is the default"));
        }
        if self.idle > Interval::from_secs(3600) {
            problems.push("idle", "is longer than an hour", None);
        }
        if self.max_spans_per_trace == 0 {
            problems.push("max_spans_per_trace", "must be at least 1", None);
        }
        if self.max_bytes_per_trace.get() < 64 * 1024 {
            problems.push("max_bytes_per_trace", "must be at least 64KiB", None);
        }
    }

    fn wait(&self) -> Wait {
        Wait {
            idle: self.idle.get(),
            max_age: self.max_age.get(),
            max_spans: self.max_spans_per_trace,
            max_bytes: self.max_bytes_per_trace.get(),
        }
    }
}

/// How often the cache looks for idle traces: they are released within 20 to 150 ms of their time.
const DRIVE_EVERY: Duration = Duration::from_millis(20);

/// Released traces that may wait to be picked up before the judge waits, too.
const RELEASED_MAX: usize = 1024;

/// The trace buffer. Dropping every handle ends its thread.
pub struct Buffer {
    /// `None` with `idle: 0s`.
    store: Option<Arc<Store>>,
    closed: mpsc::UnboundedSender<Message>,
    draining: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
}

enum Message {
    Closed(Closed),
    /// Nothing comes after this.
    End,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Buffer {
    /// An empty buffer that may hold `capacity_bytes`, and the traces it will release.
    pub fn start(
        config: &Config,
        capacity_bytes: u64,
        watched: &Watched,
    ) -> (Arc<Self>, mpsc::Receiver<QuietTrace>) {
        let wait = config.wait();
        let (messages, judged) = mpsc::unbounded_channel();
        let store = (!wait.idle.is_zero()).then(|| {
            let messages = messages.clone();
            // The judge is gone only when the process ends.
            let closed = move |closed| drop(messages.send(Message::Closed(closed)));
            Arc::new(Store::new(wait, capacity_bytes, closed))
        });
        if let Some(store) = &store {
            drive(Arc::downgrade(store), Arc::clone(&watched.metrics), &watched.watchdog);
        }
        let draining = Arc::new(AtomicBool::new(false));
        let (released, quiet_traces) = mpsc::channel(RELEASED_MAX);
        let judge = Judge {
            wait,
            store: store.as_ref().map(Arc::downgrade),
            draining: Arc::clone(&draining),
            ledger: Arc::clone(&watched.ledger),
            metrics: Arc::clone(&watched.metrics),
            lives: Arc::clone(&watched.lives),
            released,
        };
        let work = |beat| judge.run(judged, beat);
        tokio::spawn(watched.watchdog.supervise("buffer judge", work));
        let ledger = Arc::clone(&watched.ledger);
        let buffer = Self { store, closed: messages, draining, ledger };
        (Arc::new(buffer), quiet_traces)
    }

    /// Releases all traces, whatever they still wait for, and ends the stream of released traces behind them. To be
    /// called when the receivers are closed.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if let Some(store) = self.store.clone() {
            // The cache delivers in the calling thread and may take a second for a million traces.
            let closing = tokio::task::spawn_blocking(move || store.close_all());
            if let Err(error) = closing.await {
                tracing::error!(%error, "the buffer could not be emptied");
            }
        }
        let _gone = self.closed.send(Message::End);
    }

    fn keep(&self, key: TraceKey, trace: OpenTrace) {
        if let Some(store) = &self.store {
            store.append(&key, trace);
        } else {
            let closed = Closed { key, trace, brim: false };
            let _gone = self.closed.send(Message::Closed(closed));
        }
    }
}

impl Intake for Buffer {
    fn take(&self, arrival: Arrival) {
        let Arrival { fragments, mut memory, receipt } = arrival;
        if self.draining.load(Ordering::Relaxed) {
            return receipt.settle(Err(Refusal::Closing));
        }
        memory.transfer(Stage::Buffer);
        let now = clock::now();
        let spans: usize = fragments.iter().map(|fragment| fragment.spans.len()).sum();
        self.ledger.accept(u64::try_from(spans).unwrap_or(u64::MAX));
        for fragment in fragments {
            let share: Reservation = memory.split(fragment.held_bytes());
            self.keep(fragment.key.clone(), OpenTrace::new(fragment, share, now));
        }
        receipt.settle(Ok(()));
    }
}

/// A thread of its own, since a call can take 100 ms; ends with the store.
fn drive(store: std::sync::Weak<Store>, metrics: Arc<Metrics>, watchdog: &Arc<Watchdog>) {
    let work = move |beat: Beat| {
        while let Some(store) = store.upgrade() {
            beat.beat();
            store.run_pending_tasks();
            metrics.buffer.traces.set(gauge(store.traces()));
            metrics.buffer.spans.set(gauge(store.spans()));
            drop(store);
            thread::park_timeout(DRIVE_EVERY);
        }
    };
    let work = watchdog.supervise_thread("buffer driver", work);
    if let Err(error) = thread::Builder::new().name("buffer-driver".to_owned()).spawn(work) {
        tracing::error!(%error, "cannot start the buffer's thread: traces are released late");
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn gauge(value: u64) -> f64 {
    value as f64
}

/// Decides what becomes of traces whose alarm went off.
struct Judge {
    wait: Wait,
    store: Option<std::sync::Weak<Store>>,
    draining: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    lives: Arc<Lives>,
    released: mpsc::Sender<QuietTrace>,
}

impl Judge {
    async fn run(self, mut closed: mpsc::UnboundedReceiver<Message>, beat: Beat) {
        while let Some(Message::Closed(trace)) = beat.during(closed.recv()).await {
            self.judge(trace, &beat).await;
        }
        // A trace may have been put back just before draining began.
        if let Some(store) = self.store() {
            store.close_all();
        }
        while let Ok(message) = closed.try_recv() {
            if let Message::Closed(trace) = message {
                self.judge(trace, &beat).await;
            }
        }
    }

    async fn judge(&self, closed: Closed, beat: &Beat) {
        let Closed { key, trace, brim } = closed;
        let shape = shape(&trace, brim, self.draining.load(Ordering::Relaxed));
        let verdict = quiet(clock::now(), trace.first, trace.last, shape, &self.wait);
        let release = match (verdict, self.store()) {
            (Verdict::WaitUntil(_), Some(store)) => return store.append(&key, trace),
            // The buffer is gone: nothing can wait in it.
            (Verdict::WaitUntil(_), None) => Release::Shutdown,
            (Verdict::Release(release), _) => release,
        };
        // The pipeline is gone only when the process ends.
        let quiet = self.quiet_trace(key, trace, release);
        let _gone = beat.during(self.released.send(quiet)).await;
    }

    fn store(&self) -> Option<Arc<Store>> {
        self.store.as_ref().and_then(std::sync::Weak::upgrade)
    }

    fn quiet_trace(&self, key: TraceKey, trace: OpenTrace, release: Release) -> QuietTrace {
        let metrics = &self.metrics.buffer;
        metrics.released_traces.add(release as usize, 1);
        let age = trace.last.saturating_duration_since(trace.first);
        metrics.trace_age_seconds.record(age.as_secs_f64());
        let arrivals = Arrivals {
            first: trace.first,
            last: trace.last,
            fragments: u64::try_from(trace.fragments.len()).unwrap_or(u64::MAX),
            spans: trace.spans,
            release,
        };
        let life = self.lives.begin(&key, arrivals, clock::now(), clock::wall_us());
        let lease = Lease::new(Arc::clone(&self.ledger), trace.spans, trace.memory);
        let lease = lease.remembered(life);
        QuietTrace {
            key,
            fragments: trace.fragments,
            first_arrival: trace.first,
            last_arrival: trace.last,
            release,
            lease,
        }
    }
}
