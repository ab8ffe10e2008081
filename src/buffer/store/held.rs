//! What the store holds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::buffer::open_trace::{OVERHEAD_BYTES, OpenTrace};

/// What is held, by our own count: the cache's lags behind.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) traces: AtomicU64,
    pub(super) spans: AtomicU64,
    bytes: AtomicU64,
    /// Bytes in memory that could be left to the journal.
    pub(super) loose_bytes: AtomicU64,
}

impl Held {
    pub(super) fn add(&self, trace: &OpenTrace) {
        self.spans.fetch_add(trace.spans, Relaxed);
        self.bytes.fetch_add(trace.needed_bytes, Relaxed);
        self.loose_bytes.fetch_add(trace.bytes().saturating_sub(trace.needed_bytes), Relaxed);
    }

    pub(super) fn remove(&self, spans: u64, bytes: u64, loose_bytes: u64) {
        self.loose_bytes.fetch_sub(loose_bytes, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        self.spans.fetch_sub(spans, Relaxed);
        self.traces.fetch_sub(1, Relaxed);
    }

    /// Of two that became one, one costs nothing of its own any more.
    pub(super) fn merged(&self) {
        self.bytes.fetch_sub(OVERHEAD_BYTES, Relaxed);
    }

    /// What a trace that begins will weigh: as much as one has now, and a quarter. Too much does no harm, for what the cache
    /// lets go of below the brim goes on waiting.
    pub(super) fn likely_bytes(&self) -> u64 {
        let mean = self.weight() / self.traces.load(Relaxed).max(1);
        mean + mean / 4
    }

    /// As the cache weighs it, with what each trace costs of its own: else it would evict many small traces long before
    /// the brim, and they would be put back again and again.
    pub(super) fn weight(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
