//! When open traces close: a moka cache rings, and holds no more than its capacity; moka is named nowhere else.
//!
//! Facts that shape this file, all measured (ARCHITECTURE.md "The buffer"): `time_to_idle` closes within some 100 ms,
//! a custom `Expiry` may stall for seconds; only the LRU policy takes newcomers at capacity; expiry is lazy, so a
//! thread drives it; the weigher runs on insert only; the listener runs under moka's lock, so it neither blocks nor
//! touches the cache, and it never panics, for that would switch it off for good. An append costs moka 1.5 µs and a
//! new entry with its end 5 to 10, so an entry is a cohort: traces that were opened or used within the same 20 ms.
//!
//! A span can arrive while its trace is being evicted. So the traces themselves are not in the cache: [`OpenTraces`] has
//! them under locks of its own, and that the cache lets go of a cohort is a reason to look at its traces as they are
//! now, whoever put them there. A trace is closed by being taken out of its shard, and that happens once.
//! `no_span_is_lost_or_doubled_under_eviction` is the proof.

mod alarms;
mod held;
mod open;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::Thread,
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use self::open::{Cohort, OpenTraces};
use super::{
    open_trace::OpenTrace,
    quiet::{Shape, Wait},
};
use crate::{clock, trace::TraceKey};

/// A trace in use joins a new cohort so often; never less than a few times while it waits. Until the old one is gone it
/// is weighed twice.
const REJOIN_AFTER: Duration = Duration::from_millis(250);
const REJOINS: u32 = 4;

/// A trace whose alarm went off.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) trace: Box<OpenTrace>,
    /// The store was full to the brim when it was closed.
    pub(super) brim: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    cache: Cache<u64, Arc<Cohort>>,
    cohorts: AtomicU64,
    open: Arc<OpenTraces>,
}

impl Store {
    /// A store of this capacity; `closed` takes traces whose alarm went off. It is called under moka's lock: it must
    /// neither block nor panic.
    pub(super) fn new(
        wait: Wait,
        capacity_bytes: u64,
        closed: impl Fn(Closed) + Send + Sync + 'static,
    ) -> Self {
        let rejoin_after = REJOIN_AFTER.max(wait.idle / REJOINS).min(wait.idle / 2);
        let brim_bytes = capacity_bytes / 10 * 9;
        let open = Arc::new(OpenTraces::new(wait, rejoin_after, brim_bytes, closed));
        let traces = Arc::clone(&open);
        let listener = move |_, cohort: Arc<Cohort>, _| {
            let now = clock::now();
            cohort.traces.iter().for_each(|key| traces.dropped(now, key));
        };
        let cache = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(|_, cohort: &Arc<Cohort>| u32::try_from(cohort.bytes).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(wait.idle)
            .eviction_listener(listener)
            .build();
        Self { cache, cohorts: AtomicU64::new(0), open }
    }

    /// The trace is open; asking does not keep it open longer.
    pub(super) fn has(&self, key: &TraceKey) -> bool {
        self.open.has(key)
    }

    /// This thread looks for idle traces, and is woken by the first one.
    pub(super) fn driven_by(&self, driver: Thread) {
        let _driven_before = self.open.driver.set(driver);
    }

    /// Adds spans to their trace, or opens it; also the way back for a trace that was closed too early.
    pub(super) fn append(&self, addition: OpenTrace) {
        if let Some(cohort) = self.open.append(addition) {
            self.put(cohort);
        }
    }

    /// Outside of any lock of ours: the cache may call back at once.
    fn put(&self, cohort: Cohort) {
        self.cache.insert(self.cohorts.fetch_add(1, Relaxed), Arc::new(cohort));
    }

    /// Hands this trace to the judge now.
    pub(super) fn close(&self, key: &TraceKey) {
        self.open.close(key);
    }

    /// Leaves spans' bytes to the journal until so many are free; gives how many are.
    pub(super) fn spill(&self, wanted_bytes: u64) -> u64 {
        self.open.spill(wanted_bytes)
    }

    /// Bytes in memory that could be left to the journal.
    pub(super) fn loose_bytes(&self) -> u64 {
        self.open.held.loose_bytes.load(Relaxed)
    }

    /// Closes what has been idle; to be called often.
    pub(super) fn run_pending_tasks(&self) {
        if let Some(cohort) = self.open.cohort() {
            self.put(cohort);
        }
        self.cache.run_pending_tasks();
        self.open.ring(clock::now());
    }

    /// Closes every trace; returns when all were handed on.
    pub(super) fn close_all(&self) {
        self.open.close_all();
        self.cache.invalidate_all();
    }

    pub(super) fn traces(&self) -> u64 {
        self.open.held.traces.load(Relaxed)
    }

    pub(super) fn spans(&self) -> u64 {
        self.open.held.spans.load(Relaxed)
    }
}

/// What the judge sees of a trace.
pub(super) fn shape(trace: &OpenTrace, brim: bool, draining: bool) -> Shape {
    Shape { spans: trace.spans, bytes: trace.wire_bytes, brim, draining }
}

#[cfg(test)]
mod tests;
