//! Trace and answer become one trace, in two steps: [`plan`] decides, [`apply()`] writes. Pure and total: no I/O, no
//! clock, no error.
//!
//! DeepFlow's releases since v6.5 do not attach what they found to the spans that were posted; [`mod@lineage`] does.

mod added;
mod apply;
mod attributes;
pub mod identity;
pub mod lineage;
pub mod masking;
mod network;
mod plan;
mod protocol;
mod resource;
mod ring;
mod statement;
mod turn;

use serde::{Deserialize, Serialize};

pub use self::{
    apply::{apply, unchanged},
    masking::{Masking, Texts},
    plan::{Part, Planned, plan},
};
use crate::trace::{
    Answer, EnrichedTrace, Found, Fragment, Lease, Piece, Plan, QuietTrace, Sent, Skip, TraceId,
    TraceKey,
};

/// How found spans become part of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// inline: on the line between client and server, the full way of a request. beside: a branch of its own below
    /// the client's process, so that client and server stay neighbours for service graphs. off: left out.
    pub network_spans: NetworkSpans,
    /// Kind of process spans. span: CLIENT and SERVER. internal: INTERNAL, so that span metrics count a call once.
    pub system_kind: SystemKind,
    /// Kind of network spans. internal: INTERNAL. span: CLIENT and SERVER by side.
    pub network_kind: NetworkKind,
    /// What becomes of texts that may hold people's data.
    pub masking: Masking,
}

/// Where network spans go.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum NetworkSpans {
    /// On the line.
    #[default]
    Inline,
    /// A branch of their own.
    Beside,
    /// Left out.
    Off,
}

/// Span kind of process spans.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SystemKind {
    /// CLIENT or SERVER.
    #[default]
    Span,
    /// INTERNAL.
    Internal,
}

/// Span kind of network spans.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// INTERNAL: a call has one client and one server, not seven.
    #[default]
    Internal,
    /// CLIENT or SERVER by side.
    Span,
}

/// What weaving did to a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Woven {
    /// Process spans added.
    pub system: u64,
    /// Network spans added.
    pub network: u64,
    /// Network spans left out by configuration; with each part of a trace whose answer has them.
    pub omitted: u64,
    /// Received spans with a new parent.
    pub reparented: u64,
    /// Parents of earlier parts that this part's answer shows to be wrong, each once.
    pub stale_parents: u64,
    /// Calls left for the next part.
    pub deferred_calls: u64,
    /// Spans found for a part and left out, for what earlier parts added is not known in full any more.
    pub beyond_limit: u64,
    /// Received spans of earlier parts that are not remembered any more.
    pub forgotten_spans: u64,
    /// Late spans of a part for which there was an answer.
    pub late_enriched: u64,
    /// Late spans of a part that went on without.
    pub late_forwarded: u64,
    /// Texts of added spans that may hold people's data.
    pub texts: Texts,
}

/// A trace and what is to become of it.
#[derive(Debug)]
pub struct WovenTrace {
    /// Whose trace.
    pub key: TraceKey,
    /// As they came.
    pub fragments: Vec<Fragment>,
    /// What changes in them, and what is added.
    pub plan: Plan,
    /// Ends when the trace is delivered.
    pub lease: Lease,
    /// What the plan comes to, for the metrics.
    pub woven: Woven,
    /// What the trace's next part must know; `None` where nothing is ever added.
    pub sent: Option<Sent>,
}

/// Joins a trace, or a part of one, with what was found. Without an answer it goes on as it came.
pub fn weave(trace: Box<QuietTrace>, answer: Answer, config: &Config) -> WovenTrace {
    let QuietTrace { key, fragments, lease, sent, more, .. } = *trace;
    let part = Part { id: key.id, fragments: &fragments, sent: sent.as_deref(), more };
    let (plan, woven, sent) = match answer {
        Answer::Skipped(Skip::Disabled) => (Plan::default(), Woven::default(), None),
        Answer::Skipped(_) => split(plan(&part, None, config)),
        Answer::Found(found) => split(plan(&part, Some(&found), config)),
    };
    WovenTrace { key, fragments, plan, lease, woven, sent }
}

fn split(planned: Planned) -> (Plan, Woven, Option<Sent>) {
    (planned.plan, planned.woven, Some(planned.sent))
}

impl WovenTrace {
    /// The trace as it leaves.
    pub fn into_enriched(self) -> EnrichedTrace {
        let Self { key, fragments, plan, lease, .. } = self;
        let pieces = if plan.is_empty() { unchanged(fragments) } else { apply(&fragments, &plan) };
        EnrichedTrace { key, pieces, lease }
    }
}

/// The pieces of a whole trace: each fragment with its new parents, and one piece of added spans.
pub fn pieces(
    trace_id: TraceId,
    fragments: &[Fragment],
    found: &Found,
    config: &Config,
) -> (Vec<Piece>, Woven) {
    let whole = Part { id: trace_id, fragments, sent: None, more: false };
    let Planned { plan, woven, .. } = plan(&whole, Some(found), config);
    (apply(fragments, &plan), woven)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
