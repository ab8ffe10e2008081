//! How long answers to senders wait so that the way out keeps up.
//!
//! Where cores are short, what comes in takes them from what goes out: each sender sends the more the sooner it is
//! answered, and a destination on the same cores gets the less. Traces then wait in memory behind their wait, or in the
//! journal, from where reading them back costs cores again. A moment in which a sender does not send sets that right. It is
//! so short that a sender with little to say does not notice.

use std::time::Duration;

/// The longest wait. With a request under way an SDK still sends 9,000 spans a second, in its batches of 512.
const PACE_MAX: Duration = Duration::from_millis(50);
/// While no more than this waits for a destination nobody waits for an answer: it is more than what may be under way …
const EASY_BYTES: u64 = 16 * 1024 * 1024;
/// … and from this on senders wait longest.
const FULL_BYTES: u64 = 3 * EASY_BYTES;

/// The wait while so many bytes wait for a destination.
pub(super) fn pace(behind_bytes: u64) -> Duration {
    let beyond = behind_bytes.clamp(EASY_BYTES, FULL_BYTES) - EASY_BYTES;
    // Less than 32 MiB.
    let kib = |bytes: u64| u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    PACE_MAX * kib(beyond) / kib(FULL_BYTES - EASY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_little_and_nobody_waits_long() {
        let at_mib = |mib: u64| pace(mib * 1024 * 1024).as_millis();
        assert_eq!([0, 16, 32, 48, 1 << 40].map(at_mib), [0, 0, 25, 50, 50]);
    }
}
