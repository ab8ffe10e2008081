//! Scenario: `DeepFlow` is down, slow, failing, half answering, talking nonsense, talking without end, or silent.
//! Guarantees: every span of the SDKs arrives once, byte for byte, no later than idle and deadline allow. A `DeepFlow`
//! that keeps failing is left alone for a while, one that never knows anything is only probed, and both show in
//! `tracestitch_completion_mode`.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    trace::v1::{
        Span, Status,
        span::{Event, Link},
    },
};
use prost::Message;
use tokio::task::JoinSet;
use tonic::metadata::MetadataMap;
use tracestitch::{
    clock,
    demo::deepflow::{DeepflowConfig, Fault},
    wire::field::put_delimited_head,
};

use crate::support::{self, Setup, World};

const TRACES: u128 = 3;
/// Idle 300 ms and deadline 2 s; and slack for slow machines.
const ON_TIME: Duration = Duration::from_secs(15);

/// Fault, and the reason by which its traces go on without.
fn faults() -> [(Fault, &'static str); 7] {
    let failure = Fault::Status { status: 500, text: "clickhouse: connection refused".to_owned() };
    [
        (Fault::Down, "failed"),
        (Fault::Latency(Duration::from_secs(20)), "failed"),
        (failure, "failed"),
        (Fault::PartialResult, "failed"),
        (Fault::Garbage, "failed"),
        (Fault::Huge(100_000_000), "rejected"),
        (Fault::Hang, "failed"),
    ]
}

#[tokio::test]
async fn deepflow_down_passes_traces_through() {
    let mut cases = JoinSet::new();
    for (fault, reason) in faults() {
        cases.spawn(passes_through(fault, reason));
    }
    cases.join_all().await;
}

async fn passes_through(fault: Fault, reason: &'static str) {
    let deepflow = DeepflowConfig { fault: fault.clone(), ..DeepflowConfig::default() };
    let setup = Setup {
        deepflow: "timeout: 1s, deadline: 2s, reask: [300ms], max_response_size: 1MiB, \
                   retry: {initial_interval: 200ms}, circuit_breaker: {failures: 1000}",
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    let sent: Vec<Bytes> = (1..=TRACES).flat_map(rich_spans).collect();
    let body = raw_request(&sent);
    world.sender.send_raw(body, MetadataMap::new()).await.expect("the request is taken");
    let last_sent = clock::now();
    world.settled(sent.len()).await;
    let took = clock::now() - last_sent;
    assert!(took < ON_TIME, "{fault:?}: {took:?}");

    let received: Vec<u8> = world.backend.received().iter().flat_map(|r| r.body.clone()).collect();
    for span in &sent {
        assert_eq!(occurrences(&received, span), 1, "{fault:?}");
    }
    assert_eq!(support::spans_at(&world.backend).len(), sent.len(), "{fault:?}");
    let skipped = format!("tracestitch_completion_skipped_traces_total{{reason=\"{reason}\"}}");
    assert_eq!(world.metric(&skipped), 3, "{fault:?}");
    assert_eq!(world.metric("tracestitch_completion_completed_traces_total"), 0, "{fault:?}");
    world.end(&[]).await;
}

/// Spans with something in every field, one this version does not know included.
fn rich_spans(trace: u128) -> Vec<Bytes> {
    let number = |value| AnyValue { value: Some(Value::IntValue(value)) };
    let attribute = |key: &str, value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    };
    let attributes = vec![
        support::text("text", "ä text"),
        attribute("bool", Value::BoolValue(true)),
        attribute("double", Value::DoubleValue(0.5)),
        attribute("bytes", Value::BytesValue(vec![0, 255])),
        attribute("array", Value::ArrayValue(ArrayValue { values: vec![number(1), number(-1)] })),
        attribute(
            "map",
            Value::KvlistValue(KeyValueList { values: vec![support::text("a", "b")] }),
        ),
        KeyValue { key: "nothing".to_owned(), ..Default::default() },
    ];
    let rich = |span: Span| Span {
        trace_state: "vendor=1".to_owned(),
        flags: 0x301,
        attributes: attributes.clone(),
        dropped_attributes_count: 1,
        events: vec![Event {
            time_unix_nano: span.start_time_unix_nano,
            name: "exception".to_owned(),
            attributes: attributes.clone(),
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        links: vec![Link {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            attributes: attributes.clone(),
            ..Link::default()
        }],
        dropped_links_count: 4,
        status: Some(Status { message: "late".to_owned(), code: 2 }),
        ..span
    };
    let encoded = |span: Span| {
        let mut bytes = rich(span).encode_to_vec();
        // Field 31, delimited: of a later version of OTLP.
        bytes.extend([0xfa, 0x01, 0x03, b'n', b'e', b'w']);
        Bytes::from(bytes)
    };
    support::spans(trace, 4).into_iter().map(encoded).collect()
}

/// A request with these spans as they are.
fn raw_request(spans: &[Bytes]) -> Bytes {
    let nested = |content: &[u8], number| {
        let mut bytes = Vec::new();
        put_delimited_head(&mut bytes, number, content.len());
        bytes.extend(content);
        bytes
    };
    let scope: Vec<u8> = spans.iter().flat_map(|span| nested(span, 2)).collect();
    let resource = nested(&scope, 2);
    let request = nested(&resource, 1);
    ExportTraceServiceRequest::decode(request.as_slice()).expect("a request");
    request.into()
}

fn occurrences(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| *window == needle).count()
}

#[tokio::test]
async fn breaker_opens_and_closes_again() {
    let deepflow = DeepflowConfig { synthesise: true, fault: Fault::Down, ..Default::default() };
    let setup = Setup {
        deepflow: "timeout: 1s, deadline: 5s, max_in_flight: 2, retry: {initial_interval: 50ms}, \
                   circuit_breaker: {failures: 3, open_interval: 200ms, max_open_interval: 400ms}",
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    let mut sent = Vec::new();
    let mut traces = 1..;
    send(&world, &mut sent, &mut traces, 10).await;
    world.settled(sent.len()).await;
    assert_eq!(mode(&world), "breaker_open");
    let skipped =
        |reason| format!("tracestitch_completion_skipped_traces_total{{reason=\"{reason}\"}}");
    let without = world.metric(&skipped("breaker_open")) + world.metric(&skipped("failed"));
    assert_eq!(without, 10);

    world.deepflow.set_fault(Fault::None);
    let end = clock::now() + support::PATIENCE;
    while mode(&world) != "normal" {
        assert!(clock::now() < end, "{}", mode(&world));
        send(&world, &mut sent, &mut traces, 1).await;
        world.settled(sent.len()).await;
    }
    let completed = world.metric("tracestitch_completion_completed_traces_total");
    send(&world, &mut sent, &mut traces, 1).await;
    world.settled(sent.len()).await;
    assert_eq!(world.metric("tracestitch_completion_completed_traces_total"), completed + 1);
    let added = support::assert_arrived(&sent, support::spans_at(&world.backend));
    assert!(!added.is_empty());
    world.end(&[]).await;
}

#[tokio::test]
async fn who_knows_nothing_is_only_probed_until_the_first_hit() {
    let deepflow = DeepflowConfig { synthesise: true, fault: Fault::Unknown, ..Default::default() };
    let setup = Setup { deepflow: "reask: [3s], deadline: 10s", ..Setup::default() };
    let world = World::with(deepflow, setup).await;
    let mut sent = Vec::new();
    let mut traces = 1..;
    send(&world, &mut sent, &mut traces, 60).await;
    world.settled(sent.len()).await;
    assert_eq!(mode(&world), "nothing_found", "50 were asked for to the end");
    send(&world, &mut sent, &mut traces, 20).await;
    world.settled(sent.len()).await;
    let skipped =
        world.metric("tracestitch_completion_skipped_traces_total{reason=\"nothing_found\"}");
    assert!(skipped >= 10, "{skipped}");
    let asks = world.deepflow.requests();
    let asked: HashSet<_> = asks.iter().map(|ask| &ask.trace_id).collect();
    assert!((60..70).contains(&asked.len()), "{}", asked.len());

    world.deepflow.set_fault(Fault::None);
    let end = clock::now() + support::PATIENCE;
    while mode(&world) != "normal" {
        assert!(clock::now() < end, "{}", mode(&world));
        send(&world, &mut sent, &mut traces, 1).await;
        world.settled(sent.len()).await;
    }
    let completed = world.metric("tracestitch_completion_completed_traces_total");
    assert_eq!(completed, 1, "the first hit restores it");
    send(&world, &mut sent, &mut traces, 3).await;
    world.settled(sent.len()).await;
    assert_eq!(world.metric("tracestitch_completion_completed_traces_total"), 4);
    support::assert_arrived(&sent, support::spans_at(&world.backend));
    world.end(&[]).await;
}

async fn send(
    world: &World,
    sent: &mut Vec<Span>,
    traces: &mut impl Iterator<Item = u128>,
    count: usize,
) {
    for trace in traces.take(count) {
        let request = support::trace(trace, 2);
        world.send(&request).await;
        sent.extend(support::spans_of(&request));
    }
}

fn mode(world: &World) -> &'static str {
    let is_on =
        |mode: &&&str| world.metric(&format!("tracestitch_completion_mode{{mode=\"{mode}\"}}")) > 0;
    let modes = ["normal", "breaker_open", "half_open", "nothing_found", "disabled"];
    let on: Vec<_> = modes.iter().filter(is_on).collect();
    on.first().expect("there is always one mode in force")
}
