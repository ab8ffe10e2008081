//! Where the journal ends: no room, no right, no trust in the disk.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use bytes::Bytes;
use tracestitch::{
    buffer::journal::{
        AppendError, Disk, Fault, Journal, MemoryFiles, OpenError, ReadError, Settings, SyncMode,
    },
    ledger::Ledger,
    memory::Budget,
    telemetry::Metrics,
};

use super::{append, by_number, bytes, end, open, patient, segment, settings};

fn filled(size: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![5; size])]
}

#[test]
fn spans_beyond_max_bytes_are_refused_and_what_gets_them_out_is_not() {
    let files = MemoryFiles::new();
    let settings = Settings { max_bytes: 8000, segment_bytes: 1 << 20, ..settings(&files) };
    let (journal, recovery) = Journal::open(settings).expect("opens");
    drop(recovery);
    let mut kept = Vec::new();
    while let Ok(places) = append(&journal, "", filled(200)) {
        kept.push(places);
        assert!(journal.used_bytes() <= journal.max_bytes());
    }
    assert!(kept.len() > 20 && !journal.has_room(300));
    assert_eq!(append(&journal, "", filled(200)), Err(AppendError::Full));
    let (then, plan) = std::sync::mpsc::channel();
    let then = move |place| then.send(place).expect("waits");
    journal.append_plans([(kept[0].clone(), [Bytes::new(), bytes("plan")], then)]);
    assert!(plan.recv().expect("is called").is_ok(), "a plan has a reserve");
    for places in &kept {
        end(&journal, places);
    }
    let again = (0..100).any(|_| {
        std::thread::park_timeout(Duration::from_millis(20));
        append(&journal, "", filled(200)).is_ok()
    });
    assert!(again, "there is room again");
    assert_eq!(journal.poisoned(), None);
}

#[test]
fn a_full_disk_passes() {
    let files = MemoryFiles::new();
    let (journal, recovery) = open(&files);
    drop(recovery);
    let before = append(&journal, "", filled(100)).expect("kept");
    files.limit_bytes(Some(300));
    assert_eq!(append(&journal, "", filled(300)), Err(AppendError::Full));
    assert_eq!(append(&journal, "", filled(300)), Err(AppendError::Full));
    files.limit_bytes(None);
    let after = append(&journal, "", filled(300)).expect("room again");
    assert_eq!(journal.poisoned(), None);
    journal.close();
    let (_journal, mut recovery) = open(&files);
    let found: Vec<_> = by_number(&mut recovery).into_keys().collect();
    assert_eq!(found, [before[0].number, after[0].number]);
}

#[test]
fn what_is_done_is_said_once_there_is_room() {
    let files = MemoryFiles::new();
    let (journal, _recovery) = open(&files);
    let kept = append(&journal, "", filled(10)).expect("kept");
    files.limit_bytes(Some(0));
    journal.done(1, &kept);
    assert_eq!(append(&journal, "", filled(10)), Err(AppendError::Full));
    // The writer is behind what is done.
    assert_eq!(append(&journal, "", filled(10)), Err(AppendError::Full));
    files.limit_bytes(None);
    append(&journal, "", filled(10)).expect("room again");
    journal.close();
    let (_journal, mut recovery) = open(&files);
    assert_eq!(by_number(&mut recovery)[&kept[0].number].done, [false, true]);
}

#[test]
fn a_segment_that_cant_be_cut_back_poisons() {
    let files = MemoryFiles::new();
    let (journal, _recovery) = open(&files);
    append(&journal, "", filled(10)).expect("kept");
    let next = files.operations();
    files.fail(next, Fault::Fails(ErrorKind::StorageFull));
    files.fail(next + 1, Fault::Fails(ErrorKind::Other));
    assert!(matches!(append(&journal, "", filled(10)), Err(AppendError::Poisoned(_))));
    assert!(journal.poisoned().expect("poisoned").contains("00000001.journal"));
}

#[test]
fn a_failed_flush_poisons_for_good_and_reading_goes_on() {
    for sync in [SyncMode::Always, SyncMode::Interval(Duration::from_millis(1))] {
        let files = MemoryFiles::new();
        let settings =
            Settings { sync, segment_bytes: 1 << 20, max_bytes: 16 << 20, ..settings(&files) };
        let (journal, _recovery) = Journal::open(settings).expect("opens");
        let kept = append(&journal, "", filled(100)).expect("kept");
        for operation in files.operations()..files.operations() + 1000 {
            files.fail(operation, Fault::Fails(ErrorKind::Other));
        }
        let mut outcome = append(&journal, "", filled(100));
        while outcome.is_ok() {
            outcome = append(&journal, "", filled(100));
        }
        let Err(AppendError::Poisoned(why)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(journal.poisoned().as_deref(), Some(&*why));
        assert!(!journal.has_room(1));
        assert_eq!(journal.read(&kept[0]).expect("reads").to_bytes(), filled(100)[0]);
        journal.release(&kept);
        assert_eq!(append(&journal, "", filled(1)), Err(AppendError::Poisoned(why)));
    }
}

#[test]
fn a_closed_journal_says_so_and_can_be_read() {
    let files = MemoryFiles::new();
    let (journal, _recovery) = open(&files);
    let kept = append(&journal, "", filled(100)).expect("kept");
    journal.close();
    journal.close();
    assert_eq!(append(&journal, "", filled(100)), Err(AppendError::Closed));
    assert_eq!(journal.read(&kept[0]).expect("reads").to_bytes(), filled(100)[0]);
    let (_next, mut recovery) = open(&files);
    assert_eq!(by_number(&mut recovery).len(), 1);
}

#[test]
fn the_last_handle_to_go_closes_the_journal() {
    let files = MemoryFiles::new();
    let (journal, recovery) = open(&files);
    drop(recovery);
    // Also if that is the one in a callback.
    let (then, outcome) = std::sync::mpsc::channel();
    let handle = journal.clone();
    let parts = filled(10).into_iter().map(Into::into).collect();
    journal.append_spans(Vec::new(), parts, move |places| {
        then.send(places).expect("waits");
        drop(handle);
    });
    drop(journal);
    assert!(outcome.recv().expect("is called").is_ok());
    let reopened = (0..500).find_map(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        Journal::open(settings(&files)).ok()
    });
    assert_eq!(by_number(&mut reopened.expect("the lock is free").1).len(), 1);
}

#[test]
fn released_parts_are_gone_when_their_segment_is() {
    let files = MemoryFiles::new();
    let (journal, recovery) = open(&files);
    drop(recovery);
    let first = append(&journal, "", filled(300)).expect("kept");
    end(&journal, &first);
    for _ in 0..4 {
        let next = append(&journal, "", filled(300)).expect("kept");
        end(&journal, &next);
    }
    journal.close();
    assert!(matches!(journal.read(&first[0]), Err(ReadError::Gone { .. })));
}

/// Of so many segments the oldest are opened again for reading, and then nobody needs them.
#[test]
fn files_that_were_closed_meanwhile_are_not_written_over() {
    let files = MemoryFiles::new();
    let small = Settings { segment_bytes: 400, ..patient(&files) };
    let (journal, recovery) = Journal::open(small).expect("opens");
    drop(recovery);
    let kept: Vec<_> = (0..150).map(|_| append(&journal, "", filled(300)).expect("kept")).collect();
    assert!(kept[149][0].segment > 140, "a segment each");
    for places in &kept {
        assert_eq!(journal.read(&places[0]).expect("reads").to_bytes(), filled(300)[0]);
        end(&journal, places);
        append(&journal, "", filled(300)).expect("kept");
    }
    assert_eq!(journal.poisoned(), None);
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = MemoryFiles::new();
    let on_disk = Settings {
        directory: folder.path().join("journal"),
        files: Arc::new(Disk),
        ..settings(&memory)
    };
    for settings in [settings(&memory), on_disk] {
        let (journal, _recovery) = Journal::open(settings.clone()).expect("opens");
        let refused = Journal::open(settings.clone()).expect_err("in use");
        assert!(matches!(refused, OpenError::InUse { .. }));
        let says = refused.to_string();
        assert!(says.contains(&settings.directory.display().to_string()), "{says}");
        journal.close();
        Journal::open(settings).expect("free again");
    }
}

#[test]
fn a_journal_of_another_version_is_refused_and_left_as_it_is() {
    for version in [1, 2, 4] {
        let files = MemoryFiles::new();
        files.put(&segment(1), b"tracestitch journal 3\n".to_vec());
        let other = format!("tracestitch journal {version}\nwho knows");
        files.put(&segment(2), other.into_bytes());
        let refused = Journal::open(settings(&files)).map(drop).expect_err("another version");
        let says = refused.to_string();
        for word in ["00000002.journal", &format!("version {version}"), "reads 3"] {
            assert!(says.contains(word), "{says}");
        }
        assert_eq!(files.paths().len(), 2);
        assert_eq!(files.operations(), 0);
    }
}

/// Offsets and lengths have 32 bits.
#[test]
fn a_record_of_4_gib_is_refused() {
    let files = MemoryFiles::new();
    let roomy = Settings { max_bytes: 1 << 40, segment_bytes: u32::MAX, ..patient(&files) };
    let (journal, recovery) = Journal::open(roomy).expect("opens");
    drop(recovery);
    let part = Bytes::from(vec![0; 64 << 20]);
    let (then, outcome) = std::sync::mpsc::channel();
    let parts = vec![part.into(); 65];
    journal.append_spans(Vec::new(), parts, move |kept| then.send(kept).expect("waits"));
    let refused = outcome.recv().expect("is called").map(drop);
    assert!(matches!(refused, Err(AppendError::TooLarge(bytes)) if bytes > 65 << 26));
    append(&journal, "", filled(10)).expect("others are kept");
}

#[test]
fn what_happens_can_be_seen() {
    let files = MemoryFiles::new();
    let metrics = Arc::new(Metrics::new(&[]));
    let settings = || Settings { metrics: Arc::clone(&metrics), ..settings(&files) };
    let (journal, recovery) = Journal::open(settings()).expect("opens");
    drop(recovery);
    let kept = append(&journal, "", filled(100)).expect("kept");
    journal.done(0, &kept);
    append(&journal, "", filled(2 << 20)).expect_err("too much");
    journal.close();
    let mut content = files.content(&segment(1)).expect("a segment");
    content[30] ^= 1;
    files.put(&segment(1), content);
    Journal::open(settings()).expect("opens");
    let text = metrics.render(&Ledger::new([]), &Budget::new(1), 0);
    for line in [
        "tracestitch_journal_max_bytes 1048576",
        "tracestitch_journal_records_total{kind=\"spans\"} 1",
        "tracestitch_journal_records_total{kind=\"done\"} 1",
        "tracestitch_journal_damaged_records_total 1",
        "tracestitch_journal_write_failures_total{reason=\"full\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn on_a_real_disk_it_is_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = |sync| Settings {
        directory: folder.path().to_owned(),
        files: Arc::new(Disk),
        sync,
        ..settings(&MemoryFiles::new())
    };
    let mut numbers = Vec::new();
    for sync in [SyncMode::Always, SyncMode::Interval(Duration::from_millis(1)), SyncMode::Never] {
        let (journal, mut recovery) = Journal::open(settings(sync)).expect("opens");
        let found = by_number(&mut recovery);
        assert!(found.keys().eq(&numbers));
        for recovered in found.values() {
            assert_eq!(journal.read(&recovered.place).expect("reads").to_bytes(), filled(150)[0]);
        }
        for round in 0..8 {
            // More slices than the system takes in one call.
            let empty = vec![Bytes::new(); 2000];
            let many =
                append(&journal, "", [filled(150), empty, filled(150)].concat()).expect("kept");
            end(&journal, &many);
            let places = append(&journal, "meta", filled(150)).expect("kept");
            if round % 2 == 0 { end(&journal, &places) } else { numbers.push(places[0].number) }
        }
        journal.close();
    }
}

#[test]
fn too_little_of_the_system_for_a_file_passes() {
    // Whatever fails for want of memory or descriptors, the journal goes on if nothing was written; each operation in turn.
    let outcomes = |failing: Option<u64>| {
        let files = MemoryFiles::new();
        let sync = SyncMode::Never;
        let settings =
            Settings { sync, segment_bytes: 1 << 20, max_bytes: 16 << 20, ..settings(&files) };
        let (journal, recovery) = Journal::open(settings).expect("opens");
        drop(recovery);
        let start = files.operations();
        if let Some(failing) = failing {
            files.fail(start + failing, Fault::Fails(ErrorKind::OutOfMemory));
        }
        let outcomes: Vec<_> =
            (0..10).map(|_| append(&journal, "", filled(300_000)).map(drop)).collect();
        (outcomes, files.operations() - start)
    };
    let (_, operations) = outcomes(None);
    let passed = (0..operations).filter(|failing| {
        let (outcomes, _) = outcomes(Some(*failing));
        outcomes.contains(&Err(AppendError::Full)) && outcomes.last() == Some(&Ok(()))
    });
    assert!(passed.count() >= 2, "a file is created for each MiB");
}

#[test]
fn however_much_is_queued_all_of_it_is_answered() {
    let files = MemoryFiles::new();
    let (journal, recovery) = open(&files);
    drop(recovery);
    let parts = || filled(10).into_iter().map(Into::into).collect::<Vec<_>>();
    // The writer is held up in a callback, while more is queued than it takes at a time.
    let (reached, is_there) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    journal.append_spans(Vec::new(), parts(), move |_| {
        reached.send(()).expect("waits");
        released.recv().expect("is told");
    });
    is_there.recv().expect("it is called");
    let (answered, answers) = std::sync::mpsc::channel();
    for _ in 0..5_000 {
        let answered = answered.clone();
        journal.append_spans(Vec::new(), parts(), move |kept| {
            answered.send(kept.is_ok()).expect("waits");
        });
    }
    drop(answered);
    release.send(()).expect("it waits");
    let answers: Vec<bool> = answers.iter().collect();
    assert_eq!((answers.len(), answers.iter().all(|kept| *kept)), (5_000, true));
}
