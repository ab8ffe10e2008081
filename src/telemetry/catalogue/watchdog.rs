//! Series of the watchdog.

use metrics::Gauge;

use super::declare::Declare;

#[derive(Debug)]
pub(super) struct WatchdogMetrics {
    stuck: Gauge,
}

impl WatchdogMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        Self {
            stuck: declare.gauge(
                "tracestitch_watchdog_stuck_tasks",
                &[],
                "Long-lived tasks that have not moved for 30 s. Must be 0; /livez names them.",
            ),
        }
    }

    pub(super) fn show(&self, stuck: usize) {
        self.stuck.set(u32::try_from(stuck).unwrap_or(u32::MAX));
    }
}
