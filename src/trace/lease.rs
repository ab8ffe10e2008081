//! What a released trace holds until every destination has it or has given it up.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{Event, Life, Place, Settlement, settlement::Parts};
use crate::{
    clock,
    ledger::{Account, Destination, DropReason, Ledger},
    memory::{Reservation, Stage},
    wire::Spliced,
};

/// What outlives the process, as a lease sees it. The journal is one; rooms behind the buffer know nothing else of it.
pub trait Durable: fmt::Debug + Send + Sync {
    /// Why nothing can be kept any more; `None` as long as it can.
    fn failure(&self) -> Option<String>;

    /// A part; `None` if it can't be read. May take a disk's time.
    fn read(&self, place: &Place) -> Option<Spliced>;

    /// These parts need not go to this destination again. Those in `last` nobody else needs either: their space may be given
    /// back.
    fn done(&self, destination: Destination, places: Vec<Place>, last: Vec<Place>);

    /// Nobody needs these parts any more: their space may be given back.
    fn release(&self, places: &[Place]);

    /// The trace leaves memory and goes to these destinations when they have room for it.
    fn park(&self, parked: Parked);
}

/// A trace that waits in the journal for destinations which can't take it now.
#[derive(Debug)]
pub struct Parked {
    /// The journal.
    pub durable: Arc<dyn Durable>,
    /// The trace's parts.
    pub places: Vec<Place>,
    /// Its plan, the last one of them.
    pub plan: Place,
    /// Who lacks it, and how many of its spans; the others have it or have given it up.
    pub lacking: Vec<(Destination, u64)>,
    /// Number of its life, with which it goes on if that is still remembered.
    pub life: Option<u64>,
}

/// A trace's space in the journal.
#[derive(Debug)]
struct Space {
    durable: Arc<dyn Durable>,
    places: Vec<Place>,
    plan: Option<Place>,
}

impl Space {
    /// The parts of the spans, and the plan behind them.
    fn parts(&self) -> impl Iterator<Item = Place> {
        self.places.iter().copied().chain(self.plan)
    }
}

/// Memory, journal space, and the duty to account for the spans at every destination.
///
/// Ends on drop: memory is given back, and so is journal space once every destination is settled. Spans that nobody
/// accounted for wait in the journal; without one they show up as `lost`.
#[derive(Debug)]
pub struct Lease {
    ledger: Arc<Ledger>,
    spans: u64,
    state: Mutex<State>,
    /// As long as it is among the last ones.
    life: Option<Weak<Life>>,
}

#[derive(Debug)]
struct State {
    /// For each destination the spans that found their end there.
    settled: Vec<u64>,
    memory: Reservation,
    space: Option<Space>,
}

impl Lease {
    /// A lease for this many held spans.
    pub fn new(ledger: Arc<Ledger>, spans: u64, memory: Reservation) -> Self {
        let settled = vec![0; ledger.destinations()];
        let state = Mutex::new(State { settled, memory, space: None });
        Self { ledger, spans, state, life: None }
    }

    /// The same, with its trace's life to be told.
    #[must_use]
    pub fn remembered(mut self, life: Option<&Arc<Life>>) -> Self {
        self.life = life.map(Arc::downgrade);
        self
    }

    /// Something happened to the trace.
    pub fn note(&self, event: Event) {
        if let Some(life) = self.life.as_ref().and_then(Weak::upgrade) {
            life.note(clock::now(), event);
        }
    }

    /// The same, with these parts in a journal.
    #[must_use]
    pub fn kept(self, durable: Arc<dyn Durable>, places: Vec<Place>) -> Self {
        self.state.lock().space = Some(Space { durable, places, plan: None });
        self
    }

    /// Where in a journal the trace's parts are.
    pub fn places(&self) -> Vec<Place> {
        let state = self.state.lock();
        state.space.as_ref().map(|space| space.places.clone()).unwrap_or_default()
    }

    /// The trace's plan is in the journal, too: from now on the trace can wait there.
    pub fn planned(&self, plan: Place) {
        if let Some(space) = &mut self.state.lock().space {
            space.places.extend(space.plan.replace(plan));
        }
    }

    /// The trace's parts are in a journal: what is let go at the program's end is there at the next start.
    pub fn is_kept(&self) -> bool {
        self.state.lock().space.is_some()
    }

    /// The journal that has the trace's parts.
    pub(super) fn durable(&self) -> Option<Arc<dyn Durable>> {
        self.state.lock().space.as_ref().map(|space| Arc::clone(&space.durable))
    }

    /// The destination has not all of the spans yet, nor has it given them up.
    pub fn lacks(&self, destination: Destination) -> bool {
        // A trace of added spans alone owes nothing, but it has to go out.
        self.spans == 0 || self.unsettled(destination) > 0
    }

    /// The trace can leave memory and come back.
    pub fn can_park(&self) -> bool {
        self.state.lock().space.as_ref().is_some_and(|space| space.plan.is_some())
    }

    /// The destination had these spans, or gave them up, before this lease began: they are accounted for.
    pub fn settled_before(&self, destination: Destination, spans: u64) {
        if let Some(settled) = self.state.lock().settled.get_mut(destination.0) {
            *settled = settled.saturating_add(spans);
        }
    }

    /// Some of the spans found their end at a destination. A trace that comes back from the journal goes out whole: what of
    /// it was settled before is not settled again.
    pub fn settle(&self, destination: Destination, account: Account, spans: u64) {
        Settlement::at(destination).add(self, account, spans);
    }

    /// How many of these spans had not found their end at the destination; now they have. When none is left its parts are
    /// done, and with the last destination they leave the lease: under one lock, so that there is one that is the last.
    pub(super) fn end(&self, destination: Destination, spans: u64, parts: &mut Parts) -> u64 {
        let mut state = self.state.lock();
        let State { settled, space, .. } = &mut *state;
        let Some(count) = settled.get_mut(destination.0) else { return 0 };
        let spans = spans.min(self.spans.saturating_sub(*count));
        *count += spans;
        if spans == 0 || *count < self.spans {
            return spans;
        }
        let is_last = settled.iter().all(|count| *count >= self.spans);
        if let Some(space) = space {
            parts.durable.get_or_insert_with(|| Arc::clone(&space.durable));
            if is_last {
                parts.last.extend(space.parts());
                (space.places, space.plan) = (Vec::new(), None);
            } else {
                parts.needed.extend(space.parts());
            }
        }
        spans
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// All spans that have not found their end at a destination find it now.
    pub fn settle_rest(&self, destination: Destination, account: Account) {
        let rest = self.unsettled(destination);
        if rest > 0 {
            self.settle(destination, account, rest);
        }
    }

    /// The trace is in this stage now and holds this many bytes.
    pub fn hold(&self, stage: Stage, bytes: u64) {
        let memory = &mut self.state.lock().memory;
        memory.transfer(stage);
        memory.resize(bytes);
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.state.lock().memory.bytes()
    }

    fn unsettled(&self, destination: Destination) -> u64 {
        let settled = self.state.lock().settled.get(destination.0).copied();
        self.spans.saturating_sub(settled.unwrap_or(0))
    }

    /// The destinations that lack spans of the trace, and how many.
    pub fn lacking(&self) -> Vec<(Destination, u64)> {
        let state = self.state.lock();
        let settled = state.settled.iter().enumerate();
        settled
            .map(|(number, settled)| (Destination(number), self.spans.saturating_sub(*settled)))
            .filter(|(_, spans)| *spans > 0)
            .collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let lacking = self.lacking();
        let space = self.state.get_mut().space.take();
        match (space, lacking.is_empty()) {
            (Some(space), true) => release_rest(&space),
            (None, true) => {}
            (Some(Space { durable, mut places, plan: Some(plan) }), false)
                if !self.ledger.is_ending() =>
            {
                for &(destination, spans) in &lacking {
                    self.note(Event::Parked(destination, spans));
                }
                let life = self.life.as_ref().and_then(Weak::upgrade);
                let life = life.map(|life| life.number());
                let to = Arc::clone(&durable);
                places.push(plan);
                to.park(Parked { durable, places, plan, lacking, life });
            }
            // What is on disk is there after a restart, too.
            (Some(_), false) => self.let_go(&lacking, Account::HandedBack),
            (None, false) => {
                self.let_go(&lacking, Account::Dropped(self.ledger.reason_for_letting_go()));
            }
        }
    }
}

/// Mostly nothing is left: the last destination's parts are released with what is done.
fn release_rest(space: &Space) {
    let rest: Vec<Place> = space.parts().collect();
    if !rest.is_empty() {
        space.durable.release(&rest);
    }
}

impl Lease {
    fn let_go(&self, lacking: &[(Destination, u64)], account: Account) {
        for &(destination, spans) in lacking {
            if account == Account::Dropped(DropReason::Lost) {
                tracing::error!(
                    destination = destination.0,
                    spans,
                    "spans were let go without an account"
                );
            }
            self.ledger.settle(destination, account, spans);
            self.note(Event::Settled(destination, account, spans));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::{
        memory::Budget,
        trace::{
            Arrivals, Lives, Origin, Release, TraceId, TraceKey,
            told::{State, Told},
        },
    };

    /// Keeps what is parked.
    #[derive(Debug, Default)]
    struct Shelf(Mutex<Vec<Parked>>);

    impl Durable for Shelf {
        fn failure(&self) -> Option<String> {
            None
        }

        fn read(&self, _: &Place) -> Option<Spliced> {
            None
        }

        fn done(&self, _: Destination, _: Vec<Place>, _: Vec<Place>) {}

        fn release(&self, _: &[Place]) {}

        fn park(&self, parked: Parked) {
            self.0.lock().push(parked);
        }
    }

    fn fates(told: &Told, destination: &str) -> Vec<(String, u64)> {
        let ends = told.destinations.get(destination).into_iter().flatten();
        ends.map(|end| (end.fate.clone(), end.spans)).collect()
    }

    #[test]
    fn a_trace_that_was_parked_goes_on_with_its_life() {
        let names = ["a".to_owned(), "b".to_owned()];
        let (budget, ledger) = (Budget::new(1 << 20), Ledger::new(names.clone()));
        let lives = Lives::new(10, &names, &budget);
        ledger.accept(3);
        let id = TraceId::from_wire(&7_u128.to_be_bytes()).expect("not zero");
        let key = TraceKey { origin: Origin::default(), id };
        let now = clock::now();
        let arrivals =
            Arrivals { first: now, last: now, fragments: 1, spans: 3, release: Release::Idle };
        let life = lives.begin(&key, arrivals, now, 0).expect("there is room");
        let lease = || Lease::new(Arc::clone(&ledger), 3, budget.claim(Stage::Export, 0));
        let offset = NonZeroU32::MIN;
        let place = Place { number: 1, segment: 0, offset, len: 0, checksum: 0 };
        let shelf = Arc::new(Shelf::default());

        let first = lease().remembered(Some(&life));
        let first = first.kept(Arc::clone(&shelf) as Arc<dyn Durable>, vec![place]);
        first.planned(place);
        first.settle(Destination(0), Account::Delivered, 3);
        drop(first);
        let told = life.told();
        assert_eq!(fates(&told, "a"), [("delivered".to_owned(), 3)]);
        assert_eq!(fates(&told, "b"), [("parked".to_owned(), 3)]);
        assert_eq!(told.state(), State::Sending);

        let parked = shelf.0.lock().pop().expect("it waits");
        let again = lease().remembered(parked.life.and_then(|number| lives.again(number)).as_ref());
        again.settled_before(Destination(0), 3);
        again.settle_rest(Destination(1), Account::DeadLettered);
        assert_eq!(fates(&life.told(), "b"), [("dead_lettered".to_owned(), 3)]);
        assert_eq!(life.told().state(), State::Ended);
    }

    #[test]
    fn spans_let_go_without_an_account_are_told_as_lost() {
        let names = ["a".to_owned()];
        let (budget, ledger) = (Budget::new(1 << 20), Ledger::new(names.clone()));
        let lives = Lives::new(10, &names, &budget);
        ledger.accept(2);
        let id = TraceId::from_wire(&7_u128.to_be_bytes()).expect("not zero");
        let key = TraceKey { origin: Origin::default(), id };
        let now = clock::now();
        let arrivals =
            Arrivals { first: now, last: now, fragments: 1, spans: 2, release: Release::Idle };
        let life = lives.begin(&key, arrivals, now, 0).expect("there is room");
        let lease = Lease::new(Arc::clone(&ledger), 2, budget.claim(Stage::Export, 0));
        drop(lease.remembered(Some(&life)));
        let told = life.told();
        let end = told.destinations.get("a").and_then(|ends| ends.first()).expect("an end");
        assert_eq!((end.fate.as_str(), end.reason.as_deref()), ("dropped", Some("lost")));
    }
}
