//! The lookup has the limits of the real one (contract section 0, facts 5, 6 and 7).

use serde_json::{Value, json};
use tracestitch::demo::deepflow::{Call, Process, Side};

use crate::support::Double;

const NOON_US: i64 = 1_700_000_000_000_000;

/// Scenario: 1500 rows carry the trace id.
/// Guarantees: 1000 come back, and nothing says that there are more.
#[tokio::test]
async fn a_query_finds_a_thousand_rows() {
    let calls = (0..250).map(|number| call("t", number));
    let double = Double::with_rows(calls.flat_map(|call| call.rows()).collect()).await;
    let body = double.post(&ask(&["t"], 0, 1)).await.json();
    assert_eq!((rows(&body), &body["DESCRIPTION"]), (1000, &Value::from("")));
    double.stop().await;
}

/// Scenario: spans of two traces in one ask.
/// Guarantees: only rows of the first trace id that is not empty come back.
#[tokio::test]
async fn only_the_first_trace_counts() {
    let double = Double::with_rows([call("t", 1).rows(), call("u", 2).rows()].concat()).await;
    assert_eq!(rows(&double.post(&ask(&["", "t", "u"], 0, 1)).await.json()), 6);
    assert_eq!(double.post(&ask(&["", ""], 0, 1)).await.status, 500);
    assert_eq!(double.post(&ask(&["T"], 0, 1)).await.status, 500, "case matters");
    double.stop().await;
}

/// Scenario: spans at some seconds' distance from the row.
/// Guarantees: three whole seconds are bridged, not four.
#[tokio::test]
async fn the_window_is_three_seconds_wide() {
    let double = Double::with_rows(call("t", 1).rows()).await;
    for (distance_s, status) in [(3, 200), (-3, 200), (4, 500), (-4, 500)] {
        let start_us = distance_s * 1_000_000;
        assert_eq!(double.post(&ask(&["t"], start_us, 1)).await.status, status, "{distance_s}");
    }
    double.stop().await;
}

/// Scenario: calls without header follow in the thread of a found one: a question to DNS, then one to a database.
/// Guarantees: the database is found whole, of DNS the process's row only, for UDP has no sequence numbers.
#[tokio::test]
async fn calls_without_header_hang_by_their_thread() {
    let found = call("t", 1);
    let database =
        Call { client: found.server.clone().map(as_client), tcp_seqs: [91, 92], ..call("", 2) };
    let dns = Call {
        protocol: (120, "DNS"),
        server: None,
        tcp_seqs: [0, 0],
        first_row: 900,
        ..database.clone()
    };
    let stranger = Call { tcp_seqs: [93, 94], ..call("", 4) };
    let all = [found.rows(), database.rows(), dns.rows(), stranger.rows()].concat();
    let double = Double::with_rows(all).await;
    let body = double.post(&ask(&["t"], 0, 1)).await.json();
    assert_eq!(rows(&body), 6 + 6 + 1);
    double.stop().await;
}

/// Scenario: a chain of 1200 spans, each starting before its parent.
/// Guarantees: Python's recursion ends; parents first are no problem.
#[tokio::test]
async fn deep_chains_overflow_the_stack_of_the_service() {
    let double = Double::with_rows(call("t", 1).rows()).await;
    let chain = |step_us: i64| {
        let span = |number: i64| {
            span("t", &number.to_string(), &(number - 1).to_string(), number * step_us, 5000)
        };
        json!({"app_spans": (0..1200).map(span).collect::<Vec<_>>()}).to_string()
    };
    let answered = double.post(&chain(-1)).await;
    let text = answered.json()["DESCRIPTION"].to_string();
    assert!(answered.status == 500 && text.contains("maximum recursion depth exceeded"), "{text}");
    assert_eq!(double.post(&chain(1)).await.status, 200);
    double.stop().await;
}

/// Scenario: a long demo forgets what is over.
/// Guarantees: rows that ended before are gone, later ones stay.
#[tokio::test]
async fn old_rows_can_be_forgotten() {
    let double = Double::with_rows(call("t", 1).rows()).await;
    double.deepflow.forget_rows_before(NOON_US.unsigned_abs());
    assert_eq!(double.post(&ask(&["t"], 0, 1)).await.status, 200);
    double.deepflow.forget_rows_before(NOON_US.unsigned_abs() + 1_000_000);
    assert_eq!(double.post(&ask(&["t"], 0, 1)).await.status, 500);
    double.stop().await;
}

fn call(trace_id: &str, number: u32) -> Call {
    let number_u64 = u64::from(number);
    Call {
        trace_id: trace_id.to_owned(),
        span_id: format!("{number:016x}"),
        client: Some(side(&["c-p", "c", "c-nd"], 1, [0, 0])),
        server: Some(side(&["s-nd", "s", "s-p"], 2, [2 * number_u64, 2 * number_u64 + 1])),
        protocol: (20, "HTTP"),
        tcp_seqs: [1000 + number_u64, 5000 + number_u64],
        first_row: number * 6,
        start_us: NOON_US,
        end_us: Some(NOON_US + 1000),
        ..Call::default()
    }
}

fn side(points: &[&'static str], agent_id: u64, syscall_ids: [u64; 2]) -> Side {
    let process = Process { id: agent_id, ..Process::default() };
    Side {
        points: points.to_vec(),
        agent_id,
        process,
        syscall_ids,
        instance_id: agent_id,
        ..Side::default()
    }
}

fn as_client(server: Side) -> Side {
    Side { points: vec!["c-p", "c", "c-nd"], ..server }
}

fn ask(trace_ids: &[&str], start_us: i64, duration_us: i64) -> String {
    let spans = trace_ids.iter().zip(1..);
    let spans: Vec<Value> = spans
        .map(|(trace_id, number): (_, i64)| {
            span(trace_id, &number.to_string(), "", start_us, duration_us)
        })
        .collect();
    json!({"app_spans": spans, "network_delay_us": 3_000_000}).to_string()
}

fn span(trace_id: &str, id: &str, parent: &str, start_us: i64, duration_us: i64) -> Value {
    json!({"trace_id": trace_id, "span_id": id, "parent_span_id": parent, "span_kind": 2,
        "start_time_us": NOON_US + start_us, "end_time_us": NOON_US + start_us + duration_us})
}

fn rows(body: &Value) -> usize {
    let spans = body["DATA"]["tracing"].as_array().map_or(&[][..], Vec::as_slice);
    spans.iter().filter(|span| span["signal_source"] != 4).count()
}
