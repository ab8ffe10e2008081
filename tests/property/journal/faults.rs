//! The process dies, the power goes out, or the disk fails, at each operation in turn: what was acknowledged is there.

use std::{collections::BTreeMap, io::ErrorKind, sync::Arc};

use bytes::Bytes;
use tracestitch::{
    buffer::journal::{Fault, Journal, MemoryFiles, Settings, Survives, SyncMode},
    ledger::Ledger,
    memory::Budget,
    telemetry::Metrics,
    trace::Place,
};

use super::{append, append_plan, by_number, open, segment, settings};

/// What a run was promised.
#[derive(Default)]
struct Promised {
    /// Kept, and lacking at some destination.
    kept: BTreeMap<u64, Bytes>,
    /// Whatever was given to the journal.
    given: Vec<Bytes>,
    /// Plans: they live as long as their spans.
    plans: BTreeMap<u64, (Bytes, Vec<u64>)>,
}

/// Traces come and most of them go, so that segments change, move, are written over and deleted.
fn run(journal: &Journal) -> Promised {
    let mut promised = Promised::default();
    for round in 0..24_u8 {
        let stays = round % 8 == 1;
        let size = if stays { 10 } else { 90 };
        let parts = vec![Bytes::from(vec![round; size]), Bytes::from(vec![round; size + 1])];
        promised.given.extend(parts.iter().cloned());
        let Ok(places) = append(journal, "meta", parts.clone()) else { continue };
        let numbers = places.iter().map(|place| place.number);
        promised.kept.extend(numbers.clone().zip(parts));
        let mut all = places.clone();
        if round % 3 == 0 || round == 1 {
            let plan = Bytes::from(vec![100 + round; 20]);
            promised.given.push(plan.clone());
            if let Ok(place) = append_plan(journal, &places, plan.clone()) {
                promised.plans.insert(place.number, (plan, numbers.collect()));
                all.push(place);
            }
        }
        journal.done(0, &all);
        if !stays {
            end(journal, &mut promised, &all);
        }
    }
    promised
}

fn end(journal: &Journal, promised: &mut Promised, places: &[Place]) {
    journal.done(1, places);
    journal.release(places);
    for place in places {
        promised.kept.remove(&place.number);
        promised.plans.remove(&place.number);
    }
}

fn check(files: &MemoryFiles, promised: &Promised, what: &str) {
    let (journal, mut recovery) = open(files);
    let found = by_number(&mut recovery);
    for (number, bytes) in &promised.kept {
        let recovered = found.get(number).unwrap_or_else(|| panic!("{what}: {number} is lost"));
        let read = journal.read(&recovered.place);
        let read = read.unwrap_or_else(|error| panic!("{what}: {error}")).to_bytes();
        assert_eq!(&read, bytes, "{what}: {number}");
    }
    for (number, (bytes, covers)) in &promised.plans {
        let plan = found.get(number).unwrap_or_else(|| panic!("{what}: plan {number} is lost"));
        assert_eq!(journal.read(&plan.place).expect("a plan").to_bytes(), *bytes, "{what}");
        assert!(covers.iter().all(|number| found[number].covered), "{what}");
    }
    for recovered in found.values() {
        // What was not acknowledged may be there, and then as it was given.
        let read = journal.read(&recovered.place);
        let read = read.unwrap_or_else(|error| panic!("{what}: {error}")).to_bytes();
        assert!(promised.given.contains(&read), "{what}: {recovered:?} is made up");
    }
    append(&journal, "", vec![Bytes::from_static(b"next")]).expect("it goes on");
    journal.close();
}

/// Runs with a fault at each operation until none is reached any more. How many operations that was.
fn at_each_operation(fault: Fault, sync: SyncMode, survives: Survives) -> u64 {
    for operation in 0.. {
        let files = MemoryFiles::new();
        files.fail(operation, fault);
        let (journal, recovery) =
            Journal::open(Settings { sync, ..settings(&files) }).expect("opens");
        drop(recovery);
        let promised = run(&journal);
        journal.close();
        let what = format!("{fault:?} at {operation}, {sync:?}, {survives:?}");
        check(&files.after(survives), &promised, &what);
        if files.operations() <= operation {
            return operation;
        }
    }
    unreachable!("a run ends")
}

/// Or the other tests here would not show what they are for.
#[test]
fn a_run_changes_moves_and_reuses_segments() {
    let files = MemoryFiles::new();
    let metrics = Arc::new(Metrics::new(&[]));
    let settings = Settings { metrics: Arc::clone(&metrics), ..settings(&files) };
    let (journal, recovery) = Journal::open(settings).expect("opens");
    drop(recovery);
    let promised = run(&journal);
    journal.close();
    assert!(promised.kept.len() > 2 && !promised.plans.is_empty());
    assert_eq!(files.content(&segment(1)), None);
    let text = metrics.render(&Ledger::new([]), &Budget::new(1), 0);
    for kind in ["spans", "plans", "done", "moved"] {
        let none = format!("tracestitch_journal_records_total{{kind=\"{kind}\"}} 0");
        assert!(!text.contains(&none), "{none}");
    }
    assert!(!text.contains("tracestitch_journal_reused_segments_total 0"), "none written over");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let operations = at_each_operation(Fault::Dies, SyncMode::Never, Survives::Written);
    assert!(operations > 40, "{operations}");
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_if_all_is_synced() {
    for survives in [Survives::Synced, Survives::Torn, Survives::TornLate] {
        let operations = at_each_operation(Fault::Dies, SyncMode::Always, survives);
        assert!(operations > 80, "{operations}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_full_disk() {
    at_each_operation(Fault::Fails(ErrorKind::StorageFull), SyncMode::Always, Survives::Synced);
}

#[test]
fn what_was_acknowledged_survives_a_failing_disk() {
    at_each_operation(Fault::Fails(ErrorKind::Other), SyncMode::Always, Survives::Synced);
    at_each_operation(Fault::Fails(ErrorKind::Other), SyncMode::Never, Survives::Written);
}

#[test]
fn short_and_interrupted_writes_change_nothing() {
    at_each_operation(Fault::Short(3), SyncMode::Always, Survives::Synced);
    for operation in 0..60 {
        let files = MemoryFiles::new();
        files.fail(operation, Fault::Short(1));
        let (journal, recovery) = open(&files);
        drop(recovery);
        let promised = run(&journal);
        assert_eq!(promised.given.len(), 24 * 2 + 9, "all were kept");
        assert_eq!(journal.poisoned(), None);
    }
}
