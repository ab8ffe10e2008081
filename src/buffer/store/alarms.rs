//! When the store looks at traces of its own accord.

use std::{collections::BTreeMap, time::Duration};

use crate::{clock::Instant, trace::TraceKey};

/// Alarms of one such interval ring together.
const TICK: Duration = Duration::from_millis(10);

/// Times of traces for which the cache does not ring, in ticks. Unlike [`Deadlines`](crate::buffer::deadlines::Deadlines)
/// they are not one for each trace, so that setting one costs next to nothing; one too many does no harm.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    ticks: BTreeMap<Instant, Vec<TraceKey>>,
}

impl Alarms {
    pub(super) fn set(&mut self, now: Instant, until: Instant, key: TraceKey) {
        // The last tick takes what comes a little later, too.
        let near = self.ticks.range(until..until + TICK).next().map(|(at, _)| *at);
        let at = near.unwrap_or(until.max(now + TICK));
        self.ticks.entry(at).or_default().push(key);
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Vec<TraceKey>> {
        let is_due = self.ticks.first_key_value().is_some_and(|(at, _)| *at <= now);
        if is_due { self.pop_first() } else { None }
    }

    pub(super) fn pop_first(&mut self) -> Option<Vec<TraceKey>> {
        self.ticks.pop_first().map(|(_, keys)| keys)
    }
}
