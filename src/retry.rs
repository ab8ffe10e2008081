//! How long to wait before trying again.

use std::time::{Duration, UNIX_EPOCH};

use backon::{BackoffBuilder, ExponentialBuilder};
use http::{HeaderMap, header};
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

/// What senders are asked to wait at most: a longer wait is mostly a wrong clock.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// The header Retry-After: seconds from now, or a date; `now_us` is in microseconds since 1970.
pub fn retry_after(headers: &HeaderMap, now_us: u64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        date.saturating_sub(Duration::from_micros(now_us))
    };
    Some(believed(wait))
}

/// What is believed of a wait that somebody else asks for.
pub fn believed(wait: Duration) -> Duration {
    wait.min(RETRY_AFTER_MAX)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // One second before the date below.
        let now_us = 1_445_412_479_000_000;
        for (text, expected) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("99999", Some(3600)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(1)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("Wed, 21 Oct 2026 07:00:00 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers =
                HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now_us), expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now_us), None);
    }
}
