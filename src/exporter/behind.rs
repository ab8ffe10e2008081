//! How far destinations are behind.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use super::queue::Places;
use crate::memory::WayOut;

/// Whether the last request to a destination found it unable to take any.
#[derive(Debug, Clone, Default)]
pub(super) struct Failing(Arc<AtomicBool>);

impl Failing {
    pub(super) fn set(&self, fails: bool) {
        self.0.store(fails, Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What waits for each destination.
#[derive(Debug)]
pub(super) struct Behind(pub(super) Vec<(Places, Failing)>);

impl Behind {
    fn bytes(&self, fails: bool) -> u64 {
        let those = self.0.iter().filter(|(_, failing)| failing.get() == fails);
        those.map(|(places, _)| places.taken_bytes()).max().unwrap_or(0)
    }
}

impl WayOut for Behind {
    fn behind_bytes(&self) -> u64 {
        self.bytes(false)
    }

    fn stuck_bytes(&self) -> u64 {
        self.bytes(true)
    }
}
