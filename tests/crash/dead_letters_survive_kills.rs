//! Scenario: the second destination is down, has a small queue and puts what it can't take into the dead-letter file,
//! while the program is killed under load; later the file is sent with `tracestitch replay`.
//! Guarantees: the first destination has everything; the second has everything after the replay.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::Command,
};

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
    tear_a_line(&world);
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

    let replay = Command::new(env!("CARGO_BIN_EXE_tracestitch"))
        .arg("replay")
        .arg("--config")
        .arg(world.config_file())
        .args(letters(&world))
        .output()
        .expect("it runs");
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    assert_eq!(world.undelivered(1), 0, "{lacks} spans were to come");
    let (first, second) = (world.report(0), world.contents(1));
    println!("first {first:?}\nsecond {second:?}, {lacks} of it dead letters");
    assert_eq!((first.missing.len(), second.missing.len(), second.altered), (0, 0, 0));
}

/// As a kill in the middle of a letter leaves it, which real ones seldom do; it is written again.
fn tear_a_line(world: &World) {
    let file = letters(world).pop().expect("letters were written before the kill");
    let letters = fs::read(&file).expect("letters");
    let torn = letters.get(..100).expect("no letter is as short as that");
    let mut file = OpenOptions::new().append(true).open(file).expect("it is there");
    file.write_all(torn).expect("half a line");
}

/// The files, the last one last.
fn letters(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.letters()).into_iter().flatten().filter_map(Result::ok);
    let is_letters = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "jsonl");
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_letters).collect();
    files.sort();
    files
}
