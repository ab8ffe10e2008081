//! Spans that real senders deliver arrive once each, whatever way they take.

use std::time::Duration;

use tracestitch::demo::backend::Backend;

use crate::{
    collector::{Collector, Onward, Protocol, generate},
    deepflow::SimulatedDeepflow,
    loopback::until,
    parts::{
        Part::{Otelcol, Telemetrygen},
        Parts,
    },
    spans::Spans,
    tracestitch::Tracestitch,
};

/// Scenario: the generator sends OTLP/gRPC.
#[tokio::test(flavor = "multi_thread")]
async fn telemetrygen_over_grpc() {
    let Some(parts) = Parts::here(&[Telemetrygen]) else { return };
    every_span_arrives_once(async |next| generate(&parts, next.grpc(), Protocol::Grpc).await).await;
}

/// Scenario: the generator sends OTLP/HTTP, protobuf.
#[tokio::test(flavor = "multi_thread")]
async fn telemetrygen_over_http() {
    let Some(parts) = Parts::here(&[Telemetrygen]) else { return };
    every_span_arrives_once(async |next| generate(&parts, next.http(), Protocol::Http).await).await;
}

/// Scenario: a Collector between the generator and tracestitch sends OTLP/gRPC with gzip.
#[tokio::test(flavor = "multi_thread")]
async fn collector_in_front_over_grpc() {
    let Some(parts) = Parts::here(&[Otelcol, Telemetrygen]) else { return };
    every_span_arrives_once(async |next| {
        collected(&parts, &Onward::default(), next).await;
    })
    .await;
}

/// Scenario: a Collector between the generator and tracestitch sends OTLP/HTTP, protobuf with gzip.
#[tokio::test(flavor = "multi_thread")]
async fn collector_in_front_over_http() {
    let Some(parts) = Parts::here(&[Otelcol, Telemetrygen]) else { return };
    every_span_arrives_once(async |next| {
        let onward = Onward { exporter: "otlp_http", ..Onward::default() };
        collected(&parts, &onward, next).await;
    })
    .await;
}

/// Scenario: the same in JSON, as the Collector writes it.
#[tokio::test(flavor = "multi_thread")]
async fn collector_in_front_over_http_in_json() {
    let Some(parts) = Parts::here(&[Otelcol, Telemetrygen]) else { return };
    every_span_arrives_once(async |next| {
        let onward = Onward { exporter: "otlp_http", encoding: "json", ..Onward::default() };
        collected(&parts, &onward, next).await;
    })
    .await;
}

/// Scenario: a Collector behind tracestitch takes OTLP/HTTP, in protobuf with zstd and in JSON with gzip, and OTLP/gRPC with
/// either, which it compresses its answers with, too.
#[tokio::test(flavor = "multi_thread")]
async fn collector_behind() {
    let Some(parts) = Parts::here(&[Otelcol, Telemetrygen]) else { return };
    for (exporter, form) in [
        ("otlp_http", "encoding: proto, compression: zstd"),
        ("otlp_http", "encoding: json, compression: gzip"),
        ("otlp", "compression: gzip"),
        ("otlp", "compression: zstd"),
    ] {
        let backend = Backend::start(0).await.expect("a free port");
        let collector = Collector::before(&parts, &Onward::default(), &backend.url()).await;
        let url = if exporter == "otlp" { &collector.otlp } else { &collector.otlp_http };
        let exporters = format!("{exporter}: {{endpoint: '{url}', {form}}}");
        let deepflow = SimulatedDeepflow::start().await;
        let tracestitch = Tracestitch::start_with(&deepflow.url, &exporters, None).await;
        generate(&parts, tracestitch.grpc(), Protocol::Grpc).await;
        tracestitch.has_delivered(160).await;
        every_span_is_there(&backend).await;
        tracestitch.end();
    }
}

/// A Collector drops at its end what it could not hand on yet, so it stays until tracestitch has all.
async fn collected(parts: &Parts, onward: &Onward, next: &Tracestitch) {
    let collector = Collector::start(parts, onward, next).await;
    generate(parts, &collector.otlp, Protocol::Grpc).await;
    next.has_delivered(160).await;
}

/// Guarantees: 40 traces of 4 spans come in and go out once each, in one tree each, enriched alike.
async fn every_span_arrives_once(send: impl AsyncFnOnce(&Tracestitch)) {
    let backend = Backend::start(0).await.expect("a free port");
    let deepflow = SimulatedDeepflow::start().await;
    let tracestitch = Tracestitch::start(&deepflow.url, &backend.url(), None).await;

    send(&tracestitch).await;

    tracestitch.has_delivered(160).await;
    every_span_is_there(&backend).await;
    tracestitch.end();
}

/// Once there are so many.
async fn every_span_is_there(backend: &Backend) {
    let what = "the backend has all spans, added ones included";
    let all = async || (backend.span_count() >= 40 * ADDED_AND_SENT).then_some(());
    until(what, Duration::from_secs(30), all).await;
    let spans = Spans::of(backend.traces());
    let traces = spans.trace_ids();
    assert_eq!((traces.len(), spans.sent().count()), (40, 160));
    for trace in traces {
        assert_eq!(spans.of_trace(&trace).tree(), TREE, "trace {trace}");
    }
}

/// The lines of the tree.
const ADDED_AND_SENT: u64 = 22;

const TREE: &str = "\
telemetrygen CLIENT lets-go
  + telemetrygen CLIENT c-p tracestitch.system
    + telemetrygen INTERNAL c tracestitch.network
      + telemetrygen INTERNAL c-nd tracestitch.network
        + telemetrygen INTERNAL s-nd tracestitch.network
          + telemetrygen INTERNAL s tracestitch.network
            + telemetrygen SERVER s-p tracestitch.system
              telemetrygen SERVER okey-dokey-0
  + telemetrygen CLIENT c-p tracestitch.system
    + telemetrygen INTERNAL c tracestitch.network
      + telemetrygen INTERNAL c-nd tracestitch.network
        + telemetrygen INTERNAL s-nd tracestitch.network
          + telemetrygen INTERNAL s tracestitch.network
            + telemetrygen SERVER s-p tracestitch.system
              telemetrygen SERVER okey-dokey-1
  + telemetrygen CLIENT c-p tracestitch.system
    + telemetrygen INTERNAL c tracestitch.network
      + telemetrygen INTERNAL c-nd tracestitch.network
        + telemetrygen INTERNAL s-nd tracestitch.network
          + telemetrygen INTERNAL s tracestitch.network
            + telemetrygen SERVER s-p tracestitch.system
              telemetrygen SERVER okey-dokey-2
";
