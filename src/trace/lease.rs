//! What a released trace holds until every destination has it or has given it up.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{Event, Life, Place};
use crate::{
    clock,
    ledger::{Account, Destination, DropReason, Ledger},
    memory::{Reservation, Stage},
};

/// What outlives the process, as a lease sees it. The journal is one; rooms behind the buffer know nothing else of it.
pub trait Durable: fmt::Debug + Send + Sync {
    /// Why nothing can be kept any more; `None` as long as it can.
    fn failure(&self) -> Option<String>;

    /// These parts need not go to this destination again.
    fn done(&self, destination: Destination, places: &[Place]);

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
    /// For this entry itself.
    pub memory: Reservation,
}

impl Parked {
    /// A parked trace that takes its memory from this reservation.
    pub fn new(
        durable: Arc<dyn Durable>,
        mut places: Vec<Place>,
        plan: Place,
        mut lacking: Vec<(Destination, u64)>,
        life: Option<u64>,
        mut memory: Reservation,
    ) -> Self {
        places.shrink_to_fit();
        lacking.shrink_to_fit();
        memory.transfer(Stage::Export);
        memory.resize(parked_bytes(places.len(), lacking.len()));
        Self { durable, places, plan, lacking, life, memory }
    }
}

/// Memory a parked trace takes: this struct, its lists, its place in a queue, the allocator's rounding.
fn parked_bytes(places: usize, lacking: usize) -> u64 {
    let lists = places * size_of::<Place>() + lacking * size_of::<(Destination, u64)>();
    u64::try_from(size_of::<Parked>() + lists + 64).unwrap_or(u64::MAX)
}

/// A trace's space in the journal.
#[derive(Debug)]
struct Space {
    durable: Arc<dyn Durable>,
    places: Vec<Place>,
    plan: Option<Place>,
}

/// Memory, journal space, and the duty to account for the spans at every destination.
///
/// Ends on drop: memory is given back, and so is journal space once every destination is settled. Spans that nobody
/// accounted for wait in the journal; without one they show up as `lost`.
#[derive(Debug)]
pub struct Lease {
    ledger: Arc<Ledger>,
    spans: u64,
    settled: Vec<AtomicU64>,
    memory: Mutex<Reservation>,
    space: Mutex<Option<Space>>,
    /// As long as it is among the last ones.
    life: Option<Weak<Life>>,
}

impl Lease {
    /// A lease for this many held spans.
    pub fn new(ledger: Arc<Ledger>, spans: u64, memory: Reservation) -> Self {
        let settled = (0..ledger.destinations()).map(|_| AtomicU64::new(0)).collect();
        Self {
            ledger,
            spans,
            settled,
            memory: Mutex::new(memory),
            space: Mutex::new(None),
            life: None,
        }
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
        *self.space.lock() = Some(Space { durable, places, plan: None });
        self
    }

    /// The trace's plan is in the journal, too: from now on the trace can wait there.
    pub fn planned(&self, plan: Place) {
        if let Some(space) = self.space.lock().as_mut() {
            space.places.push(plan);
            space.plan = Some(plan);
        }
    }

    /// The trace's parts are in a journal: what is let go at the program's end is there at the next start.
    pub fn is_kept(&self) -> bool {
        self.space.lock().is_some()
    }

    /// The destination has not all of the spans yet, nor has it given them up.
    pub fn lacks(&self, destination: Destination) -> bool {
        // A trace of added spans alone owes nothing, but it has to go out.
        self.spans == 0 || self.unsettled(destination.0) > 0
    }

    /// The trace can leave memory and come back.
    pub fn can_park(&self) -> bool {
        self.space.lock().as_ref().is_some_and(|space| space.plan.is_some())
    }

    /// The destination had these spans, or gave them up, before this lease began: they are accounted for.
    pub fn settled_before(&self, destination: Destination, spans: u64) {
        if let Some(settled) = self.settled.get(destination.0) {
            settled.fetch_add(spans, Relaxed);
        }
    }

    /// Some of the spans found their end at a destination. A trace that comes back from the journal goes out whole: what of
    /// it was settled before is not settled again.
    pub fn settle(&self, destination: Destination, account: Account, spans: u64) {
        let Some(settled) = self.settled.get(destination.0) else { return };
        let most = self.spans;
        let add = |settled: u64| Some(settled.saturating_add(spans).min(most));
        let before = settled.fetch_update(Relaxed, Relaxed, add).unwrap_or(most);
        let spans = spans.min(most.saturating_sub(before));
        self.ledger.settle(destination, account, spans);
        if spans > 0 {
            self.note(Event::Settled(destination, account, spans));
        }
        if before < most
            && before + spans == most
            && let Some(space) = self.space.lock().as_ref()
        {
            space.durable.done(destination, &space.places);
        }
    }

    /// All spans that have not found their end at a destination find it now.
    pub fn settle_rest(&self, destination: Destination, account: Account) {
        let rest = self.unsettled(destination.0);
        if rest > 0 {
            self.settle(destination, account, rest);
        }
    }

    /// The trace is in this stage now and holds this many bytes.
    pub fn hold(&self, stage: Stage, bytes: u64) {
        let mut memory = self.memory.lock();
        memory.transfer(stage);
        memory.resize(bytes);
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.memory.lock().bytes()
    }

    fn unsettled(&self, destination: usize) -> u64 {
        let settled = self.settled.get(destination).map_or(0, |settled| settled.load(Relaxed));
        self.spans.saturating_sub(settled)
    }

    /// The destinations that lack spans of the trace, and how many.
    pub fn lacking(&self) -> Vec<(Destination, u64)> {
        let unsettled = (0..self.settled.len()).map(|number| (number, self.unsettled(number)));
        unsettled
            .filter(|(_, spans)| *spans > 0)
            .map(|(number, spans)| (Destination(number), spans))
            .collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let lacking = self.lacking();
        match (self.space.get_mut().take(), lacking.is_empty()) {
            (Some(space), true) => space.durable.release(&space.places),
            (None, true) => {}
            (Some(Space { durable, places, plan: Some(plan) }), false)
                if !self.ledger.is_ending() =>
            {
                for &(destination, spans) in &lacking {
                    self.note(Event::Parked(destination, spans));
                }
                let life = self.life.as_ref().and_then(Weak::upgrade);
                let life = life.map(|life| life.number());
                let memory = self.memory.get_mut().split(0);
                let to = Arc::clone(&durable);
                to.park(Parked::new(durable, places, plan, lacking, life, memory));
            }
            // What is on disk is there after a restart, too.
            (Some(_), false) => self.let_go(&lacking, Account::HandedBack),
            (None, false) => {
                self.let_go(&lacking, Account::Dropped(self.ledger.reason_for_letting_go()));
            }
        }
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

        fn done(&self, _: Destination, _: &[Place]) {}

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
        let place = Place { number: 1, segment: 0, offset: 0, len: 0, checksum: 0 };
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
