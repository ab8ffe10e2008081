//! How: recorded traces cut into parts at random, in the order in which their spans came, each part with an answer that
//! has some more of the recorded rows, twisted, or with none. Guarantees: taken together the parts are what the whole
//! would have been: each received span once and unaltered, each row once, no ring and no parent that is not there.

use std::collections::{HashMap, HashSet};

use fastrand::Rng;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{ResourceSpans, Span},
};
use proptest::prelude::*;
use prost::Message;
use tracestitch::{
    trace::{Found, FoundParent, Fragment, Sent, SpanId, TraceId, split},
    weaving::{Config, Part, Planned, Woven, apply, pieces, plan},
    wire::splice::ORIGINAL_PARENT,
};

use crate::weave::{Recording, any_config, bare, looped, recordings, spans, trace_id, twist};

/// A part of a trace and the answer that was there for it.
struct Cut {
    fragments: Vec<Fragment>,
    answer: Option<Found>,
    more: bool,
}

/// All parts as they went out, and what weaving said of them.
struct Gone {
    trace: ExportTraceServiceRequest,
    woven: Vec<Woven>,
    sent: Sent,
}

/// Each span with its resource and scope, on its own.
fn singles(trace: &ExportTraceServiceRequest) -> Vec<ResourceSpans> {
    let mut singles = Vec::new();
    for resource in &trace.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let mut alone = resource.clone();
                let mut scope = scope.clone();
                scope.spans = vec![span.clone()];
                alone.scope_spans = vec![scope];
                singles.push(alone);
            }
        }
    }
    singles
}

fn fragments(resource_spans: Vec<ResourceSpans>) -> Vec<Fragment> {
    let request = ExportTraceServiceRequest { resource_spans };
    split(request.encode_to_vec().into()).expect("OTLP").into_fragments()
}

/// The rows that are there already; edges to others are not.
fn only(found: &Found, is_there: impl Fn(usize) -> bool) -> Found {
    let rows: Vec<usize> = (0..found.spans.len()).filter(|&row| is_there(row)).collect();
    let places: HashMap<usize, usize> = rows.iter().copied().zip(0..).collect();
    let mut out = Found { truncated: found.truncated, ..Found::default() };
    for row in rows {
        let mut span = found.spans[row].clone();
        if let FoundParent::Found(parent) = span.parent {
            let parent = places.get(&parent);
            span.parent = parent.map_or(FoundParent::Root, |parent| FoundParent::Found(*parent));
        }
        out.spans.push(span);
    }
    let edges = found.app_edges.iter();
    out.app_edges = edges.filter_map(|(id, row)| Some((*id, *places.get(row)?))).collect();
    out
}

/// An answer has each row once; twisting makes copies.
fn without_copies(found: &Found) -> Found {
    let mut rows = HashSet::new();
    let first: Vec<bool> =
        found.spans.iter().map(|span| rows.insert((span.row, span.region.clone()))).collect();
    only(found, |row| first[row])
}

/// Cut at random; the last part, and late ones behind it, have the whole answer or none.
fn cuts(rng: &mut Rng, recording: &Recording, found: &Found) -> Vec<Cut> {
    let mut rest = singles(&recording.trace);
    if rng.bool() {
        rng.shuffle(&mut rest);
    }
    let parts = rng.usize(1..6);
    let arrival: Vec<usize> = found.spans.iter().map(|_| rng.usize(..parts)).collect();
    let last = rng.usize(..parts);
    let mut cuts = Vec::new();
    for part in 0..parts {
        let is_end = part + 1 == parts;
        let own = if is_end { rest.len() } else { rng.usize(..=rest.len()) };
        let own: Vec<ResourceSpans> = rest.drain(..own).collect();
        let answer = (is_end || rng.u8(..4) > 0).then(|| only(found, |row| arrival[row] <= part));
        cuts.push(Cut { fragments: fragments(own), answer, more: part < last });
    }
    cuts
}

fn weave(id: TraceId, cuts: &[Cut], config: &Config) -> Gone {
    let mut gone = Gone {
        trace: ExportTraceServiceRequest::default(),
        woven: Vec::new(),
        sent: Sent::default(),
    };
    for (number, cut) in cuts.iter().enumerate() {
        let before = (number > 0).then_some(&gone.sent);
        let part = Part { id, fragments: &cut.fragments, sent: before, more: cut.more };
        let Planned { plan, woven, sent } = plan(&part, cut.answer.as_ref(), config);
        let bytes: Vec<_> =
            apply(&cut.fragments, &plan).into_iter().map(|piece| piece.bytes.to_bytes()).collect();
        let out = ExportTraceServiceRequest::decode(bytes.concat().as_slice());
        let out = out.expect("what we write is valid");
        check_added(&gone, &out, cut);
        gone.trace.resource_spans.extend(out.resource_spans);
        gone.woven.push(woven);
        gone.sent = sent;
    }
    gone
}

/// What is added hangs below what is there by now, or below what a received span names.
fn check_added(before: &Gone, out: &ExportTraceServiceRequest, cut: &Cut) {
    let here: HashSet<&[u8]> =
        spans(&before.trace).chain(spans(out)).map(|(_, _, span)| &*span.span_id).collect();
    let mut named: HashSet<SpanId> =
        before.sent.spans().iter().filter_map(|span| span.original).collect();
    let own = cut.fragments.iter().flat_map(Fragment::span_refs);
    named.extend(own.filter_map(|span| span.parent));
    for (_, _, span) in spans(out).filter(|(_, added, _)| *added) {
        let parent = SpanId::from_wire(&span.parent_span_id);
        let is_here = here.contains(&*span.parent_span_id);
        assert!(is_here || parent.is_none_or(|parent| named.contains(&parent)), "{span:?}");
    }
}

/// The row behind an added span.
fn row(span: &Span) -> (Vec<String>, Option<String>) {
    let value = |key| {
        let mut attributes = span.attributes.iter();
        attributes.find(|attribute| attribute.key == key)?.value.clone()?.value
    };
    let text = |value| match value {
        Some(Value::StringValue(text)) => Some(text),
        _ => None,
    };
    let ids = match value("deepflow.ids") {
        Some(Value::ArrayValue(ids)) => ids.values.into_iter().filter_map(|id| text(id.value)),
        other => panic!("an added span without rows: {other:?}"),
    };
    (ids.collect(), text(value("deepflow.region")))
}

fn added(trace: &ExportTraceServiceRequest) -> Vec<&Span> {
    spans(trace).filter(|(_, added, _)| *added).map(|(_, _, span)| span).collect()
}

fn check_received(recording: &Recording, gone: &Gone) {
    let all = |trace| {
        let mut all: Vec<_> = spans(trace)
            .filter(|(_, added, _)| !added)
            .map(|(service, _, span)| (service, bare(span)))
            .collect();
        all.sort();
        all
    };
    assert!(all(&recording.trace) == all(&gone.trace), "{}: spans were altered", recording.name);
    let mut before: HashMap<Vec<u8>, HashSet<&[u8]>> = HashMap::new();
    for (_, _, span) in spans(&recording.trace) {
        before.entry(bare(span)).or_default().insert(&span.parent_span_id);
    }
    for (_, _, span) in spans(&gone.trace).filter(|(_, added, _)| !added) {
        let marked = span.attributes.iter().any(|attribute| attribute.key == ORIGINAL_PARENT);
        assert_eq!(marked, !before[&bare(span)].contains(&*span.parent_span_id), "{span:?}");
    }
}

/// No row number twice, none that is a received span's id: then ids do not depend on what came first.
fn is_free_of_collisions(app: &HashSet<&[u8]>, found: &Found) -> bool {
    let mut rows = HashSet::new();
    found
        .spans
        .iter()
        .all(|span| rows.insert(span.row) && !app.contains(&span.row.to_be_bytes()[..]))
}

fn check_rows(recording: &Recording, found: &Found, gone: &Gone, config: &Config) {
    let fragments = fragments(singles(&recording.trace));
    let (pieces, _) = pieces(trace_id(&recording.trace), &fragments, found, config);
    let whole: Vec<_> = pieces.into_iter().map(|piece| piece.bytes.to_bytes()).collect();
    let whole = ExportTraceServiceRequest::decode(whole.concat().as_slice()).expect("OTLP");
    let rows = |trace| {
        let mut rows: Vec<_> = added(trace).into_iter().map(row).collect();
        rows.sort();
        rows
    };
    assert_eq!(rows(&gone.trace), rows(&whole), "{}: each row once", recording.name);
    let app: HashSet<&[u8]> = spans(&recording.trace).map(|(_, _, span)| &*span.span_id).collect();
    let mut ids = HashSet::new();
    for span in added(&gone.trace) {
        assert!(ids.insert(&*span.span_id), "{}: an id twice: {span:?}", recording.name);
    }
    if is_free_of_collisions(&app, found) {
        let together: HashSet<&[u8]> =
            added(&whole).into_iter().map(|span| &*span.span_id).collect();
        assert!(ids == together && ids.is_disjoint(&app), "{}: other ids", recording.name);
    }
}

fn check_tree(recording: &Recording, gone: &Gone) {
    let app: HashSet<&[u8]> = spans(&recording.trace).map(|(_, _, span)| &*span.span_id).collect();
    let named = spans(&recording.trace).map(|(_, _, span)| &*span.parent_span_id);
    let absent: HashSet<&[u8]> = named.filter(|parent| !app.contains(parent)).collect();
    let ids: HashSet<&[u8]> = added(&gone.trace).iter().map(|span| &*span.span_id).collect();
    let all: Vec<_> = spans(&gone.trace).map(|(_, _, span)| span).collect();
    for span in &all {
        let parent = &*span.parent_span_id;
        let is_known =
            parent.is_empty() || [&app, &ids, &absent].iter().any(|s| s.contains(parent));
        assert!(is_known, "{}: an absent parent: {span:?}", recording.name);
    }
    let before = looped(&spans(&recording.trace).map(|(_, _, span)| span).collect::<Vec<_>>());
    let after = looped(&all);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{}: a new cycle: {new:?}", recording.name);
}

fn check_late(cuts: &[Cut], gone: &Gone) {
    let end = cuts.iter().position(|cut| !cut.more).expect("the last part is one");
    let late = |cuts: &[Cut]| -> u64 {
        cuts.iter().flat_map(|cut| &cut.fragments).map(|part| u64::from(part.spans)).sum()
    };
    let late_enriched: u64 = gone.woven.iter().map(|woven| woven.late_enriched).sum();
    let late_forwarded: u64 = gone.woven.iter().map(|woven| woven.late_forwarded).sum();
    assert_eq!(late_enriched + late_forwarded, late(&cuts[end + 1..]));
    assert!(cuts.iter().any(|cut| cut.answer.is_none()) || late_forwarded == 0);
    assert!(gone.woven[end..].iter().all(|woven| woven.deferred_calls == 0));
    let is_whole =
        gone.woven.iter().all(|woven| (woven.beyond_limit, woven.forgotten_spans) == (0, 0));
    assert!(is_whole, "small traces are remembered in full");
}

#[test]
fn the_parts_of_a_trace_are_the_trace() {
    let recordings = recordings();
    let cases =
        ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let totals = std::cell::RefCell::new(Woven::default());
    let outcome = runner.run(&any::<u64>(), |seed| {
        let mut rng = Rng::with_seed(seed);
        let recording = &recordings[rng.usize(..recordings.len())];
        let id = trace_id(&recording.trace);
        let app: Vec<SpanId> = spans(&recording.trace)
            .filter_map(|(_, _, span)| SpanId::from_wire(&span.span_id))
            .collect();
        let mut found = recording.found.clone();
        if rng.bool() {
            twist(&mut rng, &mut found, &app);
            found = without_copies(&found);
        }
        let config = any_config(&mut rng);
        let cuts = cuts(&mut rng, recording, &found);
        let gone = weave(id, &cuts, &config);
        check_received(recording, &gone);
        check_rows(recording, &found, &gone, &config);
        check_tree(recording, &gone);
        check_late(&cuts, &gone);
        let mut totals = totals.borrow_mut();
        for woven in &gone.woven {
            totals.stale_parents += woven.stale_parents;
            totals.deferred_calls += woven.deferred_calls;
            totals.late_enriched += woven.late_enriched;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let totals = totals.into_inner();
    let is_hit = totals.stale_parents > 0 && totals.deferred_calls > 0 && totals.late_enriched > 0;
    assert!(is_hit, "cases that matter came up: {totals:?}");
}
