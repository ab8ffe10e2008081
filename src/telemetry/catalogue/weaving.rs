//! Series of weaving.

use metrics::Counter;

use super::declare::{Declare, Family};

/// See [`Metrics::weaving`].
#[derive(Debug)]
pub struct WeavingMetrics {
    /// 0 system, 1 network.
    pub added_spans: Family<Counter>,
    /// App spans with a new parent.
    pub reparented_spans: Counter,
    /// Found spans left out because `weaving.network_spans` is `off`.
    pub omitted_spans: Counter,
}

impl WeavingMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        Self {
            added_spans: declare.counters(
                "tracestitch_weaving_added_spans_total",
                &[],
                "kind",
                &["system", "network"],
                "Spans added to traces.",
            ),
            reparented_spans: declare.counter(
                "tracestitch_weaving_reparented_spans_total",
                &[],
                "Received spans that hang below an added span now.",
            ),
            omitted_spans: declare.counter(
                "tracestitch_weaving_omitted_spans_total",
                &[],
                "Network spans left out because weaving.network_spans is off.",
            ),
        }
    }
}
