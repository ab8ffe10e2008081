//! What an earlier run left in the journal, on its way through the same path: at the pace that memory allows, traces with
//! the age they have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use prost::Message as _;
use tokio::sync::mpsc;

use super::{
    journal::{Content, ReadError, Recovered, Recovery},
    judge::Message,
    keeper::{self, Keeper, PARKED_SHARE},
    open_trace::{Earlier, OpenTrace},
    open_traces::OpenTraces,
    quiet::Wait,
    record::SpansMeta,
};
use crate::{
    clock::{self, Instant},
    ledger::{Destination, Ledger},
    memory::{Budget, Stage},
    telemetry::Metrics,
    trace::{Durable, Parked, Place, Release, TraceKey},
    watchdog::Beat,
    wire::Spliced,
};

/// Memory in use, in percent of the limit, above which nothing more is read: the rest is for what comes in now.
const USED_PERCENT_MAX: u64 = 50;
/// … and of this the reader's own traces may take so much before they go on early.
const OWN_PERCENT_MAX: u64 = 10;
/// How often it is looked whether there is room again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Reads on until all is read, or the program ends.
pub(super) struct Reader {
    pub(super) keeper: Arc<Keeper>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) wait: Wait,
    /// Turned on when nothing more is to be read: what is not read stays for the next start.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) messages: mpsc::UnboundedSender<Message>,
    /// Takes traces that are not quiet yet.
    pub(super) put_back: Box<dyn Fn(OpenTrace) + Send>,
}

impl Reader {
    /// To be called in a thread of its own.
    pub(super) fn run(self, mut recovery: Recovery, beat: &Beat) {
        let started = clock::now();
        let ages = Ages::now();
        // Where there is much of it, only what finds it again is kept in memory.
        let spills = recovery.live_bytes() > self.budget.limit_bytes() / 4;
        let mut open = OpenTraces::default();
        let (mut parts, mut plans) = (0_u64, 0_u64);
        // Asked first: what was taken out of the recovery and not used would wait for the next start.
        while self.wait_for_room(&mut open, beat) {
            let Some(recovered) = recovery.next() else { break };
            match &recovered.content {
                Content::Plan { covers } => {
                    plans += 1;
                    self.park(&recovered, covers);
                }
                Content::Spans { .. } if recovered.covered => {}
                Content::Spans { meta } => {
                    parts += 1;
                    let read = recovery.read(&recovered.place);
                    let at = self.open(&recovered, read, meta, &ages, spills, &mut open);
                    self.release_quiet(at, &mut open);
                }
            }
        }
        open.into_rest().for_each(|trace| (self.put_back)(*trace));
        let took_ms = clock::now().saturating_duration_since(started).as_millis();
        tracing::info!(parts, plans, took_ms, "the journal of the last run was read");
    }

    /// False: nothing more is to be read. Where it is this thread's own traces that take the room, the one that was
    /// touched least goes on early.
    fn wait_for_room(&self, open: &mut OpenTraces, beat: &Beat) -> bool {
        beat.beat();
        let most = self.budget.limit_bytes() / 100 * USED_PERCENT_MAX;
        while self.used_bytes() > most && !self.stop.load(Relaxed) {
            beat.beat();
            let own_most = self.budget.limit_bytes() / 100 * OWN_PERCENT_MAX;
            match open.pop_oldest(own_most) {
                Some(trace) => self.release(trace, Release::Memory),
                None => thread::park_timeout(LOOK_EVERY),
            }
        }
        !self.stop.load(Relaxed)
    }

    /// What waits for a destination that fails must not keep the others from what lies behind it, unless it is much.
    fn used_bytes(&self) -> u64 {
        let parked = self.budget.stage_bytes(Stage::Parked);
        self.budget
            .used_bytes()
            .saturating_sub(parked.min(self.budget.limit_bytes() / PARKED_SHARE))
    }

    /// A trace whose plan was written goes out by it, to the destinations that lack it.
    fn park(&self, recovered: &Recovered, covers: &[Place]) {
        // One that can't be read now stays where it is, with its spans, for the next start.
        let Some(record) = self.keeper.plan_record(&recovered.place) else { return };
        let spans = record.all_spans();
        let lacking: Vec<_> = recovered
            .done
            .iter()
            .enumerate()
            .filter(|(_, done)| !**done)
            .map(|(number, _)| (Destination(number), spans))
            .collect();
        for (destination, spans) in &lacking {
            self.ledger.recover(*destination, *spans);
        }
        let mut places = covers.to_vec();
        places.push(recovered.place);
        let durable: Arc<dyn Durable> = Arc::clone(&self.keeper) as Arc<dyn Durable>;
        let to = Arc::clone(&durable);
        to.park(Parked { durable, places, plan: recovered.place, lacking, life: None });
    }

    /// Spans without a plan wait for the rest of their trace. Gives the time they came.
    fn open(
        &self,
        recovered: &Recovered,
        read: Result<Spliced, ReadError>,
        meta: &[u8],
        ages: &Ages,
        spills: bool,
        open: &mut OpenTraces,
    ) -> Instant {
        let meta = SpansMeta::decode(meta).unwrap_or_default();
        let at = ages.instant(meta.arrived_us);
        let (id, fragment) = match keeper::fragment(&recovered.place, read) {
            Ok(read) => read,
            // It may be readable at the next start.
            Err(ReadError::Io { .. }) => return at,
            Err(_) => {
                // Nobody will ever read it: its segment is kept for no more than what else is in it.
                self.keeper.lose(recovered.place);
                return at;
            }
        };
        let key = TraceKey { id, origin: self.keeper.origin(&meta) };
        let spans = u64::from(fragment.spans);
        let has = |number: usize| recovered.done.get(number).copied().unwrap_or(false);
        let destinations = 0..self.ledger.destinations();
        for destination in destinations.clone().filter(|number| !has(*number)) {
            self.ledger.recover(Destination(destination), spans);
        }
        let memory = self.budget.claim(Stage::Buffer, fragment.held_bytes());
        let mut trace = OpenTrace::new(key, fragment, memory, at);
        // It went out without its plan having been written.
        let had: Vec<_> =
            destinations.filter(|number| has(*number)).map(|number| (number, spans)).collect();
        trace.earlier = (!had.is_empty()).then(|| Box::new(Earlier { had }));
        // Each part is charged with all that it shares, so that there may be more of it than `spills` knew of.
        if spills || self.budget.used_bytes() > self.budget.limit_bytes() / 4 {
            self.metrics.buffer.spilled_bytes.increment(trace.spill());
        }
        open.add(trace);
        at
    }

    fn release_quiet(&self, at: Instant, open: &mut OpenTraces) {
        while let Some((trace, release)) = open.pop_quiet(at, &self.wait) {
            self.release(trace, release);
        }
    }

    fn release(&self, trace: Box<OpenTrace>, release: Release) {
        // The judge is gone only when the process ends.
        let _gone = self.messages.send(Message::Recovered(trace, release));
    }
}

/// Times on the wall as times of this process' clock.
struct Ages {
    now: Instant,
    now_us: u64,
}

impl Ages {
    fn now() -> Self {
        Self { now: clock::now(), now_us: clock::wall_us() }
    }

    /// A clock that was set back makes nothing older than now; before the machine's start there is no instant.
    fn instant(&self, wall_us: u64) -> Instant {
        let age = Duration::from_micros(self.now_us.saturating_sub(wall_us));
        self.now.checked_sub(age).unwrap_or(self.now)
    }
}
