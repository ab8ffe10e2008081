//! How far destinations are behind.

use super::{courier::Failing, queue::Places};
use crate::memory::WayOut;

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
