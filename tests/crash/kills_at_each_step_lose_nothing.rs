//! Scenario: the pipeline with small segments kills itself by kill -9 before, in or after a chosen step of its journal:
//! append, group sync, segment change, reclaim, re-append, replay.
//! Guarantees: as at any moment.

use std::{collections::HashSet, os::unix::process::ExitStatusExt};

use crate::{
    steps::{Moment, Step, Target},
    world::{Setup, World, is_full},
};

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_steps() {
    let rounds = if is_full() { 6 } else { 1 };
    let mut world = World::start(Setup { slow: true, ..Setup::default() }).await;
    let mut hits = Vec::new();
    for round in 0..rounds {
        for (place, step) in Step::ALL.into_iter().enumerate() {
            let moment = Moment::ALL[(round + place) % Moment::ALL.len()];
            let nth = world.rng.u64(1..=nth_max(step));
            hits.push(kill_at(&mut world, Target { step, moment, nth }).await);
        }
        settle(&mut world).await;
    }
    for step in Step::ALL {
        let hit = hits.iter().filter(|hit| **hit == step).count();
        println!("{step:?}: {hit} kills");
        assert_eq!(hit, rounds, "{step:?}");
    }
    let report = world.report(0);
    println!("{report:?}");
    assert_eq!(report.missing, []);
    assert!(report.added > 0, "DeepFlow was asked");
}

/// Steps that surely come within some seconds of load.
fn nth_max(step: Step) -> u64 {
    match step {
        Step::Append | Step::Replay => 300,
        Step::GroupSync => 60,
        Step::SegmentChange | Step::Reclaim => 5,
        Step::Reappend => 2,
    }
}

async fn kill_at(world: &mut World, target: Target) -> Step {
    if target.step == Step::Replay {
        leave_something(world).await;
    }
    let mut program = world.stepped(Some(target), None);
    if let Some(addresses) = program.ready().await {
        world.load.to(addresses.grpc);
    }
    let status = program.ended().await;
    world.killed();
    println!("{target:?}: {} acknowledged spans undelivered", world.undelivered(0));
    assert_eq!(status.signal(), Some(9), "{status}, {target:?}: {}", program.said());
    assert_eq!(world.hit(), Some(format!("{:?}", target.step)));
    target.step
}

/// A journal with more to replay than the step's number.
async fn leave_something(world: &mut World) {
    let mut program = world.stepped(None, None);
    let addresses = program.ready().await.expect("it starts");
    world.load.to(addresses.grpc);
    world.has_undelivered(1000).await;
    program.kill();
    world.killed();
}

async fn settle(world: &mut World) {
    let mut program = world.stepped(None, None);
    let addresses = program.ready().await.expect("it starts");
    world.settle(&addresses, &HashSet::new()).await;
    assert_eq!(program.complaints(), [""; 0]);
    program.kill();
    world.killed();
}
