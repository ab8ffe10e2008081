//! Which traces were enriched lately: a part of one that comes later goes on as it is.

use std::{
    collections::{HashSet, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    time::Duration,
};

use crate::{clock::Instant, trace::TraceKey};

/// How long a trace is remembered; senders that come later than this are rare.
const KEPT: Duration = Duration::from_mins(10);
/// Traces remembered at most, 16 bytes and a set's entry each.
const KEPT_MAX: usize = 200_000;

/// Hashes of trace keys, oldest first. Of two keys with one hash, which is once in 2^64 pairs, the second would go on
/// without being asked for.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hasher: RandomState,
    order: VecDeque<(Instant, u64)>,
    known: HashSet<u64>,
}

impl Recent {
    /// Remembers a trace.
    pub(super) fn add(&mut self, now: Instant, key: &TraceKey) {
        while let Some((since, hash)) = self.order.front().copied() {
            if self.order.len() < KEPT_MAX && now.saturating_duration_since(since) < KEPT {
                break;
            }
            self.order.pop_front();
            self.known.remove(&hash);
        }
        let hash = self.hasher.hash_one(key);
        if self.known.insert(hash) {
            self.order.push_back((now, hash));
        }
    }

    pub(super) fn has(&self, key: &TraceKey) -> bool {
        self.known.contains(&self.hasher.hash_one(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        trace::{Origin, TraceId},
    };

    fn key(number: u128) -> TraceKey {
        let id = TraceId::from_wire(&number.to_be_bytes()).expect("not zero");
        TraceKey { origin: Origin::default(), id }
    }

    #[test]
    fn old_traces_are_forgotten() {
        let mut recent = Recent::default();
        let now = clock::now();
        recent.add(now, &key(1));
        recent.add(now + Duration::from_secs(599), &key(2));
        assert!(recent.has(&key(1)) && recent.has(&key(2)) && !recent.has(&key(3)));
        recent.add(now + Duration::from_mins(10), &key(3));
        assert!(!recent.has(&key(1)) && recent.has(&key(2)));
    }
}
