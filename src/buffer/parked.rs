//! Traces that wait in the journal for destinations which can't take them now, oldest first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::packed::{Packed, Unpacked};
use crate::{
    ledger::Destination,
    memory::{Budget, Reservation, Stage},
    trace::{Durable, Parked},
};

/// By who lacks them, so that a destination that is down is not looked through for one that is up.
#[derive(Debug)]
pub(super) struct ParkedTraces {
    queues: BTreeMap<Vec<usize>, VecDeque<Packed>>,
    sequence: u64,
    len: usize,
    memory: Reservation,
    /// Where all of them are; `None` while there is none.
    durable: Option<Arc<dyn Durable>>,
}

impl ParkedTraces {
    /// None yet; what is kept of them is in the budget.
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            queues: BTreeMap::new(),
            sequence: 0,
            len: 0,
            memory: budget.claim(Stage::Parked, 0),
            durable: None,
        }
    }

    pub(super) fn push(&mut self, parked: Parked) {
        let lacking = parked.lacking.iter().map(|(destination, _)| destination.0).collect();
        self.sequence += 1;
        self.len += 1;
        let Parked { durable, places, lacking: spans, life, .. } = parked;
        let packed = Packed::new(self.sequence, &Unpacked { places, lacking: spans, life });
        self.memory.resize(self.memory.bytes() + packed.bytes());
        self.queues.entry(lacking).or_default().push_back(packed);
        self.durable = Some(durable);
    }

    /// The oldest trace that one of the ready destinations lacks.
    pub(super) fn pop(&mut self, ready: impl Fn(Destination) -> bool) -> Option<Parked> {
        let is_ready = |lacking: &[usize]| lacking.iter().any(|number| ready(Destination(*number)));
        let fronts = self.queues.iter().filter(|(lacking, _)| is_ready(lacking));
        let fronts =
            fronts.filter_map(|(lacking, queue)| Some((queue.front()?.sequence(), lacking)));
        let (_, lacking) = fronts.min()?;
        let lacking = lacking.clone();
        let queue = self.queues.get_mut(&lacking)?;
        let packed = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&lacking);
        }
        self.len -= 1;
        let durable = if self.len == 0 { self.durable.take() } else { self.durable.clone() };
        self.memory.resize(self.memory.bytes().saturating_sub(packed.bytes()));
        let Unpacked { places, lacking, life } = packed.unpack();
        let plan = *places.last()?;
        Some(Parked { durable: durable?, places, plan, lacking, life })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
