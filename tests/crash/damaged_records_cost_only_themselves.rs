//! Scenario: the program is killed; then the end of its last segment is missing, or bits in segments are flipped.
//! Guarantees: only spans of the records that were hit may be missing, all others arrive; damage is counted; the program
//! neither panics nor loops.

use std::{
    collections::{HashMap, HashSet},
    fs,
    ops::Range,
    path::PathBuf,
};

use fastrand::Rng;

use crate::{
    sink::Key,
    world::{Setup, World, is_full},
};

/// See `src/buffer/journal/format.rs`.
const MARKER: [u8; 8] = [0xF1, b't', b's', 0xFE, b'j', 0xC0, 0x0A, 0xFF];

#[tokio::test(flavor = "multi_thread")]
async fn tail_is_missing() {
    for _ in 0..if is_full() { 5 } else { 1 } {
        check(|segments, rng, known| {
            let span = known[known.len() - 1 - rng.usize(..50)];
            let (path, bytes, len) = place_of(segments, span);
            let hit = hit_records(bytes, len..bytes.len());
            bytes.truncate(len);
            vec![(path.clone(), hit)]
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_are_flipped() {
    for _ in 0..if is_full() { 5 } else { 1 } {
        check(|segments, rng, known| {
            let mut hits = vec![flip_a_span(segments, known)];
            for _ in 0..20 {
                let (path, bytes) = &mut segments[rng.usize(..segments.len())];
                let at = rng.usize(..bytes.len());
                hits.push((path.clone(), hit_records(bytes, at..at + 1)));
                bytes[at] ^= 1 << rng.u8(..8);
            }
            hits
        })
        .await;
    }
}

type Segments = [(PathBuf, Vec<u8>)];
type Hits = Vec<(PathBuf, Vec<u8>)>;

/// Damage is told with the bytes of the records that it hit, as they were.
async fn check(damage: impl Fn(&mut Segments, &mut Rng, &[Key]) -> Hits) {
    let mut world = World::start(Setup::default()).await;
    world.sink(0).set_down(true);
    let mut program = world.stepped(None, None);
    let addresses = program.ready().await.expect("it starts");
    world.load.to(addresses.grpc);
    world.has_undelivered(3000).await;
    world.load.pause().await;
    program.kill();
    world.killed();

    let mut segments = segments(&world);
    let before: HashMap<PathBuf, Vec<u8>> = segments.iter().cloned().collect();
    let acknowledged = world.load.acknowledged_since(0);
    let hits = damage(&mut segments, &mut world.rng, &acknowledged);
    for (path, bytes) in &segments {
        if before[path] != *bytes {
            fs::write(path, bytes).expect("our own file");
        }
    }
    let lost = ids_in(&hits, &acknowledged);
    println!("{} of {} spans are in records that were hit", lost.len(), acknowledged.len());

    world.sink(0).set_down(false);
    let mut program = world.stepped(None, None);
    let addresses = program.ready().await.expect("it starts");
    world.settle(&addresses, &lost).await;
    let damaged = addresses.metric("tracestitch_journal_damaged_records_total").await;
    let report = world.report(0);
    println!("{damaged} damages counted, {} spans missing", report.missing.len());
    assert!(damaged >= 1.0);
    assert!(report.missing.iter().all(|key| lost.contains(key)));
    assert!(!report.missing.is_empty(), "something was hit");
    assert_eq!(report.duplicates, 0);
    assert!(!program.said().contains("panicked"), "{}", program.said());
}

fn segments(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(world.journal()).expect("the journal").filter_map(Result::ok);
    let paths = files.map(|file| file.path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "journal")).collect();
    paths.sort();
    let segments = paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("our own")));
    // The kill may have come before a segment's first line: there is nothing to damage.
    segments.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

/// A bit of a span that was acknowledged.
fn flip_a_span(segments: &mut Segments, known: &[Key]) -> (PathBuf, Vec<u8>) {
    let (path, bytes, at) = place_of(segments, known[known.len() / 2]);
    let hit = hit_records(bytes, at..at + 1);
    bytes[at] ^= 1;
    (path.clone(), hit)
}

/// Where a span's id stands: first in the record of its spans, later in that of a plan.
fn place_of(segments: &mut Segments, (_, span): Key) -> (&PathBuf, &mut Vec<u8>, usize) {
    let found = segments.iter_mut().find_map(|(path, bytes)| {
        let at = bytes.windows(span.len()).position(|window| window == span)?;
        Some((&*path, bytes, at))
    });
    found.expect("an acknowledged span is in the journal")
}

/// The records that lie wholly or partly there.
fn hit_records(bytes: &[u8], place: Range<usize>) -> Vec<u8> {
    let starts = bytes.windows(MARKER.len()).enumerate().filter(|(_, window)| *window == MARKER);
    let starts: Vec<_> = starts.map(|(at, _)| at).collect();
    let start = starts.iter().rfind(|start| **start <= place.start).copied().unwrap_or(0);
    let end = starts.iter().find(|start| **start >= place.end).copied().unwrap_or(bytes.len());
    bytes[start..end].to_vec()
}

/// The spans whose ids are in these bytes.
fn ids_in(hits: &Hits, known: &[Key]) -> HashSet<Key> {
    let ids: HashMap<[u8; 8], Key> = known.iter().map(|key| (key.1, *key)).collect();
    let bytes = hits.iter().flat_map(|(_, bytes)| bytes.windows(8));
    let found = bytes.filter_map(|window| ids.get(&<[u8; 8]>::try_from(window).ok()?));
    found.copied().collect()
}
