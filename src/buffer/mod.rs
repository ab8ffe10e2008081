//! Where traces wait until they are quiet, and where their spans are safe until they are delivered.

mod config;
mod deadlines;
mod driver;
pub mod journal;
mod judge;
mod keeper;
mod open_trace;
mod open_traces;
mod order;
mod packed;
mod parked;
mod quiet;
mod record;
mod recovery;
mod revival;
#[cfg(test)]
mod simulation_tests;
mod store;
mod tombstones;
mod tuning;
mod waiting;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use self::{
    config::{Config, JournalConfig},
    journal::OpenError,
    keeper::{Keeper, PlanToKeep},
    quiet::Wait,
    revival::Revived,
    tuning::Tuning,
};
use self::{
    deadlines::Deadlines,
    driver::Driver,
    journal::{Journal, Recovery},
    judge::{Judge, Message, Phase, SharedPhase},
    open_trace::OpenTrace,
    order::Order,
    recovery::Reader,
    store::{Closed, Store},
    tombstones::Tombstones,
};
use crate::{
    clock::{self, Instant},
    ledger::Ledger,
    memory::{Budget, Reservation, Stage},
    telemetry::{Metrics, Watched},
    trace::{
        Arrival, CLOSING, Fragment, Intake, Origin, QuietTrace, Receipt, Refused, Sent, SpanId,
        TraceId, TraceKey,
    },
    watchdog::Watchdog,
};

/// Share of the memory limit for what is remembered of traces that went on.
const TOMBSTONES_PERCENT: u64 = 5;

/// Released traces that may wait to be picked up before the judge waits, too.
const RELEASED_MAX: usize = 1024;

/// How often it is looked whether all of an earlier run was read.
const READER_LOOK_EVERY: Duration = Duration::from_millis(20);

/// A buffer that can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See the source.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The machine has no thread to spare.
    #[error("cannot start a thread of the buffer")]
    Thread(#[from] io::Error),
}

/// What an earlier run left, until [`Buffer::recover`].
struct Left(Reader, Recovery);

/// The trace buffer. Dropping every handle ends its thread.
pub struct Buffer {
    shared: Arc<Shared>,
    messages: mpsc::UnboundedSender<Message>,
    phase: Arc<SharedPhase>,
    keeper: Option<Arc<Keeper>>,
    left: Mutex<Option<Left>>,
    reader: Mutex<Option<thread::JoinHandle<()>>>,
    reader_stop: Arc<AtomicBool>,
    runtime: tokio::runtime::Handle,
    watchdog: Arc<Watchdog>,
}

/// What takes fragments in, also when the journal has them.
struct Shared {
    /// `None` with `idle: 0s`.
    store: Option<Arc<Store>>,
    messages: mpsc::UnboundedSender<Message>,
    deadlines: Arc<Mutex<Deadlines>>,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("keeper", &self.keeper).finish_non_exhaustive()
    }
}

impl Buffer {
    /// A buffer that may hold `capacity_bytes`, and the traces it will release. What an earlier run left in the journal
    /// is found here, and taken up by [`Self::recover`].
    pub fn start(
        config: &Config,
        tuning: Tuning,
        capacity_bytes: u64,
        watched: &Watched,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Box<QuietTrace>>), StartError> {
        let Watched { metrics, ledger, budget, watchdog, lives, .. } = watched;
        let wait = config.wait(budget.limit_bytes());
        let (messages, judged) = mpsc::unbounded_channel();
        let store = (!wait.idle.is_zero()).then(|| {
            let messages = messages.clone();
            // The judge is gone only when the process ends.
            let closed = move |closed| drop(messages.send(Message::Closed(closed)));
            Arc::new(Store::new(wait, capacity_bytes, closed))
        });
        let (keeper, recovery) = open_journal(&config.journal, tuning, watched)?.unzip();
        let phase = Arc::new(SharedPhase::default());
        let deadlines = Arc::new(Mutex::new(Deadlines::default()));
        if let Some(store) = &store {
            let driver = Driver {
                store: Arc::downgrade(store),
                deadlines: Arc::clone(&deadlines),
                budget: Arc::clone(budget),
                metrics: Arc::clone(metrics),
            };
            driver.start(watchdog)?;
        }
        let (released, quiet_traces) = mpsc::channel(RELEASED_MAX);
        let judge = Judge {
            order: Order::default(),
            last_parts: Deadlines::default(),
            tombstones: Tombstones::new(budget, budget.limit_bytes() / 100 * TOMBSTONES_PERCENT),
            wait,
            store: store.as_ref().map(Arc::downgrade),
            phase: Arc::clone(&phase),
            deadlines: Arc::clone(&deadlines),
            keeper: keeper.clone(),
            budget: Arc::clone(budget),
            ledger: Arc::clone(ledger),
            metrics: Arc::clone(metrics),
            lives: Arc::clone(lives),
            released,
            unsent: HashMap::new(),
        };
        let work = |beat| judge.run(judged, beat);
        tokio::spawn(watchdog.supervise("buffer judge", work));
        let shared = Arc::new(Shared {
            store,
            messages: messages.clone(),
            deadlines,
            ledger: Arc::clone(ledger),
            budget: Arc::clone(budget),
            metrics: Arc::clone(metrics),
        });
        let reader_stop = Arc::new(AtomicBool::new(false));
        let left = keeper.clone().zip(recovery).map(|(keeper, recovery)| {
            let reader = Reader {
                keeper,
                ledger: Arc::clone(ledger),
                budget: Arc::clone(budget),
                metrics: Arc::clone(metrics),
                wait,
                stop: Arc::clone(&reader_stop),
                messages: messages.clone(),
                put_back: put_back(&shared, wait),
            };
            Left(reader, recovery)
        });
        let runtime = tokio::runtime::Handle::current();
        let left = Mutex::new(left);
        let watchdog = Arc::clone(watchdog);
        let reader = Mutex::new(None);
        let buffer =
            Self { shared, messages, phase, keeper, left, reader, reader_stop, runtime, watchdog };
        Ok((Arc::new(buffer), quiet_traces))
    }

    /// Takes up what an earlier run left in the journal, in a thread of its own. To be called when traces can go out.
    pub fn recover(&self) -> Result<(), StartError> {
        let Some(Left(reader, recovery)) = self.left.lock().take() else { return Ok(()) };
        if recovery.is_empty() {
            return Ok(());
        }
        let bytes = recovery.live_bytes();
        tracing::info!(bytes, "taking up what the last run left in the journal");
        let read = self.watchdog.supervise_errand("journal reader", move |beat| {
            reader.run(recovery, &beat);
        });
        let thread = thread::Builder::new().name("journal-reader".to_owned()).spawn(read)?;
        *self.reader.lock() = Some(thread);
        Ok(())
    }

    /// A part of a trace was woven, and this is what the next part must know; `None` where nothing is ever added.
    pub fn woven(&self, key: TraceKey, sent: Option<Sent>) {
        // The judge is gone only when the process ends.
        let _gone = self.messages.send(Message::Woven(key, sent));
    }

    /// A part that was woven went out as it came, without these added spans.
    pub fn unwoven(&self, key: TraceKey, added: Vec<SpanId>) {
        // The judge is gone only when the process ends.
        let _gone = self.messages.send(Message::Unwoven(key, added));
    }

    /// The journal's view of traces; `None` when there is no journal.
    pub fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.keeper.as_ref()
    }

    /// Releases all traces, whatever they still wait for, and ends the stream of released traces behind them. What an
    /// earlier run left is read on until then. To be called when the receivers are closed.
    pub async fn drain(&self, reads_until: Instant) {
        while self.reader.lock().as_ref().is_some_and(|reader| !reader.is_finished())
            && clock::now() < reads_until
        {
            tokio::time::sleep(READER_LOOK_EVERY).await;
        }
        self.empty(Phase::Draining).await;
    }

    /// Leaves all traces to the journal, and ends the stream of released traces. To be called when the receivers are
    /// closed.
    pub async fn keep(&self) {
        self.empty(Phase::Keeping).await;
    }

    async fn empty(&self, phase: Phase) {
        self.phase.set(phase);
        // What an earlier run left and nobody took up stays where it is.
        drop(self.left.lock().take());
        self.reader_stop.store(true, Relaxed);
        let (reader, store) = (self.reader.lock().take(), self.shared.store.clone());
        // The cache delivers in the calling thread and may take a second for a million traces.
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(reader) = reader {
                // Its panic was told by the watchdog.
                let _panicked = reader.join();
            }
            if let Some(store) = store {
                store.close_all();
            }
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the buffer could not be emptied");
        }
        let _gone = self.messages.send(Message::End);
    }
}

fn open_journal(
    config: &JournalConfig,
    tuning: Tuning,
    watched: &Watched,
) -> Result<Option<(Arc<Keeper>, Recovery)>, OpenError> {
    if !config.enabled {
        return Ok(None);
    }
    let Watched { ledger, budget, lives, .. } = watched;
    let settings = config.settings(tuning, watched.ledger.names(), watched);
    let (journal, recovery) = Journal::open(settings)?;
    let keeper = Keeper::new(journal, Arc::clone(ledger), Arc::clone(budget), Arc::clone(lives));
    Ok(Some((keeper, recovery)))
}

/// Traces of an earlier run that are not quiet yet wait on, for as long as they have left.
fn put_back(shared: &Arc<Shared>, wait: Wait) -> Box<dyn Fn(OpenTrace) + Send> {
    let shared = Arc::clone(shared);
    Box::new(move |trace| {
        let (key, due) = (trace.key.clone(), trace.last + wait.idle);
        // In this order: an alarm for a trace that is not there yet would be lost.
        shared.keep(trace);
        shared.deadlines.lock().set(key, due);
    })
}

impl Shared {
    fn keep(&self, trace: OpenTrace) {
        if let Some(store) = &self.store {
            store.append(trace);
        } else {
            let closed = Closed { trace: Box::new(trace), brim: false };
            let _gone = self.messages.send(Message::Closed(closed));
        }
    }

    /// The spans are safe: they are in the books, and wait for the rest of their traces.
    fn accept(
        &self,
        origin: &Origin,
        fragments: Vec<(TraceId, Fragment)>,
        mut memory: Reservation,
        now: Instant,
        receipt: Receipt,
    ) {
        self.ledger.accept(fragments.iter().map(|(_, fragment)| u64::from(fragment.spans)).sum());
        let spill = self.budget.is_spilling();
        for (id, fragment) in fragments {
            let key = TraceKey { id, origin: origin.clone() };
            let share = memory.split(fragment.held_bytes());
            let mut trace = OpenTrace::new(key, fragment, share, now);
            if spill {
                self.metrics.buffer.spilled_bytes.increment(trace.spill());
            }
            self.keep(trace);
        }
        receipt.settle(Ok(()));
    }
}

impl Intake for Buffer {
    fn refuses(&self) -> Option<Refused> {
        self.keeper.as_ref().and_then(|keeper| keeper.refuses())
    }

    fn is_open(&self, key: &TraceKey) -> bool {
        self.shared.store.as_ref().is_some_and(|store| store.has(key))
    }

    fn take(&self, arrival: Arrival) {
        let Arrival { origin, fragments, mut memory, receipt } = arrival;
        if self.phase.get() != Phase::Open {
            return receipt.settle(Err(CLOSING));
        }
        memory.transfer(Stage::Buffer);
        let now = clock::now();
        let shared = Arc::clone(&self.shared);
        let Some(keeper) = &self.keeper else {
            return shared.accept(&origin, fragments, memory, now, receipt);
        };
        let runtime = self.runtime.clone();
        keeper.keep(&origin.clone(), fragments, move |kept| match kept {
            // Not in the journal's thread, which has other requests to write.
            Ok(fragments) => {
                runtime.spawn(async move {
                    shared.accept(&origin, fragments, memory, now, receipt);
                });
            }
            Err(refused) => receipt.settle(Err(refused)),
        });
    }
}
