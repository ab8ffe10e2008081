//! What an earlier run left in the journal, on its way through the same path: at the pace that memory allows, traces with
//! the age they have.

use std::{sync::Arc, thread, time::Duration};

use prost::Message as _;
use tokio::sync::mpsc;

use super::{
    journal::{Content, Recovered, Recovery},
    judge::{Message, Phase, SharedPhase},
    keeper::Keeper,
    open_trace::OpenTrace,
    open_traces::OpenTraces,
    quiet::Wait,
    record::SpansMeta,
};
use crate::{
    clock::{self, Instant},
    ledger::{Destination, Ledger},
    memory::{Budget, Stage},
    trace::{Durable, Origin, Parked, Place, Release, TraceKey},
    watchdog::Beat,
};

/// Memory in use, in percent of the limit, above which nothing more is read: the rest is for what comes in now.
const USED_PERCENT_MAX: u64 = 50;
/// How often it is looked whether there is room again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Reads on until all is read, or the program ends.
pub(super) struct Reader {
    pub(super) keeper: Arc<Keeper>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) budget: Arc<Budget>,
    pub(super) wait: Wait,
    pub(super) phase: Arc<SharedPhase>,
    pub(super) messages: mpsc::UnboundedSender<Message>,
    /// Takes traces that are not quiet yet.
    pub(super) put_back: Box<dyn Fn(TraceKey, OpenTrace) + Send>,
}

impl Reader {
    /// To be called in a thread of its own.
    pub(super) fn run(self, mut recovery: Recovery, beat: &Beat) {
        let started = clock::now();
        let ages = Ages::now();
        let mut open = OpenTraces::default();
        let (mut parts, mut plans) = (0_u64, 0_u64);
        while let Some(recovered) = recovery.next() {
            if !self.wait_for_room(beat) {
                break;
            }
            match &recovered.content {
                Content::Plan { covers } => {
                    plans += 1;
                    self.park(&recovered, covers);
                }
                Content::Spans { .. } if recovered.covered => {}
                Content::Spans { meta } => {
                    parts += 1;
                    self.open(&recovered, meta, &ages, &mut open);
                }
            }
        }
        open.into_rest().for_each(|(key, trace)| (self.put_back)(key, trace));
        let took_ms = clock::now().saturating_duration_since(started).as_millis();
        tracing::info!(parts, plans, took_ms, "the journal of the last run was read");
    }

    fn wait_for_room(&self, beat: &Beat) -> bool {
        beat.beat();
        let most = self.budget.limit_bytes() / 100 * USED_PERCENT_MAX;
        while self.budget.used_bytes() > most && self.phase.get() == Phase::Open {
            beat.beat();
            thread::park_timeout(LOOK_EVERY);
        }
        self.phase.get() == Phase::Open
    }

    /// A trace whose plan was written goes out by it, to the destinations that lack it.
    fn park(&self, recovered: &Recovered, covers: &[Place]) {
        let Some(record) = self.keeper.plan_record(&recovered.place) else {
            // Without its plan the trace is woven anew.
            return;
        };
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
        let memory = self.budget.claim(Stage::Export, 0);
        durable.park(Parked::new(
            Arc::clone(&durable),
            places,
            recovered.place,
            lacking,
            None,
            memory,
        ));
    }

    fn open(&self, recovered: &Recovered, meta: &[u8], ages: &Ages, open: &mut OpenTraces) {
        let meta = SpansMeta::decode(meta).unwrap_or_default();
        let origin: Origin = self.keeper.origin(&meta);
        let Some(fragment) = self.keeper.fragment(&recovered.place, &origin) else { return };
        let spans = u64::try_from(fragment.spans.len()).unwrap_or(u64::MAX);
        for destination in 0..self.ledger.destinations() {
            self.ledger.recover(Destination(destination), spans);
        }
        let at = ages.instant(meta.arrived_us);
        let memory = self.budget.claim(Stage::Buffer, fragment.held_bytes());
        let key = fragment.key.clone();
        let mut trace = OpenTrace::new(fragment, memory, at);
        if self.budget.brim().is_spilling(self.budget.used_bytes()) {
            trace.spill();
        }
        open.add(key, trace);
        while let Some((key, trace, release)) = open.pop_quiet(at, &self.wait) {
            self.release(key, trace, release);
        }
    }

    fn release(&self, key: TraceKey, trace: OpenTrace, release: Release) {
        // The judge is gone only when the process ends.
        let _gone = self.messages.send(Message::Recovered(key, trace, release));
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
