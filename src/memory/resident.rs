//! Resident memory, as the kernel counts it. The budget knows the bytes of spans; cgroups and operators see this.

use std::{fs, future, hint, sync::Arc, time::Duration};

use super::{Budget, machine::told};
use crate::{clock, watchdog::Beat};

/// How often it is looked: at the highest rate seen a process grows by about 10 MiB in that time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The same while next to nothing is held.
const LOOK_IDLE_EVERY: Duration = Duration::from_millis(250);

/// How often free pages are given back to the system.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);

/// Keeps the process within `limit_bytes`: close to that the budget allows less. Never ends.
pub async fn guard(budget: Arc<Budget>, limit_bytes: u64, beat: Beat) {
    if resident_bytes().is_none() {
        tracing::warn!(
            "resident memory can't be read here: memory.limit goes by the bytes of spans alone"
        );
        return beat.during(future::pending()).await;
    }
    let mut given_back = clock::now();
    loop {
        let every = if budget.is_idle() { LOOK_IDLE_EVERY } else { LOOK_EVERY };
        beat.during(tokio::time::sleep(every)).await;
        let now = clock::now();
        if now.saturating_duration_since(given_back) >= GIVE_BACK_EVERY {
            given_back = now;
            give_back();
        }
        // Little that is held can't be what is too much: an idle process does not look.
        let bytes = if budget.is_half_used() { resident_bytes() } else { None };
        budget.adjust(bytes.unwrap_or(0), limit_bytes);
    }
}

/// The allocator gives free pages back to the system while others become free: of the last ones of a burst nobody would
/// tell it. A large block is pages of its own, and one that is not touched takes no memory.
fn give_back() {
    drop(hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    told(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_the_kernel_writes_it() {
        let status = "VmHWM:\t   99 kB\nVmRSS:\t   3668 kB\nRssAnon: 1 kB\n";
        assert_eq!(told(status, "VmRSS"), Some(3668 * 1024));
        assert_eq!(told("VmRSS: 1 MB", "VmRSS"), None);
    }
}
