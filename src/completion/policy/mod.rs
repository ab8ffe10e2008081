//! When to ask, which trace first, how often, and when to let it go on without: decisions without I/O and without a
//! clock of their own. A DeepFlow that is too small for all traces is the normal case.
//!
//! Traces that wait are entries in two queues here, no tasks: `first` for a slot for the first ask, `later` for the
//! time of a re-ask or a retry. First asks go before later ones. Whatever happens, a trace comes out again.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::breaker::{Admission, Breaker, BreakerLimits};
use crate::{
    clock::Instant,
    retry::{Backoff, Waits},
    telemetry::catalogue::Mode,
    trace::Skip,
};

/// What the policy goes by.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) max_in_flight: usize,
    /// For a slot.
    pub(super) max_wait: Duration,
    /// Traces that may wait for a slot.
    pub(super) max_queued: usize,
    /// Bytes of traces that may wait, for whatever.
    pub(super) waiting_bytes_max: u64,
    /// After the first ask, when nothing was found.
    pub(super) reask: Vec<Duration>,
    pub(super) backoff: Backoff,
    pub(super) breaker: BreakerLimits,
}

/// So many traces in a row that were asked for in vain to the end, and so long without a hit: then waiting is no use.
const MISSES_MAX: u32 = 50;
const HITLESS_MAX: Duration = Duration::from_mins(1);
/// Then one trace in so long is still asked for.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A trace on its way through completion.
#[derive(Debug)]
pub(super) struct Candidate<T> {
    pub(super) trace: T,
    bytes: u64,
    deadline: Instant,
    /// Time of the first ask; `None` before it.
    first_ask: Option<Instant>,
    /// Re-asks used up.
    reasks: usize,
    waits: Waits,
    /// Of its last ask.
    admission: Admission,
    /// Why it goes on if it can't be asked for again.
    last: Skip,
    /// Is not asked for again.
    only_once: bool,
}

/// How an ask ended, as far as the policy cares. Hits leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Nothing there yet.
    NotFound,
    /// A fault of the server; it may say when to come again.
    Retry(Option<Duration>),
    /// Never ask again for this trace.
    Rejected,
    /// Its time was over too soon: that nobody answered says nothing of the server.
    Cut,
}

/// What to do now.
#[derive(Debug)]
pub(super) enum Action<T> {
    /// Ask for this trace; must be answered by [`Policy::found`] or [`Policy::replied`].
    Ask(Candidate<T>),
    /// Let this trace go on without.
    Skip(T, Skip),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Policy<T> {
    limits: Limits,
    breaker: Breaker,
    /// Traces that wait for their first ask, by the time until which they may.
    first: BTreeMap<(Instant, u64), Candidate<T>>,
    /// Traces that are asked for again, by the time when that is due.
    later: BTreeMap<(Instant, u64), Candidate<T>>,
    /// Those by their deadline, with that time.
    ends: BTreeMap<(Instant, u64), Instant>,
    actions: VecDeque<Action<T>>,
    in_flight: usize,
    waiting_bytes: u64,
    sequence: u64,
    /// Traces since the last hit for which nothing was found to the end.
    misses: u32,
    last_hit: Option<Instant>,
    /// Waiting is no use; see [`Self::missed`].
    nothing_found: bool,
    last_probe: Option<Instant>,
    draining: bool,
}

impl<T> Candidate<T> {
    /// Why it goes on when its time is over before it is asked for again.
    fn why(&self) -> Skip {
        match self.last {
            Skip::NotFound => Skip::OverCapacity,
            last => last,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl<T> Policy<T> {
    pub(super) fn new(limits: Limits) -> Self {
        let breaker = Breaker::new(limits.breaker);
        Self {
            limits,
            breaker,
            first: BTreeMap::new(),
            later: BTreeMap::new(),
            ends: BTreeMap::new(),
            actions: VecDeque::new(),
            in_flight: 0,
            waiting_bytes: 0,
            sequence: 0,
            misses: 0,
            last_hit: None,
            nothing_found: false,
            last_probe: None,
            draining: false,
        }
    }

    /// It is a trace's turn.
    pub(super) fn submit(&mut self, now: Instant, trace: T, bytes: u64, deadline: Instant) {
        let candidate = Candidate {
            trace,
            bytes,
            deadline,
            first_ask: None,
            reasks: 0,
            waits: self.limits.backoff.waits(),
            admission: Admission::default(),
            last: Skip::OverCapacity,
            only_once: self.draining,
        };
        // It waited for an earlier part of its trace until now.
        if deadline <= now {
            return self.skip(candidate.trace, Skip::OverCapacity);
        }
        if self.nothing_found {
            let due = self.last_probe.is_none_or(|last| now >= last + PROBE_EVERY);
            if !due || self.in_flight >= self.limits.max_in_flight {
                return self.skip(candidate.trace, Skip::NothingFound);
            }
            self.last_probe = Some(now);
            return self.ask(now, candidate);
        }
        if self.breaker.is_open() || self.breaker.is_half_open() {
            return self.ask(now, candidate);
        }
        if self.in_flight < self.limits.max_in_flight && self.first.is_empty() {
            return self.ask(now, candidate);
        }
        let room = self.first.len() < self.limits.max_queued
            && self.waiting_bytes + bytes <= self.limits.waiting_bytes_max;
        if !room {
            return self.skip(candidate.trace, Skip::OverCapacity);
        }
        self.waiting_bytes += bytes;
        self.sequence += 1;
        // One that waited for an earlier part of its trace has less time than those before it.
        let until = (now + self.limits.max_wait).min(deadline);
        self.first.insert((until, self.sequence), candidate);
    }

    /// An ask found something; the trace leaves completion.
    pub(super) fn found(&mut self, now: Instant, candidate: Candidate<T>) -> T {
        self.in_flight -= 1;
        self.misses = 0;
        self.last_hit = Some(now);
        self.nothing_found = false;
        self.breaker.success(candidate.admission);
        self.dispatch(now);
        candidate.trace
    }

    /// There was nothing to ask with, or no time to wait for the answer; the trace leaves completion.
    pub(super) fn found_nothing_to_ask(&mut self, now: Instant, candidate: Candidate<T>) -> T {
        self.in_flight -= 1;
        self.breaker.give_back(candidate.admission);
        self.dispatch(now);
        candidate.trace
    }

    /// An ask found nothing.
    pub(super) fn replied(&mut self, now: Instant, candidate: Candidate<T>, reply: Reply) {
        self.in_flight -= 1;
        match reply {
            Reply::Rejected => {
                self.breaker.success(candidate.admission);
                self.skip(candidate.trace, Skip::Rejected);
            }
            Reply::Cut => {
                self.breaker.give_back(candidate.admission);
                let why = candidate.why();
                self.give_up(now, candidate, why);
            }
            Reply::NotFound => self.not_found(now, candidate),
            Reply::Retry(after) => self.failed(now, candidate, after),
        }
        self.dispatch(now);
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.first.first_key_value().is_some_and(|((until, _), _)| *until <= now) {
            let Some(candidate) = self.take_first() else { break };
            self.skip(candidate.trace, Skip::OverCapacity);
        }
        self.dispatch(now);
        // What is due and still has no slot waits for one like all others.
        while let Some(candidate) = self.overdue(now) {
            let why = candidate.why();
            self.give_up(now, candidate, why);
        }
    }

    /// One that is to be asked for again and may not wait for that any longer.
    fn overdue(&mut self, now: Instant) -> Option<Candidate<T>> {
        let first = self.later.first_key_value().map(|(key, _)| *key);
        let is_late = |(due, _): &(Instant, u64)| *due + self.limits.max_wait <= now;
        let ended = self.ends.first_key_value().filter(|((deadline, _), _)| *deadline <= now);
        let ended = ended.map(|(&(_, number), &due)| (due, number));
        self.take_later(first.filter(is_late).or(ended)?)
    }

    fn take_first(&mut self) -> Option<Candidate<T>> {
        let (_, candidate) = self.first.pop_first()?;
        self.waiting_bytes -= candidate.bytes;
        Some(candidate)
    }

    fn take_due(&mut self, now: Instant) -> Option<Candidate<T>> {
        let key = *self.later.first_key_value()?.0;
        if key.0 <= now { self.take_later(key) } else { None }
    }

    fn take_later(&mut self, key: (Instant, u64)) -> Option<Candidate<T>> {
        let candidate = self.later.remove(&key)?;
        self.ends.remove(&(candidate.deadline, key.1));
        self.waiting_bytes -= candidate.bytes;
        Some(candidate)
    }

    /// When [`Self::tick`] has something to do; `None` when nothing waits.
    pub(super) fn wake(&self, now: Instant) -> Option<Instant> {
        let first = self.first.first_key_value().map(|((until, _), _)| *until);
        // Due already: it waits for a slot, and for no longer than it may.
        let later = self
            .later
            .first_key_value()
            .map(|((due, _), _)| if *due <= now { *due + self.limits.max_wait } else { *due });
        let ends = self.ends.first_key_value().map(|((deadline, _), _)| *deadline);
        first.into_iter().chain(later).chain(ends).min()
    }

    /// What to do now, one after the other.
    pub(super) fn action(&mut self) -> Option<Action<T>> {
        self.actions.pop_front()
    }

    /// The program is shutting down: nothing waits for a later ask any more.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.flush_later(Skip::Shutdown);
        for candidate in self.first.values_mut() {
            candidate.only_once = true;
        }
    }

    /// The program is ending: nothing waits any more, for whatever.
    pub(super) fn stop_waiting(&mut self) {
        self.draining = true;
        self.flush_first(Skip::Shutdown);
        self.flush_later(Skip::Shutdown);
    }

    /// No trace is in here.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.later.is_empty() && self.in_flight == 0
    }

    pub(super) fn mode(&self) -> Mode {
        if self.breaker.is_open() {
            Mode::BreakerOpen
        } else if self.breaker.is_half_open() {
            Mode::HalfOpen
        } else if self.nothing_found {
            Mode::NothingFound
        } else {
            Mode::Normal
        }
    }

    pub(super) fn waiting_first(&self) -> usize {
        self.first.len()
    }

    pub(super) fn waiting_later(&self) -> usize {
        self.later.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn skip(&mut self, trace: T, why: Skip) {
        self.actions.push_back(Action::Skip(trace, why));
    }

    fn ask(&mut self, now: Instant, mut candidate: Candidate<T>) {
        let has_slot = self.in_flight < self.limits.max_in_flight;
        let admission = if has_slot { self.breaker.admit(now) } else { None };
        let Some(admission) = admission else {
            let why = if self.breaker.is_open() || self.breaker.is_half_open() {
                Skip::BreakerOpen
            } else {
                Skip::OverCapacity
            };
            return self.skip(candidate.trace, why);
        };
        candidate.admission = admission;
        candidate.first_ask.get_or_insert(now);
        self.in_flight += 1;
        self.actions.push_back(Action::Ask(candidate));
    }

    fn not_found(&mut self, now: Instant, mut candidate: Candidate<T>) {
        self.breaker.success(candidate.admission);
        candidate.last = Skip::NotFound;
        let first_ask = candidate.first_ask.unwrap_or(now);
        let next =
            self.limits.reask.get(candidate.reasks).map(|after| (first_ask + *after).max(now));
        candidate.reasks += 1;
        let is_over = candidate.only_once || self.draining;
        match next {
            Some(due) if due < candidate.deadline && !is_over => {
                self.wait_until(now, due, candidate);
            }
            _ => {
                self.skip(candidate.trace, Skip::NotFound);
                if !is_over {
                    self.missed(now);
                }
            }
        }
    }

    /// No time or no room is left for a trace that was asked for before.
    fn give_up(&mut self, now: Instant, candidate: Candidate<T>, why: Skip) {
        let is_miss = candidate.last == Skip::NotFound;
        self.skip(candidate.trace, why);
        if is_miss {
            self.missed(now);
        }
    }

    /// A trace was asked for as often as it could be, and nothing was ever there. Rows come late: that there was nothing at the
    /// first ask says little, unless there is no more time or room for another one.
    fn missed(&mut self, now: Instant) {
        self.misses = self.misses.saturating_add(1);
        let is_long = self.last_hit.is_none_or(|hit| now >= hit + HITLESS_MAX);
        if self.misses >= MISSES_MAX && is_long && !self.nothing_found {
            self.nothing_found = true;
            self.last_probe = Some(now);
            self.flush_first(Skip::NothingFound);
            self.flush_later(Skip::NothingFound);
        }
    }

    fn failed(&mut self, now: Instant, mut candidate: Candidate<T>, after: Option<Duration>) {
        if self.breaker.failure(now, candidate.admission) {
            self.flush_first(Skip::BreakerOpen);
            self.flush_later(Skip::BreakerOpen);
        }
        candidate.last = Skip::Failed;
        let due = now + candidate.waits.next_wait().max(after.unwrap_or_default());
        if self.breaker.is_open() || due >= candidate.deadline || self.draining {
            return self.skip(candidate.trace, Skip::Failed);
        }
        self.wait_until(now, due, candidate);
    }

    fn wait_until(&mut self, now: Instant, due: Instant, candidate: Candidate<T>) {
        if self.waiting_bytes + candidate.bytes > self.limits.waiting_bytes_max {
            return self.give_up(now, candidate, Skip::OverCapacity);
        }
        self.waiting_bytes += candidate.bytes;
        self.sequence += 1;
        self.ends.insert((candidate.deadline, self.sequence), due);
        self.later.insert((due, self.sequence), candidate);
    }

    /// Fills free slots: first asks first, then later ones that are due.
    fn dispatch(&mut self, now: Instant) {
        while self.in_flight < self.limits.max_in_flight {
            let Some(next) = self.take_first().or_else(|| self.take_due(now)) else { return };
            if next.deadline <= now {
                let why = next.why();
                self.give_up(now, next, why);
            } else {
                self.ask(now, next);
            }
        }
    }

    fn flush_first(&mut self, why: Skip) {
        while let Some(candidate) = self.take_first() {
            self.skip(candidate.trace, why);
        }
    }

    fn flush_later(&mut self, why: Skip) {
        self.ends.clear();
        while let Some((_, candidate)) = self.later.pop_first() {
            self.waiting_bytes -= candidate.bytes;
            self.skip(candidate.trace, why);
        }
    }
}

#[cfg(test)]
mod tests;
