//! A running pipeline as operators see it.

use std::sync::Arc;

use super::Metrics;
use crate::{ledger::Ledger, memory::Budget};

/// What can be seen of a pipeline, also after it ended.
#[derive(Debug, Clone)]
pub struct Watched {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The account of every span.
    pub ledger: Arc<Ledger>,
    /// Bytes held.
    pub budget: Arc<Budget>,
}

impl Watched {
    /// The text Prometheus scrapes.
    pub fn render(&self) -> String {
        self.metrics.render(&self.ledger, &self.budget)
    }
}
