//! [`Tuning`]: what nobody configures, and tests turn.

use std::{sync::Arc, time::Duration};

use super::journal::{Disk, Files};

/// What nobody configures. The default is what the program runs with; tests take small segments that go by quickly, and
/// files that fail.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Where the journal is.
    pub files: Arc<dyn Files>,
    /// Bytes of one of its segments, unless one record has more.
    pub segment_bytes: u32,
    /// Room on the disk for what gets spans out again when it is full.
    pub reserve_bytes: u64,
    /// A trace that is not delivered when its segment is so old no longer keeps it on the disk.
    pub straggler_age: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            files: Arc::new(Disk),
            segment_bytes: 64 * 1024 * 1024,
            reserve_bytes: 16 * 1024 * 1024,
            straggler_age: Duration::from_mins(1),
        }
    }
}
