//! The memory of a request that is being read.

use crate::{
    memory::{Full, Reservation},
    trace::Refused,
};

/// From the budget; for signals that pass through also from their share of it, which they can't leave.
#[derive(Debug)]
pub(super) struct Held {
    memory: Reservation,
    share: Option<Reservation>,
}

impl From<Reservation> for Held {
    fn from(memory: Reservation) -> Self {
        Self { memory, share: None }
    }
}

impl Held {
    /// Both hold the same number of bytes.
    pub(super) fn within(share: Reservation, memory: Reservation) -> Self {
        Self { memory, share: Some(share) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// What could be held at most.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.share.as_ref().map_or(self.memory.limit_bytes(), Reservation::limit_bytes)
    }

    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), Refused> {
        if let Some(share) = &mut self.share {
            share.grow(bytes)?;
        }
        let grown: Result<(), Full> = self.memory.grow(bytes);
        if let (Err(_), Some(share)) = (&grown, &mut self.share) {
            share.resize(share.bytes() - bytes);
        }
        Ok(grown?)
    }

    /// Holds exactly this many from now on.
    pub(super) fn resize(&mut self, bytes: u64) {
        self.memory.resize(bytes);
        if let Some(share) = &mut self.share {
            share.resize(bytes);
        }
    }

    /// For a request that goes on into the buffer.
    pub(super) fn into_memory(self) -> Reservation {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Budget, Stage};

    #[test]
    fn a_share_can_not_be_left_and_is_given_back() {
        let (budget, share) = (Budget::new(100), Budget::new(40));
        let reserve = |from: &std::sync::Arc<Budget>| from.reserve(Stage::Receiving, 10).unwrap();
        let mut held = Held::within(reserve(&share), reserve(&budget));
        held.grow(30).unwrap();
        assert!(held.grow(1).is_err());
        held.resize(20);
        let others = budget.reserve(Stage::Receiving, 75).unwrap();
        // The budget is full before the share is: nothing of either is taken.
        assert!(held.grow(10).is_err());
        assert_eq!((budget.used_bytes(), share.used_bytes()), (95, 20));
        drop((held, others));
        assert_eq!((budget.used_bytes(), share.used_bytes()), (0, 0));
    }
}
