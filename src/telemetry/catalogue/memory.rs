//! Series of the memory budget.

use metrics::Gauge;

use super::declare::{Declare, Family};
use crate::memory::{Budget, Stage};

#[derive(Debug)]
pub(super) struct MemoryMetrics {
    limit: Gauge,
    allowed: Gauge,
    stages: Family<Gauge>,
}

impl MemoryMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        Self {
            limit: declare.gauge(
                "tracestitch_memory_limit_bytes",
                &[],
                "Bytes of spans that may be held before senders are refused.",
            ),
            allowed: declare.gauge(
                "tracestitch_memory_allowed_bytes",
                &[],
                "Of the limit, what the marks go by at which spans leave memory and senders are refused: less while the process is close to memory.limit.",
            ),
            stages: declare.gauges(
                "tracestitch_memory_bytes",
                "stage",
                &Stage::ALL.map(Stage::label),
                "Bytes of spans held, by stage.",
            ),
        }
    }

    /// The budget as it stands.
    pub(super) fn show(&self, budget: &Budget) {
        self.limit.set(bytes(budget.limit_bytes()));
        self.allowed.set(bytes(budget.allowed_bytes()));
        for stage in Stage::ALL {
            if let Some(gauge) = self.stages.of(stage as usize) {
                gauge.set(bytes(budget.stage_bytes(stage)));
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn bytes(value: u64) -> f64 {
    value as f64
}
