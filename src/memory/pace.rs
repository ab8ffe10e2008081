//! How long answers to senders wait so that the way out keeps up.
//!
//! Where cores are short, what comes in takes them from what goes out: each sender sends the more the sooner it is
//! answered, and a destination on the same cores gets the less. Traces then wait in memory behind their wait, or in the
//! journal, from where reading them back costs cores again. A moment in which a sender does not send sets that right. It is
//! so short that a sender with little to say does not notice, and the same whatever keeps the way out.

use std::time::Duration;

/// The longest wait. With a request under way an SDK still sends 9,000 spans a second, in its batches of 512.
const PACE_MAX: Duration = Duration::from_millis(50);
/// Of the limit, so much on its way out is waited for longest …
const FULL_SHARE: u64 = 16;
/// … but never more than this, which is less than a destination's queue has by default.
const FULL_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// Below a third of that nobody waits.
const EASY_SHARE: u64 = 3;

/// The wait while so many bytes are on their way out.
pub(super) fn pace(leaving_bytes: u64, limit_bytes: u64) -> Duration {
    let full = (limit_bytes / FULL_SHARE).clamp(1, FULL_BYTES_MAX);
    let easy = full / EASY_SHARE;
    let beyond = leaving_bytes.min(full).saturating_sub(easy);
    let range = u32::try_from(full - easy).unwrap_or(u32::MAX).max(1);
    PACE_MAX * u32::try_from(beyond).unwrap_or(range) / range
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn nobody_waits_for_little_and_nobody_waits_long() {
        let ms = Duration::from_millis;
        for limit in [768 * MIB, 64 * 1024 * MIB] {
            assert_eq!(pace(0, limit), ms(0));
            assert_eq!(pace(16 * MIB, limit), ms(0));
            assert_eq!(pace(32 * MIB, limit), ms(25));
            assert_eq!(pace(48 * MIB, limit), ms(50));
            assert_eq!(pace(u64::MAX, limit), ms(50));
        }
    }

    #[test]
    fn little_memory_is_full_sooner() {
        let limit = 48 * MIB;
        assert_eq!(pace(MIB, limit), Duration::ZERO);
        assert_eq!(pace(2 * MIB, limit), Duration::from_millis(25));
        assert_eq!(pace(3 * MIB, limit), Duration::from_millis(50));
        assert_eq!(pace(0, 0), Duration::ZERO);
    }
}
