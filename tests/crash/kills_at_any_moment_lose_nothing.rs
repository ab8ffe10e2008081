//! Scenario: the binary under load is killed by kill -9 at random moments, time after time on one directory, while
//! `DeepFlow` finds more each time it is asked.
//! Guarantees: every acknowledged span reaches the backend as it was sent; only what was under way at a kill comes again,
//! and is the same then; the ledger balances; it ends by SIGTERM in time.

use std::{collections::HashSet, time::Duration};

use crate::{
    program::Program,
    world::{Setup, World, is_full},
};

/// A kill counts as one under load if so many acknowledged spans were undelivered.
const LOADED_SPANS: usize = 1000;
/// A program is killed within so long from its start, or under load.
const START_MS_MAX: u64 = 200;
const RUN_MS_MAX: u64 = 1500;
/// Kills between two times that all is delivered.
const KILLS_BETWEEN: u32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn random_kills() {
    let (kills, loaded_min) = if is_full() { (50, 40) } else { (6, 4) };
    let mut world = World::start(Setup { slow: true, senders: 6, ..Setup::default() }).await;
    let mut loaded = 0;
    for number in 1..=kills {
        let program = random_moment(&mut world).await;
        let undelivered = world.undelivered(0);
        program.kill();
        world.killed();
        loaded += u32::from(undelivered >= LOADED_SPANS);
        println!("kill {number}: {undelivered} acknowledged spans undelivered");
        if number % KILLS_BETWEEN == 0 || number == kills {
            settle(&mut world).await;
        }
    }
    let report = world.report(0);
    println!("{loaded} of {kills} kills under load: {report:?}");
    assert_eq!(report.missing, []);
    assert!(report.added > 0, "DeepFlow was asked");
    assert!(loaded >= loaded_min, "{loaded} of {kills} kills under load");
}

/// A program that has run for a while: mostly under load, sometimes while it starts and replays.
async fn random_moment(world: &mut World) -> Program {
    let mut program = world.real();
    if world.undelivered(0) >= LOADED_SPANS && world.rng.u8(..6) == 0 {
        let moment_ms = world.rng.u64(..START_MS_MAX);
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        return program;
    }
    let addresses = program.ready().await.expect("it starts");
    world.load.to(addresses.grpc);
    let moment_ms = world.rng.u64(..RUN_MS_MAX);
    tokio::time::sleep(Duration::from_millis(moment_ms)).await;
    world.has_undelivered(LOADED_SPANS).await;
    program
}

/// All is delivered; then it ends as it does every day.
async fn settle(world: &mut World) {
    let mut program = world.real();
    let addresses = program.ready().await.expect("it starts");
    world.settle(&addresses, &HashSet::new()).await;
    assert_eq!(program.complaints(), [""; 0]);
    let (status, _) = program.terminate().await;
    assert_eq!(status.code(), Some(0));
}
