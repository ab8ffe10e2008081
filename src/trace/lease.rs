//! What a released trace holds until every destination has it or has given it up.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    ledger::{Account, Destination, DropReason, Ledger},
    memory::{Reservation, Stage},
};

/// Memory, and the duty to account for the spans at every destination. Ends on drop, when the memory is given back and
/// spans that nobody accounted for show up as `lost`.
///
/// Without a journal there is no space on disk to release yet; the journal's lease will end here, too.
#[derive(Debug)]
pub struct Lease {
    ledger: Arc<Ledger>,
    spans: u64,
    settled: Vec<AtomicU64>,
    memory: parking_lot::Mutex<Reservation>,
}

impl Lease {
    /// A lease for this many held spans.
    pub fn new(ledger: Arc<Ledger>, spans: u64, memory: Reservation) -> Self {
        let settled = (0..ledger.destinations()).map(|_| AtomicU64::new(0)).collect();
        Self { ledger, spans, settled, memory: parking_lot::Mutex::new(memory) }
    }

    /// Some of the spans found their end at a destination.
    pub fn settle(&self, destination: Destination, account: Account, spans: u64) {
        if let Some(settled) = self.settled.get(destination.0) {
            settled.fetch_add(spans, Relaxed);
        }
        self.ledger.settle(destination, account, spans);
    }

    /// All spans that have not found their end at a destination find it now.
    pub fn settle_rest(&self, destination: Destination, account: Account) {
        let rest = self.unsettled(destination.0);
        if rest > 0 {
            self.settle(destination, account, rest);
        }
    }

    /// The trace is in this stage now and holds this many bytes.
    pub fn hold(&self, stage: Stage, bytes: u64) {
        let mut memory = self.memory.lock();
        memory.transfer(stage);
        memory.resize(bytes);
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.memory.lock().bytes()
    }

    fn unsettled(&self, destination: usize) -> u64 {
        let settled = self.settled.get(destination).map_or(0, |settled| settled.load(Relaxed));
        self.spans.saturating_sub(settled)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        for destination in 0..self.settled.len() {
            let lost = self.unsettled(destination);
            if lost > 0 {
                let reason = self.ledger.reason_for_letting_go();
                if reason == DropReason::Lost {
                    tracing::error!(
                        destination,
                        spans = lost,
                        "spans were let go without an account"
                    );
                }
                self.ledger.settle(Destination(destination), Account::Dropped(reason), lost);
            }
        }
    }
}
