//! The buffer's decisions under a time of its own: arrivals, gaps, crashes and outages from one seed, against a small model.
//!
//! How: the plain map stands for the cache, a list for the journal, a set for what a destination has. A crash forgets
//! everything but the list and the set of what is done; recovery reads the list by the journal's time. Each seed runs twice:
//! if the two differ, something here asked the real clock or chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use super::{open_trace::OpenTrace, open_traces::OpenTraces, quiet::Wait};
use crate::{
    clock::{self, Instant},
    memory::{Budget, Stage},
    trace::{Fragment, Origin, Place, Release, TraceId, TraceKey},
};

const WAIT: Wait = Wait {
    idle: Duration::from_secs(15),
    max_age: Duration::from_mins(2),
    max_spans: 40,
    max_bytes: 1 << 30,
};
const KEYS: u128 = 12;
const EVENTS: u32 = 600;

/// One request's part in the journal.
struct Entry {
    number: u64,
    trace: u128,
    at: Instant,
}

/// A trace that was released: when, why, and its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Out {
    at_ms: u128,
    trace: u128,
    release: Release,
    numbers: Vec<u64>,
}

struct World {
    start: Instant,
    now: Instant,
    budget: Arc<Budget>,
    open: OpenTraces,
    journal: Vec<Entry>,
    done: BTreeSet<u64>,
    /// Released and not delivered: lost with the process, but not from the journal.
    queue: Vec<Out>,
    is_down: bool,
    arrived: BTreeMap<u64, u32>,
    log: Vec<Out>,
}

fn key(trace: u128) -> TraceKey {
    let id = TraceId::from_wire(&(trace + 1).to_be_bytes()).expect("not zero");
    TraceKey { origin: Origin::default(), id }
}

fn fragment(entry: &Entry) -> Fragment {
    let offset = NonZeroU32::MIN;
    let place = Place { number: entry.number, segment: 1, offset, len: 100, checksum: 0 };
    let bytes = bytes::Bytes::from_static(&[0; 100]);
    Fragment { bytes: bytes.into(), spans: 1, place: Some(place), spilled_len: 0 }
}

impl World {
    fn new() -> Self {
        let now = clock::now();
        Self {
            start: now,
            now,
            budget: Budget::new(0),
            open: OpenTraces::default(),
            journal: Vec::new(),
            done: BTreeSet::new(),
            queue: Vec::new(),
            is_down: false,
            arrived: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn open(&mut self, entry: &Entry) {
        let fragment = fragment(entry);
        let memory = self.budget.claim(Stage::Buffer, fragment.held_bytes());
        self.open.add(OpenTrace::new(key(entry.trace), fragment, memory, entry.at));
    }

    fn arrive(&mut self, trace: u128) {
        let number = u64::try_from(self.journal.len()).expect("not so many");
        let entry = Entry { number, trace, at: self.now };
        self.open(&entry);
        self.journal.push(entry);
        self.release(self.now);
    }

    fn release(&mut self, time: Instant) {
        while let Some((trace, release)) = self.open.pop_quiet(time, &WAIT) {
            let places = trace.fragments.iter().filter_map(|fragment| fragment.place);
            let numbers: Vec<u64> = places.map(|place| place.number).collect();
            Self::check(time, &trace, release);
            let trace = u128::from_be_bytes(trace.key.id.to_wire()) - 1;
            let at_ms = time.saturating_duration_since(self.start).as_millis();
            let out = Out { at_ms, trace, release, numbers };
            self.log.push(out.clone());
            self.queue.push(out);
        }
        self.deliver();
    }

    /// A release is never early, and its reason is the truth.
    fn check(time: Instant, trace: &OpenTrace, release: Release) {
        let idle = time.saturating_duration_since(trace.last);
        let age = time.saturating_duration_since(trace.first);
        let nearly = Duration::from_millis(20);
        match release {
            Release::Idle => assert!(idle + nearly >= WAIT.idle, "{idle:?}"),
            Release::MaxAge => assert!(age + nearly >= WAIT.max_age, "{age:?}"),
            Release::Spans => assert!(trace.spans >= WAIT.max_spans),
            other => panic!("nothing else can be here: {other:?}"),
        }
    }

    fn deliver(&mut self) {
        if self.is_down {
            return;
        }
        for out in std::mem::take(&mut self.queue) {
            for number in out.numbers {
                *self.arrived.entry(number).or_default() += 1;
                self.done.insert(number);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        // As the driver does: in steps.
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now = (self.now + Duration::from_millis(500)).min(end);
            self.release(self.now);
        }
    }

    /// Only what is in the journal is left, and what is done; then recovery reads it.
    fn crash(&mut self) {
        self.open = OpenTraces::default();
        self.queue.clear();
        let entries = std::mem::take(&mut self.journal);
        for entry in &entries {
            if self.done.contains(&entry.number) {
                continue;
            }
            let mine = Entry { number: entry.number, trace: entry.trace, at: entry.at };
            let at = entry.at;
            self.open(&mine);
            while let Some((trace, release)) = self.open.pop_quiet(at, &WAIT) {
                Self::check(at, &trace, release);
                let numbers =
                    trace.fragments.iter().filter_map(|f| f.place).map(|p| p.number).collect();
                let trace = u128::from_be_bytes(trace.key.id.to_wire()) - 1;
                let at_ms = at.saturating_duration_since(self.start).as_millis();
                self.queue.push(Out { at_ms, trace, release, numbers });
            }
        }
        self.journal = entries;
        self.release(self.now);
    }
}

fn run(seed: u64) -> (Vec<Out>, BTreeMap<u64, u32>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new();
    for _ in 0..EVENTS {
        match random.u32(..100) {
            0..70 => world.arrive(random.u128(..KEYS)),
            70..90 => world.pass(random.u64(..4_000)),
            90..94 => world.pass(random.u64(10_000..40_000)),
            94..97 => world.is_down = !world.is_down,
            _ => world.crash(),
        }
    }
    world.is_down = false;
    world.pass(200_000);
    let sent = u64::try_from(world.journal.len()).expect("not so many");
    let missing: Vec<u64> = (0..sent).filter(|n| !world.arrived.contains_key(n)).collect();
    assert_eq!(missing, [0_u64; 0], "seed {seed}: every span that was taken arrives");
    let doubled: Vec<_> = world.arrived.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(doubled, [], "seed {seed}: what is done does not go out again");
    assert_eq!(world.budget.used_bytes(), 0, "seed {seed}: all memory is given back");
    (world.log, world.arrived)
}

#[test]
fn every_span_arrives_once_whatever_happens_in_whatever_order() {
    for seed in 0..200 {
        let first = run(seed);
        assert_eq!(first, run(seed), "seed {seed} came out differently the second time");
    }
}
