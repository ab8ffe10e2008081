//! Scenario: a pipeline that has nothing to do, one whose backend takes nothing, one with a task that hangs, one with a
//! task that panics.
//! Guarantees: who only waits is not taken for one who hangs; `/livez` and a metric tell of a task that does; a panic
//! is told, too, and the program learns of it.

use std::{collections::BTreeSet, time::Duration};

use tracestitch::{
    clock,
    demo::backend::BackendFault,
    ledger::DropReason,
    watchdog::{Fatal, STUCK_AFTER},
};

use crate::support::{self, Setup, World, http};

const STUCK: &str = "tracestitch_watchdog_stuck_tasks";

#[tokio::test]
async fn tasks_that_only_wait_beat() {
    let world = World::start(Setup::default()).await;
    let far = clock::now() + Duration::from_hours(1);
    let all = world.watched().watchdog.stuck(far).into_iter().map(|stuck| stuck.task);
    let all: BTreeSet<String> = all.collect();
    for task in [
        "admin pages",
        "buffer driver",
        "buffer judge",
        "completion",
        "exporter otlp/backend",
        "memory rate",
        "metrics upkeep",
        "receiver OTLP/HTTP",
        "receiver OTLP/gRPC",
        "weaver 0",
        "weaver 1",
    ] {
        assert!(all.contains(task), "{task} is not among {all:?}");
    }
    everybody_beats(&world).await;
    world.end(&[]).await;
}

#[tokio::test]
async fn tasks_that_are_held_up_beat() {
    let exporter = "sending_queue: {max_size: 64KiB}, batch: {max_size: 64KiB, target_size: 16KiB}";
    let setup = Setup { exporter, drain_timeout: "1s", ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    world.backend.set_fault(BackendFault::Unavailable);
    let (traces, spans) = (300, 4);
    for trace in 1..=traces {
        world.send(&support::trace(trace, spans)).await;
    }
    let released = "tracestitch_buffer_released_traces_total{reason=\"idle\"}";
    support::until("all are released", || u128::from(world.metric(released)) == traces).await;
    everybody_beats(&world).await;
    let books = support::books(world.watched());
    assert_eq!((books.delivered, books.held), (0, books.accepted));
    let held = usize::try_from(books.held).expect("not negative");
    world.end(&[(DropReason::Shutdown, held)]).await;
}

/// Every task beats again after now, else it would be stuck then; and once more, for a task that has just begun beats
/// without waiting for it.
async fn everybody_beats(world: &World) {
    let watchdog = &world.watched().watchdog;
    for _ in 0..2 {
        let then = clock::now() + STUCK_AFTER;
        support::until("every task beats", || watchdog.stuck(then).is_empty()).await;
    }
}

async fn livez(world: &World) -> (u16, String) {
    let url = format!("http://{}/livez", world.pipeline.admin());
    let response = http::client().get(url).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

#[tokio::test]
async fn hanging_task_shows() {
    let world = World::start(Setup::default()).await;
    let beat = world.watched().watchdog.enrol("journal of a test");
    assert_eq!(livez(&world).await, (200, "ok\n".to_owned()));
    let before = clock::now().checked_sub(STUCK_AFTER).expect("the machine runs for longer");
    beat.beat_at(before);
    let (status, text) = livez(&world).await;
    assert_eq!(status, 503);
    assert!(text.starts_with("task journal of a test is stuck: not a beat for 3"), "{text}");
    assert_eq!(world.metric(STUCK), 1);
    beat.beat();
    assert_eq!(livez(&world).await, (200, "ok\n".to_owned()));
    assert_eq!(world.metric(STUCK), 0);
    world.end(&[]).await;
}

#[tokio::test]
async fn panic_is_fatal_and_shows() {
    let world = World::start(Setup::default()).await;
    let watchdog = &world.watched().watchdog;
    assert_eq!(watchdog.failure(), None);
    tokio::spawn(watchdog.supervise("doomed", |_| async { panic!("of a test") }));
    let fatal = watchdog.fatal().await;
    let expected = Fatal::Panicked { task: "doomed".to_owned(), why: "of a test".to_owned() };
    assert_eq!(fatal, expected);
    assert_eq!(livez(&world).await, (503, format!("{expected}\n")));
    world.end(&[]).await;
}
