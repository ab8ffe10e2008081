//! A fragment as it waits in memory.

use std::{mem, sync::Arc};

use crate::{
    trace::{Fragment, Place},
    wire::{Spliced, Splices},
};

/// A [`Fragment`] whose own bytes are in a box: bytes that can be shared take more room than all the rest of it.
#[derive(Debug)]
pub(super) struct Waiting {
    own: Box<[u8]>,
    splices: Option<Arc<Splices>>,
    pub(super) place: Option<Place>,
    spans: u32,
}

impl Waiting {
    /// Leaves the bytes to the journal, if it has them; gives how many came free.
    pub(super) fn spill(&mut self) -> u64 {
        if self.place.is_none() {
            return 0;
        }
        let Self { place, spans, .. } = *self;
        let spilled = Self { own: Box::default(), splices: None, place, spans };
        Fragment::from(mem::replace(self, spilled)).loose_bytes()
    }
}

impl From<Fragment> for Waiting {
    fn from(Fragment { bytes, spans, place }: Fragment) -> Self {
        let (own, splices) = bytes.into_parts();
        // Not copied: nobody else has them.
        Self { own: Vec::from(own).into(), splices, place, spans }
    }
}

impl From<Waiting> for Fragment {
    fn from(Waiting { own, splices, place, spans }: Waiting) -> Self {
        Self { bytes: Spliced::new(own.into(), splices), spans, place }
    }
}
