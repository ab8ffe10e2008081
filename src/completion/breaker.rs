//! The circuit breaker: a backend that fails is left alone for a while, then tried with 1, 2, 4 … asks.

use std::time::Duration;

use crate::clock::Instant;

/// When to stop asking, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BreakerLimits {
    /// Failures in a row that open it.
    pub(super) failures: u32,
    /// How long it stays open the first time; doubled each time it opens again without having closed.
    pub(super) open: Duration,
    /// Longest time it stays open.
    pub(super) open_max: Duration,
    /// As many asks at a time as there are slots close it.
    pub(super) slots: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    limits: BreakerLimits,
    state: State,
    open: Duration,
    /// How often it has opened.
    opened: u64,
}

/// An ask that may go out. An answer to one from before the breaker opened says nothing about now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admission {
    opened: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// `asked` of `allowed` trial asks are out or done, `good` came back well.
    HalfOpen {
        allowed: usize,
        asked: usize,
        good: usize,
    },
}

impl Breaker {
    pub(super) fn new(limits: BreakerLimits) -> Self {
        Self { limits, state: State::Closed { failures: 0 }, open: limits.open, opened: 0 }
    }

    /// May an ask go out now? Counts it as gone out.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Admission> {
        match &mut self.state {
            State::Closed { .. } => {}
            State::Open { until } if now < *until => return None,
            State::Open { .. } => self.state = State::HalfOpen { allowed: 1, asked: 1, good: 0 },
            State::HalfOpen { allowed, asked, .. } if *asked < *allowed => *asked += 1,
            State::HalfOpen { .. } => return None,
        }
        Some(Admission { opened: self.opened })
    }

    /// An ask that was admitted did not go out after all, or had no time for its answer.
    pub(super) fn give_back(&mut self, admission: Admission) {
        if let State::HalfOpen { asked, .. } = &mut self.state
            && admission.opened == self.opened
        {
            *asked = asked.saturating_sub(1);
        }
    }

    /// The backend answered, whatever it said.
    pub(super) fn success(&mut self, admission: Admission) {
        match &mut self.state {
            State::Closed { failures } => *failures = 0,
            State::Open { .. } => {}
            State::HalfOpen { .. } if admission.opened != self.opened => {}
            State::HalfOpen { allowed, asked, good } => {
                *good += 1;
                if *good < *allowed {
                    return;
                }
                if *allowed >= self.limits.slots {
                    self.state = State::Closed { failures: 0 };
                    self.open = self.limits.open;
                } else {
                    (*allowed, *asked, *good) = (*allowed * 2, 0, 0);
                }
            }
        }
    }

    /// The backend failed. True when this opened the breaker.
    pub(super) fn failure(&mut self, now: Instant, admission: Admission) -> bool {
        match &mut self.state {
            State::HalfOpen { .. } if admission.opened != self.opened => return false,
            State::Closed { failures } => {
                *failures += 1;
                if *failures < self.limits.failures {
                    return false;
                }
                self.open = self.limits.open;
            }
            State::Open { .. } => return false,
            State::HalfOpen { .. } => self.open = (self.open * 2).min(self.limits.open_max),
        }
        self.state = State::Open { until: now + self.open };
        self.opened += 1;
        true
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub(super) fn is_half_open(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const LIMITS: BreakerLimits = BreakerLimits {
        failures: 3,
        open: Duration::from_secs(5),
        open_max: Duration::from_secs(8),
        slots: 4,
    };

    #[test]
    fn opens_after_failures_and_closes_after_one_two_four_answers() {
        let mut breaker = Breaker::new(LIMITS);
        let mut now = clock::now();
        let first = breaker.admit(now).unwrap();
        assert!(!breaker.failure(now, first));
        breaker.success(first);
        assert_eq!([1, 2, 3].map(|_| breaker.failure(now, first)), [false, false, true]);
        assert_eq!(breaker.admit(now), None);
        now += Duration::from_secs(5);
        let trial = breaker.admit(now).unwrap();
        assert_eq!(breaker.admit(now), None);
        assert!(breaker.failure(now, trial), "a failed trial opens it again");
        now += Duration::from_secs(7);
        assert_eq!(breaker.admit(now), None, "for longer");
        now += Duration::from_secs(1);
        for allowed in [1, 2, 4] {
            let trials: Vec<_> = (0..allowed).map(|_| breaker.admit(now).unwrap()).collect();
            assert_eq!(breaker.admit(now), None, "{allowed}");
            for trial in trials {
                breaker.success(trial);
            }
        }
        assert!((0..100).all(|_| breaker.admit(now).is_some()), "closed");
    }

    #[test]
    fn an_answer_to_an_ask_from_before_it_opened_says_nothing() {
        let mut breaker = Breaker::new(LIMITS);
        let now = clock::now();
        let old = breaker.admit(now).unwrap();
        assert_eq!([1, 2, 3].map(|_| breaker.failure(now, old)), [false, false, true]);
        let now = now + Duration::from_secs(5);
        let trial = breaker.admit(now).unwrap();
        assert!(!breaker.failure(now, old) && breaker.is_half_open());
        breaker.success(old);
        breaker.give_back(old);
        assert_eq!(breaker.admit(now), None, "the trial is still out");
        breaker.success(trial);
        let trials = [(); 3].map(|()| breaker.admit(now).is_some());
        assert_eq!(trials, [true, true, false]);
    }
}
