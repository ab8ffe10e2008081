//! A small shop that makes traffic: what its SDKs send, what DeepFlow's agents see of it, and how the two belong
//! together, written down by hand.
//!
//! ```text
//! outside → ingress-nginx → shop-web ─┬→ cart → redis
//!                                     ├→ legacy-pricing → stock → mysql
//!                                     ├→ [envoy] payment → bank (outside)
//!                                     └→ orders (gRPC)
//! ```
//!
//! shop-web, cart, stock, payment and orders have an SDK; all else does not.

mod browse;
mod cast;
mod checkout;
mod payment;
mod script;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use self::script::Script;
use super::deepflow::Row;
use crate::trace::{SpanId, TraceId};

/// The traces begin this much after each other, so that they overlap.
const STAGGER_NS: u64 = 7_000_000;

/// One round through the shop: three traces at about the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// What the SDKs send: one request for each service, spans of several traces in it, in the order they ended.
    pub requests: Vec<ExportTraceServiceRequest>,
    /// What the agents wrote, for the row store of the simulated DeepFlow.
    pub rows: Vec<Row>,
    /// The traces, in the order they begin.
    pub trace_ids: Vec<TraceId>,
    edges: Vec<Edge>,
}

/// One edge of an enriched trace as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The trace.
    pub trace_id: TraceId,
    /// The parent; a row's span id is its `_id`.
    pub parent: SpanId,
    /// The child.
    pub child: SpanId,
    /// Both in words: `app GET /cart [shop-web] > system c-p GET /cart`.
    pub words: String,
}

/// One trace as it is played, and what hangs below what in it.
struct Story {
    play: fn(&mut Script<'_>),
    /// Paths of labels; every two neighbours are an edge.
    paths: &'static [&'static [&'static str]],
}

/// A round. The same seed gives the same ids, the same begin the same times.
pub fn round(seed: u64, start_ns: u64) -> Round {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut round =
        Round { requests: Vec::new(), rows: Vec::new(), trace_ids: Vec::new(), edges: Vec::new() };
    let mut spans = Vec::new();
    for (place, story) in (0..).zip([checkout::STORY, browse::STORY, payment::STORY]) {
        let mut script = Script::new(&mut rng, start_ns + place * STAGGER_NS);
        (story.play)(&mut script);
        round.trace_ids.push(script.trace_id());
        round.edges.extend(story.paths.iter().flat_map(|path| script.edges(path)));
        let (played, rows) = script.end();
        spans.extend(played);
        round.rows.extend(rows);
    }
    round.requests = cast::requests(spans);
    round
}

impl Round {
    /// Every edge that the enriched traces must have: each hop between app, system and network spans.
    ///
    /// Spans without an edge here are roots, or the caller is not part of the trace.
    pub fn expected_edges(&self) -> &[Edge] {
        &self.edges
    }

    /// How many app spans the requests hold.
    pub fn app_spans(&self) -> usize {
        let resources = self.requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len()).sum()
    }
}
