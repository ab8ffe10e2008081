//! How: recorded traces with recorded answers, the answers twisted at random (links, times, ids, places), the spans
//! dealt to several requests; whatever comes out must still be the trace, with spans added.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use bytes::Bytes;
use fastrand::Rng;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind},
};
use proptest::prelude::*;
use prost::Message;
use tracestitch::{
    completion::deepflow::answer::{Outcome, classify},
    trace::{Found, FoundParent, Fragment, Plan, SpanId, TraceId, split},
    weaving::{Config, NetworkKind, NetworkSpans, Part, SystemKind, apply, pieces, plan},
    wire::splice::ORIGINAL_PARENT,
};

/// A recorded trace and its answer.
#[derive(Clone)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) trace: ExportTraceServiceRequest,
    pub(crate) found: Found,
}

pub(crate) fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/deepflow");
    let mut out = Vec::new();
    for kind in ["fixtures", "random"] {
        for entry in fs::read_dir(root.join(kind)).expect("golden data") {
            let folder = entry.expect("golden data").path();
            let Ok(answer) = fs::read(folder.join("answer.json")) else { continue };
            let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
            let body = answer["body"].to_string();
            let status = answer["http_status"].as_u64().and_then(|status| status.try_into().ok());
            let Outcome::Found(found) = classify(status.expect("a status"), body.as_bytes()) else {
                continue;
            };
            let Ok(trace) = fs::read(folder.join("trace.otlp.json")) else { continue };
            let trace = serde_json::from_slice(&trace).expect("OTLP/JSON");
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            out.push(Recording { name, trace, found });
        }
    }
    out.sort_by(|left, right| left.name.cmp(&right.name));
    assert!(out.len() > 50, "{} recordings", out.len());
    out
}

pub(crate) fn spans(
    trace: &ExportTraceServiceRequest,
) -> impl Iterator<Item = (String, bool, &Span)> {
    trace.resource_spans.iter().flat_map(|resource| {
        let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
        let name =
            attributes.filter(|attribute| attribute.key == "service.name").find_map(|name| {
                match &name.value {
                    Some(AnyValue { value: Some(any_value::Value::StringValue(name)) }) => {
                        Some(name.clone())
                    }
                    _ => None,
                }
            });
        let name = name.unwrap_or_default();
        resource.scope_spans.iter().flat_map(move |scope| {
            let scope_name = scope.scope.as_ref().map_or("", |scope| &scope.name);
            let added = scope_name.starts_with("tracestitch.");
            let name = name.clone();
            scope.spans.iter().map(move |span| (name.clone(), added, span))
        })
    })
}

/// The spans in a few requests, as several senders or batches would bring them.
fn deal(rng: &mut Rng, trace: &ExportTraceServiceRequest) -> Vec<Fragment> {
    let mut hands = vec![ExportTraceServiceRequest::default(); rng.usize(1..4)];
    for resource in &trace.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let mut alone = resource.clone();
                let mut scope = scope.clone();
                scope.spans = vec![span.clone()];
                alone.scope_spans = vec![scope];
                let hand = rng.usize(..hands.len());
                hands[hand].resource_spans.push(alone);
            }
        }
    }
    let fragments = hands
        .into_iter()
        .flat_map(|hand| split(hand.encode_to_vec().into()).expect("OTLP").into_fragments());
    fragments.collect()
}

/// Some values somewhere else.
pub(crate) fn twist(rng: &mut Rng, found: &mut Found, app: &[SpanId]) {
    for _ in 0..rng.usize(..20) {
        let rows = found.spans.len();
        if rows == 0 {
            return;
        }
        let donor = found.spans[rng.usize(..rows)].clone();
        let span = &mut found.spans[rng.usize(..rows)];
        match rng.u8(..10) {
            0 => span.parent = FoundParent::Found(rng.usize(..rows + 3)),
            1 => span.parent = FoundParent::App(app[rng.usize(..app.len())]),
            2 => span.span_id = Some(app[rng.usize(..app.len())]),
            3 => span.span_id = SpanId::from_number(rng.u64(..)),
            4 => span.syscall_ids = donor.syscall_ids,
            5 => span.tcp_seqs = donor.tcp_seqs,
            6 => (span.start_us, span.end_us) = (donor.end_us, u64::MAX),
            7 => (span.row, span.region) = (donor.row, "other".into()),
            8 => span.point = donor.point,
            _ => {
                let id = app[rng.usize(..app.len())];
                span.row = u64::from_be_bytes(id.to_wire());
                found.app_edges.push((id, rng.usize(..rows + 3)));
            }
        }
    }
}

/// Of the trace that all these spans are of.
pub(crate) fn trace_id(trace: &ExportTraceServiceRequest) -> TraceId {
    let first = spans(trace).next().expect("a span").2;
    TraceId::from_wire(&first.trace_id).expect("a trace id")
}

fn weave(
    id: TraceId,
    fragments: &[Fragment],
    found: &Found,
    config: &Config,
) -> ExportTraceServiceRequest {
    let (pieces, _) = pieces(id, fragments, found, config);
    let bytes: Vec<Bytes> = pieces.into_iter().map(|piece| piece.bytes.to_bytes()).collect();
    ExportTraceServiceRequest::decode(bytes.concat().as_slice()).expect("what we write is valid")
}

/// Without what weaving may change.
pub(crate) fn bare(span: &Span) -> Vec<u8> {
    let mut span = span.clone();
    span.parent_span_id.clear();
    span.attributes.retain(|attribute| attribute.key != ORIGINAL_PARENT);
    span.encode_to_vec()
}

/// A plan that was kept does what the plan did, and no plan does nothing.
fn check_plan(id: TraceId, fragments: &[Fragment], found: &Found, config: &Config) {
    let bytes = |plan: &Plan| -> Vec<Bytes> {
        apply(fragments, plan).into_iter().map(|piece| piece.bytes.to_bytes()).collect()
    };
    let part = Part { id, fragments, sent: None, more: false };
    let plan = plan(&part, Some(found), config).plan;
    let kept = Plan::decode(&plan.encode().into()).expect("what we write is a plan");
    assert!(kept == plan && bytes(&kept) == bytes(&plan));
    let came: Vec<Bytes> = fragments.iter().map(|fragment| fragment.bytes.to_bytes()).collect();
    assert!(bytes(&Plan::default()) == came, "the empty plan changes bytes");
}

fn check(recording: &Recording, fragments: &[Fragment], found: &Found, config: &Config) {
    let id = trace_id(&recording.trace);
    check_plan(id, fragments, found, config);
    let after = weave(id, fragments, found, config);
    assert!(after == weave(id, fragments, found, config), "the same input gives the same output");
    let all: Vec<_> = spans(&after).collect();
    // Each span that came is there as often as it came.
    let mut came: Vec<_> =
        spans(&recording.trace).map(|(service, _, span)| (service, bare(span))).collect();
    let kept = all.iter().filter(|(_, added, _)| !added);
    let mut kept: Vec<_> = kept.map(|(service, _, span)| (service.clone(), bare(span))).collect();
    came.sort();
    kept.sort();
    assert!(came == kept, "{}: spans were altered", recording.name);
    // A changed parent leaves its trace.
    let before: HashMap<Vec<u8>, Vec<Vec<u8>>> =
        spans(&recording.trace).fold(HashMap::new(), |mut map, (_, _, span)| {
            map.entry(bare(span)).or_default().push(span.parent_span_id.clone());
            map
        });
    for (_, _, span) in all.iter().filter(|(_, added, _)| !added) {
        let marked = span.attributes.iter().any(|attribute| attribute.key == ORIGINAL_PARENT);
        assert_eq!(marked, !before[&bare(span)].contains(&span.parent_span_id), "{span:?}");
    }
    // Added ids are unique and differ from all others.
    let app: HashSet<&[u8]> = spans(&recording.trace).map(|(_, _, span)| &*span.span_id).collect();
    let mut ids: HashSet<&[u8]> = HashSet::new();
    for (_, _, span) in all.iter().filter(|(_, added, _)| *added) {
        assert!(SpanId::from_wire(&span.span_id).is_some());
        assert!(ids.insert(&span.span_id) && !app.contains(&*span.span_id), "{span:?}");
    }
    let absent: HashSet<&[u8]> = spans(&recording.trace)
        .map(|(_, _, span)| &*span.parent_span_id)
        .filter(|parent| !parent.is_empty() && !app.contains(parent))
        .collect();
    for (_, _, span) in &all {
        let parent = &*span.parent_span_id;
        let known = parent.is_empty()
            || app.contains(parent)
            || ids.contains(parent)
            || absent.contains(parent);
        assert!(known, "{}: an absent parent that was not there before: {span:?}", recording.name);
    }
    let looped_before =
        looped(&spans(&recording.trace).map(|(_, _, span)| span).collect::<Vec<_>>());
    let looped_after = looped(&all.iter().map(|(_, _, span)| *span).collect::<Vec<_>>());
    let new: Vec<_> = looped_after.difference(&looped_before).collect();
    assert!(new.is_empty(), "{}: a new cycle: {new:?}", recording.name);
    check_context(&all, config);
}

/// Ids of spans that reach themselves.
pub(crate) fn looped(spans: &[&Span]) -> HashSet<Vec<u8>> {
    let mut parents: HashMap<&[u8], HashSet<&[u8]>> = HashMap::new();
    for span in spans {
        parents.entry(&span.span_id).or_default().insert(&span.parent_span_id);
    }
    let reaches = |start: &[u8]| {
        let mut seen = HashSet::new();
        let mut open: Vec<&[u8]> = parents.get(start).into_iter().flatten().copied().collect();
        while let Some(next) = open.pop() {
            if next == start {
                return true;
            }
            if seen.insert(next) {
                open.extend(parents.get(next).into_iter().flatten());
            }
        }
        false
    };
    parents.keys().filter(|id| reaches(id)).map(|id| id.to_vec()).collect()
}

/// Added spans carry the flags' low byte and the trace state of the span they hang below.
fn check_context(all: &[(String, bool, &Span)], config: &Config) {
    let by_id: HashMap<&[u8], &Span> =
        all.iter().map(|(_, _, span)| (&*span.span_id, *span)).collect();
    let times = all.iter().fold(HashMap::new(), |mut times: HashMap<&[u8], u32>, (_, _, span)| {
        *times.entry(&span.span_id).or_default() += 1;
        times
    });
    for (_, _, span) in all.iter().filter(|(_, added, _)| *added) {
        if let Some(above) = by_id.get(&*span.parent_span_id)
            && times[&*span.parent_span_id] == 1
        {
            assert_eq!((span.flags, &span.trace_state), (above.flags & 0xff, &above.trace_state));
        }
        if config.system_kind == SystemKind::Internal
            && config.network_kind == NetworkKind::Internal
        {
            assert_eq!(span.kind, SpanKind::Internal as i32);
        }
    }
}

pub(crate) fn any_config(rng: &mut Rng) -> Config {
    Config {
        network_spans: [NetworkSpans::Inline, NetworkSpans::Beside, NetworkSpans::Off]
            [rng.usize(..3)],
        system_kind: [SystemKind::Span, SystemKind::Internal][rng.usize(..2)],
        network_kind: [NetworkKind::Internal, NetworkKind::Span][rng.usize(..2)],
        ..Config::default()
    }
}

#[test]
fn any_answer_leaves_the_trace_a_trace() {
    let recordings = recordings();
    let cases =
        ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let outcome = runner.run(&any::<u64>(), |seed| {
        let mut rng = Rng::with_seed(seed);
        let recording = &recordings[rng.usize(..recordings.len())];
        let fragments = deal(&mut rng, &recording.trace);
        let app: Vec<SpanId> =
            fragments.iter().flat_map(Fragment::span_refs).map(|span| span.id).collect();
        let mut found = recording.found.clone();
        twist(&mut rng, &mut found, &app);
        check(recording, &fragments, &found, &any_config(&mut rng));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// Every CLIENT→SERVER pair of the input still has exactly one on its line, between the same two services: what a
/// service graph pairs. Lines with a proxy on them are calls of their own, and have one pair for each.
#[test]
fn beside_keeps_client_and_server_neighbours() {
    let config = Config { network_spans: NetworkSpans::Beside, ..Config::default() };
    let (mut plain, mut proxied) = (0, 0);
    for recording in recordings() {
        let fragments = deal(&mut Rng::with_seed(7), &recording.trace);
        let after = weave(trace_id(&recording.trace), &fragments, &recording.found, &config);
        let all: HashMap<Vec<u8>, (String, &Span)> = spans(&after)
            .map(|(service, _, span)| (span.span_id.clone(), (service, span)))
            .collect();
        for (client, server) in pairs(&recording.trace) {
            let line = line(&all, &client, &server)
                .unwrap_or_else(|| panic!("{}: the server hangs elsewhere", recording.name));
            let services = (&line[0].0, &line[line.len() - 1].0);
            let on_line: Vec<_> = line
                .windows(2)
                .filter(|pair| {
                    pair[0].1.kind == SpanKind::Client as i32
                        && pair[1].1.kind == SpanKind::Server as i32
                })
                .map(|pair| (&pair[0].0, &pair[1].0))
                .collect();
            let is_own = |service: &String| [services.0, services.1].contains(&service);
            if line.iter().all(|(service, _)| is_own(service)) {
                plain += 1;
                assert_eq!(on_line, [services], "{}: {line:?}", recording.name);
            } else {
                proxied += 1;
                let ends = on_line.first().zip(on_line.last());
                let ends = ends.map(|(first, last)| (first.0, last.1));
                assert_eq!(ends, Some(services), "{}: {line:?}", recording.name);
            }
        }
    }
    assert!(plain > 100 && proxied > 0, "{plain} pairs without a proxy, {proxied} with one");
}

/// A process span directly below a received span, or directly above one that answers, has the resource of that process;
/// all other added spans have one of their own. Scopes tell system and network spans apart.
#[test]
fn process_spans_have_the_resource_of_their_process() {
    let (mut shared, mut own) = (0, 0);
    for recording in recordings() {
        let fragments = deal(&mut Rng::with_seed(7), &recording.trace);
        let after =
            weave(trace_id(&recording.trace), &fragments, &recording.found, &Config::default());
        let placed: Vec<Placed<'_>> = placed(&after).collect();
        let (added, received): (Vec<_>, Vec<_>) =
            placed.into_iter().partition(|(_, scope, _)| scope.name.starts_with("tracestitch."));
        for (resource, scope, span) in added {
            let point = attribute(&span.attributes, "deepflow.tap_side");
            let is_process = ["c-p", "s-p"].contains(&point);
            let name = if is_process { "tracestitch.system" } else { "tracestitch.network" };
            assert_eq!((&*scope.name, &*scope.version), (name, env!("CARGO_PKG_VERSION")));
            let process = received.iter().find(|(.., neighbour)| match point {
                "c-p" => neighbour.span_id == span.parent_span_id,
                "s-p" => neighbour.parent_span_id == span.span_id,
                _ => false,
            });
            let about = &recording.name;
            if let Some((process, ..)) = process {
                shared += 1;
                assert_eq!(resource, *process, "{about}: {span:?}");
            } else {
                own += 1;
                let distro = attribute(&resource.attributes, "telemetry.distro.name");
                assert_eq!(distro, "tracestitch", "{about}: {span:?}");
                let service = attribute(&resource.attributes, "service.name");
                assert!(!service.is_empty(), "{about}: {span:?}");
            }
        }
    }
    assert!(shared > 300 && own > 300, "{shared} in received processes, {own} elsewhere");
}

type Placed<'a> = (&'a Resource, &'a InstrumentationScope, &'a Span);

fn placed(trace: &ExportTraceServiceRequest) -> impl Iterator<Item = Placed<'_>> {
    trace.resource_spans.iter().flat_map(|resource| {
        let of = resource.resource.as_ref().expect("every recorded span has a resource");
        resource.scope_spans.iter().flat_map(move |scope| {
            let by = scope.scope.as_ref().expect("every recorded span has a scope");
            scope.spans.iter().map(move |span| (of, by, span))
        })
    })
}

/// A text; empty when there is none.
fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let value = attributes.iter().find(|attribute| attribute.key == key);
    match value.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text,
        _ => "",
    }
}

/// Ids of client spans and of the server spans that name them as parent.
fn pairs(trace: &ExportTraceServiceRequest) -> Vec<(Vec<u8>, Vec<u8>)> {
    let clients: HashSet<&[u8]> = spans(trace)
        .filter(|(_, _, span)| span.kind == SpanKind::Client as i32)
        .map(|(_, _, span)| &*span.span_id)
        .collect();
    let servers = spans(trace).filter(|(_, _, span)| {
        span.kind == SpanKind::Server as i32 && clients.contains(&*span.parent_span_id)
    });
    servers.map(|(_, _, span)| (span.parent_span_id.clone(), span.span_id.clone())).collect()
}

/// From the client down to the server; `None` if the server hangs elsewhere now.
fn line<'a>(
    all: &HashMap<Vec<u8>, (String, &'a Span)>,
    client: &[u8],
    server: &[u8],
) -> Option<Vec<(String, &'a Span)>> {
    let mut line = vec![all.get(server)?.clone()];
    for _ in 0..all.len() {
        let above = all.get(&line.last()?.1.parent_span_id)?.clone();
        let found = above.1.span_id == client;
        line.push(above);
        if found {
            line.reverse();
            return Some(line);
        }
    }
    None
}
