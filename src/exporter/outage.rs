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
    queued::Queued,
    share::Share,
};
use crate::{
    ledger::{Account, Destination, DropReason},
    trace::{EnrichedTrace, Piece},
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

/// Where a trace can wait that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// It leaves memory and comes back.
    InJournal,
    /// The pipeline waits with it.
    BeforeQueue,
    /// A trace of added spans alone: nobody was promised these, so they hold up nobody.
    Nowhere,
}

impl Waits {
    fn of(trace: &EnrichedTrace) -> Self {
        match (trace.app_spans(), trace.lease.can_park()) {
            (0, _) => Self::Nowhere,
            (_, true) => Self::InJournal,
            (_, false) => Self::BeforeQueue,
        }
    }

    fn overflow(self) -> Overflow {
        match self {
            Self::InJournal => Overflow::Park,
            Self::BeforeQueue => Overflow::Wait,
            Self::Nowhere => Overflow::Drop,
        }
    }
}

impl OnOutage {
    /// What is configured, else what is right for the place: only the first destination may hold up the others.
    pub(super) fn of(exporter: &ExporterConfig, destination: Destination) -> Self {
        let by_place = if destination.0 == 0 { Self::Hold } else { Self::DeadLetter };
        exporter.on_outage().unwrap_or(by_place)
    }

    fn overflow(self, waits: Waits, is_relieved: bool, has_letters: bool) -> Overflow {
        match self {
            // Where nothing can be put down, holding is the lesser evil, and dropping what was asked for.
            Self::Hold if is_relieved && has_letters => Overflow::DeadLetter,
            Self::Hold => waits.overflow(),
            Self::DeadLetter if has_letters => Overflow::DeadLetter,
            Self::DeadLetter | Self::Drop => Overflow::Drop,
        }
    }
}

impl Outage {
    /// What is to be done with this trace while the queue is full.
    pub(super) fn overflow(&self, trace: &EnrichedTrace) -> Overflow {
        self.overflow_of(Waits::of(trace))
    }

    /// A trace from the journal can come although the queue is full: it will not go back there.
    pub(super) fn takes_all(&self) -> bool {
        match self.overflow_of(Waits::InJournal) {
            Overflow::Wait | Overflow::Park => false,
            Overflow::DeadLetter => self.dead_letters.as_ref().is_some_and(|to| to.have_room()),
            Overflow::Drop => true,
        }
    }

    fn overflow_of(&self, waits: Waits) -> Overflow {
        let is_relieved = !self.is_first && self.relieved.load(Relaxed);
        self.on_outage.overflow(waits, is_relieved, self.dead_letters.is_some())
    }

    /// The whole trace goes to the dead-letter file. While that is behind by many bytes nobody waits for it but traces
    /// that can wait nowhere else. False: the trace is not taken, and waits for its return from the journal.
    pub(super) async fn dead_letter(&self, trace: &Arc<EnrichedTrace>) -> bool {
        let Some(dead_letters) = &self.dead_letters else {
            self.drop_trace(trace);
            return true;
        };
        let Err(letter) = dead_letters.put_if_room(self.letter(trace)) else { return true };
        match Waits::of(trace) {
            Waits::InJournal => return false,
            Waits::BeforeQueue => dead_letters.put_when_room(letter).await,
            Waits::Nowhere => self.drop_trace(trace),
        }
        true
    }

    fn letter(&self, trace: &Arc<EnrichedTrace>) -> Letter {
        let share = Arc::new(Share::new(Arc::clone(trace), Arc::clone(&self.accounts)));
        let part = |piece: &Piece| (Arc::clone(&share), piece.clone());
        Letter {
            accounts: Arc::clone(&self.accounts),
            reason: DropReason::QueueFull,
            origin: trace.key.origin.clone(),
            parts: trace.pieces.iter().map(part).collect(),
        }
    }

    /// Dropped, for this destination.
    pub(super) fn drop_trace(&self, trace: &EnrichedTrace) {
        let account = Account::Dropped(DropReason::QueueFull);
        self.accounts.settle(&trace.lease, account, trace.app_spans());
        self.accounts.count_added(account, trace.added_spans());
    }

    /// The destination will never have this batch.
    pub(super) fn give_up(&self, batch: Batch<Arc<Queued>>, reason: DropReason) {
        let Batch { origin, items, .. } = batch;
        let (queued, pieces): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let shares = queued.iter().map(|queued| Arc::clone(&queued.share));
        let parts = shares.zip(pieces);
        match (self.on_outage, &self.dead_letters) {
            (OnOutage::Hold | OnOutage::DeadLetter, Some(dead_letters)) => {
                let (accounts, parts) = (Arc::clone(&self.accounts), parts.collect());
                dead_letters.put_queued(Letter { accounts, reason, origin, parts }, queued);
            }
            _ => parts.for_each(|(share, piece)| share.end(&piece, Account::Dropped(reason))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_does_what_on_outage_says() {
        use OnOutage::{DeadLetter, Drop, Hold};
        use Waits::{BeforeQueue, InJournal, Nowhere};
        let table = [
            // (on_outage, where it can wait, the journal is nearly full, there are dead letters)
            (Hold, InJournal, false, true, Overflow::Park),
            (Hold, BeforeQueue, false, true, Overflow::Wait),
            (Hold, Nowhere, false, true, Overflow::Drop),
            (Hold, InJournal, true, true, Overflow::DeadLetter),
            (Hold, BeforeQueue, true, true, Overflow::DeadLetter),
            (Hold, InJournal, true, false, Overflow::Park),
            (Hold, BeforeQueue, true, false, Overflow::Wait),
            (Hold, Nowhere, true, false, Overflow::Drop),
            (DeadLetter, InJournal, false, true, Overflow::DeadLetter),
            (DeadLetter, Nowhere, false, true, Overflow::DeadLetter),
            (DeadLetter, InJournal, false, false, Overflow::Drop),
            (DeadLetter, BeforeQueue, true, true, Overflow::DeadLetter),
            (Drop, InJournal, false, true, Overflow::Drop),
            (Drop, BeforeQueue, true, true, Overflow::Drop),
        ];
        for (on_outage, waits, is_relieved, has_letters, expected) in table {
            let overflow = on_outage.overflow(waits, is_relieved, has_letters);
            assert_eq!(overflow, expected, "{on_outage:?} {waits:?} {is_relieved} {has_letters}");
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
