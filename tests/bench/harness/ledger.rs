//! [`Ledger`]: what was sent, what of it was acknowledged, and what a sample of it looked like.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::shape::Shape;

/// What the load knows of itself, for the sink to compare with.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    groups: Mutex<Vec<Group>>,
    /// Requests, as group and service.
    acknowledged: Mutex<Vec<(usize, u64)>>,
    digests: Mutex<HashMap<u64, u64>>,
}

/// Traces that are sent together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) shape: Shape,
    /// The number of its first span.
    pub(crate) first: u64,
    /// When its traces begin.
    pub(crate) start_us: u64,
    /// When the last of its requests was handed over.
    sent_us: u64,
}

impl Ledger {
    /// Another group, and its place.
    pub(crate) fn begin(&self, shape: Shape, start_us: u64) -> (usize, Group) {
        let mut groups = self.groups.lock();
        let first = groups.last().map_or(1, Group::end);
        let group = Group { shape, first, start_us, sent_us: 0 };
        groups.push(group);
        (groups.len() - 1, group)
    }

    /// A request of this group goes out now.
    pub(crate) fn sending(&self, group: usize, now_us: u64, digests: Vec<(u64, u64)>) {
        self.digests.lock().extend(digests);
        if let Some(group) = self.groups.lock().get_mut(group) {
            group.sent_us = group.sent_us.max(now_us);
        }
    }

    /// A request was taken.
    pub(crate) fn acknowledge(&self, group: usize, service: u64) {
        self.acknowledged.lock().push((group, service));
    }

    /// The numbers of all acknowledged spans.
    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        let groups = self.groups.lock();
        let requests = self.acknowledged.lock();
        let numbers = requests.iter().filter_map(|(group, service)| {
            let group = groups.get(*group)?;
            Some(group.shape.places(*service).map(|place| group.first + place))
        });
        numbers.flatten().collect()
    }

    /// Behind the last number that was given.
    pub(crate) fn end(&self) -> u64 {
        self.groups.lock().last().map_or(1, Group::end)
    }

    /// What a span that was sent looked like, if it is one of the sample.
    pub(crate) fn digest(&self, number: u64) -> Option<u64> {
        self.digests.lock().get(&number).copied()
    }

    /// When the last of a trace was handed over, for each of these spans; numbers that were never given have none.
    pub(crate) fn sent_us(&self, numbers: &[u64]) -> Vec<u64> {
        let groups = self.groups.lock();
        let group = |number: &u64| {
            let behind = groups.partition_point(|group| group.first <= *number);
            behind.checked_sub(1).and_then(|place| groups.get(place))
        };
        numbers.iter().filter_map(|number| Some(group(number)?.sent_us)).collect()
    }
}

impl Group {
    fn end(&self) -> u64 {
        self.first + self.shape.group_spans()
    }
}
