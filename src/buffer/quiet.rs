//! When is a trace quiet? A pure function of the time.

use std::time::Duration;

use crate::{clock::Instant, trace::Release};

/// What a trace waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// No new span for so long.
    pub idle: Duration,
    /// Open for so long.
    pub max_age: Duration,
    /// So many spans.
    pub max_spans: u64,
    /// So many bytes.
    pub max_bytes: u64,
}

/// What a trace and its surroundings look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// Spans so far.
    pub spans: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// The buffer is full to the brim.
    pub brim: bool,
    /// The program is shutting down.
    pub draining: bool,
}

/// What to do with a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Hand it on.
    Release(Release),
    /// Look again then.
    WaitUntil(Instant),
}

/// The cache's clock and ours are read a moment apart; never more than a tenth of the wait.
const TOLERANCE: Duration = Duration::from_millis(20);

/// The cache is the alarm, this is the judge: an alarm that comes early, late or for another reason does no harm.
pub(super) fn quiet(
    now: Instant,
    first: Instant,
    last: Instant,
    shape: Shape,
    wait: &Wait,
) -> Verdict {
    let age = now.saturating_duration_since(first);
    let idle = now.saturating_duration_since(last);
    let tolerance = TOLERANCE.min(wait.idle / 10);
    let release = if shape.spans >= wait.max_spans {
        Release::Spans
    } else if shape.bytes >= wait.max_bytes {
        Release::Bytes
    } else if idle + tolerance >= wait.idle {
        Release::Idle
    } else if age + tolerance >= wait.max_age {
        Release::MaxAge
    } else if shape.draining {
        Release::Shutdown
    } else if shape.brim {
        Release::Memory
    } else {
        return Verdict::WaitUntil((last + wait.idle).min(first + wait.max_age));
    };
    Verdict::Release(release)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const WAIT: Wait = Wait {
        idle: Duration::from_secs(15),
        max_age: Duration::from_mins(2),
        max_spans: 1000,
        max_bytes: 1 << 20,
    };

    fn check(age_s: u64, idle_s: u64, shape: Shape, expected: Verdict, origin: Instant) {
        let now = origin + Duration::from_secs(1000);
        let first = now - Duration::from_secs(age_s);
        let last = now - Duration::from_secs(idle_s);
        assert_eq!(quiet(now, first, last, shape, &WAIT), expected, "{age_s} {idle_s} {shape:?}");
    }

    #[test]
    fn a_short_wait_is_waited_for() {
        let wait = Wait { idle: Duration::from_millis(20), ..WAIT };
        let (last, shape) = (clock::now(), Shape::default());
        let after = |ms| quiet(last + Duration::from_millis(ms), last, last, shape, &wait);
        assert_eq!(after(0), Verdict::WaitUntil(last + wait.idle));
        assert_eq!(after(18), Verdict::Release(Release::Idle));
    }

    #[test]
    fn each_release_has_its_reason_and_all_else_waits() {
        let origin = clock::now();
        let shape = Shape { spans: 1, bytes: 100, ..Shape::default() };
        let now = origin + Duration::from_secs(1000);
        let secs = Duration::from_secs;
        check(15, 15, shape, Verdict::Release(Release::Idle), origin);
        check(14, 14, shape, Verdict::WaitUntil(now + secs(1)), origin);
        check(119, 3, shape, Verdict::WaitUntil(now + secs(1)), origin);
        check(120, 3, shape, Verdict::Release(Release::MaxAge), origin);
        check(1, 1, Shape { spans: 1000, ..shape }, Verdict::Release(Release::Spans), origin);
        check(1, 1, Shape { bytes: 1 << 20, ..shape }, Verdict::Release(Release::Bytes), origin);
        check(1, 1, Shape { brim: true, ..shape }, Verdict::Release(Release::Memory), origin);
        check(1, 1, Shape { draining: true, ..shape }, Verdict::Release(Release::Shutdown), origin);
        check(16, 16, Shape { draining: true, ..shape }, Verdict::Release(Release::Idle), origin);
    }
}
