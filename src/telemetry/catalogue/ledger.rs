//! Series of the ledger, for one destination.

use metrics::{Counter, Gauge};

use super::declare::{Declare, Family, Labels};
use crate::ledger::{Books, DropReason};

#[derive(Debug)]
pub(super) struct LedgerMetrics {
    accepted: Counter,
    recovered: Counter,
    held: Gauge,
    delivered: Counter,
    dead_lettered: Counter,
    handed_back: Counter,
    dropped: Family<Counter>,
    unaccounted: Gauge,
}

impl LedgerMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>, destination: &str) -> Self {
        let labels: Labels<'_> = &[("destination", destination)];
        Self {
            accepted: declare.counter(
                "tracestitch_ledger_accepted_spans_total",
                labels,
                "Ledger: spans owed to a destination.",
            ),
            recovered: declare.counter(
                "tracestitch_ledger_recovered_spans_total",
                labels,
                "Ledger: spans that an earlier run left in the journal and a destination lacks.",
            ),
            held: declare.gauge(
                "tracestitch_ledger_held_spans",
                labels,
                "Ledger: spans held for a destination.",
            ),
            delivered: declare.counter(
                "tracestitch_ledger_delivered_spans_total",
                labels,
                "Ledger: spans a destination has.",
            ),
            dead_lettered: declare.counter(
                "tracestitch_ledger_dead_lettered_spans_total",
                labels,
                "Ledger: spans written to the dead-letter file in a destination's place.",
            ),
            handed_back: declare.counter(
                "tracestitch_ledger_handed_back_spans_total",
                labels,
                "Ledger: spans left in the journal, mostly at the end; the next start recovers them.",
            ),
            dropped: declare.counters(
                "tracestitch_ledger_dropped_spans_total",
                labels,
                "reason",
                &DropReason::ALL.map(DropReason::label),
                "Ledger: spans given up for a destination, by why.",
            ),
            unaccounted: declare.gauge(
                "tracestitch_ledger_unaccounted_spans",
                labels,
                "Ledger: accepted + recovered - delivered - dead_lettered - dropped - handed_back - held. Must be 0.",
            ),
        }
    }

    /// The books as they stand.
    pub(super) fn show(&self, books: &Books) {
        self.accepted.absolute(spans(books.accepted));
        self.recovered.absolute(spans(books.recovered));
        self.delivered.absolute(spans(books.delivered));
        self.dead_lettered.absolute(spans(books.dead_lettered));
        self.handed_back.absolute(spans(books.handed_back));
        self.held.set(number(books.held));
        self.unaccounted.set(number(books.unaccounted()));
        for reason in DropReason::ALL {
            if let Some(counter) = self.dropped.of(reason as usize) {
                counter.absolute(spans(books.dropped(reason)));
            }
        }
    }
}

fn spans(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn number(value: i64) -> f64 {
    value as f64
}
