//! A running pipeline as operators see it.

use std::sync::{Arc, OnceLock};

use super::Metrics;
use crate::{
    clock,
    ledger::Ledger,
    memory::Budget,
    trace::{Durable, Lives},
    watchdog::Watchdog,
};

/// What can be seen of a pipeline, also after it ended.
#[derive(Debug, Clone)]
pub struct Watched {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The account of every span.
    pub ledger: Arc<Ledger>,
    /// Bytes held.
    pub budget: Arc<Budget>,
    /// Who works.
    pub watchdog: Arc<Watchdog>,
    /// What happened to the last traces.
    pub lives: Arc<Lives>,
    /// What outlives the process, once it is there.
    pub durable: Arc<OnceLock<Arc<dyn Durable>>>,
}

impl Watched {
    /// Why nothing can be taken any more; `None` as long as it can.
    pub fn failure(&self) -> Option<String> {
        self.durable.get().and_then(|durable| durable.failure())
    }

    /// The text Prometheus scrapes.
    pub fn render(&self) -> String {
        let stuck = self.watchdog.stuck(clock::now()).len();
        self.metrics.render(&self.ledger, &self.budget, stuck)
    }
}
