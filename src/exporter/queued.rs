//! A trace in a destination's queue.

use std::{mem, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use super::{accounts::Accounts, share::Share};
use crate::{telemetry::catalogue::ExporterMetrics, trace::EnrichedTrace};

/// A trace in the queue, and its room there.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) share: Arc<Share>,
    room: Room,
}

/// Room in the queue; given back on drop.
#[derive(Debug)]
pub(super) struct Room {
    bytes: f64,
    metrics: Arc<ExporterMetrics>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Queued {
    pub(super) fn new(
        trace: Arc<EnrichedTrace>,
        permit: OwnedSemaphorePermit,
        accounts: &Arc<Accounts>,
    ) -> Self {
        let metrics = Arc::clone(&accounts.metrics);
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        let bytes = trace.bytes() as f64;
        metrics.queue_bytes.increment(bytes);
        let room = Room { bytes, metrics, permit: Some(permit) };
        Self { share: Arc::new(Share::new(trace, Arc::clone(accounts))), room }
    }

    /// What is left of it if this was its last piece here: its room, and its share if nobody else holds on to that.
    pub(super) fn into_rest(queued: Arc<Self>) -> Option<(Room, Option<Share>)> {
        let Self { share, room } = Arc::into_inner(queued)?;
        Some((room, Arc::into_inner(share)))
    }
}

/// Two are equal when they are the same one.
impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Room {
    /// Both, to be given back at once.
    pub(super) fn join(mut self, mut other: Self) -> Self {
        self.bytes += mem::take(&mut other.bytes);
        match (&mut self.permit, other.permit.take()) {
            (Some(permit), Some(other)) => permit.merge(other),
            (none, other) => *none = other,
        }
        self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.permit.is_some() {
            self.metrics.queue_bytes.decrement(self.bytes);
        }
    }
}
