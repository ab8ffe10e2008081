//! The way through for metrics and logs: unbuffered, as they came, to one destination. Whatever becomes of them, traces
//! have their turns and most of the memory for themselves.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;

use super::{
    door::{Door, DoorError, READING_WAIT, refusal},
    held::Held,
    reading::STEP_BYTES,
};
use crate::{
    memory::{Budget, Stage},
    telemetry::catalogue::{PassOutcome, SignalMetrics},
    trace::{CLOSING, Parcel, Relay, Signal},
    wire::{Encoding, status::RpcStatus},
};

/// Requests on their way at a time, being read or waiting for the destination.
const TURNS: usize = 32;
/// Of the memory limit, so much may be on its way.
const SHARE: u64 = 8;

const NOT_FORWARDED: &str = "only traces are taken here; name an exporter in receivers.otlp.forward_other_signals to pass metrics and logs on, or let senders set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT in place of OTEL_EXPORTER_OTLP_ENDPOINT";
const CROWDED: &str = "too many metrics and logs are on their way, try again later";

/// See the module.
#[derive(Debug)]
pub(super) struct Passage {
    relay: Option<Arc<dyn Relay>>,
    door: Arc<Door>,
    turns: Arc<Semaphore>,
    /// Of the budget; what is taken from it is taken there, too.
    share: Arc<Budget>,
}

/// A request's turn; ends when it is answered.
#[derive(Debug)]
struct PassageTurn(#[expect(dead_code, reason = "ends on drop")] OwnedSemaphorePermit);

impl Passage {
    pub(super) fn new(relay: Option<Arc<dyn Relay>>, door: Arc<Door>) -> Self {
        let share = Budget::new(door.budget().limit_bytes() / SHARE);
        Self { relay, door, turns: Arc::new(Semaphore::new(TURNS)), share }
    }

    pub(super) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// There is a destination.
    pub(super) fn is_open(&self) -> bool {
        self.relay.is_some()
    }

    /// Largest request: one larger than the share would never be taken.
    fn request_bytes_max(&self) -> usize {
        let share = usize::try_from(self.share.limit_bytes()).unwrap_or(usize::MAX);
        self.door.request_bytes_max().min(share)
    }

    /// The destination can be given what is written in this.
    pub(super) fn takes(&self, encoding: Encoding) -> bool {
        self.relay.as_ref().is_none_or(|relay| relay.takes(encoding))
    }

    /// Waits until a request can be read, with memory for its beginning.
    async fn turn(&self, bytes: u64) -> Result<(PassageTurn, Held), RpcStatus> {
        if self.relay.is_none() {
            return Err(RpcStatus::new(Code::Unimplemented, NOT_FORWARDED));
        }
        if self.door.is_closing() {
            return Err(refusal(CLOSING));
        }
        let turn = Arc::clone(&self.turns).acquire_owned();
        // The semaphore is never closed.
        let Ok(Ok(turn)) = tokio::time::timeout(READING_WAIT, turn).await else {
            return Err(crowded());
        };
        let reserve = |from: &Arc<Budget>| from.reserve(Stage::Receiving, bytes);
        let share = reserve(&self.share).map_err(|_| crowded())?;
        let memory = reserve(self.door.budget()).map_err(|full| refusal(full.into()))?;
        Ok((PassageTurn(turn), Held::within(share, memory)))
    }

    /// Has a request read, of so many bytes at most, and passes it on; returns the destination's answer, and in `bytes` the
    /// request's length.
    pub(super) async fn relay<F>(
        &self,
        (signal, encoding): (Signal, Encoding),
        headers: &HeaderMap,
        bytes: &mut usize,
        read: impl FnOnce(usize, Held) -> F,
    ) -> Result<Bytes, RpcStatus>
    where
        F: Future<Output = Result<(Bytes, Held), DoorError>>,
    {
        let (_turn, held) = self.turn(STEP_BYTES).await?;
        let told = |error: DoorError| error.status();
        let origin = self.door.origin(headers).map_err(told)?;
        let (body, held) = read(self.request_bytes_max(), held).await.map_err(told)?;
        *bytes = body.len();
        self.pass(Parcel { signal, encoding, origin, body }, held).await
    }

    /// Passes a whole request on.
    async fn pass(&self, parcel: Parcel, mut held: Held) -> Result<Bytes, RpcStatus> {
        let Some(relay) = &self.relay else {
            return Err(RpcStatus::new(Code::Unimplemented, NOT_FORWARDED));
        };
        held.resize(u64::try_from(parcel.body.len()).unwrap_or(u64::MAX));
        relay.relay(parcel).await
    }

    /// Counts how a request ended.
    pub(super) fn count(&self, signal: Signal, bytes: usize, end: Result<(), &RpcStatus>) {
        let outcome = match end {
            Ok(()) => PassOutcome::Passed,
            Err(_) if self.relay.is_none() => PassOutcome::NotForwarded,
            Err(status) if status.is_retryable() => PassOutcome::Refused,
            Err(_) => PassOutcome::Failed,
        };
        let SignalMetrics { requests, bytes: all_bytes } = self.door.signal_metrics(signal);
        requests.add(outcome as usize, 1);
        all_bytes.add(outcome as usize, u64::try_from(bytes).unwrap_or(0));
    }
}

fn crowded() -> RpcStatus {
    RpcStatus::new(Code::Unavailable, CROWDED).retry_after(READING_WAIT)
}
