//! Scenario: the disk is full while the backend is down; the program is killed then, and again and again while the disk
//! empties and fills.
//! Guarantees: senders are refused with the reason; what was acknowledged arrives; when there is room senders are taken
//! again. What comes again is the same: a trace whose plan does not find room goes out as it came, and that is written
//! into the room that the journal keeps for it.

use std::{collections::HashSet, time::Duration};

use tonic::Code;
use tracestitch::clock;

use crate::{
    program::PATIENCE,
    world::{Setup, World, is_full},
};

/// A dozen segments.
const DISK_BYTES: u64 = 3 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn disk_runs_full() {
    let kills = if is_full() { 12 } else { 3 };
    let mut world = World::start(Setup { senders: 6, ..Setup::default() }).await;
    world.sink(0).set_down(true);
    for kill in 1..=kills {
        let mut program = world.stepped(None, Some(DISK_BYTES));
        let addresses = program.ready().await.expect("it starts");
        world.load.to(addresses.grpc);
        if kill % 3 == 1 {
            refused_for_the_journal(&world).await;
        }
        world.sink(0).set_down(false);
        let some = world.sink(0).count() + 100;
        until("something is delivered", || world.sink(0).count() >= some).await;
        let moment_ms = world.rng.u64(..100);
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        assert_eq!(program.has_ended(), None, "it goes on");
        program.kill();
        world.killed();
        world.sink(0).set_down(kill % 3 == 0);
    }

    world.sink(0).set_down(false);
    let mut program = world.stepped(None, Some(DISK_BYTES));
    let addresses = program.ready().await.expect("it starts");
    world.settle(&addresses, &HashSet::new()).await;
    let before = world.load.acknowledged();
    world.load.to(addresses.grpc);
    until("senders are taken again", || world.load.acknowledged() >= before + 500).await;
    world.settle(&addresses, &HashSet::new()).await;
    let report = world.contents(0);
    println!("{report:?}");
    assert_eq!(report.missing, []);
    assert_eq!(report.altered, 0, "what came again was not the same");
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = clock::now() + PATIENCE;
    while !holds() {
        assert!(clock::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn refused_for_the_journal(world: &World) {
    world.load.refusals();
    let is_it = |(code, why): &(Code, String)| {
        *code == Code::Unavailable && why.contains("journal is full")
    };
    until("a sender is refused for the journal", || world.load.refusals().iter().any(is_it)).await;
}
