//! What one destination is to have of one trace.
//!
//! A trace may go out in several requests. Its spans are settled together, when all of them have found their end: were the
//! received ones settled request by request, a kill could come after the last of them and before the added ones. The
//! journal would call the trace done, and nobody would send the added spans again.

use std::sync::Arc;

use parking_lot::Mutex;

use super::accounts::Accounts;
use crate::{
    ledger::Account,
    trace::{EnrichedTrace, Piece, Settlement},
};

/// Held by all pieces of the trace that are on their way to the destination; settles when the last one is gone. Pieces
/// that go without an end leave their spans unsettled.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) trace: Arc<EnrichedTrace>,
    accounts: Arc<Accounts>,
    ends: Mutex<Ends>,
}

#[derive(Debug, Default)]
struct Ends {
    /// Received spans that the destination has: mostly all.
    delivered: u64,
    /// The others by where they are now.
    others: Vec<(Account, u64)>,
    /// The added spans are left to the next start, which sends them with the trace, or not at all.
    lacks_added: bool,
}

impl Share {
    pub(super) fn new(trace: Arc<EnrichedTrace>, accounts: Arc<Accounts>) -> Self {
        Self { trace, accounts, ends: Mutex::default() }
    }

    /// This piece has found its end.
    pub(super) fn end(&self, piece: &Piece, account: Account) {
        self.accounts.count_added(account, piece.added_spans);
        self.end_spans(account, piece.app_spans);
    }

    /// The same for some received spans of a piece.
    pub(super) fn end_spans(&self, account: Account, spans: u64) {
        if spans > 0 {
            self.ends.lock().add(account, spans);
        }
    }

    /// The program ends before the piece could be sent. What the journal has is left to the next start.
    pub(super) fn leave(&self, piece: &Piece, account: Account) {
        if !self.trace.lease.is_kept() {
            self.end(piece, account);
        } else if piece.added_spans > 0 {
            self.ends.lock().lacks_added = true;
        }
    }

    /// All pieces of the trace are gone: what they came to is settled, once.
    pub(super) fn settle(&mut self, settlement: &mut Settlement) {
        let Ends { delivered, others, lacks_added } = std::mem::take(self.ends.get_mut());
        if lacks_added {
            return;
        }
        for (account, spans) in others.into_iter().chain([(Account::Delivered, delivered)]) {
            self.accounts.settle_in(settlement, &self.trace.lease, account, spans);
        }
    }
}

impl Ends {
    fn add(&mut self, account: Account, spans: u64) {
        if account == Account::Delivered {
            self.delivered += spans;
            return;
        }
        match self.others.iter_mut().find(|(same, _)| *same == account) {
            Some((_, sum)) => *sum += spans,
            None => self.others.push((account, spans)),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut settlement = Settlement::at(self.accounts.destination);
        self.settle(&mut settlement);
    }
}
