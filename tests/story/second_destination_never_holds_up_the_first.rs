//! Scenario: two destinations; the second is down and has a tiny queue.
//! Guarantees: the first gets everything meanwhile; what the second's queue has no room for is dropped for the second
//! alone, with its account, and the rest reaches it when it is back.

use tracestitch::{
    demo::backend::{Backend, BackendFault},
    ledger::DropReason,
};

use crate::support::{self, Setup, World};

const TRACES: u128 = 300;

#[tokio::test]
async fn second_destination_never_holds_up_the_first() {
    let second = Backend::start(0).await.expect("a free port");
    second.set_fault(BackendFault::Unavailable);
    let exporters = format!(
        "otlp/second: {{endpoint: '{}', sending_queue: {{max_size: 64KiB}}, \
         batch: {{max_size: 64KiB, target_size: 16KiB}}, \
         retry_on_failure: {{initial_interval: 50ms, max_interval: 200ms}}}}",
        second.url()
    );
    let world = World::start(Setup { exporters, ..Setup::without_deepflow() }).await;
    let mut sent = Vec::new();
    for trace in 1..=TRACES {
        let request = support::trace(trace, 4);
        world.send(&request).await;
        sent.extend(support::spans_of(&request));
    }
    let all = i64::try_from(sent.len()).expect("not so many");
    support::until("the first has everything", || support::books(world.watched()).delivered == all)
        .await;
    let [_, books] = world.watched().ledger.snapshot().try_into().expect("two destinations");
    let dropped = books.dropped(DropReason::QueueFull);
    assert!(dropped > 0 && books.held > 0, "{books:?}");
    assert_eq!((books.delivered, books.held), (0, all - dropped), "{books:?}");

    second.set_fault(BackendFault::None);
    world.settled(sent.len()).await;
    let [_, books] = world.watched().ledger.snapshot().try_into().expect("two destinations");
    assert_eq!(books.delivered, all - dropped, "{books:?}");
    assert_eq!(u64::try_from(books.delivered), Ok(second.span_count()));
    let failed = "tracestitch_exporter_send_failed_spans_total{exporter=\"otlp/second\",reason=\"queue_full\"}";
    assert_eq!(world.metric(failed), u64::try_from(dropped).expect("not negative"));
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    world.end(&[]).await;
    second.stop().await;
}
