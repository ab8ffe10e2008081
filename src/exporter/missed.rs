//! Traces that a destination did not take while its queue was full, and that are still in memory because another
//! destination has not finished with them.
//!
//! A trace that nobody has any more comes back from the journal. One that a dead second destination holds on to would
//! not: without this list it would be late at the first for as long as the second is dead.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::trace::EnrichedTrace;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Missed {
    traces: Mutex<Traces>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Traces {
    waiting: VecDeque<Weak<EnrichedTrace>>,
    /// Those that are in memory no more are forgotten when there are so many.
    forget_at: usize,
}

/// Forgetting walks all of them, so it is worth it only now and then.
const FORGET_AT_MIN: usize = 1024;

impl Missed {
    /// Remembers a trace. Bounded by the queues of those who hold it.
    pub(super) fn remember(&self, trace: &Arc<EnrichedTrace>) {
        self.traces.lock().push(Arc::downgrade(trace));
        self.news.notify_one();
    }

    /// The next trace that is still in memory.
    pub(super) fn next(&self) -> Option<Arc<EnrichedTrace>> {
        let mut traces = self.traces.lock();
        loop {
            let trace = traces.waiting.pop_front()?.upgrade();
            if trace.is_some() {
                return trace;
            }
        }
    }

    /// There was no room for it after all.
    pub(super) fn put_back(&self, trace: &Arc<EnrichedTrace>) {
        self.traces.lock().waiting.push_front(Arc::downgrade(trace));
    }

    /// A trace was remembered.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Traces {
    fn push(&mut self, trace: Weak<EnrichedTrace>) {
        if self.waiting.len() >= self.forget_at.max(FORGET_AT_MIN) {
            self.waiting.retain(|trace| trace.strong_count() > 0);
            self.forget_at = self.waiting.len() * 2;
        }
        self.waiting.push_back(trace);
    }
}
