//! Scenario: the bytes of waiting traces were left to the journal, for memory is short; then the traces are quiet.
//! Guarantees: each is asked for with all of its spans, woven with the answer, and arrives once.

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

/// The smallest limit there is; half of it is for waiting spans.
const MEMORY: &str = "limit: 64MiB";
const TRACES: u128 = 60;
const SPANS: u64 = 3;
const SPAN_BYTES: usize = 200 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn spilled_traces_are_asked_for_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let setup = Setup {
        memory: MEMORY,
        buffer: "idle: 4s",
        journal: format!("directory: '{}'", directory.path().display()),
        // All at a time: traces that wait for a slot may take a quarter of the memory, and others go on without.
        deepflow: "timeout: 20s, deadline: 30s, reask: [], max_in_flight: 64",
        ..Setup::default()
    };
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let world = World::with(deepflow, setup).await;
    let mut sent = Vec::new();
    for trace in 1..=TRACES {
        // Each span a request of its own: a fragment.
        for span in support::spans(trace, SPANS) {
            let attributes = vec![support::text("large", &"x".repeat(SPAN_BYTES))];
            let span = Span { attributes, ..span };
            world.send(&support::request("shop", vec![span.clone()])).await;
            sent.push(span);
        }
    }
    // It is looked for memory a few times a second, and the last spans may be the ones that are too many.
    support::until("some spans are on the disk alone", || {
        world.metric("tracestitch_buffer_spilled_bytes_total") > 0
    })
    .await;
    world.settled(sent.len()).await;

    let asks = world.deepflow.requests();
    let whole = asks.iter().filter(|ask| Ok(ask.spans) == usize::try_from(SPANS)).count();
    assert_eq!(
        (u128::try_from(whole), asks.len()),
        (Ok(TRACES), whole),
        "each once, with all spans"
    );
    let added = support::assert_arrived(&sent, support::spans_at(&world.backend));
    assert!(!added.is_empty());
    world.end(&[]).await;
}
