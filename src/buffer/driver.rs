//! The thread that makes the cache look for idle traces, and spans leave memory when that is short.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use super::{deadlines::Deadlines, store::Store};
use crate::{
    clock,
    memory::Budget,
    telemetry::Metrics,
    watchdog::{Beat, Watchdog},
};

/// How often the cache looks for idle traces: they are released within 20 to 150 ms of their time.
const DRIVE_EVERY: Duration = Duration::from_millis(20);
/// The same while there is no trace; the next one wakes it. Each waking up is a good part of what an idle program costs.
const DRIVE_EMPTY_EVERY: Duration = Duration::from_millis(250);

/// See the module. A thread of its own, since a call into the cache can take 100 ms.
pub(super) struct Driver {
    pub(super) store: Weak<Store>,
    pub(super) deadlines: Arc<Mutex<Deadlines>>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
}

impl Driver {
    /// Starts it; it ends with the store.
    pub(super) fn start(self, watchdog: &Arc<Watchdog>) -> io::Result<()> {
        let work = watchdog.supervise_thread("buffer driver", move |beat| self.run(&beat));
        thread::Builder::new().name("buffer-driver".to_owned()).spawn(work).map(drop)
    }

    fn run(self, beat: &Beat) {
        if let Some(store) = self.store.upgrade() {
            store.driven_by(thread::current());
        }
        loop {
            let Some(store) = self.store.upgrade() else { return };
            beat.beat();
            store.run_pending_tasks();
            self.wake_due(&store);
            self.spill(&store);
            self.show(&store);
            let every = if store.traces() == 0 { DRIVE_EMPTY_EVERY } else { DRIVE_EVERY };
            drop(store);
            thread::park_timeout(every);
        }
    }

    fn wake_due(&self, store: &Store) {
        let now = clock::now();
        loop {
            let due = self.deadlines.lock().pop_due(now);
            match due {
                Some(key) => store.close(&key),
                None => return,
            }
        }
    }

    fn spill(&self, store: &Store) {
        let wanted = self.budget.brim().to_spill(self.budget.used_bytes());
        if wanted > 0 && store.loose_bytes() > 0 {
            self.metrics.buffer.spilled_bytes.increment(store.spill(wanted));
        }
    }

    fn show(&self, store: &Store) {
        self.metrics.buffer.traces.set(gauge(store.traces()));
        self.metrics.buffer.spans.set(gauge(store.spans()));
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn gauge(value: u64) -> f64 {
    value as f64
}
