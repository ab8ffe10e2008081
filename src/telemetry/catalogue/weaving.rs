//! Series of weaving.

use metrics::Counter;

use super::declare::{Declare, Family};

/// See [`Metrics::weaving`](super::Metrics::weaving).
#[derive(Debug)]
pub struct WeavingMetrics {
    /// 0 system, 1 network.
    pub added_spans: Family<Counter>,
    /// Woven traces that went out as they came.
    pub unwoven_traces: Counter,
    /// App spans with a new parent.
    pub reparented_spans: Counter,
    /// Found spans left out because `weaving.network_spans` is `off`.
    pub omitted_spans: Counter,
    /// Parents that went out and were found wrong later.
    pub stale_parents: Counter,
    /// Calls that were left for the next part of their trace.
    pub deferred_calls: Counter,
    /// Spans over the limits on what is known of a trace's earlier parts: 0 received ones not remembered, 1 found ones
    /// left out.
    pub beyond_limit_spans: Family<Counter>,
    /// Received spans whose trace had gone on already: 0 enriched, 1 forwarded.
    pub late_spans: Family<Counter>,
    /// Texts of added spans that may hold people's data. By kind: 0 SQL, 1 query of a URL, 2 command. By outcome: 0 clean,
    /// 1 masked, 2 withheld, 3 raw.
    pub texts: [Family<Counter>; 3],
}

impl WeavingMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        let mut texts = |text| {
            declare.counters(
                "tracestitch_weaving_texts_total",
                &[("text", text)],
                "outcome",
                &["clean", "masked", "withheld", "raw"],
                "SQL, query strings and commands of added spans, by what weaving.masking made of them: nothing to mask, masked, left out, or exported as DeepFlow returned them.",
            )
        };
        let texts = [texts("sql"), texts("url_query"), texts("command")];
        Self {
            texts,
            added_spans: declare.counters(
                "tracestitch_weaving_added_spans_total",
                &[],
                "kind",
                &["system", "network"],
                "Spans added to traces, those of unwoven traces included.",
            ),
            unwoven_traces: declare.counter(
                "tracestitch_weaving_unwoven_traces_total",
                &[],
                "Woven traces that went out as they came, for the journal had no room for their plan.",
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
            stale_parents: declare.counter(
                "tracestitch_weaving_stale_parents_total",
                &[],
                "Parents that went out with a part of a trace and were found wrong with a later one. They stay.",
            ),
            deferred_calls: declare.counter(
                "tracestitch_weaving_deferred_calls_total",
                &[],
                "Calls found for a part of a trace that wait for the next one, for no span of theirs was there yet.",
            ),
            beyond_limit_spans: declare.counters(
                "tracestitch_weaving_beyond_limit_spans_total",
                &[],
                "kind",
                &["received", "found"],
                "Spans of traces in parts with more than 10000 received or added ones: received spans that are not remembered for later parts, found spans that are left out.",
            ),
            late_spans: declare.counters(
                "tracestitch_late_spans_total",
                &[],
                "action",
                &["enriched", "forwarded"],
                "Received spans whose trace had gone on already: enriched with the context of what went before, or forwarded as they came.",
            ),
        }
    }
}
