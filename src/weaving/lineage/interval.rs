//! A span of time. In 128 bits, so that no time an answer or a sender may claim can overflow.

use std::ops::Sub;

/// Nanoseconds.
pub(super) type Nanoseconds = i128;

/// What clocks of different agents may differ by.
pub(super) const TOLERANCE_NS: Nanoseconds = 10_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    pub(super) start: Nanoseconds,
    pub(super) end: Nanoseconds,
}

impl Interval {
    /// An end before the start is taken as the start.
    pub(super) fn new(start: Nanoseconds, end: Nanoseconds) -> Self {
        Self { start, end: end.max(start) }
    }

    pub(super) fn length(self) -> Nanoseconds {
        self.end - self.start
    }

    /// Starts not before and ends not after `outer`.
    pub(super) fn is_inside(self, outer: Self, tolerance: Nanoseconds) -> bool {
        self.start + tolerance >= outer.start && self.end <= outer.end + tolerance
    }

    pub(super) fn starts_inside(self, outer: Self, tolerance: Nanoseconds) -> bool {
        self.start + tolerance >= outer.start && self.start <= outer.end + tolerance
    }

    /// Half of it is covered by `other`.
    pub(super) fn is_half_covered(self, other: Self) -> bool {
        let common = self.end.min(other.end) - self.start.max(other.start);
        2 * common >= self.length()
    }

    /// Twice the distance of the middles: halves would be lost.
    pub(super) fn middles_apart_doubled(self, other: Self) -> Nanoseconds {
        (self.start + self.end) - (other.start + other.end)
    }
}

impl Sub<Nanoseconds> for Interval {
    type Output = Self;

    fn sub(self, offset: Nanoseconds) -> Self {
        Self { start: self.start - offset, end: self.end - offset }
    }
}
