//! Requests through instrumented services come out with what DeepFlow saw of them, and nothing of theirs is lost.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tracestitch::demo::backend::Backend;

use crate::{
    deepflow::SimulatedDeepflow,
    jaeger::Jaeger,
    loopback::{leaf, until},
    parts::{
        Part::{Jaeger as JaegerPart, Java, Python},
        Parts,
    },
    sdk::{Back, Front},
    spans::Spans,
    told::arrived,
    tracestitch::Tracestitch,
};

/// Scenario: Python → a server nobody instruments; the SDK sends OTLP/gRPC.
/// Guarantees: its spans arrive once and as it sent them; below its CLIENT span hangs what was seen of the call.
#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_spans_arrive_enriched() {
    let Some(parts) = Parts::here(&[Python]) else { return };
    let backend = Backend::start(0).await.expect("a free port");
    let deepflow = SimulatedDeepflow::start().await;
    let tracestitch = Tracestitch::start(&deepflow.url, &backend.url(), None).await;
    let front = Front::start(&parts, &leaf().await, tracestitch.grpc()).await;

    let trace_id = front.order(42).await;

    tracestitch.has_delivered(3).await;
    let spans = Spans::of(backend.traces());
    assert_eq!(spans.len(), spans.of_trace(&trace_id).len(), "one trace");
    assert_eq!(arrived(spans.sent()), front.told(&trace_id, 3).await);
    assert_eq!(
        spans.tree(),
        "\
front SERVER GET /orders/<order>
  front INTERNAL reserve stock
    front CLIENT GET
      + front CLIENT c-p tracestitch.system
        + front INTERNAL c tracestitch.network
          + front INTERNAL c-nd tracestitch.network
"
    );
    let client = spans.sent_by("front", SpanKind::Client);
    let process = spans.added().find(|seen| seen.scope.name == "tracestitch.system").expect("c-p");
    assert_eq!(process.resource, client.resource, "seen in the same process");
    tracestitch.end();
}

/// Scenario: Python (OTLP/gRPC) → Java (OTLP/HTTP) → a server nobody instruments; the backend is Jaeger.
/// Guarantees: Jaeger shows one tree in which the request goes from process to process over the network.
#[tokio::test(flavor = "multi_thread")]
async fn sdk_chain_in_jaeger() {
    let Some(parts) = Parts::here(&[JaegerPart, Java, Python]) else { return };
    let jaeger = Jaeger::start(&parts).await;
    let deepflow = SimulatedDeepflow::start().await;
    let tracestitch = Tracestitch::start(&deepflow.url, &jaeger.otlp, None).await;
    let back = Back::start(&parts, &leaf().await, tracestitch.http()).await;
    let front = Front::start(&parts, &back.url, tracestitch.grpc()).await;
    // A JVM is slow at first: its first spans may come long after the others of their trace.
    front.order(1).await;
    let what = "the first request's 5 spans are accepted";
    let warm = async || (tracestitch.accepted().await == 5).then_some(());
    until(what, Duration::from_secs(30), warm).await;

    let trace_id = front.order(43).await;

    tracestitch.has_delivered(10).await;
    let spans = jaeger.trace(&trace_id, 14).await;
    assert_eq!(
        spans.tree(),
        "\
front SERVER GET /orders/<order>
  front INTERNAL reserve stock
    front CLIENT GET
      + front CLIENT c-p tracestitch.system
        + front INTERNAL c tracestitch.network
          + front INTERNAL c-nd tracestitch.network
            + back INTERNAL s-nd tracestitch.network
              + back INTERNAL s tracestitch.network
                + back SERVER s-p tracestitch.system
                  back SERVER GET /stock/
                    back CLIENT GET
                      + back CLIENT c-p tracestitch.system
                        + back INTERNAL c tracestitch.network
                          + back INTERNAL c-nd tracestitch.network
"
    );
    let of_front = spans.sent().filter(|seen| seen.service() == "front");
    assert_eq!(arrived(of_front), front.told(&trace_id, 3).await);
    java_spans_are_whole(&spans);
    tracestitch.end();
}

/// What the agent's documentation promises, of every type it sends.
fn java_spans_are_whole(spans: &Spans) {
    let server = spans.sent_by("back", SpanKind::Server);
    let attributes = server.attributes();
    assert_eq!(attributes["http.response.status_code"], 200);
    assert_eq!(attributes["http.route"], "/stock/");
    assert_eq!(attributes["url.path"], "/stock/43");
    let client = spans.sent_by("back", SpanKind::Client);
    assert!(client.attributes()["url.full"].is_string(), "{client:?}");
    let resource = server.resource_attributes();
    assert_eq!(resource["telemetry.sdk.language"], "java");
    assert!(resource["process.command_args"].is_array(), "{resource}");
    assert!(resource["process.pid"].is_i64(), "{resource}");
    assert_eq!(server.resource.entity_refs.len(), 2, "instance and service");
    let mut seen_in = spans.added().filter(|seen| seen.scope.name == "tracestitch.system");
    assert!(seen_in.any(|seen| seen.resource == server.resource), "s-p is the agent's process");
}
