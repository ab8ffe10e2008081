//! Every fault is what its name says, and ends when it is switched off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tracestitch::{
    clock,
    demo::{
        deepflow::{DeepflowConfig, Fault, WallClock},
        shop,
    },
};

use crate::{
    recorded, rows,
    shop::posted,
    support::{Double, PATH},
};

/// Scenario: faults that answer something.
/// Guarantees: status and body of each; afterwards all is well.
#[tokio::test]
async fn faults_answer_as_named() {
    let double = double().await;
    let request = recorded::request("fixtures/a_two_services");
    let text = "Cannot connect to host".to_owned();
    let cases = [
        (Fault::Unknown, 500, "INTERNAL_SERVER_ERROR"),
        (Fault::Status { status: 500, text }, 500, "INTERNAL_SERVER_ERROR"),
        (Fault::PartialResult, 206, "PARTIAL_RESULT"),
        (Fault::Latency(Duration::from_millis(1)), 200, "SUCCESS"),
        (Fault::Capacity { answers_per_s: 1000.0 }, 200, "SUCCESS"),
        (Fault::None, 200, "SUCCESS"),
    ];
    for (fault, status, word) in cases {
        double.deepflow.set_fault(fault.clone());
        let answered = double.post(&request).await;
        assert_eq!(
            (answered.status, answered.json()["OPT_STATUS"].as_str()),
            (status, Some(word)),
            "{fault:?}"
        );
    }
    double.deepflow.set_fault(Fault::Garbage);
    assert_eq!(double.post(&request).await.json(), Value::Null);
    double.deepflow.set_fault(Fault::Huge(1_000_000));
    assert_eq!(double.post(&request).await.body.len(), 1_000_000);
    double.stop().await;
}

/// Scenario: nobody is there, while a client still holds a connection.
/// Guarantees: an error at once, and an answer at the same address when it is over.
#[tokio::test]
async fn down_closes_connections() {
    let double = double().await;
    let request = recorded::request("fixtures/a_two_services");
    assert_eq!(double.post(&request).await.status, 200);
    double.deepflow.set_fault(Fault::Down);
    assert!(double.send(Method::POST, PATH, request.as_bytes()).await.is_err());
    double.deepflow.set_fault(Fault::None);
    assert_eq!(double.post(&request).await.status, 200);
    double.stop().await;
}

/// Scenario: the server never answers, and is stopped.
/// Guarantees: stopping does not wait for the one who asked; he gets an error.
#[tokio::test]
async fn stopping_ends_those_who_wait() {
    let double = double().await;
    double.deepflow.set_fault(Fault::Hang);
    let caller = double.caller.clone();
    let asked = tokio::spawn(async move { caller.send(Method::POST, PATH, SPAN.as_bytes()).await });
    while double.deepflow.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    double.stop().await;
    assert!(asked.await.expect("no panic").is_err());
}

/// Scenario: a server of 50 answers a second is asked ten times at once.
/// Guarantees: the answers come one after the other.
#[tokio::test]
async fn capacity_is_one_queue() {
    let double = double().await;
    double.deepflow.set_fault(Fault::Capacity { answers_per_s: 50.0 });
    let begin = clock::now();
    let mut asks = JoinSet::new();
    for _ in 0..10 {
        let caller = double.caller.clone();
        asks.spawn(async move { caller.post(SPAN).await.status });
    }
    assert_eq!(asks.join_all().await, [500; 10]);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    double.stop().await;
}

/// Scenario: a row's exchange ended, and time passes.
/// Guarantees: it is found from `visible_after` on, not before.
#[tokio::test]
async fn rows_become_visible_with_time() {
    let round = shop::round(3, 1_700_000_000_000_000_000);
    let last_us = round.rows.iter().map(|row| row.end_us).max().unwrap_or_default().unsigned_abs();
    let now_us = Arc::new(AtomicU64::new(last_us));
    let clock = WallClock::new({
        let now_us = Arc::clone(&now_us);
        move || now_us.load(Ordering::Relaxed)
    });
    let visible_after = Duration::from_secs(8);
    let config = DeepflowConfig {
        rows: round.rows.clone(),
        visible_after,
        clock,
        ..DeepflowConfig::default()
    };
    let double = Double::start(config).await;
    let request = posted(&round, round.trace_ids[0]);
    assert_eq!(double.post(&request).await.status, 500);
    now_us.store(last_us + 8_000_000, Ordering::Relaxed);
    assert_eq!(double.post(&request).await.status, 200);
    assert_eq!(double.deepflow.requests().len(), 2);
    assert_eq!(double.deepflow.requests()[0].org_id.as_deref(), Some("7"));
    double.stop().await;
}

/// Scenario: a trace nobody saw, asked for twice; then with more of its spans.
/// Guarantees: made-up rows have the same ids and hang between the two spans of each call.
#[tokio::test]
async fn made_up_rows_are_stable() {
    let config = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let double = Double::start(config).await;
    let span = |id: &str, parent: &str, kind: u64, start: u64, end: u64| {
        json!({"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": id, "parent_span_id": parent,
            "span_kind": kind, "start_time_us": 1_700_000_000_000_000_u64 + start,
            "end_time_us": 1_700_000_000_000_000_u64 + end})
    };
    let root = span("00f067aa0ba902b7", "", 2, 0, 90_000);
    let client = span("00f067aa0ba902b8", "00f067aa0ba902b7", 3, 10_000, 80_000);
    let server = span("00f067aa0ba902b9", "00f067aa0ba902b8", 2, 11_000, 79_000);
    let half = json!({"app_spans": [root, client]}).to_string();
    let whole = json!({"app_spans": [root, client, server]}).to_string();
    let rows = |body: Value| {
        let spans = body["DATA"]["tracing"].as_array().cloned().unwrap_or_default();
        let rows = spans.into_iter().filter(|span| span["signal_source"] != 4);
        rows.map(|row| (row["tap_side"].to_string(), row["_ids"][0].to_string()))
            .collect::<Vec<_>>()
    };
    let (few, all) =
        (rows(double.post(&half).await.json()), rows(double.post(&whole).await.json()));
    assert_eq!((few.len(), all.len()), (3, 6));
    assert_eq!(few, all[..3], "known rows keep their ids");
    assert_eq!(all, rows(double.post(&whole).await.json()));
    double.stop().await;
}

const SPAN: &str = r#"{"app_spans": [{"trace_id": "t", "span_id": "s", "parent_span_id": "", "span_kind": 2,
    "start_time_us": 1, "end_time_us": 2}]}"#;

async fn double() -> Double {
    Double::with_rows(rows::of(&recorded::answer("fixtures/a_two_services"))).await
}
