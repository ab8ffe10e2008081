//! How: writers append numbered spans to a few keys while traces expire every 3 ms and capacity evicts others; every
//! number must come out exactly once.

use std::{
    collections::HashMap,
    sync::{atomic::AtomicBool, mpsc},
    thread,
};

use super::*;
use crate::{
    clock::{self, Instant},
    memory::{Budget, Stage},
    trace::{Fragment, Origin, TraceId},
};
use std::sync::Arc;

const WRITERS: u64 = 6;
const KEYS: u64 = 300;
const SPANS: u64 = 40_000;

/// Its bytes name trace and span.
fn addition(key: &TraceKey, number: u64, budget: &Arc<Budget>) -> OpenTrace {
    let bytes = [key.id.to_wire().as_slice(), &number.to_be_bytes()].concat();
    let fragment = Fragment { bytes: bytes.into(), spans: 1, place: None, spilled_len: 0 };
    let memory = budget.claim(Stage::Buffer, fragment.held_bytes());
    OpenTrace::new(key.clone(), fragment, memory, clock::now())
}

fn key(number: u64) -> TraceKey {
    let id = TraceId::from_wire(&u128::from(number + 1).to_be_bytes()).expect("not zero");
    TraceKey { origin: Origin::default(), id }
}

/// For so long without a new span; nothing else ends the wait soon.
fn waits(idle: Duration) -> Wait {
    Wait { idle, max_age: Duration::from_mins(2), max_spans: 500, max_bytes: 1 << 30 }
}

/// Spans that came at these times.
fn came([first, last]: [Instant; 2], addition: OpenTrace) -> OpenTrace {
    OpenTrace { first, last, ..addition }
}

fn stress(capacity_bytes: u64) {
    let wait = Wait { max_age: Duration::from_millis(200), ..waits(Duration::from_millis(3)) };
    let budget = Budget::new(0);
    let (sender, receiver) = mpsc::channel();
    let closed = move |closed| drop(sender.send(closed));
    let store = Arc::new(Store::new(wait, capacity_bytes, closed));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                store.run_pending_tasks();
                thread::yield_now();
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, budget) = (&store, &budget);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(writer);
                    for number in 0..SPANS {
                        let key = key(random.u64(..KEYS));
                        let number = writer * SPANS + number;
                        store.append(addition(&key, number, budget));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("no writer panics");
        }
        done.store(true, Relaxed);
    });
    store.close_all();
    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    while let Ok(closed) = receiver.try_recv() {
        let released = closed.trace.release();
        for fragment in released.fragments {
            let (trace, span) = fragment.bytes.own().split_at(16);
            assert_eq!(trace, released.key.id.to_wire());
            *seen.entry(span.to_vec()).or_default() += 1;
        }
    }
    let doubled = seen.values().filter(|&&times| times > 1).count();
    let lost = usize::try_from(WRITERS * SPANS).expect("fits") - seen.len();
    assert_eq!((lost, doubled), (0, 0), "lost and doubled spans, capacity {capacity_bytes}");
    assert_eq!((store.traces(), store.spans(), budget.used_bytes()), (0, 0, 0));
}

#[test]
fn no_span_is_lost_or_doubled_under_expiry() {
    stress(1 << 40);
}

#[test]
fn no_span_is_lost_or_doubled_under_eviction() {
    stress(100_000);
}

/// Scenario: many small traces, each in so many parts of the same size.
fn overfill(parts: u64) {
    const CAPACITY_BYTES: u64 = 1_000_000;
    let wait = waits(Duration::from_mins(1));
    let budget = Budget::new(0);
    let (sender, receiver) = mpsc::channel();
    let store = Store::new(wait, CAPACITY_BYTES, move |closed| drop(sender.send(closed)));
    for number in 0..5_000 {
        for part in 0..parts {
            let key = key(number);
            store.append(addition(&key, number * parts + part, &budget));
        }
        store.run_pending_tasks();
    }
    let weight = store.open.held.weight();
    assert!(weight <= CAPACITY_BYTES + CAPACITY_BYTES / 8, "{weight} with {parts} parts");
    let closed: Vec<Closed> = receiver.try_iter().collect();
    assert!(!closed.is_empty() && closed.iter().all(|closed| closed.brim), "{parts} parts");
}

#[test]
fn what_is_closed_for_its_size_is_closed_at_the_brim() {
    (1..=4).for_each(overfill);
}

/// Scenario: so many traces that each shard's table grows a few times; then nearly all are closed, and it shrinks.
#[test]
fn traces_are_found_when_a_burst_is_over() {
    const TRACES: u64 = 60_000;
    let wait = waits(Duration::from_mins(1));
    let budget = Budget::new(0);
    let (sender, receiver) = mpsc::channel();
    let open = OpenTraces::new(wait, Duration::from_mins(1), 1 << 40, move |closed| {
        drop(sender.send(closed));
    });
    let stays = |number: &u64| number.is_multiple_of(100);
    for number in 0..TRACES {
        drop(open.append(addition(&key(number), number, &budget)));
    }
    assert!((0..TRACES).all(|number| open.has(&key(number))));
    for number in (0..TRACES).filter(|number| !stays(number)) {
        open.close(&key(number));
    }
    assert_eq!(receiver.try_iter().count(), 59_400);
    assert!((0..TRACES).all(|number| open.has(&key(number)) == stays(&number)));
    for number in (0..TRACES).filter(stays) {
        drop(open.append(addition(&key(number), number, &budget)));
    }
    open.close_all();
    let closed: Vec<Closed> = receiver.try_iter().collect();
    assert!(closed.len() == 600 && closed.iter().all(|closed| closed.trace.spans == 2));
    drop(closed);
    assert_eq!(budget.used_bytes(), 0);
}

/// Scenario: the cache heard only of a trace's first span, and rings by that.
#[test]
fn an_early_alarm_is_put_off_until_the_last_span_is_old_enough() {
    let (start, ms) = (clock::now(), Duration::from_millis);
    let wait = waits(ms(1000));
    let budget = Budget::new(0);
    let (sender, receiver) = mpsc::channel();
    let open = OpenTraces::new(wait, ms(250), 1 << 30, move |closed| drop(sender.send(closed)));
    let key = key(1);
    let append =
        |number, at: u64| open.append(came([start + ms(at); 2], addition(&key, number, &budget)));
    let joined = || open.cohort().map_or(0, |cohort| cohort.traces.len());
    let appended = |number, at| (append(number, at).is_none(), joined());
    assert_eq!(
        [appended(0, 0), appended(1, 100), appended(2, 300)],
        [(true, 1), (true, 0), (true, 1)]
    );
    open.dropped(start + ms(1001), &key);
    // Its alarm is for 1300 ms; meanwhile there are more spans.
    assert_eq!(appended(3, 500), (true, 0));
    open.ring(start + ms(1320));
    assert!(receiver.try_recv().is_err() && open.has(&key));
    open.ring(start + ms(1499 - 20));
    assert!(receiver.try_recv().is_err());
    open.ring(start + ms(1520));
    let closed = receiver.try_recv().expect("it is closed");
    assert_eq!((closed.trace.spans, open.has(&key)), (4, false));
    drop(closed);
    // Nobody rings for it a second time.
    open.ring(start + ms(9000));
    assert!(receiver.try_recv().is_err());
    assert_eq!(budget.used_bytes(), 0);
}

/// Scenario: a part of the trace that is older comes behind it, as one that was closed too early and is put back.
#[test]
fn older_spans_make_a_trace_join_once_more_and_no_more() {
    let (start, ms) = (clock::now(), Duration::from_millis);
    let wait = waits(ms(1000));
    let budget = Budget::new(0);
    let open = OpenTraces::new(wait, ms(250), 1 << 30, drop);
    let key = key(1);
    let joins = |number, first: u64, last: u64| {
        let times = [first, last].map(|at| start + ms(at));
        drop(open.append(came(times, addition(&key, number, &budget))));
        open.cohort().map_or(0, |cohort| cohort.traces.len())
    };
    let joined =
        [joins(0, 900, 900), joins(1, 1000, 1000), joins(2, 100, 1000), joins(3, 1100, 1100)];
    assert_eq!(joined, [1, 0, 1, 0]);
}
