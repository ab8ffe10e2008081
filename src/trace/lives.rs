//! The lives of the last traces: a ring with a share of the memory budget.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Origin, TraceId, TraceKey,
    life::{Arrivals, Life},
};
use crate::{
    clock::Instant,
    memory::{Budget, Stage},
};

/// So many lives begin within a second, or as many as are remembered: a ring that turns over faster than anybody can look at it
/// costs a twentieth of a trace's way and tells nobody anything.
const BEGUN_MIN: usize = 1000;
const SECOND: Duration = Duration::from_secs(1);

/// Remembers the last traces, or the first ones of each second where they are too many; with none to remember it does
/// nothing.
#[derive(Debug)]
pub struct Lives {
    lives_max: usize,
    budget: Arc<Budget>,
    destinations: Arc<[String]>,
    /// Its keys are random: from a hash nobody finds out by trying whose it is.
    hasher: RandomState,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Numbered one after the other, oldest first.
    last: VecDeque<Arc<Life>>,
    /// Lives begun so far: the number of the next one.
    begun: u64,
    /// Since when, and how many were begun in the second since then.
    second: Option<(Instant, usize)>,
}

impl Ring {
    /// One of at most so many a second may begin.
    fn takes(&mut self, now: Instant, begun_max: usize) -> bool {
        let running =
            self.second.filter(|(since, _)| now.saturating_duration_since(*since) < SECOND);
        let (since, begun) = running.unwrap_or((now, 0));
        let takes = begun < begun_max;
        self.second = Some((since, begun + usize::from(takes)));
        takes
    }
}

impl Lives {
    /// For so many traces, sent to these destinations.
    pub fn new(lives_max: usize, destinations: &[String], budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            lives_max,
            budget: Arc::clone(budget),
            destinations: destinations.into(),
            hasher: RandomState::new(),
            ring: Mutex::default(),
        })
    }

    /// A trace was released; the oldest one is forgotten for it. Where memory is short, so are the memories: they never
    /// take room that spans need, and then there is no life; nor is there beyond a thousand a second.
    pub fn begin(
        &self,
        key: &TraceKey,
        arrivals: Arrivals,
        now: Instant,
        wall_us: u64,
    ) -> Option<Arc<Life>> {
        if self.lives_max == 0 {
            return None;
        }
        let mut ring = self.ring.lock();
        if !ring.takes(now, self.lives_max.max(BEGUN_MIN)) {
            return None;
        }
        let Ring { last, begun, .. } = &mut *ring;
        if last.len() >= self.lives_max {
            last.pop_front();
        }
        let memory = self.budget.reserve(Stage::Recent, Life::BYTES).ok();
        let memory = memory.or_else(|| {
            last.pop_front();
            self.budget.reserve(Stage::Recent, Life::BYTES).ok()
        })?;
        let whose = (key.id, self.hash(&key.origin));
        let number = *begun;
        *begun += 1;
        let life = Life::new(
            number,
            whose,
            arrivals,
            (now, wall_us),
            Arc::clone(&self.destinations),
            memory,
        );
        let life = Arc::new(life);
        last.push_back(Arc::clone(&life));
        Some(life)
    }

    /// The life with this number, if it is still remembered: a trace that comes back out of the journal goes on with it.
    pub fn again(&self, number: u64) -> Option<Arc<Life>> {
        let ring = self.ring.lock();
        let place = number.checked_sub(ring.last.front()?.number())?;
        ring.last.get(usize::try_from(place).ok()?).cloned()
    }

    /// The lives of this trace, oldest first: one for each part of it that was released.
    pub fn of(&self, id: TraceId) -> Vec<Arc<Life>> {
        self.ring.lock().last.iter().filter(|life| life.id() == id).cloned().collect()
    }

    /// The last lives, newest first, at most so many.
    pub fn last(&self, lives_max: usize) -> Vec<Arc<Life>> {
        self.ring.lock().last.iter().rev().take(lives_max).cloned().collect()
    }

    /// Forgets them all.
    pub fn forget(&self) {
        self.ring.lock().last.clear();
    }

    fn hash(&self, origin: &Origin) -> Option<u64> {
        (!origin.values().is_empty()).then(|| self.hasher.hash_one(origin))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            AskOutcome, Origins, Release, Skip,
            life::{Additions, Event},
            told::{Outcome, State, Told},
        },
        *,
    };
    use crate::{
        clock,
        ledger::{Account, Destination, DropReason},
    };

    fn key(number: u128) -> TraceKey {
        let id = TraceId::from_wire(&number.to_be_bytes()).expect("not zero");
        TraceKey { origin: Origin::default(), id }
    }

    fn arrivals(first: Instant) -> Arrivals {
        let last = first + Duration::from_millis(40);
        Arrivals { first, last, fragments: 2, spans: 5, release: Release::Idle }
    }

    fn lives(lives_max: usize, limit_bytes: u64) -> Arc<Lives> {
        let names = ["otlp/a".to_owned(), "otlp/b".to_owned()];
        Lives::new(lives_max, &names, &Budget::new(limit_bytes))
    }

    #[test]
    fn a_life_tells_what_happened_and_when() {
        let lives = lives(10, 1 << 20);
        let first = clock::now();
        let at = |ms| first + Duration::from_millis(ms);
        let life = lives.begin(&key(1), arrivals(first), at(15_000), 1_000_015_000_000);
        let life = life.expect("there is room");
        assert_eq!(life.told().state(), State::Waiting);
        for (ms, event) in [
            (15_000, Event::Follows(3)),
            (15_001, Event::Asked),
            (15_100, Event::AskEnded(AskOutcome::NotFound)),
            (25_001, Event::Asked),
            (25_200, Event::AskEnded(AskOutcome::Found)),
            (25_200, Event::Found(14)),
            (25_210, Event::Woven(Additions { system: 4, network: 10, ..Additions::default() })),
            (25_300, Event::Settled(Destination(0), Account::Delivered, 2)),
            (25_400, Event::Settled(Destination(0), Account::Delivered, 3)),
            (25_400, Event::Parked(Destination(1), 5)),
        ] {
            life.note(at(ms), event);
        }
        assert_eq!(life.told().state(), State::Sending, "parked is not ended");
        let dropped = Account::Dropped(DropReason::Permanent);
        life.note(at(99_000), Event::Settled(Destination(1), dropped, 5));
        let told = life.told();
        assert_eq!(told.state(), State::Ended);
        let expected = serde_json::json!({
            "trace_id": "00000000000000000000000000000001",
            "first_arrival_unix_ms": 1_000_000_000,
            "last_arrival_ms": 40,
            "fragments": 2,
            "spans": 5,
            "released": {"reason": "idle", "at_ms": 15_000},
            "follows_spans": 3,
            "asks": {"count": 2, "first_ms": 15_001, "last_ms": 25_001,
                "ended": {"reason": "found", "at_ms": 25_200}},
            "answer": {"found": {"spans": 14, "at_ms": 25_200}},
            "woven": {"system": 4, "network": 10, "omitted": 0, "reparented": 0, "at_ms": 25_210},
            "destinations": {
                "otlp/a": [{"fate": "delivered", "spans": 5, "at_ms": 25_400}],
                "otlp/b": [{"fate": "dropped", "reason": "permanent_error", "spans": 5, "at_ms": 99_000}],
            },
        });
        assert_eq!(serde_json::to_value(&told).expect("JSON"), expected);
        assert_eq!(serde_json::from_value::<Told>(expected).expect("a life"), told);
    }

    #[test]
    fn only_the_last_ones_are_remembered() {
        let lives = lives(2, 1 << 20);
        let now = clock::now();
        for number in [1, 2, 1, 3] {
            assert!(lives.begin(&key(number), arrivals(now), now, 0).is_some());
        }
        let last: Vec<TraceId> = lives.last(10).iter().map(|life| life.id()).collect();
        assert_eq!(last, [key(3).id, key(1).id]);
        assert_eq!(lives.last(1).len(), 1);
        assert!(lives.of(key(2).id).is_empty());
        let again = |number| lives.again(number).map(|life| life.id());
        assert_eq!(
            [0, 1, 2, 3, 4].map(again),
            [None, None, Some(key(1).id), Some(key(3).id), None]
        );
        assert_eq!(lives.budget.stage_bytes(Stage::Recent), 2 * Life::BYTES);
        lives.forget();
        assert_eq!(lives.budget.used_bytes(), 0);
        let next = lives.begin(&key(4), arrivals(now), now, 0).expect("there is room");
        assert_eq!((next.number(), lives.again(0).is_none()), (4, true));
    }

    #[test]
    fn no_more_than_a_thousand_a_second_are_remembered() {
        let lives = lives(2, 1 << 20);
        let start = clock::now();
        let begin = |at| lives.begin(&key(1), arrivals(start), at, 0).is_some();
        let of_1500 = |at| (0..1500).filter(|_| begin(at)).count();
        assert_eq!(of_1500(start), 1000);
        assert_eq!(of_1500(start + SECOND / 2), 0);
        assert_eq!(of_1500(start + SECOND), 1000);
        assert_eq!(of_1500(start + SECOND * 10), 1000);
    }

    #[test]
    fn memories_never_take_room_that_spans_need() {
        let lives = lives(10, 3 * Life::BYTES);
        let now = clock::now();
        let begin = |number| lives.begin(&key(number), arrivals(now), now, 0);
        drop((begin(1), begin(2)));
        let spans = lives.budget.claim(Stage::Buffer, Life::BYTES);
        drop(begin(3).expect("in the oldest one's place"));
        assert_eq!(lives.last(10).len(), 2);
        drop(lives.budget.claim(Stage::Buffer, 9 * Life::BYTES));
        let more = lives.budget.claim(Stage::Buffer, 9 * Life::BYTES);
        assert!(begin(4).is_none());
        drop((spans, more));
        assert!(self::lives(0, 1 << 20).begin(&key(1), arrivals(now), now, 0).is_none());
    }

    #[test]
    fn tenants_are_told_apart_but_not_shown() {
        let lives = lives(10, 1 << 20);
        let (now, origins) = (clock::now(), Origins::default());
        for tenant in ["secret-a", "secret-b", "secret-a"] {
            let origin = origins.intern(vec![("x-scope-orgid".to_owned(), tenant.to_owned())]);
            let key = TraceKey { origin, ..key(7) };
            let life = lives.begin(&key, arrivals(now), now, 0).expect("there is room");
            life.note(now, Event::Skipped(Skip::Disabled));
        }
        let told: Vec<Told> = lives.of(key(7).id).iter().map(|life| life.told()).collect();
        let [first, second, third] = told.as_slice() else { panic!("three parts") };
        assert_eq!(first.origin, third.origin);
        assert_ne!(first.origin, second.origin);
        assert!(matches!(&first.answer, Some(Outcome::Skipped(why)) if why.reason == "disabled"));
        assert!(!format!("{told:?}").contains("secret"));
    }
}
