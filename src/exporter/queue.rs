//! Queue, batches, retries and accounts of one destination.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    ExporterConfig, OtlpConfig, Profile, RetryConfig,
    accounts::Accounts,
    batch::{Batch, Batches},
    courier::{Courier, Failing, Transport},
    error::in_a_line,
    missed::Missed,
    otlp::Shared,
    outage::{Outage, Overflow},
    profile::Fitted,
    queued::{Queued, Room},
};
use crate::{
    clock::{self, Instant},
    complaint::Complaint,
    config::MemoryShare,
    ledger::{Account, DropReason},
    retry::Backoff,
    trace::{EnrichedTrace, Piece},
    watchdog::{BEAT_EVERY, Beat, Watchdog},
    wire::PartialSuccess,
};

/// Limits of one destination.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    queue: MemoryShare,
    pub(super) target_bytes: usize,
    pub(super) batch_bytes_max: usize,
    batch_wait: Duration,
    max_in_flight: usize,
    profile: Profile,
    pub(super) backoff: Backoff,
    /// Zero: never give up.
    pub(super) elapsed_max: Duration,
}

impl Limits {
    pub(super) fn of(exporter: &ExporterConfig) -> Self {
        match exporter {
            ExporterConfig::Otlp(otlp) => Self::of_otlp(&otlp.shared()),
            ExporterConfig::OtlpHttp(otlp) => Self::of_otlp(&otlp.shared()),
            ExporterConfig::Debug(_) => {
                let one_at_a_time = OtlpConfig { max_in_flight: 1, ..OtlpConfig::default() };
                Self::of_otlp(&one_at_a_time.shared())
            }
        }
    }

    fn of_otlp(config: &Shared<'_>) -> Self {
        let RetryConfig { initial_interval, max_interval, max_elapsed_time } =
            *config.retry_on_failure;
        Self {
            queue: config.sending_queue.max_size,
            target_bytes: config.batch.target_size.len(),
            batch_bytes_max: config.batch.max_size.len(),
            batch_wait: config.batch.max_wait.get(),
            max_in_flight: config.max_in_flight,
            profile: config.profile,
            backoff: Backoff { initial_interval, max_interval },
            elapsed_max: max_elapsed_time.get(),
        }
    }

    /// Bytes that may wait and be under way: a request at least, and at most half of the memory, which would be full before a
    /// larger queue is.
    fn queue_bytes(&self, memory_bytes: u64) -> u64 {
        let request = u64::try_from(self.batch_bytes_max).unwrap_or(u64::MAX);
        self.queue.of(memory_bytes).min(memory_bytes / 2).max(request)
    }
}

/// One destination.
#[derive(Debug)]
pub(super) struct Queue {
    entries: mpsc::UnboundedSender<Queued>,
    places: Places,
    missed: Arc<Missed>,
    outage: Arc<Outage>,
    failing: Failing,
    abandon: watch::Sender<bool>,
    worker: JoinHandle<()>,
}

/// Room in the queue, in KiB: a semaphore has 32 bits for what is taken at once.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    max: u32,
}

const PLACE_BYTES: u64 = 1024;

impl Places {
    fn new(queue_bytes: u64) -> Self {
        let max = u32::try_from(queue_bytes / PLACE_BYTES).unwrap_or(u32::MAX >> 4);
        let free = Semaphore::new(usize::try_from(max).unwrap_or(usize::MAX >> 4));
        Self { free: Arc::new(free), max }
    }

    /// A trace larger than half of the queue takes half of it. Half is free again and again where there is steady traffic;
    /// all of it may never be.
    fn needed(&self, trace_bytes: u64) -> u32 {
        let places = u32::try_from(trace_bytes.div_ceil(PLACE_BYTES)).unwrap_or(u32::MAX);
        places.min(self.max / 2).max(1)
    }

    fn take_now(&self, trace: &EnrichedTrace) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.needed(trace.bytes())).ok()
    }

    /// Waits for room. The semaphore is never closed.
    async fn take(&self, trace: &EnrichedTrace) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.needed(trace.bytes())).await.ok()
    }

    pub(super) fn taken_bytes(&self) -> u64 {
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        u64::from(self.max.saturating_sub(free)) * PLACE_BYTES
    }

    fn are_half_free(&self) -> bool {
        self.free.available_permits() > usize::try_from(self.max).unwrap_or(usize::MAX) / 2
    }
}

impl Queue {
    pub(super) fn start(
        transport: Transport,
        limits: Limits,
        outage: Arc<Outage>,
        memory_bytes: u64,
        watchdog: &Arc<Watchdog>,
    ) -> Self {
        // Bounded by the places, in bytes.
        let (entries, receiver) = mpsc::unbounded_channel();
        let queue_bytes = limits.queue_bytes(memory_bytes);
        let places = Places::new(queue_bytes);
        let missed = Arc::new(Missed::default());
        let Accounts { name, metrics, .. } = &*outage.accounts;
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        metrics.queue_capacity_bytes.set(queue_bytes as f64);
        let (abandon, abandoned) = watch::channel(false);
        let courier = Courier::new(name, transport, &limits, Arc::clone(metrics));
        let failing = courier.failing();
        let partials = Complaint::default();
        let sender = Sender { courier, outage: Arc::clone(&outage), partials, abandoned };
        let worker = Worker {
            sender: Arc::new(sender),
            batches: Batches::new(limits.target_bytes, limits.batch_bytes_max, limits.profile),
            limits,
            sending: JoinSet::new(),
            places: places.clone(),
            missed: Arc::clone(&missed),
        };
        let task = format!("exporter {}", outage.accounts.name);
        let worker = watchdog.supervise(&task, |beat| worker.run(receiver, beat));
        let worker = tokio::spawn(worker);
        Self { entries, places, missed, outage, failing, abandon, worker }
    }

    /// Takes a trace, or does with it what is to be done while there is no room. False: the trace is not taken, and
    /// waits for its return from the journal.
    pub(super) async fn push(&self, trace: &Arc<EnrichedTrace>) -> bool {
        if let Some(place) = self.places.take_now(trace) {
            self.enqueue(trace, place);
            return true;
        }
        match self.outage.overflow(trace) {
            Overflow::Wait => {
                if let Some(place) = self.places.take(trace).await {
                    self.enqueue(trace, place);
                }
            }
            Overflow::Park => return false,
            Overflow::DeadLetter => return self.outage.dead_letter(trace).await,
            Overflow::Drop => self.outage.drop_trace(trace),
        }
        true
    }

    /// The trace was not taken, and another destination holds on to it.
    pub(super) fn missed(&self, trace: &Arc<EnrichedTrace>) {
        self.missed.remember(trace);
    }

    fn enqueue(&self, trace: &Arc<EnrichedTrace>, place: OwnedSemaphorePermit) {
        let queued = Queued::new(Arc::clone(trace), place, &self.outage.accounts);
        // The worker ends after the last sender is gone.
        let _gone = self.entries.send(queued);
    }

    /// What says how far the destination is behind.
    pub(super) fn behind(&self) -> (Places, Failing) {
        (self.places.clone(), self.failing.clone())
    }

    /// Less than half of it is taken, or what finds no room is not held.
    pub(super) fn is_ready(&self) -> bool {
        self.places.are_half_free() || self.outage.takes_all()
    }

    /// Sends what is queued, and leaves what is not sent after `within`.
    pub(super) async fn close(mut self, within: Duration) {
        let (closed, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.entries, closed));
        let exporter = &self.outage.accounts.name;
        if tokio::time::timeout(within, &mut self.worker).await.is_err() {
            tracing::warn!(exporter, "not everything could be sent before the end");
            self.abandon.send_replace(true);
            if let Err(error) = (&mut self.worker).await {
                tracing::error!(%error, exporter, "the exporter ended badly");
            }
        }
    }
}

/// Traces taken up in one round: timers cost more than a trace.
const TRACES_AT_ONCE: usize = 64;

struct Worker {
    sender: Arc<Sender>,
    batches: Batches,
    limits: Limits,
    sending: JoinSet<()>,
    places: Places,
    missed: Arc<Missed>,
}

impl Worker {
    async fn run(mut self, mut entries: mpsc::UnboundedReceiver<Queued>, beat: Beat) {
        let mut open = true;
        let mut arrived = Vec::with_capacity(TRACES_AT_ONCE);
        while open || !self.batches.is_empty() || !self.sending.is_empty() {
            beat.beat();
            self.send_due(open);
            let due = self.batches.oldest().map(|since| since + self.limits.batch_wait);
            let has_slot = self.sending.len() < self.limits.max_in_flight;
            tokio::select! {
                Some(ended) = self.sending.join_next() => {
                    if let Err(error) = ended {
                        // The traces' leases account for it.
                        tracing::error!(%error, "a request ended badly");
                    }
                    self.take_missed(open);
                }
                () = self.missed.news(), if open => self.take_missed(open),
                count = entries.recv_many(&mut arrived, TRACES_AT_ONCE), if open && !self.batches.has_full() => {
                    open = count > 0;
                    let now = clock::now();
                    arrived.drain(..).for_each(|entry| self.add(now, entry));
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(clock::now)), if due.is_some() && has_slot => {}
                () = tokio::time::sleep(BEAT_EVERY) => {}
            }
        }
    }

    fn add(&mut self, now: Instant, entry: Queued) {
        let fitted = self.batches.add(now, entry);
        self.sender.count(fitted);
    }

    /// There may be room for traces that found none. At the end they are left to the journal.
    fn take_missed(&mut self, open: bool) {
        while open && let Some(trace) = self.missed.next() {
            let Some(place) = self.places.take_now(&trace) else {
                return self.missed.put_back(&trace);
            };
            let queued = Queued::new(trace, place, &self.sender.outage.accounts);
            self.add(clock::now(), queued);
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

/// Sends batches and settles their spans' accounts.
struct Sender {
    courier: Courier,
    outage: Arc<Outage>,
    partials: Complaint,
    abandoned: watch::Receiver<bool>,
}

impl Sender {
    async fn send(&self, batch: Batch<Arc<Queued>>) {
        let metrics = &self.outage.accounts.metrics;
        metrics.in_flight_requests.increment(1.0);
        let mut abandoned = self.abandoned.clone();
        let mut rest = vec![batch];
        let ended = |batch, end| self.settle(batch, end);
        tokio::select! {
            () = self.courier.deliver(&mut rest, ended) => {}
            _ = abandoned.wait_for(|abandoned| *abandoned) => {}
        }
        for (queued, piece) in rest.iter().flat_map(|batch| &batch.items) {
            queued.share.leave(piece, Account::Dropped(DropReason::Shutdown));
        }
        metrics.in_flight_requests.decrement(1.0);
    }

    fn settle(&self, batch: Batch<Arc<Queued>>, end: Result<PartialSuccess, DropReason>) {
        match end {
            Ok(partial) => self.delivered(batch, &partial),
            Err(reason) => self.outage.give_up(batch, reason),
        }
    }

    /// The destination has the batch, but for what it refused: which spans these are it does not say.
    fn delivered(&self, batch: Batch<Arc<Queued>>, partial: &PartialSuccess) {
        let accounts = &self.outage.accounts;
        if partial.rejected_spans > 0 || !partial.message.is_empty() {
            self.complain(partial);
        }
        let mut rejected = partial.rejected_spans;
        let ended = batch.items.into_iter().filter_map(|(queued, piece)| {
            let refused = rejected.min(piece.app_spans);
            rejected -= refused;
            let taken = Piece { app_spans: piece.app_spans - refused, ..piece };
            queued.share.end_spans(Account::Dropped(DropReason::Rejected), refused);
            queued.share.end(&taken, Account::Delivered);
            Queued::into_rest(queued)
        });
        let (rooms, shares): (Vec<Room>, Vec<_>) = ended.unzip();
        accounts.settle_all(shares.into_iter().flatten().collect());
        // Given back at once.
        drop(rooms.into_iter().reduce(Room::join));
    }

    fn complain(&self, partial: &PartialSuccess) {
        let Some(unsaid) = self.partials.due(clock::now()) else { return };
        let (exporter, rejected) = (&self.outage.accounts.name, partial.rejected_spans);
        let why = in_a_line(&partial.message);
        tracing::warn!(exporter, rejected, why, unsaid, "the destination took a request in part");
    }

    fn count(&self, fitted: Fitted) {
        let metrics = &self.outage.accounts.metrics;
        metrics.trimmed_spans.increment(fitted.trimmed_spans);
        metrics.cut_attributes.increment(fitted.cut_attributes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::ByteSize, exporter::DebugConfig};

    #[test]
    fn a_queue_is_a_share_and_has_room_for_a_request() {
        const MIB: u64 = 1024 * 1024;
        let debug = ExporterConfig::Debug(DebugConfig::default());
        let limits = |queue| Limits { queue, ..Limits::of(&debug) };
        let share = limits(MemoryShare::Percent(12));
        assert_eq!(share.queue_bytes(1000 * MIB), 120 * MIB);
        assert_eq!(share.queue_bytes(10 * MIB), 4 * MIB, "batch.max_size");
        let bytes = limits(MemoryShare::Bytes(ByteSize::from_mib(64)));
        assert_eq!(bytes.queue_bytes(1000 * MIB), 64 * MIB);
        assert_eq!(bytes.queue_bytes(100 * MIB), 50 * MIB, "memory would be full before it");
    }

    #[test]
    fn a_trace_that_is_ready_to_come_back_finds_room() {
        let places = Places::new(100 * PLACE_BYTES);
        let needed = [0, 1, 1024, 1025, 70 * 1024, u64::MAX].map(|bytes| places.needed(bytes));
        assert_eq!(needed, [1, 1, 1, 2, 50, 50]);
        let others = Arc::clone(&places.free).try_acquire_many_owned(49).unwrap();
        assert!(places.are_half_free());
        let room = Arc::clone(&places.free).try_acquire_many_owned(places.needed(u64::MAX));
        assert!(room.is_ok());
        drop(others);
    }

    #[tokio::test]
    async fn what_is_taken_of_the_room_is_told() {
        let places = Places::new(100 * PLACE_BYTES);
        assert_eq!(places.taken_bytes(), 0);
        let room = Arc::clone(&places.free).acquire_many_owned(30).await;
        assert_eq!(places.taken_bytes(), 30 * PLACE_BYTES);
        drop(room);
        assert_eq!(places.taken_bytes(), 0);
    }
}
