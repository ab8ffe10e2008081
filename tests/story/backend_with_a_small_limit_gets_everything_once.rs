//! Scenario: the backend takes requests of 64 KiB at most, batches are as large as 4 MiB; one trace is larger than the
//! limit by itself, one span, too.
//! Guarantees: requests are halved until they are taken; every span arrives once, but for the span that no request
//! could hold, which has its account. Once the limit is known requests are halved before they are sent.

use opentelemetry_proto::tonic::trace::v1::Span;
use tracestitch::{demo::backend::BackendFault, ledger::DropReason};

use crate::support::{self, Setup, World};

const LIMIT_BYTES: usize = 64 * 1024;
const TRACES: u128 = 60;
const SPLIT: &str = "tracestitch_exporter_split_requests_total{exporter=\"otlp/backend\"}";
const TOO_LARGE: &str =
    "tracestitch_exporter_requests_total{exporter=\"otlp/backend\",outcome=\"too_large\"}";

#[tokio::test]
async fn backend_with_a_small_limit_gets_everything_once() {
    let setup = Setup {
        exporter: "batch: {target_size: 4MiB, max_size: 4MiB, max_wait: 1s}, max_in_flight: 1",
        ..Setup::without_deepflow()
    };
    let world = World::start(setup).await;
    world.backend.set_fault(BackendFault::Limited(LIMIT_BYTES));
    let mut sent: Vec<Span> = Vec::new();
    for trace in 1..=TRACES {
        let mut spans: Vec<Span> = (1..=10).map(|number| large(trace, number, 1024)).collect();
        if trace == 7 {
            spans = (1..=100).map(|number| large(trace, number, 2048)).collect();
        }
        world.send(&support::request("shop", spans.clone())).await;
        sent.extend(spans);
    }
    world.send(&support::request("shop", vec![large(99, 1, LIMIT_BYTES)])).await;
    world.settled(sent.len() + 1).await;

    let sizes: Vec<_> = world.backend.received().iter().map(|request| request.body.len()).collect();
    assert!(sizes.iter().all(|&bytes| bytes <= LIMIT_BYTES), "{sizes:?}");
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    assert!(world.metric(SPLIT) >= 3, "{}", world.metric(SPLIT));
    assert!(world.metric(TOO_LARGE) < world.metric(SPLIT), "the limit is learnt");
    world.end(&[(DropReason::Permanent, 1)]).await;
}

fn large(trace: u128, number: u64, bytes: usize) -> Span {
    let mut span = support::span(trace, number);
    span.attributes.push(support::text("large", &"x".repeat(bytes)));
    span
}
