//! Scenario: of two destinations that hold, the second is down while the program is killed, once at rest and once under
//! load; then it comes back.
//! Guarantees: the first is not held up, and is not sent again what it has; the second gets everything once.

use std::collections::HashSet;

use tracestitch::clock;

use crate::{
    program::{Addresses, PATIENCE, Program},
    world::{Setup, World},
};

async fn start(world: &mut World) -> (Program, Addresses) {
    let mut program = world.real();
    let addresses = program.ready().await.expect("it starts");
    (program, addresses)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_has_every_span_once() {
    let setup = Setup { destinations: &["on_outage: hold", "on_outage: hold"], ..Setup::default() };
    let mut world = World::start(setup).await;
    world.sink(1).set_down(true);

    let (program, addresses) = start(&mut world).await;
    world.load.to(addresses.grpc);
    world.takes(2000).await;
    world.load.pause().await;
    let before = world.load.acknowledged();
    first_has_all(&mut world, &addresses).await;
    program.kill();
    world.killed();

    let (program, addresses) = start(&mut world).await;
    recovered(&addresses, before).await;
    let at_rest = world.report(0);
    assert_eq!((at_rest.missing.len(), at_rest.duplicates), (0, 0), "{at_rest:?}");
    world.load.to(addresses.grpc);
    world.takes(2000).await;
    program.kill();
    world.killed();

    world.sink(1).hang_up();
    world.sink(1).set_down(false);
    let (program, addresses) = start(&mut world).await;
    world.settle(&addresses, &HashSet::new()).await;
    assert_eq!(program.complaints(), [""; 0]);
    let (first, second) = (world.report(0), world.report(1));
    println!("first {first:?}\nsecond {second:?}");
    assert_eq!((first.missing.len(), second.missing.len()), (0, 0));
    assert_eq!(second.duplicates, 0);
}

/// The first destination lacks nothing, and the program knows it.
async fn first_has_all(world: &mut World, addresses: &Addresses) {
    let end = clock::now() + PATIENCE;
    loop {
        let books = addresses.books().await.expect("it runs");
        if world.undelivered(0) == 0 && books[0]["held"] == 0 {
            break;
        }
        assert!(clock::now() < end, "the first destination is held up: {books:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// All that the second lacks was read.
async fn recovered(addresses: &Addresses, spans: usize) {
    let end = clock::now() + PATIENCE;
    loop {
        let books = addresses.books().await.expect("it runs");
        if books[1]["held"].as_u64() >= Some(spans as u64) {
            assert_eq!(books[0]["held"], 0, "nothing is for the first: {books:?}");
            break;
        }
        assert!(clock::now() < end, "not recovered: {books:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
