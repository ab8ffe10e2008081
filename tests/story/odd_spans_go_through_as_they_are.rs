//! Scenario: ten thousand spans with one id in one trace; times of 0 and of the end of time, ends before starts; names and
//! attributes of 10 MiB. DeepFlow is asked and finds what it finds.
//! Guarantees: each span arrives as it was sent, once; DeepFlow is not asked for centuries.

use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{self, Setup, World};

async fn world() -> World {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    World::with(deepflow, Setup { memory: "limit: 1GiB", ..Setup::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_spans_of_one_id() {
    const COPIES: usize = 10_000;
    let world = world().await;
    let copy = |number| Span { name: format!("copy {number}"), ..support::span(1, 2) };
    let mut sent: Vec<Span> = (0..COPIES).map(copy).collect();
    sent.push(support::span(1, 1));
    world.send(&support::request("shop", sent.clone())).await;
    world.settled(sent.len()).await;
    let mut names: Vec<String> = sent.into_iter().map(|span| span.name).collect();
    let arrived = support::spans_at(&world.backend).into_iter().map(|span| span.name);
    let mut arrived: Vec<String> =
        arrived.filter(|name| name.starts_with("copy ") || name.starts_with("span ")).collect();
    names.sort();
    arrived.sort();
    assert_eq!(arrived.len(), names.len());
    assert!(arrived == names, "each arrived once");
    world.end(&[]).await;
}

#[tokio::test]
async fn times_that_can_not_be() {
    let world = world().await;
    let mut sent = support::spans(1, 7);
    for (span, (start, end)) in sent.iter_mut().skip(1).zip([
        (0, 0),
        (u64::MAX, u64::MAX),
        (0, u64::MAX),
        (u64::MAX, 0),
        (1, 2),
        (u64::MAX - 1, 1),
    ]) {
        (span.start_time_unix_nano, span.end_time_unix_nano) = (start, end);
    }
    // And a trace of nothing else.
    let mut never = support::spans(2, 2);
    for span in &mut never {
        (span.start_time_unix_nano, span.end_time_unix_nano) = (u64::MAX, 0);
    }
    world.send(&support::request("shop", sent.clone())).await;
    world.send(&support::request("shop", never.clone())).await;
    sent.extend(never);
    world.settled(sent.len()).await;
    support::assert_arrived(&sent, support::spans_at(&world.backend));
    let asks = world.deepflow.requests();
    assert!(!asks.is_empty(), "for the one span that can be");
    assert!(asks.iter().all(|ask| ask.spans == 1), "{asks:?}");
    world.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_10_mib() {
    let world = world().await;
    let text = "ä".repeat(5 * 1024 * 1024);
    let mut sent = support::spans(1, 3);
    sent[0].name.clone_from(&text);
    sent[1].attributes.push(support::text("large", &text));
    sent[2].attributes.push(support::text(&text, "large"));
    let request = support::request("shop", sent.clone());
    assert!(request.encoded_len() > 30 * 1024 * 1024);
    world.send(&request).await;
    world.settled(sent.len()).await;
    support::assert_arrived(&sent, support::spans_at(&world.backend));
    world.end(&[]).await;
}
