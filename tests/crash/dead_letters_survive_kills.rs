//! Scenario: the second destination is down, has a small queue and puts what it can't take into the dead-letter file,
//! while the program is killed under load; later the file is sent with `tracestitch replay`.
//! Guarantees: the first destination has everything; the second has everything after the replay.

use std::{collections::HashSet, fs, path::Path, process::Command};

use crate::world::{Setup, World, is_full};

const SMALL_QUEUE: &str = "on_outage: dead_letter, sending_queue: {max_size: 64KiB}, \
                           batch: {max_size: 64KiB, target_size: 16KiB}";

#[tokio::test(flavor = "multi_thread")]
async fn all_is_in_the_file() {
    let kills = if is_full() { 8 } else { 2 };
    let setup = Setup { destinations: &["on_outage: hold", SMALL_QUEUE], ..Setup::default() };
    let mut world = World::start(setup).await;
    world.sink(1).set_down(true);
    for _ in 0..kills {
        let mut program = world.real();
        let addresses = program.ready().await.expect("it starts");
        world.load.to(addresses.grpc);
        world.takes(2000).await;
        program.kill();
        world.killed();
    }
    let mut program = world.real();
    let addresses = program.ready().await.expect("it starts");
    world.load.to(addresses.grpc);
    world.takes(2000).await;
    world.settle_at(0..1, &addresses, &HashSet::new()).await;
    // Its queue is what is left, and is not sent while the destination is down.
    world.sink(1).set_down(false);
    world.drained(&addresses).await;
    assert_eq!(program.complaints(), [""; 0]);
    let lacks = world.undelivered(1);
    assert!(lacks > 0, "letters were written");

    let letters = fs::read_dir(world.letters()).expect("the letters").filter_map(Result::ok);
    let replay = Command::new(env!("CARGO_BIN_EXE_tracestitch"))
        .arg("replay")
        .arg("--config")
        .arg(world.config_file())
        .args(letters.map(|letter| letter.path()).filter(|path| has_lines(path)))
        .output()
        .expect("it runs");
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    assert_eq!(world.undelivered(1), 0, "{lacks} spans were to come");
    let (first, second) = (world.report(0), world.contents(1));
    println!("first {first:?}\nsecond {second:?}, {lacks} of it dead letters");
    assert_eq!((first.missing.len(), second.missing.len(), second.altered), (0, 0, 0));
}

fn has_lines(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "jsonl")
}
