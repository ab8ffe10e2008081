//! A trace that still collects spans.

use std::time::Duration;

use super::waiting::Waiting;
use crate::{
    clock::Instant,
    memory::Reservation,
    trace::{Fragment, TraceKey},
};

/// Spans so far, with the memory they hold.
#[derive(Debug)]
pub(super) struct OpenTrace {
    /// Here, so that the store's table has only a box to keep room for.
    pub(super) key: TraceKey,
    pub(super) fragments: Vec<Waiting>,
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) spans: u64,
    /// Bytes of the spans themselves, wherever they are.
    pub(super) wire_bytes: u64,
    /// Memory that the trace needs in any case: without the bytes that can be left to the journal.
    pub(super) needed_bytes: u64,
    pub(super) memory: Reservation,
    pub(super) earlier: Option<Box<Earlier>>,
    pub(super) alarm: Alarm,
}

/// What few traces have: destinations that had spans of it before this run, and how many.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) had: Vec<(usize, u64)>,
}

/// What a trace is released with.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) key: TraceKey,
    pub(super) fragments: Vec<Fragment>,
    /// What the fragments and the released trace take.
    pub(super) memory: Reservation,
    /// See [`Earlier`].
    pub(super) had: Vec<(usize, u64)>,
}

/// Who rings for a trace in the store.
#[derive(Debug)]
pub(super) struct Alarm {
    /// The trace's age when it joined a cohort last. If older spans are added that seems longer ago: it joins once more, which
    /// does no harm.
    joined_ms: u32,
    /// What the cache takes it to weigh.
    pub(super) weighed: u64,
    /// The cache rings; else an alarm of the store's does.
    pub(super) cached: bool,
}

impl Alarm {
    /// The cache rings for a trace of this age.
    pub(super) fn joined(age: Duration, weighed: u64) -> Self {
        Self { joined_ms: millis(age), weighed, cached: true }
    }

    /// Since the trace joined a cohort, when it is of this age.
    pub(super) fn since_joined(&self, age: Duration) -> Duration {
        Duration::from_millis(millis(age).saturating_sub(self.joined_ms).into())
    }
}

/// Traces are closed long before they are 49 days old.
fn millis(age: Duration) -> u32 {
    u32::try_from(age.as_millis()).unwrap_or(u32::MAX)
}

/// What an open trace costs beside its fragments: its box and its slot, its places in cohorts.
pub(super) const OVERHEAD_BYTES: u64 = 240;
/// The same of a released one: its lease, its places in lists and channels. Measured where nearly all spans were left to the
/// journal.
const RELEASED_BYTES: u64 = 1000;
/// As the allocator rounds: the next size is 192.
const _: () = assert!(size_of::<OpenTrace>() <= 160);

impl OpenTrace {
    /// `memory` is the fragment's; what the trace itself costs comes on top.
    pub(super) fn new(
        key: TraceKey,
        fragment: Fragment,
        mut memory: Reservation,
        now: Instant,
    ) -> Self {
        memory.resize(memory.bytes() + OVERHEAD_BYTES);
        let spans = u64::from(fragment.spans);
        let wire_bytes = fragment.wire_bytes();
        let needed_bytes = fragment.held_bytes() - fragment.loose_bytes() + OVERHEAD_BYTES;
        let fragments = vec![fragment.into()];
        Self {
            key,
            fragments,
            first: now,
            last: now,
            spans,
            wire_bytes,
            needed_bytes,
            memory,
            earlier: None,
            alarm: Alarm::joined(Duration::ZERO, 0),
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.first)
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
        if let Some(earlier) = other.earlier {
            self.earlier.get_or_insert_default().had.extend(earlier.had);
        }
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

    pub(super) fn release(self) -> Released {
        let Self { key, fragments, mut memory, earlier, .. } = self;
        memory.resize(memory.bytes().saturating_sub(OVERHEAD_BYTES) + RELEASED_BYTES);
        let fragments = fragments.into_iter().map(Fragment::from).collect();
        Released {
            key,
            fragments,
            memory,
            had: earlier.map(|earlier| earlier.had).unwrap_or_default(),
        }
    }
}

/// A list that doubled would have a quarter of its slots to spare; an eighth is what the allocator rounds up by anyway.
fn append(list: &mut Vec<Waiting>, more: &mut Vec<Waiting>) {
    if list.capacity() - list.len() < more.len() {
        list.reserve_exact(more.len().max(list.len() / 8));
    }
    list.append(more);
}
