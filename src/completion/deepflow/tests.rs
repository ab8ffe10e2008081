//! Small answers, each for one way in which releases and their JSON differ.

use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;

use super::{
    Deepflow, Prepared,
    answer::{Outcome, classify},
};
use crate::{
    tls::Reloads,
    trace::{Exchange, Found, FoundParent, FoundSpan, ObservationPoint, ResponseStatus, SpanId},
};

/// Two rows around an app span and DeepFlow's copy of another, with every field that is read.
const ANSWER: &str = r#"{"OPT_STATUS": "SUCCESS", "DESCRIPTION": "", "DATA": {"tracing": [
    {"_ids": ["7", "8"], "signal_source": 3, "type": 2, "start_time_us": 100, "end_time_us": 200.0, "tap_side": "s-p",
     "l7_protocol": 20, "l7_protocol_str": "HTTP", "endpoint": "/a", "request_type": "GET", "request_resource": "/a?b",
     "response_status": 0, "response_exception": "no", "response_code": 200.0, "flow_id": "9", "request_id": 4711.0,
     "x_request_id_0": "x", "x_request_id_1": "y", "span_id": "A000000000000002", "req_tcp_seq": 11,
     "resp_tcp_seq": "12", "syscall_trace_id_request": "13", "syscall_trace_id_response": "18446744073709551615",
     "process_id": 5, "vtap_id": 2, "auto_instance_id": 6, "auto_service": "svc", "auto_service_type": 102,
     "tap": "cloud", "_querier_region": "default", "is_tls": 1.0, "is_async": null, "subnet": "net", "ip": "10.0.0.1",
     "process_kname": "java", "gprocess": "group", "deepflow_span_id": "s.s-p.0", "deepflow_parent_span_id": ""},
    {"_ids": ["1"], "signal_source": 4, "tap_side": "s-app", "span_id": "a000000000000001", "_querier_region": "",
     "deepflow_span_id": "a000000000000001", "deepflow_parent_span_id": "s.s-p.0"},
    {"_ids": ["9"], "signal_source": 0, "type": 0, "start_time_us": 150, "end_time_us": 140, "tap_side": "c-nd",
     "deepflow_span_id": "None.c-nd.1", "deepflow_parent_span_id": "a000000000000001"}],
    "host_clock_correction": {"2": -44980}}, "new": [{"a": {}}]}"#;

fn found(json: &str) -> Found {
    match classify(200, json.as_bytes()) {
        Outcome::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn answer(rows: &str) -> String {
    format!(r#"{{"OPT_STATUS":"SUCCESS","DATA":{{"tracing":[{rows}]}}}}"#)
}

fn id(hex: &str) -> SpanId {
    hex.parse().expect("an id")
}

#[test]
fn every_field_is_read() {
    let expected = FoundSpan {
        row: 7,
        merged_rows: vec![8],
        region: "default".into(),
        point: ObservationPoint::ServerProcess,
        point_name: "s-p".into(),
        is_ebpf: true,
        exchange: Exchange::Session,
        start_us: 100,
        end_us: 200,
        clock_correction_us: -44980,
        parent: FoundParent::Root,
        span_id: Some(id("a000000000000002")),
        foreign_span_id: "".into(),
        x_request_ids: ["x".into(), "y".into()],
        tcp_seqs: [11, 12],
        syscall_ids: [13, u64::MAX],
        agent_id: 2,
        flow_id: 9,
        protocol: 20,
        protocol_name: "HTTP".into(),
        request_type: "GET".into(),
        request_resource: "/a?b".into(),
        endpoint: "/a".into(),
        request_id: Some(4711),
        status: ResponseStatus::Success,
        response_code: Some(200),
        response_exception: "no".into(),
        process_id: 5,
        process_name: "java".into(),
        ip: "10.0.0.1".into(),
        service: "svc".into(),
        service_type: 102,
        instance_id: 6,
        process_group: "group".into(),
        subnet: "net".into(),
        capture: "cloud".into(),
        is_tls: Some(true),
        is_async: None,
    };
    assert_eq!(found(ANSWER).spans.first(), Some(&expected));
}

#[test]
fn app_spans_are_dropped_but_their_edges_stay() {
    let found = found(ANSWER);
    assert_eq!(found.spans.len(), 2);
    assert_eq!(found.app_edges, [(id("a000000000000001"), 0)]);
    assert_eq!(found.spans[1].parent, FoundParent::App(id("a000000000000001")));
    assert_eq!([found.spans[1].start_us, found.spans[1].end_us], [150, 150]);
}

#[test]
fn a_row_needs_nothing_but_its_id() {
    let found = found(&answer(
        r#"{"_ids":[7]},{"_ids":["0"]},{"_ids":[]},{},null,{"_ids":["x"]},{"_ids":[1e17]}"#,
    ));
    assert_eq!(found.spans.len(), 1);
    assert_eq!(found.spans[0].point, ObservationPoint::Rest);
    assert_eq!(found.unusable, 6);
}

#[test]
fn without_signal_source_the_observation_point_tells_the_sort() {
    let found = found(&answer(
        r#"{"_ids":["1"],"tap_side":"c-app","span_id":"a000000000000001"},{"_ids":["2"],"tap_side":"c-p"},{"_ids":["3"],"tap_side":"c"}"#,
    ));
    assert_eq!(
        found.spans.iter().map(|span| (span.row, span.is_ebpf)).collect::<Vec<_>>(),
        [(2, true), (3, false)]
    );
}

#[test]
fn a_row_that_comes_twice_is_one_span_unless_the_regions_differ() {
    let found = found(&answer(
        r#"{"_ids":["1"],"deepflow_span_id":"a"},{"_ids":["1"],"deepflow_span_id":"b"},
           {"_ids":["1"],"_querier_region":"r"},{"_ids":["2"],"deepflow_parent_span_id":"b"}"#,
    ));
    assert_eq!(found.spans.iter().map(|span| &*span.region).collect::<Vec<_>>(), ["", "r", ""]);
    assert_eq!(found.spans[2].parent, FoundParent::Found(0));
}

#[test]
fn span_ids_of_other_tracers_are_kept_as_text() {
    let found = found(&answer(
        r#"{"_ids":["1"],"span_id":"12ab"},{"_ids":["2"],"span_id":"0000000000000000"},{"_ids":["3"],"span_id":5}"#,
    ));
    let read =
        found.spans.iter().map(|span| (span.span_id, &*span.foreign_span_id)).collect::<Vec<_>>();
    assert_eq!(read, [(None, "12ab"), (None, ""), (None, "5")]);
}

#[test]
fn a_thousand_rows_are_a_cut_answer_and_five_thousand_the_limit() {
    let rows = |count: usize| {
        (1..=count).map(|row| format!(r#"{{"_ids":["{row}"]}}"#)).collect::<Vec<_>>().join(",")
    };
    assert!(!found(&answer(&rows(999))).truncated);
    assert!(found(&answer(&rows(1_000))).truncated);
    let most = found(&answer(&rows(5_001)));
    assert!(most.truncated);
    assert_eq!(most.spans.len(), 5_000);
}

#[test]
fn answers_have_their_class() {
    let quoted =
        |word: &str| format!(r#"{{"OPT_STATUS":"INTERNAL_SERVER_ERROR","DESCRIPTION":"{word}"}}"#);
    let partial = |data: &str| {
        format!(r#"{{"OPT_STATUS":"PARTIAL_RESULT","DESCRIPTION":"'x'","DATA":{data}}}"#)
    };
    let class = |status, body: &str| match classify(status, body.as_bytes()) {
        Outcome::Found(_) => "found",
        Outcome::NotFound => "not found",
        Outcome::Retry(_) => "retry",
        Outcome::Reject(_) => "reject",
    };
    let rows = r#"{"tracing":[{"_ids":["1"]}]}"#;
    for (status, body, expected) in [
        (200, &*answer(""), "not found"),
        (200, &answer(r#"{"_ids":["1"],"signal_source":4}"#), "not found"),
        (200, &answer(r#"{"_ids":["0"]}"#), "not found"),
        (200, r#"{"OPT_STATUS":"SUCCESS"}"#, "not found"),
        (200, "", "retry"),
        (200, "{}", "retry"),
        (200, "[]", "retry"),
        (200, "<html>", "retry"),
        (200, "\u{feff}{}", "retry"),
        (500, &quoted("'server_port'"), "not found"),
        (500, &quoted("'Enum(l7_protocol)'"), "not found"),
        (500, &quoted("''"), "not found"),
        (500, &quoted("'data'"), "retry"),
        (500, &quoted("'"), "retry"),
        (500, &quoted("'a' or 'b'"), "retry"),
        (500, &quoted("Failed when parsing body as json"), "reject"),
        (500, &quoted("maximum recursion depth exceeded in comparison"), "reject"),
        (502, &quoted("'server_port'"), "retry"),
        (206, &partial(rows), "found"),
        (500, &partial(rows), "found"),
        (200, &partial("{}"), "retry"),
        (500, &partial("{}"), "retry"),
        (500, &partial(r#"{"tracing":[]}"#), "retry"),
        (404, &partial(rows), "found"),
        (404, &partial("{}"), "retry"),
        (400, &answer(r#"{"_ids":["1"]}"#), "reject"),
        (404, "", "reject"),
        (405, "", "reject"),
        (413, "Payload Too Large", "reject"),
        (408, "", "retry"),
        (429, "", "retry"),
        (301, "", "retry"),
        (503, "<html>busy</html>", "retry"),
    ] {
        assert_eq!(class(status, body), expected, "{status} {body}");
    }
}

#[test]
fn the_reason_is_one_short_line() {
    let body = format!(
        r#"{{"OPT_STATUS":"PARTIAL_RESULT","DESCRIPTION":"SELECT\n  {}"}}"#,
        "é".repeat(9_000)
    );
    let Outcome::Retry(why) = classify(206, body.as_bytes()) else { panic!("no retry") };
    assert!(why.starts_with("HTTP 206: SELECT éé"), "{why}");
    assert_eq!(why.chars().count(), 200);
    assert_eq!(
        classify(404, br#"{"message":"not here"}"#),
        Outcome::Reject("HTTP 404: not here".to_owned())
    );
}

proptest! {
    #[test]
    fn any_bytes_have_an_outcome(status in any::<u16>(), body in any::<Vec<u8>>()) {
        classify(status, &body);
    }

    /// Bytes of a real answer replaced, removed and repeated.
    #[test]
    fn a_damaged_answer_has_an_outcome(
        cuts in proptest::collection::vec((0..ANSWER.len(), 0..8_usize, any::<Vec<u8>>()), 1..4),
    ) {
        let mut body = ANSWER.as_bytes().to_vec();
        for (from, len, new) in cuts {
            let from = from.min(body.len());
            let to = (from + len).min(body.len());
            body.splice(from..to, new);
        }
        classify(200, &body);
    }

    /// Values of any type in any place.
    #[test]
    fn a_value_of_another_type_does_not_spoil_the_answer(
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(vec!["null", "{}", "[]", "[{\"a\":[1]}]", "-1", "1.5", "1e300", "\"\"", "true", "99999999999999999999"]),
    ) {
        let values: Vec<_> = ANSWER.match_indices(": ").map(|(at, _)| at + 2).collect();
        let at = values[place.index(values.len())];
        let mut rest = serde_json::Deserializer::from_str(&ANSWER[at..]).into_iter::<serde::de::IgnoredAny>();
        prop_assert!(rest.next().is_some_and(|old| old.is_ok()));
        let body = format!("{}{value}{}", &ANSWER[..at], &ANSWER[at + rest.byte_offset()..]);
        let outcome = classify(200, body.as_bytes());
        let is_whole = matches!(&outcome, Outcome::Found(found) if !found.spans.is_empty());
        let is_gone = ["\"DATA\"", "\"tracing\""].iter().any(|key| ANSWER[..at].ends_with(&format!("{key}: ")));
        prop_assert!(is_whole || is_gone, "{body} gives {outcome:?}");
    }
}

#[tokio::test]
async fn only_who_had_time_for_an_answer_has_failed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let endpoint = format!("http://{address}");
    let config =
        serde_json::json!({ "endpoint": endpoint, "timeout": "100ms", "deadline": "150ms" });
    let config = serde_json::from_value(config).expect("a configuration");
    let deepflow = Deepflow::new(&config, &Reloads::default()).expect("a client");
    for (left_ms, is_cut) in [(1, true), (74, true), (75, false), (10_000, false)] {
        let request = Prepared { body: Vec::new(), headers: HeaderMap::new() };
        let reply = deepflow.ask(request, Duration::from_millis(left_ms)).await;
        assert!(matches!(reply.outcome, Outcome::Retry(_)), "{reply:?}");
        assert_eq!(reply.is_cut, is_cut, "{left_ms}");
    }
}

/// Columns of a row, but for those that name it.
const COLUMNS: [&str; 40] = [
    "related_ids",
    "signal_source",
    "type",
    "start_time_us",
    "end_time_us",
    "duration",
    "tap_side",
    "l7_protocol",
    "l7_protocol_str",
    "endpoint",
    "request_type",
    "request_resource",
    "response_status",
    "response_exception",
    "response_code",
    "flow_id",
    "request_id",
    "x_request_id_0",
    "x_request_id_1",
    "trace_id",
    "span_id",
    "req_tcp_seq",
    "resp_tcp_seq",
    "syscall_trace_id_request",
    "syscall_trace_id_response",
    "attribute",
    "process_id",
    "vtap_id",
    "auto_instance_id",
    "tap",
    "_querier_region",
    "is_tls",
    "is_async",
    "subnet",
    "ip",
    "auto_service",
    "auto_service_type",
    "process_kname",
    "gprocess",
    "deepflow_parent_span_id",
];

const VALUES: [&str; 20] = [
    "0",
    "1",
    "12",
    "123",
    "4",
    "3",
    "-7",
    "1.0",
    "1.5",
    "null",
    r#""""#,
    r#""1""#,
    r#""12""#,
    r#""s-p""#,
    r#""c-app""#,
    r#""a long text that is shared by all""#,
    r#""a\n\"b""#,
    r#""18446744073709551615""#,
    r#"["1", {"a": "}"}]"#,
    r#"{"b": [1, 2]}"#,
];

/// How a row differs from the one before it.
#[derive(Debug, Clone)]
struct Change {
    /// Columns and their new values.
    values: Vec<(usize, usize)>,
    /// Columns that are left out from here on.
    gone: Option<usize>,
    /// Columns that change places from here on.
    swapped: Option<(usize, usize)>,
    merged: bool,
    space: &'static str,
}

fn change() -> impl Strategy<Value = Change> {
    let column = || 0..COLUMNS.len();
    let rarely = |column| prop::option::weighted(0.05, column);
    let values = prop::collection::vec((column(), 0..VALUES.len()), 0..8);
    let space = prop::sample::select(vec!["", "", "", " ", "\n  "]);
    let swapped = prop::option::weighted(0.05, (column(), column()));
    (values, rarely(column()), swapped, any::<bool>(), space).prop_map(
        |(values, gone, swapped, merged, space)| Change { values, gone, swapped, merged, space },
    )
}

fn changed_rows(changes: &[Change]) -> Vec<String> {
    let mut columns: Vec<_> = COLUMNS.iter().map(|name| (*name, "0")).collect();
    let row = |(number, change): (usize, &Change)| {
        for (column, value) in &change.values {
            if let Some(column) = columns.get_mut(*column) {
                column.1 = VALUES[*value];
            }
        }
        if let Some(gone) = change.gone.filter(|gone| *gone < columns.len()) {
            columns.remove(gone);
        }
        if let Some((one, other)) = change.swapped
            && one.max(other) < columns.len()
        {
            columns.swap(one, other);
        }
        let space = change.space;
        let ids = if change.merged {
            format!(r#""{number}1","{number}2""#)
        } else {
            format!("\"{number}1\"")
        };
        let members = columns.iter().map(|(name, value)| format!("\"{name}\":{space}{value}"));
        let members = members.collect::<Vec<_>>().join(&format!("{space},"));
        format!(r#"{{"_ids":[{ids}],{members}{space}}}"#)
    };
    changes.iter().enumerate().map(row).collect()
}

fn spans(rows: &str) -> Vec<FoundSpan> {
    match classify(200, answer(rows).as_bytes()) {
        Outcome::Found(found) => found.spans,
        Outcome::NotFound => Vec::new(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_row_says_the_same_whatever_stands_before_it(changes in prop::collection::vec(change(), 1..30)) {
        let rows = changed_rows(&changes);
        let alone: Vec<_> = rows.iter().flat_map(|row| spans(row)).collect();
        prop_assert_eq!(spans(&rows.join(",")), alone);
    }
}
