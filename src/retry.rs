//! How long to wait before trying again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};

use crate::config::Interval;

/// Exponential back-off with jitter, without an end of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// First wait; up to as much again is added at random.
    pub initial_interval: Interval,
    /// Longest wait.
    pub max_interval: Interval,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_interval: Interval::from_millis(500), max_interval: Interval::from_secs(30) }
    }
}

impl Backoff {
    /// The waits, one after the other, without end.
    pub fn waits(&self) -> Waits {
        let builder = ExponentialBuilder::new()
            .with_min_delay(self.initial_interval.get())
            .with_max_delay(self.max_interval.get())
            .with_jitter()
            .without_max_times();
        Waits { inner: builder.build(), last: self.max_interval.get() }
    }
}

/// See [`Backoff::waits`].
#[derive(Debug)]
pub struct Waits {
    inner: backon::ExponentialBackoff,
    last: Duration,
}

impl Waits {
    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.inner.next().unwrap_or(self.last)
    }
}
