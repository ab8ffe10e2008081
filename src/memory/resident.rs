//! Resident memory, as the kernel counts it. The budget knows the bytes of spans; cgroups and operators see this.

use std::{fs, future, sync::Arc, time::Duration};

use tikv_jemalloc_ctl::{Access as _, AsName as _};

use super::{Budget, brim::RESIDENT_HIGH_PERCENT, machine::told};
use crate::{clock, watchdog::Beat};

/// How often it is looked: at the highest rate seen a process grows by about 10 MiB in that time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The same while next to nothing is held.
const LOOK_IDLE_EVERY: Duration = Duration::from_millis(250);

/// With more resident than the budget is to come down for, what is free is given back first, and what is left then counts. Not
/// more often than this, for pages that are used again cost time.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(100);

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
        // Little that is held can't be what is too much: an idle process does not look.
        let bytes = if budget.is_half_used() { resident_bytes() } else { None };
        let bytes = bytes.unwrap_or(0);
        if bytes <= limit_bytes / 100 * RESIDENT_HIGH_PERCENT {
            budget.adjust(bytes, limit_bytes);
        } else if clock::now().saturating_duration_since(given_back) >= GIVE_BACK_EVERY {
            // An error means that the process ends.
            let _ended = beat.during(tokio::task::spawn_blocking(give_back)).await;
            given_back = clock::now();
            budget.adjust(resident_bytes().unwrap_or(bytes), limit_bytes);
        }
    }
}

/// Gives what is free back to the system at once. Else the allocator does so over the next 10 s, for it may be used again.
pub fn give_back() {
    if let Err(error) = try_to_give_back() {
        tracing::debug!(%error, "the allocator gives nothing back");
    }
}

/// Told to keep nothing, an arena gives back at once what it has; its call for that alone needs unsafe code.
fn try_to_give_back() -> tikv_jemalloc_ctl::Result<()> {
    let mut keep_ms = b"arena.0.dirty_decay_ms\0".name().mib::<[usize; 3]>()?;
    for arena in 0..tikv_jemalloc_ctl::arenas::narenas::read()? {
        keep_ms[1] = usize::try_from(arena).unwrap_or(usize::MAX);
        // Not all of them are in use.
        if let Ok(usual_ms) = keep_ms.update(0_isize) {
            keep_ms.write(usual_ms)?;
        }
    }
    Ok(())
}

/// Resident memory of this process; `None` where the kernel does not tell.
pub fn resident_bytes() -> Option<u64> {
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
