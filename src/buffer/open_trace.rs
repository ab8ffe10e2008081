//! A trace that still collects spans.

use crate::{clock::Instant, memory::Reservation, trace::Fragment};

/// Spans so far, with the memory they hold.
#[derive(Debug)]
pub(super) struct OpenTrace {
    pub(super) fragments: Vec<Fragment>,
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) spans: u64,
    pub(super) memory: Reservation,
}

impl OpenTrace {
    pub(super) fn new(fragment: Fragment, memory: Reservation, now: Instant) -> Self {
        let spans = u64::try_from(fragment.spans.len()).unwrap_or(u64::MAX);
        Self { fragments: vec![fragment], first: now, last: now, spans, memory }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Adds spans of the same trace; those that came first stay first.
    pub(super) fn merge(&mut self, mut other: Self) {
        if other.first < self.first {
            std::mem::swap(&mut self.fragments, &mut other.fragments);
        }
        self.fragments.append(&mut other.fragments);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.spans += other.spans;
        self.memory.absorb(other.memory);
    }
}
