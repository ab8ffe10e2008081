//! What happens as memory fills, step by step: first waiting spans stay on disk only, then new traces are refused, at the
//! limit everything is. Each step but the last ends below where it began, so that it does not flutter. The marks are of what
//! the budget allows: its limit, or less while the process is close to its own.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Of the limit: from here on the bytes of waiting spans stay on disk only …
const SPILL_PERCENT: u64 = 50;
/// … until so much is free again.
const SPILL_END_PERCENT: u64 = 40;
/// The last 15 % are for requests of traces that are open, so that these finish before new ones begin …
const NEW_TRACES_PERCENT: u64 = 85;
/// … until so much is free again.
const NEW_TRACES_END_PERCENT: u64 = 75;

/// Of the memory limit: with more resident the budget allows less, so that the marks come down; spans of open traces are
/// still taken, for a trace of which a part has to wait comes in pieces …
pub(super) const RESIDENT_HIGH_PERCENT: u64 = 97;
/// … but no longer with so much resident …
const RESIDENT_FULL_PERCENT: u64 = 101;
/// … and with less than this it allows more again.
const RESIDENT_LOW_PERCENT: u64 = 93;

const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// The marks of a budget, and how fast memory comes free.
#[derive(Debug)]
pub struct Brim {
    limit_bytes: u64,
    allowed_bytes: AtomicU64,
    /// The limit, or as much as is allowed.
    most_bytes: AtomicU64,
    new_traces_refused: AtomicBool,
    given_back_bytes: AtomicU64,
    /// Bytes a second, smoothed; 0 as long as nothing was seen.
    drain_rate_bytes: AtomicU64,
    refusals: AtomicU32,
}

impl Brim {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            allowed_bytes: AtomicU64::new(limit_bytes),
            most_bytes: AtomicU64::new(limit_bytes),
            new_traces_refused: AtomicBool::new(false),
            given_back_bytes: AtomicU64::new(0),
            drain_rate_bytes: AtomicU64::new(0),
            refusals: AtomicU32::new(0),
        }
    }

    fn mark(&self, percent: u64) -> u64 {
        self.allowed_bytes() / 100 * percent
    }

    /// Bytes that the marks go by.
    pub(super) fn allowed_bytes(&self) -> u64 {
        self.allowed_bytes.load(Relaxed)
    }

    /// See [`super::Budget::adjust`].
    pub(super) fn adjust(&self, used_bytes: u64, resident_bytes: u64, resident_max_bytes: u64) {
        let is_above = |percent| resident_bytes > resident_max_bytes / 100 * percent;
        let allowed = self.allowed_bytes();
        let next = if is_above(RESIDENT_HIGH_PERCENT) {
            // From what is held, not from what was allowed: less must come to be held.
            used_bytes.min(allowed).saturating_sub(self.limit_bytes / 32)
        } else if is_above(RESIDENT_LOW_PERCENT) {
            allowed
        } else {
            allowed + self.limit_bytes / 64
        };
        let next = next.clamp(self.limit_bytes / 2, self.limit_bytes);
        self.allowed_bytes.store(next, Relaxed);
        let most = if is_above(RESIDENT_FULL_PERCENT) { next } else { self.limit_bytes };
        self.most_bytes.store(most, Relaxed);
    }

    /// Bytes that may be held at most, of open traces too.
    pub(super) fn most_bytes(&self) -> u64 {
        self.most_bytes.load(Relaxed)
    }

    /// Bytes that waiting spans should give up; 0 below the mark.
    pub fn to_spill(&self, used_bytes: u64) -> u64 {
        if used_bytes < self.mark(SPILL_PERCENT) {
            return 0;
        }
        used_bytes - self.mark(SPILL_END_PERCENT)
    }

    /// So full that spans go to disk without staying in memory first.
    pub fn is_spilling(&self, used_bytes: u64) -> bool {
        used_bytes >= self.mark(SPILL_PERCENT)
    }

    /// See [`super::Budget::request_bytes_max`].
    pub(super) fn request_bytes_max(&self) -> u64 {
        self.limit_bytes / 100 * NEW_TRACES_END_PERCENT
    }

    /// See [`super::Budget::is_short`].
    pub(super) fn is_short(&self, used_bytes: u64) -> bool {
        used_bytes >= self.mark(NEW_TRACES_PERCENT)
    }

    /// See [`super::Budget::takes_new_traces`].
    pub(super) fn takes_new_traces(&self, used_bytes: u64) -> bool {
        if used_bytes >= self.mark(NEW_TRACES_PERCENT) {
            self.new_traces_refused.store(true, Relaxed);
        } else if used_bytes < self.mark(NEW_TRACES_END_PERCENT) {
            self.new_traces_refused.store(false, Relaxed);
        }
        !self.new_traces_refused.load(Relaxed)
    }

    pub(super) fn given_back(&self, bytes: u64) {
        self.given_back_bytes.fetch_add(bytes, Relaxed);
    }

    /// So much time has passed since the last call: the rate is brought up to date. To be called a few times a second.
    pub fn tick(&self, passed: Duration) {
        let bytes = self.given_back_bytes.swap(0, Relaxed);
        let now = u128::from(bytes) * 1_000_000 / passed.as_micros().max(1);
        let before = u128::from(self.drain_rate_bytes.load(Relaxed));
        // Up within a second, down within ten: senders that wait bring nothing, and a lull says nothing about how fast
        // what they bring would leave.
        let rate = if now > before { (before * 3 + now) / 4 } else { (before * 31 + now) / 32 };
        self.drain_rate_bytes.store(u64::try_from(rate).unwrap_or(u64::MAX), Relaxed);
    }

    /// Bytes a second that come free behind the door.
    pub fn drain_rate_bytes(&self) -> u64 {
        self.drain_rate_bytes.load(Relaxed)
    }

    /// When a refused sender should come again: when there should be room at the present rate, spread by a quarter to
    /// both sides so that senders do not come all at once.
    pub(super) fn retry_after(&self, used_bytes: u64) -> Duration {
        let over = used_bytes.saturating_sub(self.mark(NEW_TRACES_END_PERCENT));
        let rate = self.drain_rate_bytes.load(Relaxed);
        let wait_ms = match over.saturating_mul(1000).checked_div(rate) {
            Some(wait_ms) => Duration::from_millis(wait_ms),
            None => RETRY_AFTER_MAX / 4,
        };
        let wait = wait_ms.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
        // Steps of the golden ratio visit the range evenly, without chance.
        let step = self.refusals.fetch_add(1, Relaxed).wrapping_mul(2_654_435_769) >> 16;
        wait * 3 / 4 + wait / 2 * step / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_begin_at_their_mark_and_end_below_it() {
        let brim = Brim::new(1000);
        assert_eq!([499, 500, 600].map(|used| brim.to_spill(used)), [0, 100, 200]);
        let taken = [840, 850, 800, 750, 749, 800].map(|used| brim.takes_new_traces(used));
        assert_eq!(taken, [true, false, false, false, true, true]);
    }

    #[test]
    fn a_process_that_is_too_large_may_hold_less_but_half() {
        let brim = Brim::new(6400);
        let allowed = |used, resident| {
            brim.adjust(used, resident, 10_000);
            brim.allowed_bytes()
        };
        assert_eq!(allowed(6000, 9_700), 6400, "not too large");
        assert_eq!([allowed(6000, 9_701), allowed(6000, 9_701)], [5800, 5600]);
        assert_eq!(allowed(5000, 9_701), 4800, "what is held comes down");
        assert_eq!([allowed(4800, 9_301), allowed(4800, 9_300)], [4800, 4900]);
        assert_eq!(allowed(100, 20_000), 3200, "never less than half");
        for _ in 0..100 {
            allowed(100, 0);
        }
        assert_eq!(allowed(100, 0), 6400);
        allowed(3000, 20_000);
        assert!(!brim.takes_new_traces(3000), "the marks come down with it");
    }

    #[test]
    fn open_traces_are_taken_longer_than_new_ones() {
        let brim = Brim::new(6400);
        let most = |resident| {
            brim.adjust(6000, resident, 10_000);
            (brim.takes_new_traces(6000), brim.most_bytes())
        };
        assert_eq!(
            most(10_100),
            (false, 6400),
            "the marks are below what is held, the limit is not"
        );
        assert_eq!(most(10_101), (false, 5600));
        assert_eq!(most(10_100), (false, 6400));
    }

    #[test]
    fn senders_come_again_when_there_should_be_room() {
        let brim = Brim::new(1000);
        let near = |delay: Duration, wanted_ms: u64| {
            let wanted = Duration::from_millis(wanted_ms);
            assert!(delay >= wanted * 3 / 4 && delay <= wanted * 5 / 4, "{delay:?} {wanted:?}");
        };
        near(brim.retry_after(1000), 7500);
        for _ in 0..50 {
            brim.given_back(10);
            brim.tick(Duration::from_millis(250));
        }
        near(brim.retry_after(950), 5000 * 40 / 37);
        near(brim.retry_after(751), 1000);
        for _ in 0..500 {
            brim.tick(Duration::from_millis(250));
        }
        near(brim.retry_after(1000), 7500);
        let delays: std::collections::HashSet<_> = (0..10).map(|_| brim.retry_after(900)).collect();
        assert!(delays.len() > 8, "spread");
    }
}
