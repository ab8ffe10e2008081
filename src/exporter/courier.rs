//! Carries requests to one destination: again and again if need be, in halves when they are too large.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    ExporterConfig, StartError, batch::Batch, debug, error::ExportError, otlp_grpc::OtlpGrpc,
    otlp_http::OtlpHttp, queue::Limits,
};
use crate::{
    clock::{self, Instant},
    complaint::Complaint,
    ledger::DropReason,
    retry::Backoff,
    telemetry::catalogue::{ExporterMetrics, SendOutcome},
    tls::Reloads,
    trace::Relay,
    wire::PartialSuccess,
};

/// What carries a request.
#[derive(Debug)]
pub(super) enum Transport {
    /// OTLP/gRPC.
    Grpc(Arc<OtlpGrpc>),
    /// OTLP/HTTP.
    Http(Arc<OtlpHttp>),
    /// Standard output.
    Debug,
}

impl Transport {
    pub(super) fn new(
        name: &str,
        exporter: &ExporterConfig,
        reloads: &Reloads,
    ) -> Result<Self, StartError> {
        Ok(match exporter {
            ExporterConfig::Otlp(otlp) => Self::Grpc(Arc::new(OtlpGrpc::new(name, otlp, reloads)?)),
            ExporterConfig::OtlpHttp(otlp) => {
                Self::Http(Arc::new(OtlpHttp::new(name, otlp, reloads)?))
            }
            ExporterConfig::Debug(_) => Self::Debug,
        })
    }
}

impl Transport {
    /// The same destination, for signals that pass through.
    pub(super) fn relay(&self) -> Option<Arc<dyn Relay>> {
        match self {
            Self::Grpc(otlp) => Some(Arc::clone(otlp) as Arc<dyn Relay>),
            Self::Http(otlp) => Some(Arc::clone(otlp) as Arc<dyn Relay>),
            Self::Debug => None,
        }
    }
}

/// See above.
#[derive(Debug)]
pub(super) struct Courier {
    name: String,
    transport: Transport,
    backoff: Backoff,
    /// Zero: never give up.
    elapsed_max: Duration,
    refused_size: Mutex<RefusedSize>,
    failing: Failing,
    refusals: Complaint,
    metrics: Arc<ExporterMetrics>,
}

/// Whether the last request to a destination found it unable to take any.
#[derive(Debug, Clone, Default)]
pub(super) struct Failing(Arc<AtomicBool>);

impl Failing {
    fn set(&self, fails: bool) {
        self.0.store(fails, Relaxed);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What became of one request.
enum Carried {
    Taken(PartialSuccess),
    TooLarge,
    GivenUp(DropReason),
}

impl Courier {
    pub(super) fn new(
        name: &str,
        transport: Transport,
        limits: &Limits,
        metrics: Arc<ExporterMetrics>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            transport,
            backoff: limits.backoff.clone(),
            elapsed_max: limits.elapsed_max,
            refused_size: Mutex::default(),
            failing: Failing::default(),
            refusals: Complaint::default(),
            metrics,
        }
    }

    /// To be seen by others.
    pub(super) fn failing(&self) -> Failing {
        self.failing.clone()
    }

    /// Delivers these batches, the last one first, and says of every part of them how it ended. What is left in
    /// `rest` when this is dropped has not ended.
    pub(super) async fn deliver<O: Clone + PartialEq>(
        &self,
        rest: &mut Vec<Batch<O>>,
        mut ended: impl FnMut(Batch<O>, Result<PartialSuccess, DropReason>),
    ) {
        while let Some(batch) = rest.last() {
            let carried = self.carry(batch).await;
            let Some(batch) = rest.pop() else { return };
            match carried {
                Carried::Taken(partial) => ended(batch, Ok(partial)),
                Carried::GivenUp(reason) => ended(batch, Err(reason)),
                Carried::TooLarge => match batch.halves() {
                    Ok((first, second)) => {
                        self.metrics.split_requests.increment(1);
                        rest.extend([second, first]);
                    }
                    Err(batch) => ended(batch, Err(DropReason::Permanent)),
                },
            }
        }
    }

    async fn carry<O>(&self, batch: &Batch<O>) -> Carried {
        if batch.is_divisible() && self.refused_size.lock().refuses(clock::now(), batch.bytes) {
            return Carried::TooLarge;
        }
        let started = clock::now();
        let mut waits = self.backoff.waits();
        let mut warned = false;
        loop {
            let attempt = self.attempt(batch).await;
            self.failing.set(matches!(attempt, Err(ExportError::Retry { .. })));
            let (after, why) = match attempt {
                Ok(partial) => {
                    self.metrics.requests.add(SendOutcome::Ok as usize, 1);
                    return Carried::Taken(partial);
                }
                Err(ExportError::TooLarge(why)) => return self.too_large(batch, &why),
                Err(ExportError::Permanent(why)) => {
                    self.refused(batch, &why);
                    return Carried::GivenUp(DropReason::Permanent);
                }
                Err(ExportError::Retry { after, why }) => (after, why),
            };
            self.metrics.requests.add(SendOutcome::Retry as usize, 1);
            if !warned {
                tracing::warn!(exporter = self.name, why, "cannot deliver now, trying again");
                warned = true;
            }
            let wait = waits.next_wait().max(after.unwrap_or_default());
            let elapsed = clock::now().saturating_duration_since(started) + wait;
            if !self.elapsed_max.is_zero() && elapsed > self.elapsed_max {
                tracing::error!(exporter = self.name, why, "gave up after max_elapsed_time");
                return Carried::GivenUp(DropReason::RetriesExhausted);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt<O>(&self, batch: &Batch<O>) -> Result<PartialSuccess, ExportError> {
        let started = clock::now();
        #[allow(clippy::cast_precision_loss, reason = "histograms are floats")]
        self.metrics.request_bytes.record(batch.bytes as f64);
        let result = match &self.transport {
            Transport::Grpc(otlp) => otlp.export(&batch.origin, batch.pieces()).await,
            Transport::Http(otlp) => otlp.export(&batch.origin, batch.pieces()).await,
            Transport::Debug => debug::print(batch.pieces()).await,
        };
        let took = clock::now().saturating_duration_since(started);
        self.metrics.request_duration_seconds.record(took.as_secs_f64());
        result
    }

    fn too_large<O>(&self, batch: &Batch<O>, why: &str) -> Carried {
        if !batch.is_divisible() {
            self.refused(batch, why);
            return Carried::GivenUp(DropReason::Permanent);
        }
        self.metrics.requests.add(SendOutcome::TooLarge as usize, 1);
        if self.refused_size.lock().note(clock::now(), batch.bytes) {
            let bytes = batch.bytes;
            tracing::warn!(
                exporter = self.name,
                why,
                bytes,
                "requests are larger than the destination takes; set batch.max_size below its limit"
            );
        }
        Carried::TooLarge
    }

    fn refused<O>(&self, batch: &Batch<O>, why: &str) {
        if let Some(unsaid) = self.refusals.due(clock::now()) {
            let (exporter, spans) = (&self.name, batch.app_spans());
            tracing::error!(exporter, why, spans, unsaid, "a request was refused for good");
        }
        self.metrics.requests.add(SendOutcome::Failed as usize, 1);
    }
}

/// The smallest request that was lately too large, so that not every one is sent in vain.
#[derive(Debug, Default)]
struct RefusedSize(Option<(usize, Instant)>);

/// Limits are raised, and the answer may have been a passing one: then the destination is asked again.
const REFUSED_SIZE_AGE_MAX: Duration = Duration::from_mins(10);

impl RefusedSize {
    fn refuses(&mut self, now: Instant, bytes: usize) -> bool {
        if self.0.is_some_and(|(_, since)| now.duration_since(since) >= REFUSED_SIZE_AGE_MAX) {
            self.0 = None;
        }
        self.0.is_some_and(|(refused, _)| bytes >= refused)
    }

    /// Whether that was news altogether.
    fn note(&mut self, now: Instant, bytes: usize) -> bool {
        match &mut self.0 {
            Some((refused, _)) => {
                *refused = bytes.min(*refused);
                false
            }
            none => {
                *none = Some((bytes, now));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_size_is_remembered_for_a_while() {
        let now = clock::now();
        let mut size = RefusedSize::default();
        assert!(!size.refuses(now, usize::MAX));
        assert!(size.note(now, 1000));
        assert!(!size.note(now, 500));
        assert!(!size.note(now, 700));
        assert!(size.refuses(now, 500) && !size.refuses(now, 499));
        assert!(!size.refuses(now + REFUSED_SIZE_AGE_MAX, 500));
    }
}
