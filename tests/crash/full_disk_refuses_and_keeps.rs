//! Scenario: the disk is full while the backend is down; the program is killed, and again while the disk empties.
//! Guarantees: senders are refused with the reason; what was acknowledged arrives, the same if it comes twice; when there
//! is room senders are taken again.

use std::{collections::HashSet, time::Duration};

use tonic::Code;
use tracestitch::clock;

use crate::{
    program::PATIENCE,
    world::{Setup, World},
};

/// A dozen segments.
const DISK_BYTES: u64 = 3 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn disk_runs_full() {
    let mut world = World::start(Setup::default()).await;
    world.sink(0).set_down(true);
    let mut program = world.stepped(None, Some(DISK_BYTES));
    let addresses = program.ready().await.expect("it starts");
    world.load.to(addresses.grpc);
    refused_for_the_journal(&world).await;
    assert_eq!(program.has_ended(), None, "it goes on");
    program.kill();
    world.killed();

    world.sink(0).set_down(false);
    let mut program = world.stepped(None, Some(DISK_BYTES));
    let addresses = program.ready().await.expect("it starts");
    world.load.to(addresses.grpc);
    let some = world.sink(0).count() + 500;
    let end = clock::now() + PATIENCE;
    while world.sink(0).count() < some {
        assert!(clock::now() < end, "nothing is delivered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    program.kill();
    world.killed();

    let mut program = world.stepped(None, Some(DISK_BYTES));
    let addresses = program.ready().await.expect("it starts");
    world.settle(&addresses, &HashSet::new()).await;
    let before = world.load.acknowledged();
    world.load.to(addresses.grpc);
    let end = clock::now() + PATIENCE;
    while world.load.acknowledged() < before + 500 {
        assert!(clock::now() < end, "senders are not taken again: {:?}", world.load.refusals());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.settle(&addresses, &HashSet::new()).await;
    let report = world.report(0);
    println!("{report:?}");
    assert_eq!(report.missing, []);
}

async fn refused_for_the_journal(world: &World) {
    let end = clock::now() + PATIENCE;
    let mut others = Vec::new();
    loop {
        let refusals = world.load.refusals();
        let is_it = |(code, why): &(Code, String)| {
            *code == Code::Unavailable && why.contains("journal") && why.contains("full")
        };
        if refusals.iter().any(is_it) {
            return;
        }
        others.extend(refusals);
        assert!(clock::now() < end, "no sender is refused for the journal: {others:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
