//! Queue, batches, retries and accounts of one destination.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    OtlpConfig, RetryConfig, Transport,
    batch::{Batch, Batches},
    debug,
    error::ExportError,
    otlp_grpc::PartialSuccess,
};
use crate::{
    clock,
    ledger::{Account, Destination, DropReason},
    retry::Backoff,
    telemetry::catalogue::{ExporterMetrics, SendOutcome},
    trace::EnrichedTrace,
    watchdog::{BEAT_EVERY, Beat, Watchdog},
};

/// What a full queue does to the next trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It waits, and the pipeline with it.
    Wait,
    /// It is dropped, for this destination.
    Drop,
}

/// Limits of one destination.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    queue_bytes: u64,
    target_bytes: usize,
    batch_bytes_max: usize,
    batch_wait: Duration,
    max_in_flight: usize,
    backoff: Backoff,
    /// Zero: never give up.
    elapsed_max: Duration,
}

impl Limits {
    pub(super) fn of(config: &OtlpConfig) -> Self {
        let RetryConfig { initial_interval, max_interval, max_elapsed_time } =
            config.retry_on_failure;
        Self {
            queue_bytes: config.sending_queue.max_size.get(),
            target_bytes: config.batch.target_size.len(),
            batch_bytes_max: config.batch.max_size.len(),
            batch_wait: config.batch.max_wait.get(),
            max_in_flight: config.max_in_flight,
            backoff: Backoff { initial_interval, max_interval },
            elapsed_max: max_elapsed_time.get(),
        }
    }
}

/// A trace in the queue, and its place in it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) trace: Arc<EnrichedTrace>,
    bytes: f64,
    metrics: Arc<ExporterMetrics>,
    _place: OwnedSemaphorePermit,
}

impl Queued {
    fn new(
        trace: Arc<EnrichedTrace>,
        place: OwnedSemaphorePermit,
        metrics: Arc<ExporterMetrics>,
    ) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        let bytes = trace.bytes() as f64;
        metrics.queue_bytes.increment(bytes);
        Self { trace, bytes, metrics, _place: place }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.metrics.queue_bytes.decrement(self.bytes);
    }
}

/// One destination.
#[derive(Debug)]
pub(super) struct Queue {
    name: String,
    destination: Destination,
    entries: mpsc::UnboundedSender<Queued>,
    places: Arc<Semaphore>,
    places_max: u32,
    overflow: Overflow,
    metrics: Arc<ExporterMetrics>,
    abandon: watch::Sender<bool>,
    worker: JoinHandle<()>,
}

/// Places are counted in KiB: a semaphore has 32 bits for what is taken at once.
const PLACE_BYTES: u64 = 1024;

impl Queue {
    pub(super) fn start(
        name: &str,
        destination: Destination,
        transport: Transport,
        limits: Limits,
        overflow: Overflow,
        metrics: Arc<ExporterMetrics>,
        watchdog: &Arc<Watchdog>,
    ) -> Self {
        // Bounded by the places, in bytes.
        let (entries, receiver) = mpsc::unbounded_channel();
        let places_max = u32::try_from(limits.queue_bytes / PLACE_BYTES).unwrap_or(u32::MAX >> 4);
        let places =
            Arc::new(Semaphore::new(usize::try_from(places_max).unwrap_or(usize::MAX >> 4)));
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        metrics.queue_capacity_bytes.set(limits.queue_bytes as f64);
        let (abandon, abandoned) = watch::channel(false);
        let worker = Worker {
            sender: Arc::new(Sender {
                name: name.to_owned(),
                destination,
                transport,
                backoff: limits.backoff.clone(),
                elapsed_max: limits.elapsed_max,
                abandoned,
                metrics: Arc::clone(&metrics),
            }),
            batches: Batches::new(limits.target_bytes, limits.batch_bytes_max),
            limits,
            sending: JoinSet::new(),
        };
        let worker =
            watchdog.supervise(&format!("exporter {name}"), |beat| worker.run(receiver, beat));
        let worker = tokio::spawn(worker);
        Self {
            name: name.to_owned(),
            destination,
            entries,
            places,
            places_max,
            overflow,
            metrics,
            abandon,
            worker,
        }
    }

    pub(super) async fn push(&self, trace: Arc<EnrichedTrace>) {
        let places = u32::try_from(trace.bytes().div_ceil(PLACE_BYTES)).unwrap_or(u32::MAX);
        // A trace larger than the queue has it for itself.
        let places = places.clamp(1, self.places_max);
        let semaphore = Arc::clone(&self.places);
        let place = match self.overflow {
            Overflow::Wait => semaphore.acquire_many_owned(places).await.ok(),
            Overflow::Drop => semaphore.try_acquire_many_owned(places).ok(),
        };
        if let Some(place) = place {
            // The worker ends after the last sender is gone.
            let _gone = self.entries.send(Queued::new(trace, place, Arc::clone(&self.metrics)));
        } else {
            let spans = trace.app_spans();
            self.metrics.send_failed_spans.add(DropReason::QueueFull as usize, spans);
            trace.lease.settle(self.destination, Account::Dropped(DropReason::QueueFull), spans);
        }
    }

    /// Sends what is queued, and gives up what is left after `within`.
    pub(super) async fn close(mut self, within: Duration) {
        let (closed, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.entries, closed));
        if tokio::time::timeout(within, &mut self.worker).await.is_err() {
            tracing::warn!(exporter = self.name, "not everything could be sent before the end");
            self.abandon.send_replace(true);
            if let Err(error) = (&mut self.worker).await {
                tracing::error!(%error, exporter = self.name, "the exporter ended badly");
            }
        }
    }
}

struct Worker {
    sender: Arc<Sender>,
    batches: Batches,
    limits: Limits,
    sending: JoinSet<()>,
}

impl Worker {
    async fn run(mut self, mut entries: mpsc::UnboundedReceiver<Queued>, beat: Beat) {
        let mut open = true;
        while open || !self.batches.is_empty() || !self.sending.is_empty() {
            beat.beat();
            self.send_due(open);
            let due = self.batches.oldest().map(|since| since + self.limits.batch_wait);
            let has_slot = self.sending.len() < self.limits.max_in_flight;
            tokio::select! {
                Some(ended) = self.sending.join_next() => if let Err(error) = ended {
                    // The traces' leases account for it.
                    tracing::error!(%error, "a request ended badly");
                },
                entry = entries.recv(), if open && !self.batches.has_full() => match entry {
                    Some(entry) => self.batches.add(clock::now(), entry),
                    None => open = false,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() && has_slot => {}
                () = tokio::time::sleep(BEAT_EVERY) => {}
            }
        }
    }

    /// An idle connection sends at once; while requests are under way traces gather.
    fn send_due(&mut self, open: bool) {
        let now = clock::now();
        while self.sending.len() < self.limits.max_in_flight {
            let at_once = self.sending.is_empty() || !open;
            let wait = self.limits.batch_wait;
            let Some(batch) = self.batches.next(|batch| at_once || batch.since + wait <= now)
            else {
                return;
            };
            let sender = Arc::clone(&self.sender);
            self.sending.spawn(async move { sender.send(batch).await });
        }
    }
}

/// Sends batches, again and again, and settles their spans' accounts.
struct Sender {
    name: String,
    destination: Destination,
    transport: Transport,
    backoff: Backoff,
    elapsed_max: Duration,
    abandoned: watch::Receiver<bool>,
    metrics: Arc<ExporterMetrics>,
}

impl Sender {
    async fn send(&self, batch: Batch) {
        self.metrics.in_flight_requests.increment(1.0);
        let mut abandoned = self.abandoned.clone();
        tokio::select! {
            () = self.deliver(&batch) => {}
            _ = abandoned.wait_for(|abandoned| *abandoned) => self.give_up(&batch, DropReason::Shutdown),
        }
        self.metrics.in_flight_requests.decrement(1.0);
    }

    async fn deliver(&self, batch: &Batch) {
        let started = clock::now();
        let mut waits = self.backoff.waits();
        let mut warned = false;
        loop {
            let (after, why) = match self.attempt(batch).await {
                Ok(partial) => return self.settle(batch, &partial),
                Err(ExportError::Permanent(why)) => {
                    let spans = batch.app_spans();
                    tracing::error!(
                        exporter = self.name,
                        why,
                        spans,
                        "a request was refused for good"
                    );
                    self.metrics.requests.add(SendOutcome::Failed as usize, 1);
                    return self.give_up(batch, DropReason::Permanent);
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
                return self.give_up(batch, DropReason::RetriesExhausted);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, batch: &Batch) -> Result<PartialSuccess, ExportError> {
        let started = clock::now();
        #[allow(clippy::cast_precision_loss, reason = "histograms are floats")]
        self.metrics.request_bytes.record(batch.bytes as f64);
        let result = match &self.transport {
            Transport::Otlp(otlp) => otlp.export(&batch.origin, batch.pieces()).await,
            Transport::Debug => debug::print(&batch.pieces()),
        };
        let took = clock::now().saturating_duration_since(started);
        self.metrics.request_duration_seconds.record(took.as_secs_f64());
        result
    }

    /// The destination has the batch, but for what it refused: which spans these are it does not say.
    fn settle(&self, batch: &Batch, partial: &PartialSuccess) {
        self.metrics.requests.add(SendOutcome::Ok as usize, 1);
        let mut rejected = partial.rejected_spans.min(batch.app_spans());
        if partial.rejected_spans > 0 || !partial.message.is_empty() {
            let (rejected, why) = (partial.rejected_spans, &partial.message);
            tracing::warn!(
                exporter = self.name,
                rejected,
                why,
                "the destination took a request in part"
            );
        }
        self.metrics.sent_spans.increment(batch.app_spans() - rejected);
        self.metrics.sent_added_spans.increment(batch.added_spans());
        self.metrics.send_failed_spans.add(DropReason::Rejected as usize, rejected);
        for (queued, piece) in &batch.items {
            let refused = rejected.min(piece.app_spans);
            rejected -= refused;
            let lease = &queued.trace.lease;
            if refused > 0 {
                let account = Account::Dropped(DropReason::Rejected);
                lease.settle(self.destination, account, refused);
            }
            if piece.app_spans > refused {
                lease.settle(self.destination, Account::Delivered, piece.app_spans - refused);
            }
        }
    }

    fn give_up(&self, batch: &Batch, reason: DropReason) {
        self.metrics.send_failed_spans.add(reason as usize, batch.app_spans());
        for (queued, piece) in &batch.items {
            let lease = &queued.trace.lease;
            if piece.app_spans > 0 {
                lease.settle(self.destination, Account::Dropped(reason), piece.app_spans);
            }
        }
    }
}
