//! Accounts of one destination: ledger and metrics in one step.

use std::sync::Arc;

use super::share::Share;
use crate::{
    ledger::{Account, Destination},
    telemetry::catalogue::ExporterMetrics,
    trace::{Lease, Settlement},
};

/// Who a destination is, and where its spans are counted.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) name: String,
    pub(super) destination: Destination,
    pub(super) metrics: Arc<ExporterMetrics>,
}

impl Accounts {
    /// These received spans have found their end.
    pub(super) fn settle(&self, lease: &Lease, account: Account, spans: u64) {
        let mut settlement = Settlement::at(self.destination);
        self.settle_in(&mut settlement, lease, account, spans);
    }

    /// Traces that nothing more is on its way of, told to ledger and journal at once, before they go.
    pub(super) fn settle_all(&self, mut shares: Vec<Share>) {
        let mut settlement = Settlement::at(self.destination);
        for share in &mut shares {
            share.settle(&mut settlement);
        }
        drop(settlement);
    }

    /// Received spans have found their end, together with others.
    pub(super) fn settle_in(
        &self,
        settlement: &mut Settlement,
        lease: &Lease,
        account: Account,
        spans: u64,
    ) {
        if spans == 0 {
            return;
        }
        match account {
            Account::Delivered => self.metrics.sent_spans.increment(spans),
            Account::DeadLettered => self.metrics.dead_lettered_spans.increment(spans),
            Account::Dropped(reason) => self.metrics.send_failed_spans.add(reason as usize, spans),
            Account::Held | Account::HandedBack => {}
        }
        settlement.add(lease, account, spans);
    }

    /// The same for added spans, which the ledger does not know: nobody waits for them.
    pub(super) fn count_added(&self, account: Account, spans: u64) {
        match account {
            Account::Delivered => self.metrics.sent_added_spans.increment(spans),
            Account::Dropped(reason) => {
                self.metrics.send_failed_added_spans.add(reason as usize, spans);
            }
            Account::DeadLettered | Account::Held | Account::HandedBack => {}
        }
    }
}
