//! Scenario: the binary is ended by SIGTERM (`shutdown.mode: keep`) and started again, under load, several times; senders
//! send again what was refused.
//! Guarantees: each ends with code 0 within 5 s; nothing is lost, nothing arrives twice.

use std::{collections::HashSet, time::Duration};

use crate::{
    load::Unsent,
    world::{Setup, World, is_full},
};

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart() {
    let restarts = if is_full() { 10 } else { 3 };
    let setup = Setup { unsent: Unsent::SentAgain, slow: true, senders: 6, ..Setup::default() };
    let mut world = World::start(setup).await;
    for _ in 0..restarts {
        let mut program = world.real();
        let addresses = program.ready().await.expect("it starts");
        world.load.to(addresses.grpc);
        world.takes(1500).await;
        world.has_undelivered(1000).await;
        let moment_ms = world.rng.u64(..500);
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        assert_eq!(program.complaints(), [""; 0]);
        let (status, took) = program.terminate().await;
        world.load.stop();
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        println!("ended within {took:?}");
    }
    let mut program = world.real();
    let addresses = program.ready().await.expect("it starts");
    world.load.to(addresses.grpc);
    world.settle(&addresses, &HashSet::new()).await;
    let report = world.report(0);
    println!("{report:?}");
    assert_eq!((report.missing.len(), report.duplicates), (0, 0), "{report:?}");
}
