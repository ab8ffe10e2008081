//! When open traces close: a moka cache rings, and holds no more than its capacity; moka is named nowhere else.
//!
//! Facts that shape this file, all measured (ARCHITECTURE.md "The buffer"): `time_to_idle` closes within some 100 ms,
//! a custom `Expiry` may stall for seconds; only the LRU policy takes newcomers at capacity; expiry is lazy, so a
//! thread drives it; the weigher runs on insert only; the listener runs under moka's lock, so it neither blocks nor
//! touches the cache, and it never panics, for that would switch it off for good. An append costs moka 1.5 µs and a
//! new entry with its end some 5 µs, so moka hears of a trace when it is opened, then a few times a second at most.
//!
//! A span can arrive while its trace is being evicted. So the traces themselves are not in the cache: [`OpenTraces`] has
//! them under locks of its own, and what the cache says of a key is a hint to look at the trace that is there now,
//! whoever put it in. A trace is closed by being taken out of its shard, and that happens once.
//! `no_span_is_lost_or_doubled_under_eviction` is the proof.

mod open;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use self::open::{OpenTraces, Tell};
use super::{
    open_trace::OpenTrace,
    quiet::{Shape, Wait},
};
use crate::{clock, trace::TraceKey};

/// The cache hears of a trace in use so often; never less than a few times while it waits.
const TOUCH_EVERY: Duration = Duration::from_millis(250);
const TOUCHES_MIN: u32 = 4;

/// A trace whose alarm went off.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) key: TraceKey,
    pub(super) trace: OpenTrace,
    /// The store was full to the brim when it was closed.
    pub(super) brim: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    /// Only weights: what is to be weighed and to be rung for.
    cache: Cache<TraceKey, u32>,
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
        let touch_every = TOUCH_EVERY.min(wait.idle / TOUCHES_MIN);
        let brim_bytes = capacity_bytes / 10 * 9;
        let open = Arc::new(OpenTraces::new(wait, touch_every, brim_bytes, closed));
        let traces = Arc::clone(&open);
        // Whatever the cause, which is not always told right: of a trace that was only weighed anew it costs an alarm.
        let listener = move |key: Arc<TraceKey>, _, _| traces.dropped(clock::now(), &key);
        let cache = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(|_, weight: &u32| *weight)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(wait.idle)
            .eviction_listener(listener)
            .build();
        Self { cache, open }
    }

    /// The trace is open; asking does not keep it open longer.
    pub(super) fn has(&self, key: &TraceKey) -> bool {
        self.open.has(key)
    }

    /// Adds spans to their trace, or opens it; also the way back for a trace that was closed too early.
    pub(super) fn append(&self, key: &TraceKey, addition: OpenTrace) {
        self.tell(key, self.open.append(key, addition));
    }

    /// Outside of any lock of ours: the cache may call back at once.
    fn tell(&self, key: &TraceKey, tell: Tell) {
        match tell {
            Tell::Nothing => {}
            Tell::Use => drop(self.cache.get(key)),
            Tell::Weight(bytes) => {
                let weight = u32::try_from(bytes).unwrap_or(u32::MAX);
                self.cache.insert(key.clone(), weight);
            }
            // A trace of this name that was opened meanwhile gets an alarm instead.
            Tell::Gone => self.cache.invalidate(key),
        }
    }

    /// Hands this trace to the judge now.
    pub(super) fn close(&self, key: &TraceKey) {
        self.tell(key, self.open.close(key));
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
