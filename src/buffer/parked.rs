//! Traces that wait in the journal for destinations which can't take them now, oldest first.

use std::collections::{BTreeMap, VecDeque};

use crate::{ledger::Destination, trace::Parked};

/// By who lacks them, so that a destination that is down is not looked through for one that is up.
#[derive(Debug, Default)]
pub(super) struct ParkedTraces {
    queues: BTreeMap<Vec<usize>, VecDeque<Waiting>>,
    sequence: u64,
    len: usize,
}

/// With its place in the order of all; in a box, for a list of a million traces grows by doubling.
type Waiting = Box<(u64, Parked)>;

impl ParkedTraces {
    pub(super) fn push(&mut self, parked: Parked) {
        let lacking = parked.lacking.iter().map(|(destination, _)| destination.0).collect();
        self.sequence += 1;
        self.len += 1;
        self.queues.entry(lacking).or_default().push_back(Box::new((self.sequence, parked)));
    }

    /// The oldest trace that one of the ready destinations lacks.
    pub(super) fn pop(&mut self, ready: impl Fn(Destination) -> bool) -> Option<Parked> {
        let is_ready = |lacking: &[usize]| lacking.iter().any(|number| ready(Destination(*number)));
        let fronts = self.queues.iter().filter(|(lacking, _)| is_ready(lacking));
        let fronts = fronts.filter_map(|(lacking, queue)| Some((queue.front()?.0, lacking)));
        let (_, lacking) = fronts.min()?;
        let lacking = lacking.clone();
        let queue = self.queues.get_mut(&lacking)?;
        let (_, parked) = *queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&lacking);
        }
        self.len -= 1;
        Some(parked)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
