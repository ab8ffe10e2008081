//! Recorded exchanges with DeepFlow, each with the tree that is true.
//!
//! `deepflow/fixtures` holds one situation per folder, `deepflow/random` random topologies whose truth is known by
//! construction, `deepflow/fixtures/errors` answers that are none. Each folder's `expected.json` says what the enriched
//! trace must look like. Guarantees: classes, counts and every parent are as written there, and damaged answers
//! are woven as far as they go.

mod journal;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use prost::Message;
use serde::Deserialize;
use tracestitch::{
    completion::deepflow::answer::{Outcome, classify},
    trace::{Found, Fragment, SpanId, TraceId, split},
    weaving::{Config, Part, apply, pieces, plan},
    wire::splice::ORIGINAL_PARENT,
};

#[derive(Deserialize)]
struct Expected {
    note: String,
    outcome: String,
    spans: usize,
    app: usize,
    system: usize,
    network: usize,
    parents: BTreeMap<String, String>,
    #[serde(default)]
    also_ok: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    unknowable: Vec<String>,
}

#[derive(Deserialize)]
struct Recorded {
    http_status: u16,
    body: serde_json::Value,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    what: String,
    class: String,
    http_status: u16,
    body: serde_json::Value,
}

#[test]
fn every_recorded_trace_gets_its_true_parents() {
    let folders = [folders("fixtures"), folders("random")].concat();
    assert_eq!(folders.len(), 29 + 30, "folders of recorded traces");
    let wrong: Vec<_> = folders.iter().flat_map(|folder| differences(folder)).collect();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// A trace that goes out in two halves: how much of the truth is left. What the first half could not know stays wrong,
/// so these are floors, not a promise for each edge. Spans come in the order in which they are recorded, callers mostly
/// first, or in that in which they ended, callers last, as SDKs send them.
#[test]
fn two_halves_of_a_trace_are_mostly_the_trace() {
    for (order, per_mille_min) in [(Order::Recorded, 985), (Order::Ended, 990)] {
        let [mut right, mut all] = [0, 0];
        for folder in [folders("fixtures"), folders("random")].concat() {
            let expected: Expected = read(&folder.join("expected.json"));
            let trace: ExportTraceServiceRequest = read(&folder.join("trace.otlp.json"));
            let answer: Recorded = read(&folder.join("answer.json"));
            let outcome = classify(answer.http_status, answer.body.to_string().as_bytes());
            let Outcome::Found(found) = outcome else { continue };
            let parents = parents_in_halves(trace_id(&trace), &halves(&trace, order), &found);
            let wrong =
                parents.iter().filter_map(|(id, parent)| difference(*id, *parent, &expected));
            all += parents.len();
            right += parents.len() - wrong.count();
        }
        println!("{order:?}: {right} of {all} parents are the true ones");
        assert!(right * 1000 >= all * per_mille_min, "{order:?}: {right} of {all}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Recorded,
    Ended,
}

fn trace_id(trace: &ExportTraceServiceRequest) -> TraceId {
    let first = spans(trace).next().expect("a span");
    TraceId::from_wire(&first.trace_id).expect("a trace id")
}

fn halves(trace: &ExportTraceServiceRequest, order: Order) -> [Vec<Fragment>; 2] {
    let mut ends: Vec<_> = spans(trace).map(|span| span.end_time_unix_nano).enumerate().collect();
    if order == Order::Ended {
        ends.sort_by_key(|(_, end)| *end);
    }
    let first: Vec<usize> = ends.iter().take(ends.len() / 2).map(|(number, _)| *number).collect();
    [true, false].map(|is_first| {
        let (mut half, mut numbers) = (trace.clone(), 0..);
        for scope in half.resource_spans.iter_mut().flat_map(|spans| &mut spans.scope_spans) {
            scope.spans.retain(|_| {
                numbers.next().is_some_and(|number| first.contains(&number)) == is_first
            });
        }
        split(half.encode_to_vec().into()).expect("OTLP").into_fragments()
    })
}

fn parents_in_halves(
    id: TraceId,
    halves: &[Vec<Fragment>; 2],
    found: &Found,
) -> Vec<(SpanId, Option<SpanId>)> {
    let (mut sent, mut bytes) = (None, Vec::new());
    for (fragments, more) in halves.iter().zip([true, false]) {
        let part = Part { id, fragments, sent: sent.as_ref(), more };
        let planned = plan(&part, Some(found), &Config::default());
        bytes.extend(
            apply(fragments, &planned.plan).into_iter().map(|piece| piece.bytes.to_bytes()),
        );
        sent = Some(planned.sent);
    }
    let all = ExportTraceServiceRequest::decode(bytes.concat().as_slice()).expect("OTLP");
    let id = |bytes| SpanId::from_wire(bytes).expect("a span id");
    let parents = spans(&all).map(|s| (id(&s.span_id), SpanId::from_wire(&s.parent_span_id)));
    parents.collect()
}

#[test]
fn every_recorded_error_is_taken_by_its_class() {
    let files = files(&data("fixtures/errors"));
    assert_eq!(files.len(), 47, "recorded errors");
    for file in files {
        let error: ErrorAnswer = read(&file);
        let body = serde_json::to_vec(&error.body).expect("JSON again");
        let class = class(&classify(error.http_status, &body));
        assert_eq!(class, error.class, "{}: {}", file.display(), error.what);
    }
}

proptest! {
    /// Real answers, cut short, with bytes replaced and pieces repeated: whatever is left of them can be woven.
    #[test]
    fn a_damaged_answer_is_taken_for_what_is_left(
        folder in select([folders("fixtures"), folders("random")].concat()),
        cuts in vec((any::<Index>(), 0..200_usize, vec(any::<u8>(), 0..3)), 1..4),
    ) {
        let answer: Recorded = read(&folder.join("answer.json"));
        let mut body = answer.body.to_string().into_bytes();
        for (from, len, new) in cuts {
            let from = from.index(body.len() + 1);
            let to = (from + len).min(body.len());
            body.splice(from..to, new);
        }
        weave(&folder, &classify(answer.http_status, &body));
    }

    /// Values of an answer in each other's places: well-formed, but the links lead anywhere.
    #[test]
    fn an_answer_with_mixed_up_values_is_woven(
        folder in select([folders("fixtures"), folders("random")].concat()),
        swaps in vec((any::<Index>(), any::<Index>()), 1..60),
    ) {
        let answer: Recorded = read(&folder.join("answer.json"));
        let body = answer.body.to_string();
        let mut members: Vec<_> = body.split(',').map(|member| member.rsplit_once(':').unwrap_or((member, ""))).collect();
        let plain: Vec<_> = (0..members.len()).filter(|&at| is_plain(members[at].1)).collect();
        prop_assume!(!plain.is_empty());
        for (one, other) in swaps {
            let [one, other] = [one, other].map(|index| plain[index.index(plain.len())]);
            (members[one].1, members[other].1) = (members[other].1, members[one].1);
        }
        let members: Vec<_> = members.into_iter().map(|(key, value)| join(key, value)).collect();
        weave(&folder, &classify(answer.http_status, members.join(",").as_bytes()));
    }
}

/// Weaves what is left of an answer into its trace.
fn weave(folder: &Path, outcome: &Outcome) {
    if let Outcome::Found(found) = outcome {
        let trace = read(&folder.join("trace.otlp.json"));
        let parents = all_parents(&trace, found);
        assert_eq!(parents.len(), spans(&trace).count() + found.spans.len());
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"\"-._".contains(&byte))
}

fn join(key: &str, value: &str) -> String {
    if value.is_empty() { key.to_owned() } else { format!("{key}:{value}") }
}

fn class(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Found(_) => "enriched",
        Outcome::NotFound => "not_found",
        Outcome::Retry(_) => "retry",
        Outcome::Reject(_) => "reject",
    }
}

fn differences(folder: &Path) -> Vec<String> {
    let expected: Expected = read(&folder.join("expected.json"));
    let name = folder.file_name().expect("a folder").to_string_lossy();
    let say = |what: String| format!("{name}: {what} ({})", expected.note);
    let trace: ExportTraceServiceRequest = read(&folder.join("trace.otlp.json"));
    let answer: Recorded = read(&folder.join("answer.json"));
    let outcome = classify(answer.http_status, answer.body.to_string().as_bytes());
    if class(&outcome) != expected.outcome {
        return vec![say(format!("{} instead of {}", class(&outcome), expected.outcome))];
    }
    let found = match outcome {
        Outcome::Found(found) => found,
        _ => Found::default(),
    };
    let mut wrong = counts(spans(&trace).count(), &found, &expected);
    wrong.extend(parents(&trace, &found, &expected));
    wrong.into_iter().map(say).collect()
}

fn counts(app: usize, found: &Found, expected: &Expected) -> Vec<String> {
    let system = found.spans.iter().filter(|span| span.point.is_process()).count();
    let is = [app + found.spans.len(), app, system, found.spans.len() - system, found.unusable];
    let should = [expected.spans, expected.app, expected.system, expected.network, 0];
    if is == should { Vec::new() } else { vec![format!("counts {is:?} instead of {should:?}")] }
}

fn parents(trace: &ExportTraceServiceRequest, found: &Found, expected: &Expected) -> Vec<String> {
    let all = all_parents(trace, found);
    let is_here = |id: &String| all.iter().any(|(own, _)| own.to_string() == *id);
    let missing = expected.parents.keys().chain(&expected.unknowable).filter(|id| !is_here(id));
    let missing = missing.map(|id| format!("{id} is missing"));
    missing
        .chain(all.iter().filter_map(|(id, parent)| difference(*id, *parent, expected)))
        .collect()
}

/// The spans of the enriched trace and their parents: woven as the pipeline does it, from wire bytes to wire bytes.
fn all_parents(trace: &ExportTraceServiceRequest, found: &Found) -> Vec<(SpanId, Option<SpanId>)> {
    let fragments = split(trace.encode_to_vec().into()).expect("OTLP").into_fragments();
    let [fragment] = fragments.as_slice() else {
        panic!("{} traces in one file", fragments.len());
    };
    let trace_id = trace_id(trace);
    let (pieces, woven) = pieces(trace_id, &fragments, found, &Config::default());
    let bytes: Vec<_> = pieces.iter().map(|piece| piece.bytes.to_bytes()).collect();
    let enriched = ExportTraceServiceRequest::decode(bytes.concat().as_slice()).expect("OTLP");
    let spans: Vec<&Span> = spans(&enriched).collect();
    let added = usize::try_from(woven.system + woven.network).expect("small");
    assert_eq!(spans.len(), fragment.span_refs().len() + added);
    assert_unaltered(trace, &spans);
    assert!(spans.iter().all(|span| span.trace_id == trace_id.to_wire()));
    let id = |bytes| SpanId::from_wire(bytes).expect("a span id");
    spans.iter().map(|span| (id(&span.span_id), SpanId::from_wire(&span.parent_span_id))).collect()
}

fn spans(trace: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    let scopes = trace.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans)
}

/// Each span that came is there as often as it came, equal but for its parent and the attribute that keeps it.
fn assert_unaltered(trace: &ExportTraceServiceRequest, enriched: &[&Span]) {
    let bare = |span: &Span| {
        let mut span = span.clone();
        span.parent_span_id.clear();
        span.attributes.retain(|attribute| attribute.key != ORIGINAL_PARENT);
        span.encode_to_vec()
    };
    let count = |spans: &mut dyn Iterator<Item = &Span>| {
        let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        spans.for_each(|span| *counts.entry(bare(span)).or_default() += 1);
        counts
    };
    let after = count(&mut enriched.iter().copied());
    for (span, times) in count(&mut spans(trace)) {
        assert_eq!(after.get(&span), Some(&times), "{:?}", Span::decode(span.as_slice()));
    }
}

fn difference(id: SpanId, parent: Option<SpanId>, expected: &Expected) -> Option<String> {
    let id = id.to_string();
    let parent = parent.map_or_else(String::new, |parent| parent.to_string());
    let Some(should) = expected.parents.get(&id) else {
        return (!expected.unknowable.contains(&id)).then(|| format!("{id} is not expected"));
    };
    let is_also_ok = expected.also_ok.get(&id).is_some_and(|others| others.contains(&parent));
    (*should != parent && !is_also_ok)
        .then(|| format!("{id} hangs below {parent:?} instead of {should:?}"))
}

fn data(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/deepflow").join(kind)
}

fn folders(kind: &str) -> Vec<PathBuf> {
    files(&data(kind)).into_iter().filter(|path| path.join("expected.json").exists()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("golden data");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("golden data").path()).collect();
    files.sort();
    files
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    let text = fs::read_to_string(path).expect("golden data");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
