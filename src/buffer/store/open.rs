//! The open traces themselves, in shards by trace id: appending locks one shard and asks nobody else.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{OnceLock, atomic::Ordering::Relaxed},
    thread::Thread,
    time::Duration,
};

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use super::{Closed, alarms::Alarms, held::Held, shape};
use crate::{
    buffer::{
        open_trace::{Alarm, OpenTrace},
        quiet::{Verdict, Wait, quiet},
    },
    clock::Instant,
    trace::TraceKey,
};

/// So that threads which append at once seldom meet.
const SHARDS: usize = 64;

/// A shard keeps so many empty slots, however few traces it has.
const SPARE_SLOTS: usize = 512;

/// A cohort goes to the cache when it has so many traces or bytes, or when the driver comes by.
const COHORT_TRACES: usize = 64;
const COHORT_BYTES: u64 = 1024 * 1024;

/// From so many bytes on a trace is weighed again when it has grown by an eighth; a smaller one when it has doubled.
const LARGE_BYTES: u64 = 64 * 1024;

/// See the module.
pub(super) struct OpenTraces {
    shards: Vec<Mutex<Traces>>,
    hasher: RandomState,
    /// Odd, and another one in each process.
    multiplier: u128,
    pub(super) held: Held,
    alarms: Mutex<Alarms>,
    growing: Mutex<Cohort>,
    wait: Wait,
    rejoin_after: Duration,
    brim_bytes: u64,
    closed: Box<dyn Fn(Closed) + Send + Sync>,
    /// Sleeps longer while there is no trace.
    pub(super) driver: OnceLock<Thread>,
}

impl std::fmt::Debug for OpenTraces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenTraces").field("held", &self.held).finish_non_exhaustive()
    }
}

/// By their keys. A slot is a box and a byte: a table that has just grown is half empty.
type Traces = HashTable<Box<OpenTrace>>;
type Shard<'a> = MutexGuard<'a, Traces>;

impl OpenTraces {
    pub(super) fn new(
        wait: Wait,
        rejoin_after: Duration,
        brim_bytes: u64,
        closed: impl Fn(Closed) + Send + Sync + 'static,
    ) -> Self {
        let hasher = RandomState::new();
        let [high, low] = [0, 1].map(|half| u128::from(hasher.hash_one(half)));
        let multiplier = high << 64 | low | 1;
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher,
            held: Held::default(),
            alarms: Mutex::default(),
            growing: Mutex::default(),
            wait,
            rejoin_after,
            brim_bytes,
            closed: Box::new(closed),
            driver: OnceLock::new(),
            multiplier,
        }
    }

    fn shard(&self, key: &TraceKey) -> Option<Shard<'_>> {
        // Ids that somebody chose to meet in one shard only wait for each other: it takes no hash that can't be guessed.
        let id = u128::from_be_bytes(key.id.to_wire());
        let bits = id.wrapping_mul(self.multiplier) >> (u128::BITS - SHARDS.ilog2());
        let number = usize::try_from(bits).unwrap_or(0);
        self.shards.get(number).map(Mutex::lock)
    }

    fn hash(&self, key: &TraceKey) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn has(&self, key: &TraceKey) -> bool {
        self.shard(key).is_some_and(|shard| find(&shard, self.hash(key), key).is_some())
    }

    /// Adds spans to their trace, or opens it. A trace that has become too large or too old is closed at once. Gives a
    /// cohort that is full: the cache is to have it.
    pub(super) fn append(&self, addition: OpenTrace) -> Option<Cohort> {
        let hash = self.hash(&addition.key);
        let mut shard = self.shard(&addition.key)?;
        self.held.add(&addition);
        let now = addition.last;
        let (trace, joins) = if let Some(trace) = find_mut(&mut shard, hash, &addition.key) {
            self.held.merged();
            trace.merge(addition);
            let joins = joins(trace, now, self.rejoin_after);
            (&*trace, joins)
        } else {
            if self.held.traces.fetch_add(1, Relaxed) == 0
                && let Some(driver) = self.driver.get()
            {
                driver.unpark();
            }
            let weighed = addition.needed_bytes.max(self.held.likely_bytes());
            let mut trace = Box::new(addition);
            trace.alarm = Alarm::joined(trace.age(now), weighed);
            let entry = shard.insert_unique(hash, trace, |trace| self.hash(&trace.key));
            (&**entry.into_mut(), Some(weighed))
        };
        let verdict = quiet(now, trace.first, now, shape(trace, false, false), &self.wait);
        if let Verdict::Release(_) = verdict {
            let key = trace.key.clone();
            self.close_in(shard, &key, false);
            return None;
        }
        let joining = joins.map(|bytes| (trace.key.clone(), bytes));
        drop(shard);
        let (key, bytes) = joining?;
        self.join(key, bytes)
    }

    fn join(&self, key: TraceKey, bytes: u64) -> Option<Cohort> {
        let mut growing = self.growing.lock();
        growing.traces.push(key);
        growing.bytes += bytes;
        let full = growing.traces.len() >= COHORT_TRACES || growing.bytes >= COHORT_BYTES;
        full.then(|| std::mem::take(&mut *growing))
    }

    /// What has joined since the last cohort, if anything has.
    pub(super) fn cohort(&self) -> Option<Cohort> {
        let cohort = std::mem::take(&mut *self.growing.lock());
        (!cohort.traces.is_empty()).then_some(cohort)
    }

    /// Closes this trace now, whatever it waits for.
    pub(super) fn close(&self, key: &TraceKey) {
        if let Some(shard) = self.shard(key) {
            self.close_in(shard, key, false);
        }
    }

    /// The cache let go of a cohort the trace was in. Whatever its reason: a trace that is due is closed, for another an
    /// alarm is set, so that each trace has somebody who rings for it.
    pub(super) fn dropped(&self, now: Instant, key: &TraceKey) {
        self.relieve(now);
        self.look(now, key, self.is_full(), |alarm| {
            alarm.cached = false;
            true
        });
    }

    fn is_full(&self) -> bool {
        self.held.weight() >= self.brim_bytes
    }

    /// At the brim those go first that the cache let go of before: they were used least recently, and are due first.
    fn relieve(&self, now: Instant) {
        while self.is_full() {
            let first = self.alarms.lock().pop_first();
            let Some(keys) = first else { return };
            for key in keys {
                // Below the brim again it gets its alarm back.
                self.look(now, &key, self.is_full(), |alarm| !alarm.cached);
            }
        }
    }

    /// Closes the traces whose alarm has come.
    pub(super) fn ring(&self, now: Instant) {
        loop {
            // The lock goes before a shard's is taken: who looks at a trace may set an alarm.
            let due = self.alarms.lock().pop_due(now);
            let Some(keys) = due else { return };
            for key in keys {
                // The cache may have taken over meanwhile.
                self.look(now, &key, false, |alarm| !alarm.cached);
            }
        }
    }

    fn look(&self, now: Instant, key: &TraceKey, brim: bool, mine: impl Fn(&mut Alarm) -> bool) {
        let Some(mut shard) = self.shard(key) else { return };
        let Some(trace) = find_mut(&mut shard, self.hash(key), key) else { return };
        if !mine(&mut trace.alarm) {
            return;
        }
        match quiet(now, trace.first, trace.last, shape(trace, brim, false), &self.wait) {
            Verdict::Release(_) => drop(self.close_in(shard, key, brim)),
            Verdict::WaitUntil(until) => self.alarms.lock().set(now, until, key.clone()),
        }
    }

    fn close_in(&self, mut shard: Shard<'_>, key: &TraceKey, brim: bool) -> bool {
        let found = shard.find_entry(self.hash(key), |trace| trace.key == *key);
        let Ok(found) = found else { return false };
        let trace = found.remove().0;
        if shard.capacity() > SPARE_SLOTS && shard.len() < shard.capacity() / 8 {
            // What a burst needed is given back when it is over.
            let slots = shard.len() * 2;
            shard.shrink_to(slots, |trace| self.hash(&trace.key));
        }
        drop(shard);
        self.hand_on(trace, brim);
        true
    }

    fn hand_on(&self, trace: Box<OpenTrace>, brim: bool) {
        let (spans, bytes) = (trace.spans, trace.needed_bytes);
        let loose_bytes = trace.bytes().saturating_sub(bytes);
        (self.closed)(Closed { trace, brim });
        // Counted out when it is handed on: who sees no trace left has been given all of them.
        self.held.remove(spans, bytes, loose_bytes);
    }

    /// Closes every trace.
    pub(super) fn close_all(&self) {
        drop(self.cohort());
        for shard in &self.shards {
            let traces = std::mem::take(&mut *shard.lock());
            for trace in traces {
                self.hand_on(trace, false);
            }
        }
    }

    /// Leaves spans' bytes to the journal until so many are free; gives how many are.
    pub(super) fn spill(&self, wanted_bytes: u64) -> u64 {
        let mut freed = 0;
        for shard in &self.shards {
            for trace in shard.lock().iter_mut() {
                if freed >= wanted_bytes || self.held.loose_bytes.load(Relaxed) == 0 {
                    return freed;
                }
                let bytes = trace.spill();
                self.held.loose_bytes.fetch_sub(bytes, Relaxed);
                freed += bytes;
            }
        }
        freed
    }
}

fn find<'a>(traces: &'a Traces, hash: u64, key: &TraceKey) -> Option<&'a OpenTrace> {
    traces.find(hash, |trace| trace.key == *key).map(|trace| &**trace)
}

fn find_mut<'a>(traces: &'a mut Traces, hash: u64, key: &TraceKey) -> Option<&'a mut OpenTrace> {
    traces.find_mut(hash, |trace| trace.key == *key).map(|trace| &mut **trace)
}

/// With what weight the trace is to join a new cohort, if it is: the cache need not hear of every append.
fn joins(trace: &mut OpenTrace, now: Instant, rejoin_after: Duration) -> Option<u64> {
    let age = trace.age(now);
    let (bytes, alarm) = (trace.needed_bytes, &mut trace.alarm);
    let tolerated = if bytes < LARGE_BYTES { alarm.weighed } else { alarm.weighed / 8 };
    let outgrown = bytes > alarm.weighed + tolerated;
    let is_time = alarm.since_joined(age) >= rejoin_after;
    if !outgrown && !is_time {
        return None;
    }
    *alarm = Alarm::joined(age, bytes.max(alarm.weighed));
    Some(alarm.weighed)
}

/// Traces that joined at about the same time, for which the cache rings together.
#[derive(Debug, Clone, Default)]
pub(super) struct Cohort {
    pub(super) traces: Vec<TraceKey>,
    /// What they weigh.
    pub(super) bytes: u64,
}
