//! The open traces, in a moka cache; moka is named nowhere else.
//!
//! Facts that shape this file, all measured (ARCHITECTURE.md "The buffer"): `time_to_idle` closes within some 100 ms,
//! a custom `Expiry` may stall for seconds; only the LRU policy takes newcomers at capacity; expiry is lazy, so a
//! thread drives it; the weigher runs on insert only; the listener runs under moka's lock, so it neither blocks nor
//! touches the cache, and it never panics, for that would switch it off for good.
//!
//! A span can arrive while its trace is being evicted. So every slot carries an epoch and every trace a seal: the
//! listener ignores slots that are not a trace's newest, and seals the trace in taking its contents; an append that
//! finds a seal starts over with a new slot. `no_span_is_lost_or_doubled_under_eviction` is the proof.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use moka::{notification::RemovalCause, ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;

use super::{
    open_trace::{OVERHEAD_BYTES, OpenTrace},
    quiet::{Shape, Verdict, Wait, quiet},
};
use crate::trace::TraceKey;

/// A trace is weighed again when it has grown by one part of so many: the cache must not hold far more than it knows
/// of, or memory is full before it evicts.
const GROWTH: u64 = 8;

/// Rounds of closing, about a millisecond each and up to 50,000 traces, before something is wrong.
const CLOSE_ROUNDS_MAX: u32 = 10_000;

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
    cache: Cache<TraceKey, Slot>,
    held: Arc<Held>,
    wait: Wait,
}

/// What the store holds, by our own count: moka's lags behind.
#[derive(Debug, Default)]
struct Held {
    traces: AtomicU64,
    spans: AtomicU64,
    bytes: AtomicU64,
    /// Bytes in memory that could be left to the journal.
    loose_bytes: AtomicU64,
}

#[derive(Debug, Clone)]
struct Slot {
    cell: Arc<Mutex<Cell>>,
    epoch: u32,
    weight: u32,
}

#[derive(Debug, Default)]
struct Cell {
    sealed: bool,
    epoch: u32,
    weighed: u64,
    trace: Option<OpenTrace>,
}

impl Store {
    /// A store of this capacity; `closed` takes traces whose alarm went off. It is called under moka's lock: it must
    /// neither block nor panic.
    pub(super) fn new(
        wait: Wait,
        capacity_bytes: u64,
        closed: impl Fn(Closed) + Send + Sync + 'static,
    ) -> Self {
        let held = Arc::new(Held::default());
        let counts = Arc::clone(&held);
        let brim_bytes = capacity_bytes / 10 * 9;
        let listener = move |key: Arc<TraceKey>, slot: Slot, _: RemovalCause| {
            let mut cell = slot.cell.lock();
            if cell.sealed || slot.epoch != cell.epoch {
                return;
            }
            cell.sealed = true;
            let Some(trace) = cell.trace.take() else { return };
            drop(cell);
            let brim = counts.weight() >= brim_bytes;
            let (spans, bytes) = (trace.spans, trace.needed_bytes);
            counts.loose_bytes.fetch_sub(trace.bytes().saturating_sub(bytes), Relaxed);
            closed(Closed { key: (*key).clone(), trace, brim });
            // Counted out when it is handed on: who sees no trace left has been given all of them.
            counts.remove(spans, bytes);
        };
        let cache = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(|_, slot: &Slot| slot.weight)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(wait.idle)
            .eviction_listener(listener)
            .build();
        Self { cache, held, wait }
    }

    /// The trace is open; asking does not keep it open longer.
    pub(super) fn has(&self, key: &TraceKey) -> bool {
        self.cache.contains_key(key)
    }

    /// Adds spans to their trace, or opens it; also the way back for a trace that was closed too early.
    pub(super) fn append(&self, key: &TraceKey, addition: OpenTrace) {
        let mut addition = Some(addition);
        for attempt in 0_u32.. {
            let first_bytes = addition.as_ref().map_or(0, |addition| addition.needed_bytes);
            let slot = self.cache.get_with_by_ref(key, || Slot::new(first_bytes));
            let mut cell = slot.cell.lock();
            if cell.sealed {
                drop(cell);
                // Two re-puts may have landed out of order and left a sealed slot that every get would keep alive.
                if attempt > 3 {
                    self.remove_exactly(key, &slot);
                }
                continue;
            }
            let Some(addition) = addition.take() else { return };
            self.held.add(&addition);
            let trace = if let Some(mut trace) = cell.trace.take() {
                self.held.merged();
                trace.merge(addition);
                trace
            } else {
                self.held.traces.fetch_add(1, Relaxed);
                addition
            };
            let now = trace.last;
            let verdict = quiet(now, trace.first, now, shape(&trace, false, false), &self.wait);
            let bytes = trace.needed_bytes;
            cell.trace = Some(trace);
            if let Verdict::Release(_) = verdict {
                drop(cell);
                self.cache.invalidate(key);
            } else if bytes > cell.weighed + cell.weighed / GROWTH {
                cell.epoch = cell.epoch.wrapping_add(1);
                cell.weighed = bytes;
                let cell_epoch = cell.epoch;
                // The lock goes first: the listener runs inside insert.
                drop(cell);
                let slot =
                    Slot { cell: Arc::clone(&slot.cell), epoch: cell_epoch, weight: weight(bytes) };
                self.cache.insert(key.clone(), slot);
            }
            return;
        }
    }

    fn remove_exactly(&self, key: &TraceKey, slot: &Slot) {
        let entry = self.cache.entry_by_ref(key);
        entry.and_compute_with(|entry| match entry {
            Some(entry) if Arc::ptr_eq(&entry.value().cell, &slot.cell) => Op::Remove,
            _ => Op::Nop,
        });
    }

    /// Hands this trace to the judge now.
    pub(super) fn close(&self, key: &TraceKey) {
        self.cache.invalidate(key);
    }

    /// Leaves spans' bytes to the journal until so many are free; gives how many are.
    pub(super) fn spill(&self, wanted_bytes: u64) -> u64 {
        let mut freed = 0;
        // The cache is asked without counting as use, in no order of ours.
        for (_, slot) in &self.cache {
            if freed >= wanted_bytes || self.loose_bytes() == 0 {
                break;
            }
            let mut cell = slot.cell.lock();
            if let Some(trace) = cell.trace.as_mut() {
                let bytes = trace.spill();
                self.held.loose_bytes.fetch_sub(bytes, Relaxed);
                freed += bytes;
            }
        }
        freed
    }

    /// Bytes in memory that could be left to the journal.
    pub(super) fn loose_bytes(&self) -> u64 {
        self.held.loose_bytes.load(Relaxed)
    }

    /// Lets the cache find what has been idle; to be called often.
    pub(super) fn run_pending_tasks(&self) {
        self.cache.run_pending_tasks();
    }

    /// Closes every trace; returns when all were handed on. One call of the cache's own delivers only a part of them.
    pub(super) fn close_all(&self) {
        for _ in 0..CLOSE_ROUNDS_MAX {
            self.cache.invalidate_all();
            self.cache.run_pending_tasks();
            if self.traces() == 0 {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        tracing::error!(traces = self.traces(), "the buffer did not give back all of its traces");
    }

    pub(super) fn traces(&self) -> u64 {
        self.held.traces.load(Relaxed)
    }

    pub(super) fn spans(&self) -> u64 {
        self.held.spans.load(Relaxed)
    }
}

/// What the judge sees of a trace.
pub(super) fn shape(trace: &OpenTrace, brim: bool, draining: bool) -> Shape {
    Shape { spans: trace.spans, bytes: trace.wire_bytes, brim, draining }
}

impl Slot {
    fn new(bytes: u64) -> Self {
        let cell = Cell { weighed: bytes, ..Cell::default() };
        Self { cell: Arc::new(Mutex::new(cell)), epoch: 0, weight: weight(bytes) }
    }
}

fn weight(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Held {
    fn add(&self, trace: &OpenTrace) {
        self.spans.fetch_add(trace.spans, Relaxed);
        self.bytes.fetch_add(trace.needed_bytes, Relaxed);
        self.loose_bytes.fetch_add(trace.bytes().saturating_sub(trace.needed_bytes), Relaxed);
    }

    fn remove(&self, spans: u64, bytes: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.spans.fetch_sub(spans, Relaxed);
        self.traces.fetch_sub(1, Relaxed);
    }

    /// Of two that became one, one costs nothing of its own any more.
    fn merged(&self) {
        self.bytes.fetch_sub(OVERHEAD_BYTES, Relaxed);
    }

    /// As the cache weighs it, with what each trace costs of its own: else it would evict many small traces long before
    /// the brim, and they would be put back again and again.
    fn weight(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

#[cfg(test)]
mod tests;
