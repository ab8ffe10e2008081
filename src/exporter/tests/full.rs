//! Destinations without room: who waits for them, and who does not.

use super::*;

#[tokio::test]
async fn added_spans_alone_wait_for_nobody() {
    for is_kept in [true, false] {
        let scene = Scene::start(&[(BackendFault::Unavailable, QUEUE, None)]).await;
        scene.send(1..=64, is_kept).await;
        let trace = scene.trace_of(65, is_kept, vec![added(65)]);
        let sending = scene.exporters.send(trace);
        tokio::time::timeout(Duration::from_secs(30), sending).await.expect("it does not wait");
        let text = scene.metrics.render(&scene.ledger, &scene.budget, 0);
        let counted = "tracestitch_exporter_send_failed_added_spans_total\
                       {exporter=\"otlp/0\",reason=\"queue_full\"} 1";
        assert!(text.lines().any(|line| line == counted), "{text}");
        assert_eq!((scene.parked(), scene.books(0).held), (0, 64));
    }
}

#[tokio::test]
async fn dead_letters_that_have_to_wait_hold_up_nobody() {
    let scene = Scene::start(&[
        (BackendFault::None, QUEUE * 2, None),
        (BackendFault::Unavailable, QUEUE, None),
    ])
    .await;
    let letters = scene.exporters.dead_letters.as_ref().unwrap().fill();
    let sending = scene.send(1..=70, true);
    tokio::time::timeout(Duration::from_secs(30), sending).await.expect("nobody waits");
    until("the first has everything", || scene.books(0).delivered == 70).await;
    until("what the second lacks is parked", || scene.parked() == 6).await;
    assert!(!scene.exporters.is_ready(Destination(1)), "no room anywhere");
    assert_eq!(scene.books(1).held, 70);

    drop(letters);
    scene.revive(Destination(1)).await;
    until("letters are written", || scene.books(1).dead_lettered == 6).await;
    assert_eq!(lines(scene.directory.path()), 6);
}

#[tokio::test]
async fn what_is_refused_for_good_keeps_its_room_until_it_is_written() {
    let scene = Scene::start(&[(BackendFault::Refuses, QUEUE, None)]).await;
    let go_on = scene.exporters.dead_letters.as_ref().unwrap().hold_up();
    for number in 1..=200 {
        scene.send(number..=number, true).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.parked(), 200 - 64, "not all of it waits in memory");
    let refused = || {
        scene.metric("tracestitch_exporter_requests_total{exporter=\"otlp/0\",outcome=\"failed\"}")
    };
    until("requests are refused", || refused() >= 4).await;
    assert_eq!(scene.books(0).held, 200);
    go_on();
    until("letters are written", || scene.books(0).dead_lettered == 64).await;
    assert!(scene.exporters.is_ready(Destination(0)));
}

#[tokio::test]
async fn without_a_journal_dead_letters_are_waited_for() {
    let scene =
        Scene::start(&[(BackendFault::Unavailable, QUEUE, Some(OnOutage::DeadLetter))]).await;
    scene.send(1..=64, false).await;
    let letters = scene.exporters.dead_letters.as_ref().unwrap().fill();
    let sending = scene.send(65..=65, false);
    tokio::pin!(sending);
    let soon = tokio::time::timeout(Duration::from_millis(200), &mut sending).await;
    assert!(soon.is_err(), "there is no place for the letter");
    drop(letters);
    sending.await;
    until("the letter is written", || scene.books(0).dead_lettered == 1).await;
}

#[tokio::test]
async fn a_full_queue_is_ready_for_what_it_will_not_hold() {
    use OnOutage::{DeadLetter, Drop, Hold};
    // (on_outage, there are dead letters, ready, ready while relieved)
    let table = [
        (Hold, true, false, true),
        (Hold, false, false, false),
        (DeadLetter, true, true, true),
        (Drop, false, true, true),
    ];
    for (on_outage, enabled, ready, ready_relieved) in table {
        let down = (BackendFault::Unavailable, QUEUE, Some(on_outage));
        let letters = DeadLetterConfig { enabled, ..DeadLetterConfig::default() };
        let scene = Scene::start_with(&[down.clone(), down], letters).await;
        scene.send(1..=64, true).await;
        let is_ready = |destination| scene.exporters.is_ready(Destination(destination));
        assert_eq!(is_ready(1), ready, "{on_outage:?} {enabled}");
        scene.exporters.relieve(true);
        assert_eq!(is_ready(1), ready_relieved, "{on_outage:?} {enabled}, relieved");
        assert_eq!(is_ready(0), ready, "{on_outage:?} {enabled}, the first is never relieved");
    }
}
