//! What becomes of traces that a destination can't take now, or never.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{
    ExporterConfig, OnOutage,
    accounts::Accounts,
    batch::Batch,
    dead_letter::{DeadLetters, Letter},
    queue::Queued,
};
use crate::{
    ledger::{Destination, DropReason},
    trace::EnrichedTrace,
};

/// One destination's way with what it can't take.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) on_outage: OnOutage,
    pub(super) is_first: bool,
    /// The journal is nearly full: further destinations hold nothing.
    pub(super) relieved: Arc<AtomicBool>,
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    pub(super) accounts: Arc<Accounts>,
}

/// What a full queue does with the next trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The trace waits for room, and the pipeline with it.
    Wait,
    /// The trace is not queued: its lease brings it back from the journal.
    Park,
    /// To the dead-letter file.
    DeadLetter,
    /// It is dropped, for this destination.
    Drop,
}

impl OnOutage {
    /// What is configured, else what is right for the place: only the first destination may hold up the others.
    pub(super) fn of(exporter: &ExporterConfig, destination: Destination) -> Self {
        let by_place = if destination.0 == 0 { Self::Hold } else { Self::DeadLetter };
        exporter.on_outage().unwrap_or(by_place)
    }

    fn overflow(self, can_park: bool, is_relieved: bool) -> Overflow {
        match self {
            Self::Hold if is_relieved => Overflow::DeadLetter,
            Self::Hold if can_park => Overflow::Park,
            Self::Hold => Overflow::Wait,
            Self::DeadLetter => Overflow::DeadLetter,
            Self::Drop => Overflow::Drop,
        }
    }
}

impl Outage {
    /// What is to be done with this trace while the queue is full.
    pub(super) fn overflow(&self, trace: &EnrichedTrace) -> Overflow {
        let is_relieved = !self.is_first && self.relieved.load(Relaxed);
        let overflow = self.on_outage.overflow(trace.lease.can_park(), is_relieved);
        match (overflow, &self.dead_letters) {
            // Where nothing can be put down, holding is the lesser evil, and dropping what was asked for.
            (Overflow::DeadLetter, None) => match self.on_outage {
                OnOutage::Hold => self.on_outage.overflow(trace.lease.can_park(), false),
                OnOutage::DeadLetter | OnOutage::Drop => Overflow::Drop,
            },
            _ => overflow,
        }
    }

    /// The whole trace goes to the dead-letter file; waits while that is behind by many bytes.
    pub(super) async fn dead_letter(&self, trace: &Arc<EnrichedTrace>) {
        let Some(dead_letters) = &self.dead_letters else { return self.drop_trace(trace) };
        let parts = trace.pieces.iter().map(|piece| (Arc::clone(trace), piece.clone())).collect();
        let letter = Letter {
            accounts: Arc::clone(&self.accounts),
            reason: DropReason::QueueFull,
            origin: trace.key.origin.clone(),
            parts,
        };
        dead_letters.put_when_room(letter).await;
    }

    /// Dropped, for this destination.
    pub(super) fn drop_trace(&self, trace: &EnrichedTrace) {
        self.accounts.dropped(&trace.lease, DropReason::QueueFull, trace.app_spans());
    }

    /// The destination will never have this batch.
    pub(super) fn give_up(&self, batch: Batch<Arc<Queued>>, reason: DropReason) {
        let Batch { origin, items, .. } = batch;
        let parts = items.into_iter().map(|(queued, piece)| (Arc::clone(&queued.trace), piece));
        match (self.on_outage, &self.dead_letters) {
            (OnOutage::Hold | OnOutage::DeadLetter, Some(dead_letters)) => {
                let accounts = Arc::clone(&self.accounts);
                dead_letters.put(Letter { accounts, reason, origin, parts: parts.collect() });
            }
            _ => parts.for_each(|(trace, piece)| {
                self.accounts.dropped(&trace.lease, reason, piece.app_spans);
            }),
        }
    }

    /// The program ends before this batch could be sent. What the journal has is left to the next start: its lease
    /// says so.
    pub(super) fn leave(&self, batch: &Batch<Arc<Queued>>) {
        for (queued, piece) in &batch.items {
            let lease = &queued.trace.lease;
            if !lease.is_kept() {
                self.accounts.dropped(lease, DropReason::Shutdown, piece.app_spans);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_does_what_on_outage_says() {
        use OnOutage::{DeadLetter, Drop, Hold};
        let table = [
            // (on_outage, the journal has the trace, the journal is nearly full)
            (Hold, true, false, Overflow::Park),
            (Hold, false, false, Overflow::Wait),
            (Hold, true, true, Overflow::DeadLetter),
            (Hold, false, true, Overflow::DeadLetter),
            (DeadLetter, true, false, Overflow::DeadLetter),
            (DeadLetter, false, true, Overflow::DeadLetter),
            (Drop, true, false, Overflow::Drop),
            (Drop, false, true, Overflow::Drop),
        ];
        for (on_outage, can_park, is_relieved, expected) in table {
            let overflow = on_outage.overflow(can_park, is_relieved);
            assert_eq!(overflow, expected, "{on_outage:?} {can_park} {is_relieved}");
        }
    }

    #[test]
    fn by_default_only_the_first_destination_holds() {
        let silent = ExporterConfig::Debug(super::super::DebugConfig { on_outage: None });
        assert_eq!(OnOutage::of(&silent, Destination(0)), OnOutage::Hold);
        assert_eq!(OnOutage::of(&silent, Destination(1)), OnOutage::DeadLetter);
        let says =
            ExporterConfig::Debug(super::super::DebugConfig { on_outage: Some(OnOutage::Drop) });
        assert_eq!(OnOutage::of(&says, Destination(0)), OnOutage::Drop);
    }
}
