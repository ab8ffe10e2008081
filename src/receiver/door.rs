//! What every protocol does with a request's bytes: scan, reserve, hand over, wait until safe.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;

use super::OtlpConfig;
use crate::{
    auth::AuthConfig,
    memory::{Budget, Reservation, Stage},
    telemetry::{
        Metrics,
        catalogue::{RequestOutcome, SignalMetrics, Transport, TransportMetrics},
    },
    trace::{
        self, Arrival, CLOSING, Intake, Origin, Origins, Refusal, Refused, Rejected, Signal,
        SplitError, TraceId, TraceKey, VALUE_BYTES_MAX,
    },
    wire::{Census, PartialSuccess, json::JsonError, status::RpcStatus},
};

/// The way in, shared by all protocols.
pub struct Door {
    intake: Arc<dyn Intake>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    auth: AuthConfig,
    origins: Origins,
    include_metadata: Vec<HeaderName>,
    request_bytes_max: usize,
    /// Requests that may be read at a time: those that wait hold no memory but their sender's, and their window.
    reading: Arc<Semaphore>,
    closing: AtomicBool,
}

/// Requests being read take an eighth of the memory limit, at this size each; a larger one takes more, from the budget.
const READING_BYTES: u64 = 256 * 1024;
const READING_SHARE: u64 = 8;
const READERS_MIN: u64 = 16;
/// A request that can't be read for so long is refused.
pub(super) const READING_WAIT: Duration = Duration::from_secs(2);

/// A request's turn to be read; ends when its spans are safe.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "ends on drop")] OwnedSemaphorePermit);

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    /// Not now.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// Never: not an `ExportTraceServiceRequest`.
    #[error("the request is no valid OTLP protobuf: {0}")]
    Malformed(#[from] SplitError),
    /// Never: not an `ExportTraceServiceRequest` in JSON.
    #[error("the request is no valid OTLP/JSON: {0}")]
    Json(#[from] JsonError),
    /// Never as it is: it ended early, or is not what Content-Encoding says.
    #[error("the request's body can't be read: {0}")]
    Body(String),
    /// Never: larger than allowed, or than memory ever allows.
    #[error("the request takes more than {0} bytes, send smaller batches")]
    TooLarge(u64),
    /// Never: a header that tells tenants apart can't be used.
    #[error("the header {0} is longer than 256 bytes or no text")]
    Header(HeaderName),
}

impl DoorError {
    /// How the request is counted.
    pub(super) fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Refused(_) => RequestOutcome::Refused,
            Self::Malformed(_) | Self::Json(_) | Self::Body(_) | Self::Header(_) => {
                RequestOutcome::Malformed
            }
            Self::TooLarge(_) => RequestOutcome::TooLarge,
        }
    }

    /// What the sender is told.
    pub(super) fn status(&self) -> RpcStatus {
        let message = self.to_string();
        match self {
            Self::Refused(refused) => refusal(*refused),
            Self::Malformed(_) | Self::Json(_) | Self::Body(_) | Self::Header(_) => {
                RpcStatus::bad_request(&message)
            }
            Self::TooLarge(_) => RpcStatus::new(Code::ResourceExhausted, &message),
        }
    }
}

/// The status that asks to come again later.
pub(super) fn refusal(refused: Refused) -> RpcStatus {
    RpcStatus::new(Code::Unavailable, &refused.to_string()).retry_after(refused.retry_after)
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("request_bytes_max", &self.request_bytes_max)
            .finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(
        config: &OtlpConfig,
        intake: Arc<dyn Intake>,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let names = config.include_metadata.iter();
        // What is never taken is not to come again and again.
        let limit = usize::try_from(budget.request_bytes_max()).unwrap_or(usize::MAX);
        let readers = budget.limit_bytes() / READING_SHARE / READING_BYTES;
        let readers = usize::try_from(readers.max(READERS_MIN)).unwrap_or(usize::MAX >> 4);
        Self {
            reading: Arc::new(Semaphore::new(readers)),
            intake,
            budget,
            metrics,
            auth: config.auth.clone(),
            origins: Origins::default(),
            include_metadata: names.filter_map(|name| name.to_lowercase().parse().ok()).collect(),
            request_bytes_max: config.max_request_size.len().min(limit),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn request_bytes_max(&self) -> usize {
        self.request_bytes_max
    }

    pub(super) fn metrics(&self, transport: Transport) -> &TransportMetrics {
        self.metrics.receiver.of(transport)
    }

    pub(super) fn signal_metrics(&self, signal: Signal) -> &SignalMetrics {
        self.metrics.receiver.signal(signal)
    }

    /// Its sender may come in. To be asked before anything of a body is read.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        self.auth.admits(headers)
    }

    /// Waits until a request can be read, with memory for its beginning.
    pub(super) async fn turn(&self, bytes: u64) -> Result<(Turn, Reservation), Refused> {
        self.refuses()?;
        let reading = Arc::clone(&self.reading).acquire_owned();
        // The semaphore is never closed.
        let Ok(Ok(reading)) = tokio::time::timeout(READING_WAIT, reading).await else {
            return Err(Refusal::Crowded.after(self.budget.full().retry_after));
        };
        Ok((Turn(reading), self.reserve(bytes)?))
    }

    /// Memory for a request that is being read.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reservation, Refused> {
        self.refuses()?;
        Ok(self.budget.reserve(Stage::Receiving, bytes)?)
    }

    fn refuses(&self) -> Result<(), Refused> {
        if self.is_closing() {
            return Err(CLOSING);
        }
        self.intake.refuses().map_or(Ok(()), Err)
    }

    /// The tenant, as far as `include_metadata` tells.
    pub(super) fn origin(&self, headers: &HeaderMap) -> Result<Origin, DoorError> {
        let mut values = Vec::new();
        for name in &self.include_metadata {
            let parts: Result<Vec<&str>, _> =
                headers.get_all(name).iter().map(http::HeaderValue::to_str).collect();
            let value = parts.map_err(|_| DoorError::Header(name.clone()))?.join(",");
            // A cut value could be another tenant's.
            if value.len() > VALUE_BYTES_MAX {
                return Err(DoorError::Header(name.clone()));
            }
            if headers.contains_key(name) {
                values.push((name.as_str().to_owned(), value));
            }
        }
        Ok(self.origins.intern(values))
    }

    /// Takes a whole request; returns when its spans are safe and the next request may come, with what is refused of it.
    pub(super) async fn take(
        &self,
        transport: Transport,
        origin: &Origin,
        request: Bytes,
        (turn, memory): (Turn, Reservation),
    ) -> Result<PartialSuccess, DoorError> {
        let partial = self.keep(transport, origin, request, memory).await?;
        drop(turn);
        let pace = self.budget.pace();
        if !pace.is_zero() {
            self.metrics(transport).paced_requests.increment(1);
            tokio::time::sleep(pace).await;
        }
        Ok(partial)
    }

    async fn keep(
        &self,
        transport: Transport,
        origin: &Origin,
        request: Bytes,
        mut memory: Reservation,
    ) -> Result<PartialSuccess, DoorError> {
        let metrics = self.metrics(transport);
        let refused = |refused: Refused, spans| {
            metrics.refused_spans.add(refused.why as usize, spans);
            DoorError::Refused(refused)
        };
        let census = Census::of(&request)?;
        let index_bytes = trace::index_bytes(census);
        self.must_fit(memory.bytes().saturating_add(index_bytes))?;
        let announced = u64::try_from(census.spans).unwrap_or(u64::MAX);
        memory.grow(index_bytes).map_err(|full| refused(full.into(), announced))?;
        let scanned = trace::scan_counted(request, census)?;
        let (spans, bytes) = (scanned.spans(), scanned.fragment_bytes());
        self.must_fit(bytes)?;
        if let Err(full) = self.budget.takes_new_traces()
            && !scanned.trace_ids().any(|id| self.is_open(origin, id))
        {
            return Err(refused(Refusal::NewTraces.after(full.retry_after), spans));
        }
        if bytes > memory.bytes() {
            let more = bytes - memory.bytes();
            memory.grow(more).map_err(|full| refused(full.into(), spans))?;
        }
        let split = scanned.fragments();
        memory.resize(split.fragments.iter().map(|(_, fragment)| fragment.held_bytes()).sum());
        if !split.fragments.is_empty() {
            let (receipt, safe) = trace::receipt();
            let (origin, fragments) = (origin.clone(), split.fragments);
            self.intake.take(Arrival { origin, fragments, memory, receipt });
            safe.wait().await.map_err(|why| refused(why, spans))?;
        }
        metrics.accepted_spans.increment(spans);
        metrics.rejected_spans.add(0, split.rejected.trace_id);
        metrics.rejected_spans.add(1, split.rejected.span_id);
        metrics.rejected_spans.add(2, split.rejected.other_id);
        let outcome = match split.rejected.spans() {
            0 => RequestOutcome::Accepted,
            _ => RequestOutcome::Partial,
        };
        metrics.requests.add(outcome as usize, 1);
        Ok(partial(split.rejected))
    }
}

impl Door {
    /// What never fits is refused for good.
    fn must_fit(&self, bytes: u64) -> Result<(), DoorError> {
        let limit = self.budget.limit_bytes();
        if bytes > limit { Err(DoorError::TooLarge(limit)) } else { Ok(()) }
    }

    fn is_open(&self, origin: &Origin, id: TraceId) -> bool {
        self.intake.is_open(&TraceKey { origin: origin.clone(), id })
    }
}

fn partial(rejected: Rejected) -> PartialSuccess {
    if rejected.spans() == 0 {
        return PartialSuccess::default();
    }
    let message = format!(
        "{} spans have a trace id and {} a span id that is zero or of a wrong length, {} a parent or a link with an id of a wrong \
         length",
        rejected.trace_id, rejected.span_id, rejected.other_id
    );
    PartialSuccess { rejected_spans: rejected.spans(), message }
}
