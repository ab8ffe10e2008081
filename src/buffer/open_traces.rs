//! Open traces in a plain map, by a time that is passed in: for what an earlier run left, whose time is the journal's, and
//! for simulations.

use std::collections::{BTreeMap, hash_map::Entry};

use foldhash::HashMap;

use super::{
    open_trace::OpenTrace,
    quiet::{Shape, Verdict, Wait, quiet},
};
use crate::{
    clock::Instant,
    trace::{Release, TraceKey},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OpenTraces {
    /// In boxes, for the map moves what is in it as it grows.
    traces: HashMap<TraceKey, (Box<OpenTrace>, u64)>,
    /// By when each has to be looked at; the least recently touched ones first.
    order: BTreeMap<(Instant, u64), TraceKey>,
    /// Over a limit: to be looked at now.
    full: Vec<TraceKey>,
    sequence: u64,
    bytes: u64,
}

impl OpenTraces {
    /// Adds spans to their trace, or opens it.
    pub(super) fn add(&mut self, addition: OpenTrace) {
        let key = addition.key.clone();
        self.sequence += 1;
        self.full.push(key.clone());
        let (trace, sequence) = match self.traces.entry(key.clone()) {
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                let (trace, sequence) = known;
                self.order.remove(&(trace.last, *sequence));
                self.bytes = self.bytes.saturating_sub(trace.bytes());
                trace.merge(addition);
                known
            }
            Entry::Vacant(entry) => entry.insert((Box::new(addition), 0)),
        };
        *sequence = self.sequence;
        self.bytes += trace.bytes();
        self.order.insert((trace.last, self.sequence), key);
    }

    /// A trace that is quiet at this time, and why.
    pub(super) fn pop_quiet(
        &mut self,
        now: Instant,
        wait: &Wait,
    ) -> Option<(Box<OpenTrace>, Release)> {
        while let Some(key) = self.full.pop() {
            if let Some(found) = self.judge(&key, now, wait) {
                return Some(found);
            }
        }
        let (_, key) = self.order.first_key_value()?;
        let key = key.clone();
        self.judge(&key, now, wait)
    }

    /// The least recently touched trace, if they all take more than so many bytes.
    pub(super) fn pop_oldest(&mut self, bytes_max: u64) -> Option<Box<OpenTrace>> {
        if self.bytes <= bytes_max {
            return None;
        }
        let key = self.order.values().next()?.clone();
        self.take(&key)
    }

    /// All that are left.
    pub(super) fn into_rest(self) -> impl Iterator<Item = Box<OpenTrace>> {
        self.traces.into_values().map(|(trace, _)| trace)
    }

    fn judge(
        &mut self,
        key: &TraceKey,
        now: Instant,
        wait: &Wait,
    ) -> Option<(Box<OpenTrace>, Release)> {
        let (trace, _) = self.traces.get(key)?;
        let shape = Shape { spans: trace.spans, bytes: trace.wire_bytes, ..Shape::default() };
        match quiet(now, trace.first, trace.last, shape, wait) {
            Verdict::Release(release) => {
                let trace = self.take(key)?;
                Some((trace, release))
            }
            Verdict::WaitUntil(_) => None,
        }
    }

    fn take(&mut self, key: &TraceKey) -> Option<Box<OpenTrace>> {
        let (trace, sequence) = self.traces.remove(key)?;
        self.order.remove(&(trace.last, sequence));
        self.bytes = self.bytes.saturating_sub(trace.bytes());
        Some(trace)
    }
}
