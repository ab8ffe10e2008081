//! Scenario: senders offer far more than the program can carry, for a minute, and never wait as they are told to.
//! Guarantees: they are refused with a `RetryInfo`; resident memory stays within 10 % of `memory.limit`; what was
//! acknowledged arrives, once; the books balance. Memory and books are printed.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use parking_lot::Mutex;
use tonic::Code;
use tracestitch::{clock, demo::sender::Sender, wire::status::retry_delay};

use crate::{
    program::{Addresses, PATIENCE, Program},
    sink::Sink,
    world::is_full,
};

const LIMIT_MIB: u64 = 192;
const CONNECTIONS: u64 = 64;
/// On each connection, fewer than may be open; a request that is answered is followed by the next one at once.
const IN_FLIGHT: u64 = 12;
const TRACES: u64 = 64;
const SPANS: u64 = 8;

/// What the senders were told.
#[derive(Debug, Default)]
struct Told {
    next: AtomicU64,
    acknowledged: Mutex<Vec<u64>>,
    refused: AtomicU64,
    without_retry_info: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn overload() {
    let seconds = if is_full() { 60 } else { 8 };
    let directory = tempfile::tempdir().expect("a directory");
    let sink = Sink::start().await;
    let config = directory.path().join("config.yaml");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
         memory: {{limit: {LIMIT_MIB}MiB}}\n\
         buffer: {{idle: 3s, journal: {{directory: '{0}/journal'}}}}\n\
         completion: {{deepflow: {{enabled: false}}}}\n\
         exporters: {{otlp/sink: {{endpoint: '{1}'}}}}\n\
         dead_letter: {{directory: '{0}/dead-letter'}}\n\
         admin: {{endpoint: '127.0.0.1:0'}}\n\
         logs: {{format: json}}\n",
        directory.path().display(),
        sink.url(),
    );
    fs::write(&config, text).expect("a file");
    let mut program = Program::real(&config, directory.path().join("log"));
    let addresses = program.ready().await.expect("it starts");

    let told = Arc::new(Told::default());
    let end = clock::now() + Duration::from_secs(seconds);
    let mut senders = Vec::new();
    for _ in 0..CONNECTIONS {
        let sender = Sender::to(addresses.grpc).expect("an address");
        for _ in 0..IN_FLIGHT {
            let (sender, told) = (sender.clone(), Arc::clone(&told));
            senders.push(tokio::spawn(async move {
                while clock::now() < end {
                    offer(&sender, &told).await;
                }
            }));
        }
    }
    for sender in senders {
        sender.await.expect("a sender");
    }
    let acknowledged = told.acknowledged.lock().clone();
    let spans = i64::try_from(acknowledged.len()).expect("fits") * signed(TRACES * SPANS);
    let books = settled(addresses, spans).await;
    let peak_mib = program.peak_bytes() >> 20;
    println!(
        "{seconds} s: {spans} spans acknowledged, {} requests refused, peak {peak_mib} MiB of {LIMIT_MIB}: {books}",
        told.refused.load(Relaxed)
    );
    assert!(told.refused.load(Relaxed) > 0, "it was no overload");
    assert_eq!(told.without_retry_info.load(Relaxed), 0);
    assert!(peak_mib * 10 <= LIMIT_MIB * 11, "{peak_mib} MiB");
    let arrived = sink.spans();
    let is_there = |span: &Span| {
        let key = crate::sink::key(span).expect("ids of full length");
        arrived.get(&key).is_some_and(|arrivals| arrivals.times.len() == 1)
    };
    let missing = acknowledged.iter().flat_map(|number| spans_of(*number));
    assert_eq!(missing.filter(|span| !is_there(span)).count(), 0, "each arrives once");
    let (status, _) = program.terminate().await;
    assert_eq!(status.code(), Some(0));
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("fits")
}

async fn offer(sender: &Sender, told: &Told) {
    let number = told.next.fetch_add(1, Relaxed);
    let scope_spans = vec![ScopeSpans { spans: spans_of(number), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    match sender.send(&ExportTraceServiceRequest { resource_spans }).await {
        Ok(_) => told.acknowledged.lock().push(number),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            told.refused.fetch_add(1, Relaxed);
            if retry_delay(&status).is_none() {
                told.without_retry_info.fetch_add(1, Relaxed);
            }
        }
    }
}

/// The spans of a request: whole traces.
fn spans_of(request: u64) -> Vec<Span> {
    let text = "what an attribute of a usual length has to say about a span. ".repeat(5);
    let value = AnyValue { value: Some(Value::StringValue(text)) };
    let attribute = KeyValue { key: "text".to_owned(), value: Some(value), ..KeyValue::default() };
    let span = |number: u64| Span {
        trace_id: u128::from(request * TRACES + number / SPANS + 1).to_be_bytes().to_vec(),
        span_id: (request * TRACES * SPANS + number + 1).to_be_bytes().to_vec(),
        name: "overload".to_owned(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        attributes: vec![attribute.clone()],
        ..Span::default()
    };
    (0..TRACES * SPANS).map(span).collect()
}

/// Waits until all that was accepted has been delivered.
async fn settled(addresses: Addresses, spans: i64) -> String {
    let end = clock::now() + PATIENCE;
    loop {
        let books = addresses.books().await.expect("the books");
        let delivered = books.first().and_then(|books| books["delivered"].as_i64());
        if delivered.is_some_and(|delivered| delivered >= spans) {
            return books.first().map(ToString::to_string).unwrap_or_default();
        }
        assert!(clock::now() < end, "not all is delivered: {books:?}, {spans}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
