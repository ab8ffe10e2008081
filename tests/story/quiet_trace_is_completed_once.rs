//! Scenario: a round through the shop, every span a request of its own, shuffled, from five senders at once.
//! Guarantees: each trace is asked for once, with all of its spans, and woven once: every span of the SDKs arrives once
//! and as it was sent, every edge of the shop's own list is there, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans},
};
use tokio::task::JoinSet;
use tracestitch::{
    clock,
    demo::{
        deepflow::DeepflowConfig,
        shop::{self, Edge},
    },
    trace::{SpanId, TraceId},
};

use crate::support::{self, Setup, World};

const SENDERS: usize = 5;

#[tokio::test]
async fn quiet_trace_is_completed_once() {
    let round = shop::round(7, (clock::wall_us() - 2_000_000) * 1000);
    let deepflow = DeepflowConfig { rows: round.rows.clone(), ..DeepflowConfig::default() };
    let deepflow_keys = "timeout: 2s, deadline: 5s, org_id: '7'";
    let setup = Setup { buffer: "idle: 1s", deepflow: deepflow_keys, ..Setup::default() };
    let world = World::with(deepflow, setup).await;

    let sent: Vec<_> = round.requests.iter().flat_map(support::spans_of).collect();
    let mut fragments: Vec<_> = round.requests.iter().flat_map(one_span_each).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut fragments);
    let mut senders = JoinSet::new();
    for part in fragments.chunks(fragments.len().div_ceil(SENDERS)) {
        let (sender, part) = (support::sender(&world.pipeline), part.to_vec());
        senders.spawn(async move {
            for fragment in part {
                sender.send(&fragment).await.expect("the fragment is taken");
            }
        });
    }
    senders.join_all().await;
    world.settled(sent.len()).await;

    let asks = world.deepflow.requests();
    let asked: BTreeMap<String, usize> =
        asks.iter().map(|ask| (ask.trace_id.clone(), ask.spans)).collect();
    let of_trace = |id: &TraceId| sent.iter().filter(|span| span.trace_id == id.to_wire()).count();
    let expected: BTreeMap<String, usize> =
        round.trace_ids.iter().map(|id| (id.to_string(), of_trace(id))).collect();
    assert_eq!((asked, asks.len()), (expected, round.trace_ids.len()));
    assert!(asks.iter().all(|ask| ask.org_id.as_deref() == Some("7")));

    let arrived = support::spans_at(&world.backend);
    let parents: BTreeMap<SpanId, Option<SpanId>> = arrived
        .iter()
        .map(|span| {
            let id = SpanId::from_wire(&span.span_id).expect("ids are good");
            (id, SpanId::from_wire(&span.parent_span_id))
        })
        .collect();
    assert_eq!(parents.len(), arrived.len(), "every span once");
    let wrong = |edge: &&Edge| parents.get(&edge.child) != Some(&Some(edge.parent));
    let wrong: Vec<_> =
        round.expected_edges().iter().filter(wrong).map(|edge| &edge.words).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let named: BTreeSet<SpanId> =
        round.expected_edges().iter().flat_map(|edge| [edge.parent, edge.child]).collect();
    assert_eq!(parents.keys().copied().collect::<BTreeSet<_>>(), named);

    let added = support::assert_arrived(&sent, arrived);
    assert!(!added.is_empty());
    assert_eq!(world.metric("tracestitch_completion_completed_traces_total"), 3);
    assert_eq!(world.metric("tracestitch_buffer_released_traces_total{reason=\"idle\"}"), 3);
    world.end(&[]).await;
}

/// Requests of one span each, under the same resource and scope.
fn one_span_each(request: &ExportTraceServiceRequest) -> Vec<ExportTraceServiceRequest> {
    let mut fragments = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            fragments.extend(scope.spans.iter().map(|span| {
                let scope = ScopeSpans { spans: vec![span.clone()], ..scope.clone() };
                let resource = ResourceSpans { scope_spans: vec![scope], ..resource.clone() };
                ExportTraceServiceRequest { resource_spans: vec![resource] }
            }));
        }
    }
    fragments
}
