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
        Self { limits, state: State::Closed { failures: 0 }, open: limits.open }
    }

    /// May an ask go out now? Counts it as gone out.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Closed { .. } => true,
            State::Open { until } if now < *until => false,
            State::Open { .. } => {
                self.state = State::HalfOpen { allowed: 1, asked: 1, good: 0 };
                true
            }
            State::HalfOpen { allowed, asked, .. } if *asked < *allowed => {
                *asked += 1;
                true
            }
            State::HalfOpen { .. } => false,
        }
    }

    /// An ask that was admitted did not go out after all.
    pub(super) fn give_back(&mut self) {
        if let State::HalfOpen { asked, .. } = &mut self.state {
            *asked = asked.saturating_sub(1);
        }
    }

    /// The backend answered, whatever it said.
    pub(super) fn success(&mut self) {
        match &mut self.state {
            State::Closed { failures } => *failures = 0,
            // An answer to an ask from before it opened says nothing about now.
            State::Open { .. } => {}
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
    pub(super) fn failure(&mut self, now: Instant) -> bool {
        match &mut self.state {
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

    #[test]
    fn opens_after_failures_and_closes_after_one_two_four_answers() {
        let limits = BreakerLimits {
            failures: 3,
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(8),
            slots: 4,
        };
        let mut breaker = Breaker::new(limits);
        let mut now = clock::now();
        assert!(!breaker.failure(now));
        breaker.success();
        assert_eq!([1, 2, 3].map(|_| breaker.failure(now)), [false, false, true]);
        assert!(!breaker.admit(now));
        now += Duration::from_secs(5);
        assert!(breaker.admit(now) && !breaker.admit(now));
        assert!(breaker.failure(now), "a failed trial opens it again");
        now += Duration::from_secs(7);
        assert!(!breaker.admit(now), "for longer");
        now += Duration::from_secs(1);
        for allowed in [1, 2, 4] {
            assert!((0..allowed).all(|_| breaker.admit(now)) && !breaker.admit(now), "{allowed}");
            (0..allowed).for_each(|_| breaker.success());
        }
        assert!((0..100).all(|_| breaker.admit(now)), "closed");
    }
}
