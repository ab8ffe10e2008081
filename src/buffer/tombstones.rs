//! What is remembered of traces that went on, so that spans that come later get their place among them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::Instant,
    memory::{Budget, Reservation, Stage},
    trace::{Sent, SpanId, TraceKey},
};

/// How long a trace is remembered; senders that come later than this are rare.
const KEPT: Duration = Duration::from_mins(10);

/// What a trace costs here beside [`Sent`]: its entries in two maps, each with the key, and the `Arc`.
const OVERHEAD_BYTES: u64 = 256;

/// Traces that went on, within a share of the memory budget. The oldest are forgotten first.
#[derive(Debug)]
pub(super) struct Tombstones {
    share_bytes: u64,
    memory: Reservation,
    stones: HashMap<TraceKey, Stone>,
    /// Keys by [`Stone::number`], the oldest first.
    order: BTreeMap<u64, TraceKey>,
    next: u64,
}

#[derive(Debug)]
struct Stone {
    number: u64,
    since: Instant,
    sent: Arc<Sent>,
}

/// What is known of a trace that went on.
#[derive(Debug, Clone)]
pub(super) struct Recalled {
    pub(super) sent: Arc<Sent>,
    /// Time since its last part went on.
    pub(super) age: Duration,
}

impl Stone {
    fn bytes(&self) -> u64 {
        self.sent.bytes() + OVERHEAD_BYTES
    }
}

impl Tombstones {
    /// None yet; they may take `share_bytes` of the budget.
    pub(super) fn new(budget: &Arc<Budget>, share_bytes: u64) -> Self {
        Self {
            share_bytes,
            memory: budget.claim(Stage::Tombstones, 0),
            stones: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }

    /// A part of a trace went on; `sent` is what went out of the trace until now. Says how many traces had to be
    /// forgotten before their time.
    pub(super) fn remember(&mut self, now: Instant, key: TraceKey, sent: Sent) -> u64 {
        self.forget_old(now);
        self.forget(&key);
        let stone = Stone { number: self.next, since: now, sent: Arc::new(sent) };
        self.next += 1;
        self.memory.resize(self.memory.bytes() + stone.bytes());
        self.order.insert(stone.number, key.clone());
        self.stones.insert(key, stone);
        let mut forgotten = 0;
        while self.memory.bytes() > self.share_bytes && self.forget_oldest() {
            forgotten += 1;
        }
        forgotten
    }

    /// What went out of a trace until now.
    pub(super) fn recall(&mut self, now: Instant, key: &TraceKey) -> Option<Recalled> {
        self.forget_old(now);
        let stone = self.stones.get(key)?;
        let age = now.saturating_duration_since(stone.since);
        Some(Recalled { sent: Arc::clone(&stone.sent), age })
    }

    /// These added spans of a trace did not go out.
    pub(super) fn never_sent(&mut self, key: &TraceKey, added: &[SpanId]) {
        let Some(stone) = self.stones.get_mut(key) else { return };
        let before = stone.bytes();
        Arc::make_mut(&mut stone.sent).never_sent(added);
        let now = stone.bytes();
        self.memory.resize((self.memory.bytes() + now).saturating_sub(before));
    }

    /// Forgets what is over its time.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_old = |stone: &Stone| now.saturating_duration_since(stone.since) >= KEPT;
        while self.oldest().is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    /// Traces remembered.
    pub(super) fn len(&self) -> usize {
        self.stones.len()
    }

    fn oldest(&self) -> Option<&Stone> {
        let (_, key) = self.order.first_key_value()?;
        self.stones.get(key)
    }

    /// Whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_first() else { return false };
        self.forget(&key);
        true
    }

    fn forget(&mut self, key: &TraceKey) {
        if let Some(stone) = self.stones.remove(key) {
            self.order.remove(&stone.number);
            self.memory.resize(self.memory.bytes().saturating_sub(stone.bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        clock,
        trace::{Origin, SentRow, SpanId, TraceId},
    };

    fn key(number: u128) -> TraceKey {
        let id = TraceId::from_wire(&number.to_be_bytes()).expect("not zero");
        TraceKey { origin: Origin::default(), id }
    }

    fn sent(rows: u64) -> Sent {
        let row = |row| SentRow {
            row,
            region: 0,
            id: SpanId::from_number(row).expect("not zero"),
            parent: None,
            is_stale: false,
        };
        let mut sent = Sent::default();
        sent.add(Vec::new(), (1..=rows).map(row).collect(), true);
        sent
    }

    #[test]
    fn old_traces_are_forgotten() {
        let budget = Budget::new(1 << 20);
        let mut tombstones = Tombstones::new(&budget, 1 << 20);
        let now = clock::now();
        assert_eq!(tombstones.remember(now, key(1), sent(1)), 0);
        tombstones.remember(now + Duration::from_secs(599), key(2), sent(2));
        let recalled = tombstones.recall(now + Duration::from_secs(599), &key(1));
        assert_eq!(recalled.map(|recalled| recalled.age), Some(Duration::from_secs(599)));
        let now = now + KEPT;
        assert!(tombstones.recall(now, &key(1)).is_none());
        let second = tombstones.recall(now, &key(2)).map(|recalled| recalled.sent.rows().len());
        assert_eq!((second, tombstones.len()), (Some(2), 1));
        tombstones.forget_old(now + KEPT);
        assert_eq!((tombstones.len(), budget.used_bytes()), (0, 0));
    }

    #[test]
    fn the_oldest_make_room_and_what_fits_nowhere_is_not_kept() {
        let one = sent(1).bytes() + OVERHEAD_BYTES;
        let budget = Budget::new(1 << 20);
        let mut tombstones = Tombstones::new(&budget, 2 * one);
        let now = clock::now();
        for (number, forgotten) in [(1, 0), (2, 0), (1, 0), (3, 1)] {
            assert_eq!(tombstones.remember(now, key(number), sent(1)), forgotten);
        }
        let mut is_known = |number| tombstones.recall(now, &key(number)).is_some();
        assert_eq!([1, 2, 3].map(&mut is_known), [true, false, true], "2 is the oldest");
        assert_eq!(tombstones.remember(now, key(4), sent(1000)), 3);
        assert_eq!((tombstones.len(), budget.used_bytes()), (0, 0));
    }

    proptest! {
        /// Against a list of all that was ever remembered.
        #[test]
        fn what_is_recalled_was_remembered_last(
            steps in vec((0..200_u64, 1..6_u128, 1..9_u64), 1..60),
            share in 0..4_000_u64,
        ) {
            let budget = Budget::new(1 << 20);
            let mut tombstones = Tombstones::new(&budget, share);
            let mut now = clock::now();
            let mut model: Vec<(Instant, u128, u64)> = Vec::new();
            for (wait_s, number, rows) in steps {
                now += Duration::from_secs(wait_s);
                tombstones.remember(now, key(number), sent(rows));
                model.retain(|(since, known, _)| *known != number && now < *since + KEPT);
                model.push((now, number, rows));
                let held = |model: &[(Instant, u128, u64)]| -> u64 {
                    model.iter().map(|(_, _, rows)| sent(*rows).bytes() + OVERHEAD_BYTES).sum()
                };
                while held(&model) > share {
                    model.remove(0);
                }
                prop_assert_eq!(budget.stage_bytes(Stage::Tombstones), held(&model));
                prop_assert_eq!(tombstones.len(), model.len());
                for number in 1..6 {
                    let known = model.iter().find(|(_, known, _)| *known == number);
                    let recalled = tombstones.recall(now, &key(number));
                    prop_assert_eq!(
                        recalled.map(|recalled| (recalled.sent.rows().len() as u64, recalled.age)),
                        known.map(|(since, _, rows)| (*rows, now - *since))
                    );
                }
            }
        }
    }
}
