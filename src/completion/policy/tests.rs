//! How: a policy over numbers instead of traces, with a time that the test turns.

use super::*;
use crate::clock;

struct World {
    policy: Policy<u64>,
    now: Instant,
    out: Vec<Candidate<u64>>,
    skipped: Vec<(u64, Skip)>,
}

fn limits() -> Limits {
    Limits {
        max_in_flight: 2,
        max_wait: Duration::from_secs(2),
        max_queued: 3,
        waiting_bytes_max: 1000,
        reask: vec![Duration::from_secs(10), Duration::from_secs(30)],
        backoff: Backoff::default(),
        breaker: BreakerLimits {
            failures: 3,
            open: Duration::from_secs(5),
            open_max: Duration::from_mins(1),
            slots: 2,
        },
    }
}

impl World {
    fn new(limits: Limits) -> Self {
        let policy = Policy::new(limits);
        Self { policy, now: clock::now(), out: Vec::new(), skipped: Vec::new() }
    }

    fn submit(&mut self, trace: u64) {
        self.policy.submit(self.now, trace, 10, self.now + Duration::from_secs(45));
        self.act();
    }

    fn reply(&mut self, trace: u64, reply: Reply) {
        let candidate = self.take(trace);
        self.policy.replied(self.now, candidate, reply);
        self.act();
    }

    fn found(&mut self, trace: u64) {
        let candidate = self.take(trace);
        assert_eq!(self.policy.found(self.now, candidate), trace);
        self.act();
    }

    fn take(&mut self, trace: u64) -> Candidate<u64> {
        let index = self.out.iter().position(|candidate| candidate.trace == trace);
        self.out.remove(index.unwrap_or_else(|| panic!("{trace} was not asked for")))
    }

    /// Lets time pass as the caller would: from wake to wake.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(wake) = self.policy.wake(self.now).filter(|wake| *wake <= end) {
            assert!(wake > self.now, "a wake in the past would spin");
            self.now = wake;
            self.policy.tick(self.now);
            self.act();
        }
        self.now = end;
        self.policy.tick(end);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.policy.action() {
            match action {
                Action::Ask(candidate) => self.out.push(candidate),
                Action::Skip(trace, why) => self.skipped.push((trace, why)),
            }
        }
    }

    fn asked(&self) -> Vec<u64> {
        self.out.iter().map(|candidate| candidate.trace).collect()
    }

    fn skipped(&mut self) -> Vec<(u64, Skip)> {
        std::mem::take(&mut self.skipped)
    }
}

#[test]
fn a_trace_whose_time_is_over_is_not_asked_for() {
    let mut world = World::new(limits());
    world.policy.submit(world.now, 1, 10, world.now);
    world.act();
    assert_eq!(world.skipped(), [(1, Skip::OverCapacity)]);
    assert!(world.out.is_empty() && world.policy.is_empty());
}

#[test]
fn a_slot_is_waited_for_no_longer_than_max_wait() {
    let mut world = World::new(limits());
    (1..=6).for_each(|trace| world.submit(trace));
    assert_eq!(world.asked(), [1, 2]);
    assert_eq!(world.skipped(), [(6, Skip::OverCapacity)], "the queue holds three");
    world.pass(1);
    world.found(1);
    assert_eq!(world.asked(), [2, 3]);
    world.pass(1);
    assert_eq!(world.skipped(), [(4, Skip::OverCapacity), (5, Skip::OverCapacity)]);
}

#[test]
fn nothing_found_is_asked_for_twice_again() {
    let mut world = World::new(limits());
    world.submit(1);
    world.reply(1, Reply::NotFound);
    world.pass(9);
    assert!(world.asked().is_empty());
    world.pass(1);
    world.reply(1, Reply::NotFound);
    world.pass(19);
    assert!(world.asked().is_empty());
    world.pass(1);
    world.reply(1, Reply::NotFound);
    assert_eq!(world.skipped(), [(1, Skip::NotFound)]);
    assert!(world.policy.is_empty());
}

#[test]
fn first_asks_go_before_later_ones() {
    let mut world = World::new(limits());
    world.submit(1);
    world.reply(1, Reply::NotFound);
    world.pass(9);
    (2..=4).for_each(|trace| world.submit(trace));
    world.pass(1);
    assert_eq!(world.asked(), [2, 3], "1 is due and has no slot");
    world.found(2);
    assert_eq!(world.asked(), [3, 4]);
    world.found(3);
    assert_eq!(world.asked(), [4, 1]);
}

#[test]
fn asks_without_time_for_an_answer_open_no_breaker() {
    let mut world = World::new(limits());
    for trace in 1..=10 {
        world.submit(trace);
        world.reply(trace, Reply::Cut);
        assert_eq!(world.skipped(), [(trace, Skip::OverCapacity)]);
    }
    assert_eq!((world.policy.mode(), world.policy.in_flight()), (Mode::Normal, 0));
    // A trial that had no time is none: another one may go out.
    (11..=13).for_each(|trace| {
        world.submit(trace);
        world.reply(trace, Reply::Retry(None));
    });
    assert_eq!(world.policy.mode(), Mode::BreakerOpen);
    world.pass(5);
    world.skipped();
    world.submit(14);
    world.reply(14, Reply::Cut);
    world.submit(15);
    assert_eq!((world.asked(), world.skipped()), (vec![15], vec![(14, Skip::OverCapacity)]));
}

#[test]
fn an_open_breaker_lets_all_go_on_at_once() {
    let mut world = World::new(limits());
    (1..=4).for_each(|trace| world.submit(trace));
    world.reply(1, Reply::Retry(None));
    world.reply(2, Reply::Retry(None));
    assert_eq!(world.asked(), [3, 4]);
    world.reply(3, Reply::Retry(None));
    assert_eq!(world.policy.mode(), Mode::BreakerOpen);
    let mut gone = world.skipped();
    gone.sort_by_key(|(trace, _)| *trace);
    assert_eq!(gone, [(1, Skip::BreakerOpen), (2, Skip::BreakerOpen), (3, Skip::Failed)]);
    world.submit(5);
    assert_eq!(world.skipped(), [(5, Skip::BreakerOpen)]);
    world.reply(4, Reply::Retry(None));
    world.skipped();
    world.pass(5);
    (6..=7).for_each(|trace| world.submit(trace));
    assert_eq!((world.asked(), world.skipped()), (vec![6], vec![(7, Skip::BreakerOpen)]));
    world.found(6);
    world.submit(8);
    world.submit(9);
    world.found(8);
    world.reply(9, Reply::NotFound);
    assert_eq!(world.policy.mode(), Mode::Normal);
}

/// Asks for so many traces from this one on, one after the other, each in vain and to the end.
fn ask_in_vain(world: &mut World, first: u64, traces: u64) {
    for trace in first..first + traces {
        world.submit(trace);
        world.reply(trace, Reply::NotFound);
    }
}

#[test]
fn when_nothing_is_ever_found_one_probe_a_second_is_asked_for_and_no_other_waits() {
    let mut world = World::new(Limits { reask: Vec::new(), ..limits() });
    ask_in_vain(&mut world, 0, 49);
    assert_eq!(world.policy.mode(), Mode::Normal);
    ask_in_vain(&mut world, 49, 1);
    assert_eq!((world.policy.mode(), world.skipped().len()), (Mode::NothingFound, 50));
    world.submit(100);
    assert_eq!(world.skipped(), [(100, Skip::NothingFound)]);
    world.pass(1);
    world.submit(101);
    world.submit(102);
    assert_eq!((world.asked(), world.skipped()), (vec![101], vec![(102, Skip::NothingFound)]));
    world.reply(101, Reply::NotFound);
    assert_eq!(world.skipped(), [(101, Skip::NotFound)]);
    world.pass(1);
    world.submit(103);
    world.found(103);
    assert_eq!(world.policy.mode(), Mode::Normal);
}

#[test]
fn what_is_always_found_late_is_never_given_up() {
    let mut world = World::new(Limits { max_in_flight: 200, ..limits() });
    for round in 0..100 {
        world.submit(round);
        world.reply(round, Reply::NotFound);
        world.pass(1);
        // The first ones are asked for again ten seconds later.
        for trace in world.asked() {
            world.found(trace);
        }
    }
    assert_eq!((world.policy.mode(), world.skipped()), (Mode::Normal, Vec::new()));
}

#[test]
fn where_nothing_is_found_and_there_is_no_slot_for_a_second_ask_none_waits_in_the_end() {
    let mut world = World::new(limits());
    let mut trace = 0;
    // More traces than can be asked for: first asks go before later ones.
    for _ in 0..100 {
        while world.policy.waiting_first() < 3 && world.policy.mode() == Mode::Normal {
            trace += 1;
            world.submit(trace);
        }
        for asked in world.asked() {
            world.reply(asked, Reply::NotFound);
        }
        world.pass(1);
    }
    assert_eq!(world.policy.mode(), Mode::NothingFound);
}

#[test]
fn what_is_not_asked_for_again_because_the_end_is_near_says_nothing() {
    let mut world = World::new(limits());
    world.policy.drain();
    ask_in_vain(&mut world, 0, 60);
    assert_eq!((world.policy.mode(), world.skipped().len()), (Mode::Normal, 60));
}

#[test]
fn a_probe_finds_what_comes_late() {
    let mut world = World::new(limits());
    world.policy.limits.reask = Vec::new();
    ask_in_vain(&mut world, 0, 50);
    world.policy.limits.reask = limits().reask;
    world.pass(1);
    world.submit(100);
    world.reply(100, Reply::NotFound);
    world.pass(10);
    world.found(100);
    assert_eq!(world.policy.mode(), Mode::Normal);
}

#[test]
fn while_now_and_then_something_is_found_all_are_asked_for() {
    let mut world = World::new(Limits { reask: Vec::new(), ..limits() });
    for round in 0..5 {
        let first = round * 1000;
        world.submit(first);
        world.found(first);
        ask_in_vain(&mut world, first + 1, 500);
        world.pass(59);
        assert_eq!(world.policy.mode(), Mode::Normal);
    }
    world.pass(1);
    ask_in_vain(&mut world, 9000, 1);
    assert_eq!(world.policy.mode(), Mode::NothingFound, "a minute without a hit");
}

#[test]
fn everything_ends_at_the_deadline() {
    let mut limits = limits();
    limits.breaker.failures = 1000;
    limits.reask = vec![Duration::from_secs(10), Duration::from_secs(100)];
    let mut world = World::new(limits);
    world.submit(1);
    world.reply(1, Reply::NotFound);
    world.pass(10);
    world.reply(1, Reply::NotFound);
    assert_eq!(world.skipped(), [(1, Skip::NotFound)], "the second re-ask would be too late");
    world.submit(2);
    for _ in 0..100 {
        if world.asked() == [2] {
            world.reply(2, Reply::Retry(Some(Duration::from_secs(4))));
        }
        world.pass(1);
    }
    assert_eq!(world.skipped(), [(2, Skip::Failed)]);
}

#[test]
fn waiting_traces_have_a_memory_account() {
    let mut world = World::new(Limits { waiting_bytes_max: 25, ..limits() });
    for trace in 1..=3 {
        world.submit(trace);
        world.reply(trace, Reply::NotFound);
    }
    assert_eq!(world.skipped(), [(3, Skip::OverCapacity)]);
}

#[test]
fn draining_waits_for_nothing_but_first_asks() {
    let mut world = World::new(limits());
    world.submit(1);
    world.reply(1, Reply::NotFound);
    (2..=4).for_each(|trace| world.submit(trace));
    world.policy.drain();
    world.act();
    assert_eq!(world.skipped(), [(1, Skip::Shutdown)]);
    world.reply(2, Reply::NotFound);
    world.reply(3, Reply::Retry(None));
    world.found(4);
    assert_eq!(world.skipped(), [(2, Skip::NotFound), (3, Skip::Failed)]);
    assert!(world.policy.is_empty());
}

#[test]
fn a_trace_with_little_time_left_goes_on_in_time_whoever_waits_before_it() {
    let mut world = World::new(Limits { max_wait: Duration::from_mins(1), ..limits() });
    let submit = |world: &mut World, trace, seconds| {
        let deadline = world.now + Duration::from_secs(seconds);
        world.policy.submit(world.now, trace, 10, deadline);
        world.act();
    };
    world.submit(1);
    world.reply(1, Reply::NotFound);
    world.pass(5);
    submit(&mut world, 2, 11);
    world.reply(2, Reply::NotFound);
    world.pass(4);
    (3..=5).for_each(|trace| world.submit(trace));
    submit(&mut world, 6, 3);
    assert_eq!(world.asked(), [3, 4], "5 waits for a slot, and 6");
    world.pass(3);
    assert_eq!(world.skipped(), [(6, Skip::OverCapacity)]);
    // 1 is due since the tenth second, 2 since the fifteenth.
    world.pass(4);
    assert_eq!(world.skipped(), [(2, Skip::OverCapacity)]);
    world.pass(28);
    assert!(world.skipped().is_empty());
    world.pass(1);
    assert_eq!(world.skipped(), [(1, Skip::OverCapacity)]);
    world.pass(9);
    assert_eq!(world.skipped(), [(5, Skip::OverCapacity)]);
    world.found(3);
    world.found(4);
    assert!(world.policy.is_empty() && world.policy.waiting_bytes == 0);
}
