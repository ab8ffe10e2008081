//! Traces in parts. One call from a CLIENT span 2 to a SERVER span 3, seen in both processes as rows 100 and 101.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

use super::*;
use crate::{
    completion::deepflow::answer::{Outcome, classify},
    trace::{Origin, SentRow, SpanId, split},
    tree::{Style, render},
};

const BEGIN_US: u64 = 1_700_000_000_000_000;

fn span(id: u64, parent: u64, kind: i32, [start_ms, end_ms]: [u64; 2]) -> Span {
    let ns = |ms: u64| (BEGIN_US + ms * 1000) * 1000;
    Span {
        trace_id: 9_u128.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: format!("span {id}"),
        kind,
        start_time_unix_nano: ns(start_ms),
        end_time_unix_nano: ns(end_ms),
        ..Span::default()
    }
}

fn client() -> Span {
    span(2, 0, 3, [0, 100])
}

fn server() -> Span {
    span(3, 2, 2, [10, 90])
}

fn fragments(spans: &[(&str, Span)]) -> Vec<Fragment> {
    let resource_spans = spans.iter().map(|(service, span)| {
        let value = any_value::Value::StringValue((*service).to_owned());
        let name = KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let resource = Resource { attributes: vec![name], ..Resource::default() };
        let scope = ScopeSpans { spans: vec![span.clone()], ..ScopeSpans::default() };
        ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![scope],
            ..ResourceSpans::default()
        }
    });
    let request = ExportTraceServiceRequest { resource_spans: resource_spans.collect() };
    split(request.encode_to_vec().into()).expect("OTLP").into_fragments()
}

/// Rows (number, where seen, number of the row above or 0), all of the call of span 2.
fn found(rows: &[(u64, &str, u64)]) -> Found {
    let rows = rows.iter().map(|(row, point, above)| {
        let parent = if *above == 0 { String::new() } else { format!("df-{above}") };
        format!(
            r#"{{"_ids":["{row}"],"tap_side":"{point}","signal_source":3,"span_id":"0000000000000002",
            "start_time_us":{},"end_time_us":{},"type":2,"req_tcp_seq":5,"resp_tcp_seq":6,"l7_protocol":20,
            "deepflow_span_id":"df-{row}","deepflow_parent_span_id":"{parent}","auto_service":"unnamed"}}"#,
            BEGIN_US + row * 10,
            BEGIN_US + 100_000 - row * 10,
        )
    });
    let body = format!(r#"{{"DATA":{{"tracing":[{}]}}}}"#, rows.collect::<Vec<_>>().join(","));
    match classify(200, body.as_bytes()) {
        Outcome::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn call() -> Found {
    found(&[(100, "c-p", 0), (101, "s-p", 100)])
}

/// The parts of one trace, one after the other.
#[derive(Default)]
struct Trace {
    sent: Option<Sent>,
    config: Config,
}

impl Trace {
    /// Weaves the next part: its spans as (id, parent), added ones behind received ones, and what weaving says.
    fn part(
        &mut self,
        spans: &[(&str, Span)],
        answer: Option<&Found>,
        more: bool,
    ) -> (Vec<(u64, u64)>, Woven) {
        let (out, woven) = self.request(spans, answer, more);
        let number = |id: &[u8]| <[u8; 8]>::try_from(id).map_or(0, u64::from_be_bytes);
        let spans = out.resource_spans.iter().flat_map(|spans| &spans.scope_spans);
        let spans = spans.flat_map(|scope| &scope.spans);
        let edges = spans.map(|span| (number(&span.span_id), number(&span.parent_span_id)));
        (edges.collect(), woven)
    }

    fn request(
        &mut self,
        spans: &[(&str, Span)],
        answer: Option<&Found>,
        more: bool,
    ) -> (ExportTraceServiceRequest, Woven) {
        let id = TraceId::from_wire(&9_u128.to_be_bytes()).expect("not zero");
        let fragments = fragments(spans);
        let part = Part { id, fragments: &fragments, sent: self.sent.as_ref(), more };
        let Planned { plan, woven, sent } = plan(&part, answer, &self.config);
        let bytes: Vec<_> =
            apply(&fragments, &plan).into_iter().map(|piece| piece.bytes.to_bytes()).collect();
        self.sent = Some(sent);
        (ExportTraceServiceRequest::decode(bytes.concat().as_slice()).expect("OTLP"), woven)
    }
}

#[test]
fn a_call_whose_span_is_not_there_yet_waits_for_the_next_part() {
    let mut trace = Trace::default();
    let other = span(1, 0, 2, [0, 200]);
    let (out, woven) = trace.part(&[("shop", other)], Some(&call()), true);
    assert_eq!((out, woven.deferred_calls), (vec![(1, 0)], 1));
    let (out, woven) = trace.part(&[("shop", client())], Some(&call()), true);
    assert_eq!((out, woven.deferred_calls), (vec![(2, 0), (100, 2), (101, 100)], 0));
    let (out, _) = trace.part(&[("stock", server())], Some(&call()), false);
    assert_eq!(out, [(3, 101)], "below what went out, and no row again");
}

#[test]
fn with_the_last_part_goes_out_what_is_left() {
    let mut trace = Trace::default();
    let other = span(1, 0, 2, [0, 200]);
    trace.part(&[("shop", other)], Some(&call()), true);
    let (out, woven) = trace.part(&[], Some(&call()), false);
    assert_eq!((out, woven.deferred_calls), (vec![(100, 0), (101, 100)], 0));
}

#[test]
fn a_late_span_gets_its_place_among_those_that_went_out() {
    let mut trace = Trace::default();
    let (_, woven) = trace.part(&[("shop", client())], Some(&call()), false);
    assert_eq!((woven.late_enriched, woven.late_forwarded), (0, 0));
    let (out, woven) = trace.part(&[("stock", server())], Some(&call()), false);
    assert_eq!((out, woven.late_enriched, woven.late_forwarded), (vec![(3, 101)], 1, 0));
    let (out, woven) = trace.part(&[("stock", span(4, 3, 1, [20, 30]))], None, false);
    assert_eq!((out, woven.late_enriched, woven.late_forwarded), (vec![(4, 3)], 0, 1));
}

#[test]
fn a_parent_that_was_wrong_stays_and_is_counted_once() {
    let mut trace = Trace::default();
    let (out, _) = trace.part(&[("stock", server())], None, true);
    assert_eq!(out, [(3, 2)]);
    let (out, woven) = trace.part(&[("shop", client())], Some(&call()), true);
    assert_eq!((out, woven.stale_parents), (vec![(2, 0), (100, 2), (101, 100)], 1));
    let (out, woven) = trace.part(&[], Some(&call()), false);
    assert_eq!((out, woven.stale_parents), (Vec::new(), 0));
}

#[test]
fn rows_seen_in_a_process_that_went_out_bear_its_service() {
    let mut trace = Trace::default();
    trace.part(&[("shop", client()), ("stock", server())], None, true);
    let (out, _) = trace.request(&[], Some(&call()), false);
    let text = render(&out, Style::plain());
    assert!(text.contains("[shop] CLIENT") && text.contains("[stock] SERVER"), "{text}");
}

/// A call of span 2 that was seen at the client's interface alone, and the one that a gateway made of it in its process.
fn gateway() -> Found {
    let row = |row: u64, point: &str, source: u64, service: &str| {
        format!(
            r#"{{"_ids":["{row}"],"tap_side":"{point}","signal_source":{source},"span_id":"0000000000000002",
            "start_time_us":{},"end_time_us":{},"type":2,"req_tcp_seq":{row},"resp_tcp_seq":{row},"l7_protocol":20,
            "deepflow_span_id":"df-{row}","auto_service":"{service}"}}"#,
            BEGIN_US + row * 10,
            BEGIN_US + 100_000 - row * 10,
        )
    };
    let rows = [row(100, "c", 0, "client"), row(200, "c-p", 3, "gateway")].join(",");
    match classify(200, format!(r#"{{"DATA":{{"tracing":[{rows}]}}}}"#).as_bytes()) {
        Outcome::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_is_its_own_processs_whatever_rows_are_left_out_above_it() {
    for (network_spans, services) in [
        (NetworkSpans::Inline, &["shop", "client", "gateway"][..]),
        (NetworkSpans::Beside, &["shop", "client", "gateway"]),
        (NetworkSpans::Off, &["shop", "gateway"]),
    ] {
        let config = Config { network_spans, ..Config::default() };
        let mut trace = Trace { config, ..Trace::default() };
        let (out, _) = trace.request(&[("shop", client())], Some(&gateway()), false);
        let resources = out.resource_spans.iter().filter_map(|spans| spans.resource.as_ref());
        let names = resources.flat_map(|resource| &resource.attributes);
        let names = names.filter(|attribute| attribute.key == "service.name");
        let value = |name: &KeyValue| name.value.clone().and_then(|value| value.value);
        let text = |service: &&str| Some(any_value::Value::StringValue((*service).to_owned()));
        let expected: Vec<_> = services.iter().map(text).collect();
        assert_eq!(names.map(value).collect::<Vec<_>>(), expected, "{network_spans:?}");
    }
}

#[test]
fn nothing_is_added_when_it_is_not_known_what_was() {
    let mut trace = Trace::default();
    trace.part(&[("shop", client())], None, true);
    let sent = trace.sent.as_mut().expect("a part went out");
    let row = |row: u64| {
        let id = SpanId::from_number(row + 1000).expect("not zero");
        SentRow { row: row + 1000, region: 0, id, parent: None, is_stale: false }
    };
    sent.add(Vec::new(), (0..=10_000).map(row).collect(), false);
    let (out, woven) = trace.part(&[("stock", server())], Some(&call()), false);
    assert_eq!((out, woven.beyond_limit), (vec![(3, 2)], 2));
}

#[test]
fn without_completion_nothing_is_remembered() {
    let fragments = fragments(&[("shop", client())]);
    let ledger = crate::ledger::Ledger::new(["one".to_owned()]);
    let budget = crate::memory::Budget::new(1000);
    let id = TraceId::from_wire(&9_u128.to_be_bytes()).expect("not zero");
    let trace = |fragments: &[Fragment]| QuietTrace {
        key: TraceKey { id, origin: Origin::default() },
        fragments: fragments.to_vec(),
        first_arrival: crate::clock::now(),
        last_arrival: crate::clock::now(),
        released: crate::clock::now(),
        release: crate::trace::Release::Idle,
        more: false,
        sent: None,
        lease: Lease::new(ledger.clone(), 0, budget.claim(crate::memory::Stage::Buffer, 0)),
    };
    let woven =
        |skip| weave(Box::new(trace(&fragments)), Answer::Skipped(skip), &Config::default());
    assert!(woven(Skip::Disabled).sent.is_none());
    let sent = woven(Skip::NotFound).sent.expect("late spans may be asked for");
    assert_eq!((sent.spans().len(), sent.is_ended()), (1, true));
}
