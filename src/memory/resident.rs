//! Resident memory, as the kernel counts it. The budget knows the bytes of spans; cgroups and operators see this.

use std::{fs, future, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;

use super::Budget;
use crate::watchdog::Beat;

/// How often it is looked: at the highest rate seen a process grows by about 10 MiB in that time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Keeps the process within `limit_bytes`: while more is resident the budget allows less. Never ends.
pub async fn guard(budget: Arc<Budget>, limit_bytes: u64, beat: Beat) {
    if resident_bytes().is_none() {
        tracing::warn!(
            "resident memory can't be read here: memory.limit goes by the bytes of spans alone"
        );
        return beat.during(future::pending()).await;
    }
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.during(ticks.tick()).await;
        // Little that is held can't be what is too much: an idle process does not look.
        if budget.is_half_used()
            && let Some(bytes) = resident_bytes()
        {
            budget.adjust(bytes, limit_bytes);
        } else {
            budget.adjust(0, limit_bytes);
        }
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_read_as_the_kernel_writes_it() {
        let status = "VmHWM:\t   99 kB\nVmRSS:\t   3668 kB\nRssAnon: 1 kB\n";
        assert_eq!(super::resident(status), Some(3668 * 1024));
        assert_eq!(super::resident("VmRSS: 1 MB"), None);
    }
}
