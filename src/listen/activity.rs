//! What a connection does, and for how long it may go on so.

use parking_lot::Mutex;

use super::Limits;
use crate::{clock::Instant, telemetry::catalogue::Closed};

/// Told by the connection's reads and requests, asked by its timer and by the register.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    speaks: Speaks,
    /// Requests under way.
    requests: usize,
    has_asked: bool,
    /// When the head began that is being read.
    head_since: Option<Instant>,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
}

/// What it speaks, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// So many bytes of HTTP/2's preface came, and nothing else.
    Unknown(usize),
    Http1,
    Http2,
}

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To be looked at again by then, at the latest.
    GoOn(Instant),
    Close(Closed),
}

/// Who goes first when room is needed: who has never asked for anything, then who has been idle for longest.
pub(super) type Rank = (bool, Instant);

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            speaks: Speaks::Unknown(0),
            requests: 0,
            has_asked: false,
            head_since: Some(now),
            idle_since: now,
        }))
    }

    /// Its time begins anew: a handshake is over.
    pub(super) fn restart(&self, now: Instant) {
        let mut state = self.0.lock();
        (state.head_since, state.idle_since) = (Some(now), now);
    }

    /// Bytes came. `now` is asked only when it matters.
    pub(super) fn read(&self, bytes: &[u8], now: impl FnOnce() -> Instant) {
        let mut state = self.0.lock();
        if bytes.is_empty() || state.requests > 0 {
            return;
        }
        match state.speaks {
            Speaks::Unknown(known) => {
                state.speaks = speaks(known, bytes);
                if state.speaks == Speaks::Http2 {
                    state.head_since = None;
                    state.idle_since = now();
                }
            }
            Speaks::Http1 if state.head_since.is_none() => state.head_since = Some(now()),
            Speaks::Http1 | Speaks::Http2 => {}
        }
    }

    /// A request's head is there.
    pub(super) fn begin(&self) {
        let mut state = self.0.lock();
        state.requests += 1;
        state.has_asked = true;
        state.head_since = None;
    }

    /// A request is answered.
    pub(super) fn end(&self, now: Instant) {
        let mut state = self.0.lock();
        state.requests = state.requests.saturating_sub(1);
        state.idle_since = now;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.0.lock().requests > 0
    }

    /// `None` while it is at work.
    pub(super) fn rank(&self) -> Option<Rank> {
        let state = self.0.lock();
        (state.requests == 0).then_some((state.has_asked, state.idle_since))
    }

    pub(super) fn verdict(&self, now: Instant, limits: &Limits) -> Verdict {
        let state = self.0.lock();
        // A head that begins now would be late then.
        let next = now + limits.head_wait;
        if state.requests > 0 {
            return Verdict::GoOn(next);
        }
        let (due, why) = match state.head_since {
            Some(since) => (since + limits.head_wait, Closed::Slow),
            None => (state.idle_since + limits.idle_wait, Closed::Idle),
        };
        if due <= now { Verdict::Close(why) } else { Verdict::GoOn(due.min(next)) }
    }
}

fn speaks(known: usize, bytes: &[u8]) -> Speaks {
    let missing = PREFACE.get(known..).unwrap_or_default();
    let common = missing.iter().zip(bytes).take_while(|(one, other)| one == other).count();
    match common {
        _ if common == missing.len() => Speaks::Http2,
        _ if common == bytes.len() => Speaks::Unknown(known + common),
        _ => Speaks::Http1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock, listen::Streams};

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_mins(1);

    fn limits() -> Limits {
        Limits {
            connections: 1,
            streams: Streams::LEAST,
            head_wait: HEAD,
            idle_wait: IDLE,
            age: None,
        }
    }

    #[test]
    fn the_first_bytes_say_what_is_spoken() {
        assert_eq!(speaks(0, PREFACE), Speaks::Http2);
        assert_eq!(speaks(0, b"PRI"), Speaks::Unknown(3));
        assert_eq!(speaks(3, PREFACE.get(3..).unwrap()), Speaks::Http2);
        assert_eq!(speaks(1, b"OST / HTTP/1.1"), Speaks::Http1);
        assert_eq!(speaks(0, &[PREFACE, b"more"].concat()), Speaks::Http2);
    }

    #[test]
    fn a_head_has_its_time_and_a_silent_connection_no_more() {
        let start = clock::now();
        let silent = Activity::new(start);
        assert_eq!(silent.verdict(start, &limits()), Verdict::GoOn(start + HEAD));
        assert_eq!(silent.verdict(start + HEAD, &limits()), Verdict::Close(Closed::Slow));

        let slow = Activity::new(start);
        for second in 0..10 {
            slow.read(b"P", || start + Duration::from_secs(second));
        }
        assert_eq!(slow.verdict(start + HEAD, &limits()), Verdict::Close(Closed::Slow));
    }

    #[test]
    fn between_requests_it_may_be_idle_for_longer() {
        let start = clock::now();
        let sender = Activity::new(start);
        sender.read(b"POST /v1/traces", || start);
        sender.begin();
        let answered = start + HEAD * 3;
        assert_eq!(sender.verdict(answered, &limits()), Verdict::GoOn(answered + HEAD));
        assert_eq!(sender.rank(), None);
        sender.end(answered);
        assert_eq!(sender.rank(), Some((true, answered)));
        let later = answered + IDLE - Duration::from_secs(1);
        assert_eq!(sender.verdict(later, &limits()), Verdict::GoOn(answered + IDLE));
        // A second head begins late, and has its time.
        sender.read(b"P", || later);
        assert_eq!(sender.verdict(answered + IDLE, &limits()), Verdict::GoOn(later + HEAD));
        assert_eq!(sender.verdict(later + HEAD, &limits()), Verdict::Close(Closed::Slow));
    }

    #[test]
    fn http2_is_idle_whatever_it_pings() {
        let start = clock::now();
        let channel = Activity::new(start);
        channel.read(PREFACE, || start);
        channel.read(b"a ping", || start + HEAD);
        let idle = start + IDLE;
        assert_eq!(channel.verdict(start + HEAD, &limits()), Verdict::GoOn(start + HEAD * 2));
        assert_eq!(channel.verdict(idle, &limits()), Verdict::Close(Closed::Idle));
    }
}
