//! One part of a trace after the other: the next one is woven with what the one before left behind.

use std::collections::{HashMap, VecDeque};

use crate::trace::TraceKey;

/// Traces with a part under way, and the parts that wait for it, in the order in which they were released. Their
/// memory is in the budget, so that their number needs no limit of its own.
#[derive(Debug)]
pub(super) struct Order<T> {
    under_way: HashMap<TraceKey, VecDeque<T>>,
    waiting: usize,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { under_way: HashMap::new(), waiting: 0 }
    }
}

impl<T> Order<T> {
    /// A part was released. It is given back if it is its turn, and is under way then; else it waits.
    pub(super) fn begin(&mut self, key: &TraceKey, part: T) -> Option<T> {
        if let Some(parts) = self.under_way.get_mut(key) {
            parts.push_back(part);
            self.waiting += 1;
            return None;
        }
        self.under_way.insert(key.clone(), VecDeque::new());
        Some(part)
    }

    /// The part under way is woven. The next one that waited is under way from now on.
    pub(super) fn end(&mut self, key: &TraceKey) -> Option<T> {
        let next = self.under_way.get_mut(key)?.pop_front();
        if next.is_some() {
            self.waiting -= 1;
        } else {
            self.under_way.remove(key);
        }
        next
    }

    /// A part of this trace is on its way.
    pub(super) fn is_under_way(&self, key: &TraceKey) -> bool {
        self.under_way.contains_key(key)
    }

    /// Parts that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Origin, TraceId};

    #[test]
    fn parts_of_a_trace_go_one_after_the_other_and_traces_beside_each_other() {
        let [one, other] = [1_u128, 2].map(|number| {
            let id = TraceId::from_wire(&number.to_be_bytes()).expect("not zero");
            TraceKey { origin: Origin::default(), id }
        });
        let mut order = Order::default();
        assert_eq!(order.begin(&one, 'a'), Some('a'));
        assert_eq!(order.begin(&one, 'b'), None);
        assert_eq!(order.begin(&other, 'x'), Some('x'));
        assert_eq!(order.begin(&one, 'c'), None);
        assert_eq!(order.waiting(), 2);
        assert_eq!(order.end(&one), Some('b'));
        assert_eq!(order.begin(&one, 'd'), None, "b is under way");
        assert_eq!(
            [order.end(&one), order.end(&one), order.end(&one)],
            [Some('c'), Some('d'), None]
        );
        assert_eq!(order.end(&other), None);
        assert!(order.under_way.is_empty() && order.waiting() == 0);
        assert_eq!(order.begin(&one, 'e'), Some('e'));
        assert_eq!(
            (order.end(&one), order.end(&one)),
            (None, None),
            "an end too many does no harm"
        );
    }
}
