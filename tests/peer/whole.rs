//! What real SDKs send, themselves or by way of a Collector, arrives whole and once.
//!
//! The senders' spans have attributes of every type, events, links, states, messages and callers elsewhere. They tell
//! what their SDK had, and that is compared with what the backend has.

use serde_json::Value;
use tracestitch::demo::backend::Backend;

use crate::{
    collector::{Collector, Onward},
    deepflow::SimulatedDeepflow,
    lock::Lock,
    parts::{
        Part::{Otelcol, Python},
        Parts,
    },
    sender::Sdk,
    spans::Spans,
    told::arrived,
    tracestitch::Tracestitch,
};

/// 12 traces of 5.
const SPANS: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn python_over_grpc() {
    sdk(Sdk::Python, "grpc", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_http_protobuf() {
    sdk(Sdk::Python, "http/protobuf", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_http_protobuf_behind_tls_with_a_token() {
    sdk(Sdk::Python, "http/protobuf", Some(Lock::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_http_json() {
    sdk(Sdk::Node, "http/json", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_http_protobuf() {
    sdk(Sdk::Node, "http/protobuf", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_grpc() {
    sdk(Sdk::Node, "grpc", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_http_json_behind_tls_with_a_token() {
    sdk(Sdk::Node, "http/json", Some(Lock::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_over_grpc() {
    sdk(Sdk::Go, "grpc", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_over_http_protobuf() {
    sdk(Sdk::Go, "http/protobuf", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_over_grpc_behind_tls_with_a_token() {
    sdk(Sdk::Go, "grpc", Some(Lock::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_over_http_protobuf() {
    sdk(Sdk::Java, "http/protobuf", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_over_grpc() {
    sdk(Sdk::Java, "grpc", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_over_grpc_with_zstd() {
    collector(Onward { exporter: "otlp_grpc", compression: "zstd", ..Onward::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_over_http_with_zstd() {
    collector(Onward { exporter: "otlp_http", compression: "zstd", ..Onward::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_over_http_with_deflate() {
    collector(Onward { exporter: "otlp_http", compression: "deflate", ..Onward::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_over_http_json_with_gzip() {
    collector(Onward { exporter: "otlp_http", encoding: "json", ..Onward::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_over_grpc_behind_tls_with_a_token() {
    let lock = Some(Lock::new());
    collector(Onward { exporter: "otlp_grpc", lock, ..Onward::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_over_http_json_behind_tls_with_a_token() {
    let lock = Some(Lock::new());
    collector(Onward { exporter: "otlp_http", encoding: "json", lock, ..Onward::default() }).await;
}

/// Scenario: the SDK sends to tracestitch.
async fn sdk(sdk: Sdk, protocol: &str, lock: Option<Lock>) {
    let Some(parts) = Parts::here(&[sdk.part()]) else { return };
    let lock = lock.as_ref();
    arrives_whole(lock, async |next| {
        let url = if protocol == "grpc" { next.grpc() } else { next.http() };
        sdk.sends(&parts, protocol, url, lock).await
    })
    .await;
}

/// Scenario: the SDK sends to a Collector, which sends to tracestitch.
async fn collector(onward: Onward) {
    let Some(parts) = Parts::here(&[Otelcol, Python]) else { return };
    arrives_whole(onward.lock.as_ref(), async |next| {
        let collector = Collector::start(&parts, &onward, next).await;
        let told = Sdk::Python.sends(&parts, "grpc", &collector.otlp, None).await;
        // It drops at its end what it could not hand on yet.
        next.has_delivered(SPANS).await;
        told
    })
    .await;
}

/// Guarantees: every span is at the backend once and as its SDK had it, also those that hang elsewhere now.
async fn arrives_whole(lock: Option<&Lock>, send: impl AsyncFnOnce(&Tracestitch) -> Vec<Value>) {
    let backend = Backend::start(0).await.expect("a free port");
    let deepflow = SimulatedDeepflow::start().await;
    let tracestitch = Tracestitch::start(&deepflow.url, &backend.url(), lock).await;

    let told = send(&tracestitch).await;

    assert_eq!(told.len() as u64, SPANS);
    tracestitch.has_delivered(SPANS).await;
    let spans = Spans::of(backend.traces());
    assert_eq!(arrived(spans.sent()), told);
    let woven = spans.sent().filter(|seen| seen.original_parent().is_some());
    assert_eq!(
        woven.count(),
        12,
        "each trace has a SERVER span that hangs below what was seen of its call"
    );
    tracestitch.end();
}
