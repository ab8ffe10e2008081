//! Waits that are not the cache's: a keyed list of times. A time that comes only wakes; what is due is asked of the trace.

use std::collections::{BTreeSet, HashMap};

use crate::{clock::Instant, trace::TraceKey};

/// Times by trace, one each. Pure: time is passed in.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    order: BTreeSet<(Instant, u64)>,
    traces: HashMap<TraceKey, (Instant, u64)>,
    keys: HashMap<u64, TraceKey>,
    sequence: u64,
}

impl Deadlines {
    /// The trace is looked at then, and at no other time.
    pub(super) fn set(&mut self, key: TraceKey, at: Instant) {
        if let Some(entry) = self.traces.remove(&key) {
            self.order.remove(&entry);
            self.keys.remove(&entry.1);
        }
        self.sequence += 1;
        let entry = (at, self.sequence);
        self.order.insert(entry);
        self.keys.insert(self.sequence, key.clone());
        self.traces.insert(key, entry);
    }

    /// The first time that comes.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// A trace whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<TraceKey> {
        let first = *self.order.first().filter(|(at, _)| *at <= now)?;
        self.order.remove(&first);
        let key = self.keys.remove(&first.1)?;
        self.traces.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock,
        trace::{Origin, TraceId},
    };

    #[test]
    fn each_trace_is_due_once_at_its_last_time() {
        let key = |number: u128| TraceKey {
            origin: Origin::default(),
            id: TraceId::from_wire(&number.to_be_bytes()).expect("not zero"),
        };
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        deadlines.set(key(1), at(5));
        deadlines.set(key(2), at(3));
        deadlines.set(key(1), at(9));
        assert_eq!(deadlines.next(), Some(at(3)));
        assert_eq!(deadlines.pop_due(at(2)), None);
        assert_eq!(deadlines.pop_due(at(8)), Some(key(2)));
        assert_eq!(deadlines.pop_due(at(8)), None);
        assert_eq!(deadlines.pop_due(at(9)), Some(key(1)));
        assert_eq!(deadlines.pop_due(at(99)), None);
    }
}
