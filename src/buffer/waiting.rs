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
    spilled_len: u32,
}

impl Waiting {
    /// Leaves the bytes to the journal, if it has them; gives how many came free.
    pub(super) fn spill(&mut self) -> u64 {
        if self.place.is_none() {
            return 0;
        }
        let Self { place, spans, spilled_len, .. } = *self;
        let spilled = Self { own: Box::default(), splices: None, place, spans, spilled_len };
        let whole = Fragment::from(mem::replace(self, spilled));
        // A fragment is below 4 GiB, as its request is.
        self.spilled_len = u32::try_from(whole.wire_bytes()).unwrap_or(u32::MAX);
        whole.loose_bytes()
    }
}

impl From<Fragment> for Waiting {
    fn from(Fragment { bytes, spans, place, spilled_len }: Fragment) -> Self {
        let (own, splices) = bytes.into_parts();
        // Mostly not copied: nobody else has them.
        Self { own: Vec::from(own).into(), splices, place, spans, spilled_len }
    }
}

impl From<Waiting> for Fragment {
    fn from(Waiting { own, splices, place, spans, spilled_len }: Waiting) -> Self {
        Self { bytes: Spliced::new(own.into(), splices), spans, place, spilled_len }
    }
}
