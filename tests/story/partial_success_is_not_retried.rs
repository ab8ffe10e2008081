//! Scenario: the backend takes a request and refuses two of its spans by partial success.
//! Guarantees: the request is not sent again; the two are counted as rejected, the others as delivered.

use tracestitch::{demo::backend::BackendFault, ledger::DropReason};

use crate::support::{self, Setup, World};

#[tokio::test]
async fn partial_success_is_not_retried() {
    let world = World::start(Setup::without_deepflow()).await;
    world.backend.set_fault(BackendFault::Partial(2));
    let request = support::trace(1, 5);
    world.send(&request).await;
    world.settled(5).await;

    let sent = support::spans_of(&request);
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    let exporter = |name: &str, label: &str| {
        let series = format!("tracestitch_exporter_{name}{{exporter=\"otlp/backend\"{label}}}");
        world.metric(&series)
    };
    assert_eq!(exporter("requests_total", ",outcome=\"ok\""), 1);
    assert_eq!(exporter("requests_total", ",outcome=\"retry\""), 0);
    assert_eq!(exporter("sent_spans_total", ""), 3);
    assert_eq!(exporter("send_failed_spans_total", ",reason=\"rejected\""), 2);
    world.end(&[(DropReason::Rejected, 2)]).await;
}
