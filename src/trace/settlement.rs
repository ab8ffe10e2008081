//! Spans of traces that find their end at one destination at the same time: the ledger and the journal hear of them once.

use std::sync::Arc;

use super::{Durable, Event, Lease, Place};
use crate::ledger::{Account, Destination, Ledger};

/// What ends together at one destination. It is told when this is dropped, which should be before the traces are.
#[derive(Debug)]
pub struct Settlement {
    destination: Destination,
    ledger: Option<Arc<Ledger>>,
    /// Spans by where they are now; mostly they all end alike.
    ends: Vec<(Account, u64)>,
    parts: Parts,
}

/// Parts in a journal that need not go to the destination again.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) durable: Option<Arc<dyn Durable>>,
    /// Other destinations still need them.
    pub(super) needed: Vec<Place>,
    /// This destination was the last one.
    pub(super) last: Vec<Place>,
}

impl Settlement {
    /// Nothing yet.
    pub fn at(destination: Destination) -> Self {
        Self { destination, ledger: None, ends: Vec::new(), parts: Parts::default() }
    }

    /// Some of a trace's spans found their end. All traces are of one pipeline: they have the same ledger and journal.
    pub fn add(&mut self, lease: &Lease, account: Account, spans: u64) {
        let spans = lease.end(self.destination, spans, &mut self.parts);
        if spans == 0 {
            return;
        }
        lease.note(Event::Settled(self.destination, account, spans));
        self.ledger.get_or_insert_with(|| Arc::clone(lease.ledger()));
        match self.ends.iter_mut().find(|(same, _)| *same == account) {
            Some((_, sum)) => *sum += spans,
            None => self.ends.push((account, spans)),
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        let Parts { durable, needed, last } = std::mem::take(&mut self.parts);
        for (account, spans) in self.ends.drain(..) {
            if let Some(ledger) = &self.ledger {
                ledger.settle(self.destination, account, spans);
            }
        }
        if let Some(durable) = durable {
            durable.done(self.destination, needed, last);
        }
    }
}
