//! Accounts of one destination: ledger and metrics in one step.

use std::sync::Arc;

use crate::{
    ledger::{Account, Destination},
    telemetry::catalogue::ExporterMetrics,
    trace::Lease,
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
        if spans == 0 {
            return;
        }
        match account {
            Account::Delivered => self.metrics.sent_spans.increment(spans),
            Account::DeadLettered => self.metrics.dead_lettered_spans.increment(spans),
            Account::Dropped(reason) => self.metrics.send_failed_spans.add(reason as usize, spans),
            Account::Held | Account::HandedBack => {}
        }
        lease.settle(self.destination, account, spans);
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
