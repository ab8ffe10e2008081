//! Accounts of one destination: ledger and metrics in one step.

use std::sync::Arc;

use crate::{
    ledger::{Account, Destination, DropReason},
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
    /// The destination has these spans.
    pub(super) fn delivered(&self, lease: &Lease, spans: u64) {
        if spans > 0 {
            self.metrics.sent_spans.increment(spans);
            lease.settle(self.destination, Account::Delivered, spans);
        }
    }

    /// These spans are in the dead-letter file.
    pub(super) fn dead_lettered(&self, lease: &Lease, spans: u64) {
        if spans > 0 {
            self.metrics.dead_lettered_spans.increment(spans);
            lease.settle(self.destination, Account::DeadLettered, spans);
        }
    }

    /// These spans are given up.
    pub(super) fn dropped(&self, lease: &Lease, reason: DropReason, spans: u64) {
        if spans > 0 {
            self.metrics.send_failed_spans.add(reason as usize, spans);
            lease.settle(self.destination, Account::Dropped(reason), spans);
        }
    }
}
