//! Resident memory, as the kernel counts it. The budget knows the bytes of spans; cgroups and operators see this.

use std::{fs, future, hint, sync::Arc, time::Duration};

use super::{Budget, brim::RESIDENT_HIGH_PERCENT, machine::told};
use crate::{clock, watchdog::Beat};

/// How often it is looked: at the highest rate seen a process grows by about 10 MiB in that time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The same while next to nothing is held.
const LOOK_IDLE_EVERY: Duration = Duration::from_millis(250);

/// How often pages that are free for long are given back to the system.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);

/// With more resident than the budget is to come down for, what is free is given back first, and what is left then counts. Not
/// more often than this, for pages that are used again cost time.
const GIVE_BACK_ALL_EVERY: Duration = Duration::from_millis(100);

/// Keeps the process within `limit_bytes`: close to that the budget allows less. Never ends.
pub async fn guard(budget: Arc<Budget>, limit_bytes: u64, beat: Beat) {
    if resident_bytes().is_none() {
        tracing::warn!(
            "resident memory can't be read here: memory.limit goes by the bytes of spans alone"
        );
        return beat.during(future::pending()).await;
    }
    let (mut given_back, mut all_given_back) = (clock::now(), clock::now());
    loop {
        let every = if budget.is_idle() { LOOK_IDLE_EVERY } else { LOOK_EVERY };
        beat.during(tokio::time::sleep(every)).await;
        let now = clock::now();
        let is_due = |last, every| now.saturating_duration_since(last) >= every;
        if is_due(given_back, GIVE_BACK_EVERY) {
            given_back = now;
            give_back_old();
        }
        // Little that is held can't be what is too much: an idle process does not look.
        let bytes = if budget.is_half_used() { resident_bytes() } else { None };
        let bytes = bytes.unwrap_or(0);
        if bytes <= limit_bytes / 100 * RESIDENT_HIGH_PERCENT {
            budget.adjust(bytes, limit_bytes);
        } else if is_due(all_given_back, GIVE_BACK_ALL_EVERY) {
            // An error means that the process ends.
            let _ended = beat.during(tokio::task::spawn_blocking(give_back_all)).await;
            all_given_back = clock::now();
            budget.adjust(resident_bytes().unwrap_or(bytes), limit_bytes);
        }
    }
}

/// The allocator gives pages that are free for a second back to the system while others become free: of the last ones of a
/// burst nobody would tell it. A large block is pages of its own, and one that is not touched takes no memory.
fn give_back_old() {
    drop(hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
}

/// The allocator gives what is free in its arenas back to the system before it says that there is no memory. So it is asked
/// for more than any machine has; the call by which it could be told needs unsafe code.
pub fn give_back_all() {
    let mut none = hint::black_box(Vec::<u8>::new());
    let _refused = hint::black_box(none.try_reserve_exact(MORE_THAN_THERE_IS));
}

/// Just below what no allocator is asked for.
const MORE_THAN_THERE_IS: usize = isize::MAX.unsigned_abs() - (1 << 16);

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
