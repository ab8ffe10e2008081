//! The shop's list of edges fits what the simulated DeepFlow finds of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tracestitch::{
    demo::shop::{self, Edge, Round},
    trace::{SpanId, TraceId},
};

use crate::support::Double;

const START_NS: u64 = 1_700_000_000_000_000_000;

/// Scenario: each trace of a round is asked for while the rows of all of them are there.
/// Guarantees: the rows found are those of the list and the heads of chains; edges inside a call are on the list.
#[tokio::test]
async fn the_list_of_edges_is_complete() {
    let round = shop::round(7, START_NS);
    let double = Double::with_rows(round.rows.clone()).await;
    for &trace_id in &round.trace_ids {
        let answered = double.post(&posted(&round, trace_id)).await;
        let body = answered.json();
        let found = body["DATA"]["tracing"].as_array().cloned().unwrap_or_default();
        let rows: Vec<&Value> = found.iter().filter(|span| span["signal_source"] != 4).collect();
        let edges: Vec<&Edge> =
            round.expected_edges().iter().filter(|edge| edge.trace_id == trace_id).collect();
        let children: BTreeSet<SpanId> = edges.iter().map(|edge| edge.child).collect();
        let named: BTreeSet<SpanId> =
            edges.iter().flat_map(|edge| [edge.parent, edge.child]).collect();
        assert_eq!(children.len(), edges.len(), "a span has one parent");

        let found_rows: BTreeSet<SpanId> = rows.iter().map(|row| row_id(row)).collect();
        let app_spans: BTreeSet<SpanId> =
            app_spans(&round, trace_id).into_iter().map(|span| span.0).collect();
        let all: BTreeSet<SpanId> = found_rows.union(&app_spans).copied().collect();
        assert_eq!(named, all, "every span of the enriched trace is on the list");
        let roots: Vec<_> = all.difference(&children).collect();
        assert_eq!(roots.len(), 1, "{roots:?}");

        let expected: BTreeMap<SpanId, SpanId> =
            edges.iter().map(|edge| (edge.child, edge.parent)).collect();
        for (child, parent) in inner_edges(&rows) {
            assert_eq!(expected.get(&child), Some(&parent), "inside a call");
        }
    }
    double.stop().await;
}

/// Scenario: two rounds of one seed.
/// Guarantees: the same ids; a different seed shares none; times begin where they should.
#[test]
fn a_round_depends_on_its_seed_alone() {
    let (one, same, other) =
        (shop::round(7, START_NS), shop::round(7, START_NS), shop::round(8, START_NS));
    assert_eq!(one, same);
    let ids = |round: &Round| round.rows.iter().map(|row| row.id).collect::<BTreeSet<_>>();
    assert_eq!(ids(&one).len(), one.rows.len(), "rows have different ids");
    assert!(ids(&one).is_disjoint(&ids(&other)));
    assert_eq!(one.rows.iter().map(|row| row.start_us).min(), Some(1_700_000_000_000_000));
}

/// Scenario: what the SDKs send.
/// Guarantees: one request for each of the five instrumented services, each with spans of several traces where it
/// played in several, and its own resource.
#[test]
fn services_send_for_themselves() {
    let round = shop::round(7, START_NS);
    assert_eq!(round.requests.len(), 5);
    assert_eq!(round.app_spans(), 18);
    let names = ["shop-web", "cart", "stock", "payment", "orders"];
    for (request, name) in round.requests.iter().zip(names) {
        let resource = request.resource_spans[0].resource.as_ref().expect("every SDK has one");
        let keys: Vec<&str> =
            resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        for key in [
            "service.name",
            "service.version",
            "telemetry.sdk.language",
            "host.name",
            "process.pid",
        ] {
            assert!(keys.contains(&key), "{key}");
        }
        let said = format!("{:?}", resource.attributes[0]);
        assert!(said.contains(name), "{said}");
    }
    let web = &round.requests[0].resource_spans[0].scope_spans[0].spans;
    let traces: Vec<_> = web.iter().map(|span| span.trace_id.clone()).collect();
    let changes = traces.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes > 2, "traces are interleaved");
    let errors =
        round.requests.iter().flat_map(|request| &request.resource_spans[0].scope_spans[0].spans);
    assert_eq!(
        errors.filter(|span| span.status.as_ref().is_some_and(|status| status.code == 2)).count(),
        4
    );
}

/// The body of an ask for one trace of the round.
pub(crate) fn posted(round: &Round, trace_id: TraceId) -> String {
    let spans: Vec<Value> = app_spans(round, trace_id).into_iter().map(|span| span.1).collect();
    json!({"app_spans": spans, "max_iteration": 30, "network_delay_us": 3_000_000}).to_string()
}

fn app_spans(round: &Round, trace_id: TraceId) -> Vec<(SpanId, Value)> {
    let scopes = round.requests.iter().flat_map(|request| &request.resource_spans[0].scope_spans);
    let spans = scopes.flat_map(|scope| &scope.spans);
    let of_trace = spans.filter(|span| TraceId::from_wire(&span.trace_id) == Some(trace_id));
    of_trace
        .map(|span| {
            let id = SpanId::from_wire(&span.span_id).expect("no zero ids");
            let parent = SpanId::from_wire(&span.parent_span_id).map(|id| id.to_string());
            let value = json!({
                "trace_id": trace_id.to_string(),
                "span_id": id.to_string(),
                "parent_span_id": parent.unwrap_or_default(),
                "span_kind": span.kind,
                "start_time_us": span.start_time_unix_nano / 1000,
                "end_time_us": span.end_time_unix_nano / 1000,
            });
            (id, value)
        })
        .collect()
}

/// Edges between rows of one TCP exchange: (child, parent).
fn inner_edges(rows: &[&Value]) -> Vec<(SpanId, SpanId)> {
    let by_name: BTreeMap<String, &Value> =
        rows.iter().map(|row| (row["deepflow_span_id"].to_string(), *row)).collect();
    let edge = |row: &&Value| {
        let parent = *by_name.get(&row["deepflow_parent_span_id"].to_string())?;
        let same_call = parent["req_tcp_seq"] == row["req_tcp_seq"] && row["req_tcp_seq"] != 0;
        same_call.then(|| (row_id(row), row_id(parent)))
    };
    rows.iter().filter_map(edge).collect()
}

fn row_id(row: &Value) -> SpanId {
    let id = row["_ids"][0].as_str().and_then(|id| id.parse().ok());
    id.and_then(SpanId::from_number).expect("a row has an id")
}
