//! Random traces live and die in a journal and in a model of it, over many restarts.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use tracestitch::{
    buffer::journal::{Content, Journal, MemoryFiles, Survives},
    trace::Place,
};

use super::{DESTINATIONS, append, append_plan, by_number, end, meta, open, patient, segment};

#[derive(Debug, Clone)]
enum Step {
    /// A request with parts of these sizes.
    Request(Vec<usize>),
    /// Some of the traces get their plan.
    Plan(Index, usize),
    /// A destination has a trace.
    Done(Index, usize),
    /// A trace is done everywhere and released.
    End(Index),
    /// The journal is closed and opened.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => vec(0..150_usize, 1..5).prop_map(Step::Request),
        2 => (any::<Index>(), 0..100_usize).prop_map(|(trace, size)| Step::Plan(trace, size)),
        2 => (any::<Index>(), 0..2_usize).prop_map(|(trace, to)| Step::Done(trace, to)),
        5 => any::<Index>().prop_map(Step::End),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..60)
}

/// Parts that live and die together. One request is one trace here, or a part of it.
#[derive(Debug, Clone)]
struct Trace {
    meta: String,
    parts: Vec<(Place, Bytes)>,
    plan: Option<(Place, Bytes)>,
    done: [bool; 2],
}

impl Trace {
    fn places(&self) -> Vec<Place> {
        self.parts.iter().chain(&self.plan).map(|(place, _)| *place).collect()
    }
}

struct Run {
    files: MemoryFiles,
    journal: Journal,
    traces: Vec<Trace>,
    made: usize,
}

fn filled(made: usize, size: usize) -> Bytes {
    Bytes::from(vec![u8::try_from(made % 251).expect("small"); size])
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Request(sizes) => self.request(&sizes),
            Step::Restart => self.restart(),
            _ if self.traces.is_empty() => {}
            Step::Plan(trace, size) => self.plan(trace.index(self.traces.len()), size),
            Step::Done(trace, destination) => {
                self.done(trace.index(self.traces.len()), destination);
            }
            Step::End(trace) => self.end(trace.index(self.traces.len())),
        }
        for trace in &self.traces {
            for (place, bytes) in trace.parts.iter().chain(&trace.plan) {
                assert_eq!(self.journal.read(place).expect("is there").to_bytes(), *bytes);
            }
        }
    }

    fn request(&mut self, sizes: &[usize]) {
        self.made += 1;
        let parts: Vec<_> = sizes.iter().map(|size| filled(self.made, *size)).collect();
        let meta = format!("request {}", self.made);
        let places = append(&self.journal, &meta, parts.clone()).expect("has room");
        let parts = places.into_iter().zip(parts).collect();
        self.traces.push(Trace { meta, parts, plan: None, done: [false; 2] });
    }

    fn plan(&mut self, trace: usize, size: usize) {
        let trace = &mut self.traces[trace];
        if trace.plan.is_some() || trace.done != [false; 2] {
            return;
        }
        let plan = filled(self.made, size);
        let place = append_plan(&self.journal, &trace.places(), plan.clone()).expect("has room");
        trace.plan = Some((place, plan));
    }

    fn done(&mut self, trace: usize, destination: usize) {
        let trace = &mut self.traces[trace];
        trace.done[destination] = true;
        self.journal.done(destination, &trace.places());
    }

    fn end(&mut self, trace: usize) {
        for destination in 0..DESTINATIONS.len() {
            self.done(trace, destination);
        }
        let trace = self.traces.swap_remove(trace);
        self.journal.release(&trace.places());
        self.journal.release(&trace.places());
    }

    fn restart(&mut self) {
        self.journal.close();
        self.files = self.files.after(Survives::Written);
        let (journal, mut recovery) = open(&self.files);
        self.journal = journal;
        self.traces.retain(|trace| trace.done != [true; 2]);
        let mut found = by_number(&mut recovery);
        for trace in &mut self.traces {
            for (place, bytes) in &mut trace.parts {
                let part = found.remove(&place.number).expect("a live part");
                assert_eq!(meta(&part), trace.meta.as_bytes());
                assert_eq!(
                    (part.done.as_slice(), part.covered),
                    (&trace.done[..], trace.plan.is_some())
                );
                assert_eq!(self.journal.read(place).expect("by its old place").to_bytes(), *bytes);
                *place = part.place;
            }
            let parts: Vec<_> = trace.parts.iter().map(|(place, _)| *place).collect();
            if let Some((place, _)) = &mut trace.plan {
                let plan = found.remove(&place.number).expect("a live plan");
                assert_eq!(plan.content, Content::Plan { covers: parts });
                assert_eq!(plan.done, trace.done);
                *place = plan.place;
            }
        }
        assert_eq!(found, BTreeMap::new(), "nothing else");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_what_the_model_is(steps in steps()) {
        let files = MemoryFiles::new();
        let (journal, recovery) = open(&files);
        drop(recovery);
        let mut run = Run { files, journal, traces: Vec::new(), made: 0 };
        for step in steps {
            run.step(step);
        }
        run.restart();
        while !run.traces.is_empty() {
            run.end(0);
        }
        run.journal.close();
        prop_assert_eq!(run.files.paths(), Vec::<std::path::PathBuf>::new(), "all space is given back");
        prop_assert_eq!(run.journal.used_bytes(), 0);
    }
}

/// One part stays while hundreds come and go.
#[test]
fn a_slow_trace_does_not_pin_the_disk() {
    let files = MemoryFiles::new();
    let (journal, recovery) = open(&files);
    drop(recovery);
    let slow = append(&journal, "slow", vec![filled(1, 30)]).expect("kept");
    journal.done(1, &slow);
    for round in 0..300 {
        let fast = append(&journal, "fast", vec![filled(round, 100)]).expect("kept");
        end(&journal, &fast);
    }
    assert_eq!(journal.read(&slow[0]).expect("moved").to_bytes(), filled(1, 30));
    journal.close();
    assert!(files.paths().len() <= 5, "{:?}", files.paths());
    assert!(files.content(&segment(1)).is_none(), "the first segment is gone");
    let (journal, mut recovery) = open(&files);
    let found = by_number(&mut recovery);
    assert_eq!(found.len(), 1);
    let recovered = &found[&slow[0].number];
    assert_eq!((meta(recovered), recovered.done.as_slice()), (&b"slow"[..], &[false, true][..]));
    assert_eq!(journal.read(&recovered.place).expect("is there").to_bytes(), filled(1, 30));
}

/// Parts that move would be met twice or never by who reads what was left.
#[test]
fn nothing_moves_while_it_is_recovered() {
    let files = MemoryFiles::new();
    let (journal, recovery) = Journal::open(patient(&files)).expect("opens");
    drop(recovery);
    let slow = append(&journal, "slow", vec![filled(1, 30)]).expect("kept");
    for round in 0..12 {
        let fast = append(&journal, "fast", vec![filled(round, 100)]).expect("kept");
        end(&journal, &fast);
    }
    journal.close();
    let (journal, mut recovery) = open(&files);
    let turns = |journal: &Journal| {
        for _ in 0..2 {
            append(journal, "", vec![filled(2, 10)]).expect("kept");
        }
    };
    turns(&journal);
    assert_eq!(by_number(&mut recovery).into_keys().collect::<Vec<_>>(), [slow[0].number]);
    assert!(files.content(&segment(1)).is_some(), "not moved");
    turns(&journal);
    assert!(files.content(&segment(1)).is_none(), "moved");
    assert_eq!(journal.read(&slow[0]).expect("by its old place").to_bytes(), filled(1, 30));
}

/// It may have gone out by the first.
#[test]
fn the_first_plan_of_a_span_counts() {
    let files = MemoryFiles::new();
    let (journal, _recovery) = open(&files);
    let spans = append(&journal, "", vec![filled(1, 10), filled(2, 10)]).expect("kept");
    let first = append_plan(&journal, &spans, filled(3, 10)).expect("kept");
    append_plan(&journal, &spans[..1], filled(4, 10)).expect("kept");
    journal.close();
    let (_journal, mut recovery) = open(&files);
    let found: Vec<_> = by_number(&mut recovery).into_keys().collect();
    assert_eq!(found, [spans[0].number, spans[1].number, first.number]);
}
