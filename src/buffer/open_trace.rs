//! A trace that still collects spans.

use super::waiting::Waiting;
use crate::{clock::Instant, memory::Reservation, trace::Fragment};

/// Spans so far, with the memory they hold.
#[derive(Debug)]
pub(super) struct OpenTrace {
    pub(super) fragments: Vec<Waiting>,
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) spans: u64,
    /// Bytes of the spans themselves, wherever they are.
    pub(super) wire_bytes: u64,
    /// Memory that the trace needs in any case: without the bytes that can be left to the journal.
    pub(super) needed_bytes: u64,
    pub(super) memory: Reservation,
    /// Destinations that have spans of it from an earlier run, and how many.
    pub(super) had: Vec<(usize, u64)>,
    pub(super) alarm: Alarm,
}

/// Who rings for a trace in the store. Here and not beside the trace, so that a map has only a box to keep room for.
#[derive(Debug)]
pub(super) struct Alarm {
    /// When the trace joined a cohort last.
    pub(super) joined: Instant,
    /// What the cache takes it to weigh.
    pub(super) weighed: u64,
    /// The cache rings; else an alarm of the store's does.
    pub(super) cached: bool,
}

/// What an open trace costs beside its fragments: its box and its slot, its places in cohorts.
pub(super) const OVERHEAD_BYTES: u64 = 280;
/// The same of a released one: its lease, its places in lists and channels. Measured where nearly all spans were left to the
/// journal.
const RELEASED_BYTES: u64 = 1000;

impl OpenTrace {
    /// `memory` is the fragment's; what the trace itself costs comes on top.
    pub(super) fn new(fragment: Fragment, mut memory: Reservation, now: Instant) -> Self {
        memory.resize(memory.bytes() + OVERHEAD_BYTES);
        let spans = u64::from(fragment.spans);
        let wire_bytes = fragment.wire_bytes();
        let needed_bytes = fragment.held_bytes() - fragment.loose_bytes() + OVERHEAD_BYTES;
        let fragments = vec![fragment.into()];
        Self {
            fragments,
            first: now,
            last: now,
            spans,
            wire_bytes,
            needed_bytes,
            memory,
            had: Vec::new(),
            alarm: Alarm { joined: now, weighed: 0, cached: true },
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Adds spans of the same trace; those that came first stay first.
    pub(super) fn merge(&mut self, mut other: Self) {
        if other.first < self.first {
            std::mem::swap(&mut self.fragments, &mut other.fragments);
        }
        append(&mut self.fragments, &mut other.fragments);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.spans += other.spans;
        self.had.append(&mut other.had);
        self.wire_bytes += other.wire_bytes;
        self.needed_bytes += other.needed_bytes.saturating_sub(OVERHEAD_BYTES);
        self.memory.absorb(other.memory);
        self.memory.resize(self.memory.bytes().saturating_sub(OVERHEAD_BYTES));
    }

    /// Leaves the spans' bytes to the journal, as far as it has them; gives the bytes of memory that came free.
    pub(super) fn spill(&mut self) -> u64 {
        let freed = self.fragments.iter_mut().map(Waiting::spill).sum();
        self.memory.resize(self.memory.bytes().saturating_sub(freed));
        freed
    }

    /// What it is released with: its fragments, and the memory that they and the released trace take.
    pub(super) fn release(self) -> (Vec<Fragment>, Reservation) {
        let Self { fragments, mut memory, .. } = self;
        memory.resize(memory.bytes().saturating_sub(OVERHEAD_BYTES) + RELEASED_BYTES);
        (fragments.into_iter().map(Fragment::from).collect(), memory)
    }
}

/// A list that doubled would have a quarter of its slots to spare; an eighth is what the allocator rounds up by anyway.
fn append(list: &mut Vec<Waiting>, more: &mut Vec<Waiting>) {
    if list.capacity() - list.len() < more.len() {
        list.reserve_exact(more.len().max(list.len() / 8));
    }
    list.append(more);
}
