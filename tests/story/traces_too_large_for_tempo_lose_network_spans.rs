//! Scenario: a trace of 4.7 MB, to which DeepFlow adds a thousand spans, goes to a destination with `profile: tempo` and
//! to one without.
//! Guarantees: what Tempo gets is within its limit: added network spans are left out, counted, and no span loses its
//! parent by it; received spans arrive as they are. The other destination gets all.

use std::collections::HashSet;

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::demo::{backend::Backend, deepflow::DeepflowConfig};

use crate::support::{self, Setup, World};

const SPANS: u64 = 470;
const SPAN_BYTES: usize = 9_800;
const TEMPO_BYTES_MAX: usize = 5_000_000;
/// The trace leaves in several requests, and each repeats a resource.
const HEADER_BYTES_MAX: usize = 1_000;
const TRIMMED: &str = "tracestitch_exporter_trimmed_spans_total{exporter=\"otlp/backend\"}";

#[tokio::test]
async fn traces_too_large_for_tempo_lose_network_spans() {
    let other = Backend::start(0).await.expect("a free port");
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let setup = Setup {
        buffer: "idle: 2s",
        deepflow: "timeout: 20s, deadline: 30s, reask: []",
        exporter: "profile: tempo",
        exporters: format!("otlp/other: {{endpoint: '{}'}}", other.url()),
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    let spans: Vec<Span> = (1..=SPANS).map(large).collect();
    for part in spans.chunks(100) {
        world.send(&support::request("shop", part.to_vec())).await;
    }
    world.settled(spans.len()).await;

    let trimmed = world.metric(TRIMMED);
    let (fitted, whole) = (support::spans_at(&world.backend), support::spans_at(&other));
    assert!(trimmed > 0);
    assert_eq!(u64::try_from(whole.len() - fitted.len()), Ok(trimmed));
    let bytes = |backend: &Backend| -> usize {
        backend.received().iter().map(|request| request.body.len()).sum()
    };
    assert!(bytes(&other) > TEMPO_BYTES_MAX, "{}", bytes(&other));
    assert!(
        bytes(&world.backend) <= TEMPO_BYTES_MAX + HEADER_BYTES_MAX,
        "{}",
        bytes(&world.backend)
    );
    assert_eq!(absent_parents(&fitted), absent_parents(&whole));
    assert!(!support::assert_arrived(&spans, fitted).is_empty(), "no more than need be");
    support::assert_arrived(&spans, whole);
    world.end(&[]).await;
    other.stop().await;
}

fn absent_parents(spans: &[Span]) -> HashSet<&[u8]> {
    let ids: HashSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    let parents = spans.iter().map(|span| span.parent_span_id.as_slice());
    parents.filter(|id| !id.is_empty() && !ids.contains(id)).collect()
}

fn large(number: u64) -> Span {
    let mut span = support::span(1, number);
    span.attributes.push(support::text("large", &"x".repeat(SPAN_BYTES)));
    span
}
