//! Scenario: the backend is down while the program is killed under load, several times; then it comes back.
//! Guarantees: it gets every acknowledged span once.

use std::{collections::HashSet, time::Duration};

use crate::world::{Setup, World, is_full};

#[tokio::test(flavor = "multi_thread")]
async fn backend_comes_back_after_the_last_kill() {
    let kills = if is_full() { 10 } else { 2 };
    let mut world = World::start(Setup::default()).await;
    world.sink(0).set_down(true);
    for _ in 0..kills {
        let mut program = world.real();
        let addresses = program.ready().await.expect("it starts");
        world.load.to(addresses.grpc);
        world.takes(1500).await;
        let moment_ms = world.rng.u64(..300);
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        program.kill();
        world.killed();
    }
    world.sink(0).set_down(false);
    let mut program = world.real();
    let addresses = program.ready().await.expect("it starts");
    world.settle(&addresses, &HashSet::new()).await;
    assert_eq!(program.complaints(), [""; 0]);
    let report = world.report(0);
    println!("{report:?}");
    assert_eq!((report.missing.len(), report.duplicates), (0, 0), "{report:?}");
    assert!(report.acknowledged >= kills * 1500);
}
