//! A request body that takes its memory from the budget before it is read on.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;
use tonic::Status;

use super::otlp_grpc::refused;
use crate::{
    clock,
    memory::Reservation,
    trace::{Refused, TOO_SLOW},
};

/// Memory taken at a time.
pub(super) const STEP_BYTES: u64 = 64 * 1024;

/// The next bytes of a request must come within this: it has a turn that others wait for.
pub(super) const FRAME_WAIT: Duration = Duration::from_secs(10);

/// A compressed request is taken to grow this much: OTLP shrinks five to ten times. What it really takes is settled
/// when it is there.
const COMPRESSION: u64 = 10;

/// A guess takes one part in so many of the memory limit at most.
const GUESS_SHARE: u64 = 8;

/// The memory of a request being read; its handler takes it over.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<Option<Reservation>>>);

impl Memory {
    pub(super) fn new(reservation: Reservation) -> Self {
        Self(Arc::new(Mutex::new(Some(reservation))))
    }

    pub(super) fn take(&self) -> Option<Reservation> {
        self.0.lock().take()
    }

    /// For what was read, and what it may become; but a guess takes no more than its share, or a large request would be
    /// refused for ever where the limit is small.
    fn cover(&self, read_bytes: u64, growth: u64) -> Result<(), Refused> {
        let mut memory = self.0.lock();
        let share_bytes = memory.as_ref().map_or(0, Reservation::limit_bytes) / GUESS_SHARE;
        let bytes = read_bytes.saturating_mul(growth).min(share_bytes).max(read_bytes);
        match memory.as_mut() {
            Some(memory) if memory.bytes() < bytes => {
                let more = (bytes - memory.bytes()).max(STEP_BYTES);
                Ok(memory.grow(more)?)
            }
            _ => Ok(()),
        }
    }
}

/// See the module.
pub(super) struct MeteredBody {
    inner: tonic::body::Body,
    memory: Memory,
    read_bytes: u64,
    growth: u64,
    /// When the next bytes are too late.
    late: Pin<Box<Sleep>>,
}

impl MeteredBody {
    pub(super) fn new(inner: tonic::body::Body, memory: Memory, compressed: bool) -> Self {
        let growth = if compressed { COMPRESSION } else { 1 };
        let late = Box::pin(tokio::time::sleep(FRAME_WAIT));
        Self { inner, memory, read_bytes: 0, growth, late }
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else {
            std::task::ready!(self.late.as_mut().poll(context));
            return Poll::Ready(Some(Err(refused(TOO_SLOW))));
        };
        self.late.as_mut().reset(clock::now() + FRAME_WAIT);
        if let Some(Ok(frame)) = &frame {
            let len = frame.data_ref().map_or(0, Bytes::len);
            self.read_bytes += u64::try_from(len).unwrap_or(u64::MAX);
            if let Err(refusal) = self.memory.cover(self.read_bytes, self.growth) {
                return Poll::Ready(Some(Err(refused(refusal))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
