//! The only place that knows what time it is; clippy.toml bans the clocks elsewhere. Decisions take `now` as a
//! parameter, so that tests and simulations can turn time.

#![allow(clippy::disallowed_methods, reason = "this is the one door through which time comes in")]

use std::time::{SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// Monotonic time, for waits and ages.
pub fn now() -> Instant {
    Instant::now()
}

/// Now, by both clocks. Reading them costs more than most of what is done for a message: it is done once for many.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// As [`now`] says.
    pub at: Instant,
    /// As [`wall_us`] says.
    pub wall_us: u64,
}

/// See [`Moment`].
pub fn moment() -> Moment {
    Moment { at: now(), wall_us: wall_us() }
}

/// Microseconds since 1970, for comparing with span times.
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
