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

use super::{held::Held, otlp_grpc::refused};
use crate::{
    clock::{self, Instant},
    trace::{Refused, TOO_SLOW},
};

/// Memory taken at a time.
pub(super) const STEP_BYTES: u64 = 64 * 1024;

/// The next bytes of a request must come within this: it has a turn that others wait for.
const FRAME_WAIT: Duration = Duration::from_secs(10);

/// Bytes a second that a request must bring in the long run: a byte every nine seconds would hold a turn for ever.
const RATE_BYTES_MIN: u64 = 16 * 1024;

/// How fast a request must come.
#[derive(Debug)]
pub(super) struct Pace(Instant);

impl Pace {
    /// It begins.
    pub(super) fn new(now: Instant) -> Self {
        Self(now)
    }

    /// When its next bytes are too late.
    pub(super) fn late(&self, now: Instant, read_bytes: u64) -> Instant {
        let in_all = FRAME_WAIT + Duration::from_secs(read_bytes / RATE_BYTES_MIN);
        (now + FRAME_WAIT).min(self.0 + in_all)
    }
}

/// A compressed request is taken to grow this much: OTLP shrinks five to ten times. What it really takes is settled
/// when it is there.
const COMPRESSION: u64 = 10;

/// A guess takes one part in so many of the memory limit at most.
const GUESS_SHARE: u64 = 8;

/// The memory of a request being read; its handler takes it over.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<Option<Held>>>);

impl Memory {
    pub(super) fn new(held: Held) -> Self {
        Self(Arc::new(Mutex::new(Some(held))))
    }

    pub(super) fn take(&self) -> Option<Held> {
        self.0.lock().take()
    }

    /// For what was read, and what it may become; but a guess takes no more than its share, or a large request would be
    /// refused for ever where the limit is small.
    fn cover(&self, read_bytes: u64, growth: u64) -> Result<(), Refused> {
        let mut memory = self.0.lock();
        let share_bytes = memory.as_ref().map_or(0, Held::limit_bytes) / GUESS_SHARE;
        let bytes = read_bytes.saturating_mul(growth).min(share_bytes).max(read_bytes);
        match memory.as_mut() {
            Some(memory) if memory.bytes() < bytes => {
                let more = (bytes - memory.bytes()).max(STEP_BYTES);
                memory.grow(more)
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
    pace: Pace,
    /// When the next bytes are too late.
    late: Pin<Box<Sleep>>,
}

impl MeteredBody {
    pub(super) fn new(inner: tonic::body::Body, memory: Memory, compressed: bool) -> Self {
        let growth = if compressed { COMPRESSION } else { 1 };
        let (now, read_bytes) = (clock::now(), 0);
        let pace = Pace::new(now);
        let late = Box::pin(tokio::time::sleep_until(pace.late(now, read_bytes)));
        Self { inner, memory, read_bytes, growth, pace, late }
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
        if let Some(Ok(frame)) = &frame {
            let len = frame.data_ref().map_or(0, Bytes::len);
            self.read_bytes += u64::try_from(len).unwrap_or(u64::MAX);
            let late = self.pace.late(clock::now(), self.read_bytes);
            self.late.as_mut().reset(late);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_too_slow_and_a_slow_line_is_not() {
        let start = clock::now();
        let pace = Pace::new(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pace.late(start, 0), after(10));
        // A byte each nine seconds.
        assert_eq!(pace.late(after(9), 1), after(10));
        // 64 KiB a second.
        assert_eq!(pace.late(after(100), 100 * 64 * 1024), after(110));
        // A pause after a fast start.
        assert_eq!(pace.late(after(1), 4 * 1024 * 1024), after(11));
    }
}
