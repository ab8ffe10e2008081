//! Destinations with a journal behind them: what can wait there does, and what is left at the end stays there.

mod addresses;
mod batches;
mod full;

use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::{share::Share, *};
use crate::{
    config::{ByteSize, Interval, MemoryShare},
    demo::backend::{Backend, BackendFault},
    ledger::{Account, Books, DropReason, Ledger},
    memory::Budget,
    trace::{Durable, Lease, Origin, Parked, Piece, Place, TraceId, TraceKey},
    wire::{Spliced, field::put_delimited_head},
};

/// A journal as leases see it.
#[derive(Debug, Default)]
struct Journal {
    parked: Mutex<Vec<Parked>>,
    released: Mutex<Vec<Place>>,
    done: Mutex<Vec<Destination>>,
}

impl Durable for Journal {
    fn failure(&self) -> Option<String> {
        None
    }

    fn read(&self, _: &Place) -> Option<Spliced> {
        None
    }

    fn done(&self, destination: Destination, _: Vec<Place>, last: Vec<Place>) {
        self.done.lock().push(destination);
        self.released.lock().extend(last);
    }

    fn release(&self, places: &[Place]) {
        self.released.lock().extend(places);
    }

    fn park(&self, parked: Parked) {
        self.parked.lock().push(parked);
    }
}

struct Scene {
    exporters: Exporters,
    backends: Vec<Backend>,
    journal: Arc<Journal>,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    directory: TempDir,
    metrics: Metrics,
    watchdog: Arc<Watchdog>,
}

/// As many bytes as a trace has here; queues hold 64 of them, requests 16.
const TRACE_BYTES: usize = 1024;

fn exporter(backend: &Backend, queue_bytes: u64, on_outage: Option<OnOutage>) -> ExporterConfig {
    ExporterConfig::Otlp(Box::new(OtlpConfig {
        endpoint: backend.url().parse().unwrap(),
        on_outage,
        max_in_flight: 1,
        batch: BatchConfig {
            target_size: ByteSize::from_bytes(16 * 1024),
            max_size: ByteSize::from_bytes(64 * 1024),
            ..BatchConfig::default()
        },
        sending_queue: QueueConfig {
            max_size: MemoryShare::Bytes(ByteSize::from_bytes(queue_bytes)),
        },
        retry_on_failure: RetryConfig {
            initial_interval: Interval::from_millis(20),
            max_interval: Interval::from_millis(40),
            ..RetryConfig::default()
        },
        ..OtlpConfig::default()
    }))
}

impl Scene {
    /// Destinations with these faults and queues.
    async fn start(of: &[(BackendFault, u64, Option<OnOutage>)]) -> Self {
        Self::start_with(of, DeadLetterConfig::default()).await
    }

    async fn start_with(
        of: &[(BackendFault, u64, Option<OnOutage>)],
        letters: DeadLetterConfig,
    ) -> Self {
        let mut backends = Vec::new();
        let mut exporters = Vec::new();
        for (number, (fault, queue_bytes, on_outage)) in of.iter().enumerate() {
            let backend = Backend::start(0).await.unwrap();
            backend.set_fault(fault.clone());
            exporters
                .push((format!("otlp/{number}"), exporter(&backend, *queue_bytes, *on_outage)));
            backends.push(backend);
        }
        let config = Config::new(exporters);
        let directory = tempfile::tempdir().unwrap();
        let letters = DeadLetterConfig { directory: directory.path().to_owned(), ..letters };
        let budget = Budget::new(1 << 30);
        let (metrics, watchdog) = (Metrics::new(&config.names()), Watchdog::new());
        let exporters =
            Exporters::start(&config, &letters, &budget, &metrics, &watchdog, &Reloads::default())
                .unwrap();
        Self {
            exporters,
            backends,
            journal: Arc::default(),
            ledger: Ledger::new(config.names()),
            budget,
            directory,
            metrics,
            watchdog,
        }
    }

    /// A trace of one span that is in the journal, or is not.
    fn trace(&self, number: u64, is_kept: bool) -> Arc<EnrichedTrace> {
        let piece = Piece { bytes: span(number).into(), app_spans: 1, added_spans: 0 };
        self.trace_of(number, is_kept, vec![piece])
    }

    fn trace_of(&self, number: u64, is_kept: bool, pieces: Vec<Piece>) -> Arc<EnrichedTrace> {
        let memory = self.budget.claim(Stage::Export, 1);
        let spans = pieces.iter().map(|piece| piece.app_spans).sum();
        let lease = Lease::new(Arc::clone(&self.ledger), spans, memory);
        let offset = NonZeroU32::MIN;
        let place = |part| Place { number: part, segment: 0, offset, len: 0, checksum: 0 };
        let lease = if is_kept {
            let durable = Arc::clone(&self.journal) as Arc<dyn Durable>;
            let lease = lease.kept(durable, vec![place(number)]);
            lease.planned(place(number));
            lease
        } else {
            lease
        };
        let id = TraceId::from_wire(&u128::from(number).to_be_bytes()).unwrap();
        let key = TraceKey { origin: Origin::default(), id };
        Arc::new(EnrichedTrace { key, pieces, lease })
    }

    async fn send(&self, numbers: std::ops::RangeInclusive<u64>, is_kept: bool) {
        for number in numbers {
            self.ledger.accept(1);
            self.exporters.send(self.trace(number, is_kept)).await;
        }
    }

    /// A series as operators see it.
    fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.render(&self.ledger, &self.budget, 0);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{series} is not in {text}"))
    }

    fn accounts(&self, destination: usize) -> Arc<Accounts> {
        let metrics = self.metrics.exporter(destination).unwrap();
        let name = format!("otlp/{destination}");
        Arc::new(Accounts { name, destination: Destination(destination), metrics })
    }

    fn books(&self, destination: usize) -> Books {
        self.ledger.snapshot().swap_remove(destination)
    }

    fn parked(&self) -> usize {
        self.journal.parked.lock().len()
    }

    /// What the journal brings back goes to this destination.
    async fn revive(&self, destination: Destination) {
        let parked = std::mem::take(&mut *self.journal.parked.lock());
        for parked in parked {
            let trace = self.trace(parked.plan.number, true);
            until("it is ready", || self.exporters.is_ready(destination)).await;
            self.exporters.send_to(trace, &[destination]).await;
        }
    }
}

/// An added span for the trace of this number.
fn added(number: u64) -> Piece {
    Piece { bytes: span(number).into(), app_spans: 0, added_spans: 1 }
}

/// One span of about [`TRACE_BYTES`] as a request.
fn span(number: u64) -> Vec<u8> {
    let field = |number, value: &[u8]| {
        let mut out = Vec::new();
        put_delimited_head(&mut out, number, value.len());
        out.extend(value);
        out
    };
    let trace_id = u128::from(number).to_be_bytes();
    let name = vec![b'x'; TRACE_BYTES - 100];
    let span = [field(1, &trace_id), field(2, &number.to_be_bytes()), field(5, &name)].concat();
    field(1, &field(2, &field(2, &span)))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = clock::now() + Duration::from_secs(30);
    while !holds() {
        assert!(clock::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn lines(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().lines().count()).sum()
}

const QUEUE: u64 = 64 * 1024;

#[tokio::test]
async fn what_the_journal_has_waits_there_and_not_in_front_of_the_queue() {
    let scene = Scene::start(&[(BackendFault::Unavailable, QUEUE, None)]).await;
    scene.send(1..=200, true).await;
    assert_eq!(scene.parked(), 200 - 64);
    assert!(!scene.exporters.is_ready(Destination(0)));
    assert_eq!(scene.books(0).held, 200);
    let parked = scene.journal.parked.lock().first().map(|parked| parked.lacking.clone());
    assert_eq!(parked, Some(vec![(Destination(0), 1)]));

    scene.backends[0].set_fault(BackendFault::None);
    scene.revive(Destination(0)).await;
    until("everything is delivered", || scene.books(0).delivered == 200).await;
    assert_eq!((scene.parked(), scene.backends[0].span_count()), (0, 200));
    until("all space is given back", || scene.journal.released.lock().len() == 400).await;
    assert_eq!(scene.budget.used_bytes(), 0);
}

#[tokio::test]
async fn without_a_journal_the_first_destination_waits() {
    let scene = Scene::start(&[(BackendFault::Unavailable, QUEUE, None)]).await;
    let sending = scene.send(1..=65, false);
    tokio::pin!(sending);
    let soon = tokio::time::timeout(Duration::from_millis(200), &mut sending).await;
    assert!(soon.is_err(), "the queue holds 64");
    scene.backends[0].set_fault(BackendFault::None);
    sending.await;
    until("everything is delivered", || scene.books(0).delivered == 65).await;
}

#[tokio::test]
async fn a_dead_second_destination_does_not_make_traces_late_at_the_first() {
    // Both are down. The second's queue takes what finds no room at the first, and never lets it go.
    let (first, second) = (BackendFault::Unavailable, BackendFault::Unavailable);
    let scene = Scene::start(&[(first, QUEUE, None), (second, QUEUE * 16, None)]).await;
    scene.send(1..=200, true).await;
    assert_eq!(scene.parked(), 0, "the second has them all");
    scene.backends[0].set_fault(BackendFault::None);
    until("the first has everything", || scene.books(0).delivered == 200).await;
    assert_eq!(scene.backends[0].span_count(), 200);
    assert_eq!((scene.books(1).held, scene.parked()), (200, 0));
}

#[tokio::test]
async fn a_trace_that_came_back_for_one_destination_reaches_the_other_from_memory() {
    let (first, second) = (BackendFault::Unavailable, BackendFault::Unavailable);
    let scene = Scene::start(&[(first, QUEUE, None), (second, QUEUE * 16, None)]).await;
    scene.send(1..=64, true).await;
    scene.ledger.accept(1);
    scene.exporters.send_to(scene.trace(65, true), &[Destination(1)]).await;
    scene.backends[0].set_fault(BackendFault::None);
    until("the first has it, too", || scene.books(0).delivered == 65).await;
    assert_eq!((scene.books(1).held, scene.parked()), (65, 0));
}

#[tokio::test]
async fn while_relieved_further_destinations_dead_letter_what_they_would_hold() {
    let down = || BackendFault::Unavailable;
    let hold = Some(OnOutage::Hold);
    let scene = Scene::start(&[(down(), QUEUE, None), (down(), QUEUE, hold)]).await;
    scene.send(1..=70, true).await;
    until("what nobody has is parked", || scene.parked() == 6).await;
    assert_eq!(scene.books(1).dead_lettered, 0);

    scene.exporters.relieve(true);
    scene.send(71..=80, true).await;
    until("letters are written", || scene.books(1).dead_lettered == 10).await;
    assert_eq!(lines(scene.directory.path()), 10);
    until("the first's wait in the journal all the same", || scene.parked() == 16).await;
    let lacking = scene.journal.parked.lock().last().map(|parked| parked.lacking.clone());
    assert_eq!(lacking, Some(vec![(Destination(0), 1)]));

    scene.exporters.relieve(false);
    scene.send(81..=81, true).await;
    until("it is parked for both", || scene.parked() == 17).await;
    assert_eq!(scene.books(1).dead_lettered, 10);
}

#[tokio::test]
async fn what_is_unsent_at_the_end_stays_in_the_journal_or_is_dropped_with_its_account() {
    for (is_kept, handed_back, dropped) in [(true, 30, 0), (false, 0, 30)] {
        let scene = Scene::start(&[(BackendFault::Unavailable, QUEUE, None)]).await;
        scene.send(1..=30, is_kept).await;
        scene.ledger.end();
        let Scene { exporters, ledger, journal, .. } = scene;
        exporters.close(Duration::from_millis(100)).await;
        let [books] = ledger.snapshot().try_into().unwrap();
        assert_eq!((books.held, books.unaccounted()), (0, 0), "{books:?}");
        assert_eq!(
            (books.handed_back, books.dropped(DropReason::Shutdown)),
            (handed_back, dropped)
        );
        assert!(journal.parked.lock().is_empty() && journal.released.lock().is_empty());
    }
}

#[tokio::test]
async fn drop_drops_what_has_no_room_and_what_is_refused() {
    let drop = Some(OnOutage::Drop);
    let (down, never) = (BackendFault::Unavailable, BackendFault::Refuses);
    let scene = Scene::start(&[
        (BackendFault::None, QUEUE * 4, None),
        (down, QUEUE, drop),
        (never, QUEUE, drop),
    ])
    .await;
    scene.send(1..=100, true).await;
    until("the first has everything", || scene.books(0).delivered == 100).await;
    assert_eq!(scene.books(1).dropped(DropReason::QueueFull), 36);
    until("all are refused", || scene.books(2).held == 0).await;
    let refused = scene.books(2);
    let (permanent, full) =
        (refused.dropped(DropReason::Permanent), refused.dropped(DropReason::QueueFull));
    assert!(permanent > 0 && permanent + full == 100, "{refused:?}");
    assert_eq!(lines(scene.directory.path()), 0);
}

#[tokio::test]
async fn a_trace_is_done_when_its_added_spans_are_delivered_too() {
    let scene = Scene::start(&[(BackendFault::None, QUEUE, None)]).await;
    let share = |number| {
        scene.ledger.accept(1);
        let app = Piece { bytes: span(number).into(), app_spans: 1, added_spans: 0 };
        let trace = scene.trace_of(number, true, vec![app.clone(), added(number)]);
        (Share::new(trace, scene.accounts(0)), app)
    };
    let (delivered, app) = share(1);
    delivered.end(&app, Account::Delivered);
    assert!(scene.journal.done.lock().is_empty(), "a kill now would lose the added span");
    delivered.end(&added(1), Account::Delivered);
    drop(delivered);
    assert_eq!(*scene.journal.done.lock(), [Destination(0)]);
    assert_eq!(scene.books(0).delivered, 1);

    scene.ledger.end();
    let (left, app) = share(2);
    left.end(&app, Account::Delivered);
    left.leave(&added(2), Account::Dropped(DropReason::Shutdown));
    drop(left);
    assert_eq!(scene.journal.done.lock().len(), 1);
    assert_eq!((scene.books(0).handed_back, scene.books(0).delivered), (1, 1));
}

#[tokio::test]
async fn the_thread_that_writes_dead_letters_is_looked_after() {
    let scene = Scene::start(&[(BackendFault::None, QUEUE, None)]).await;
    let stuck = scene.watchdog.stuck(clock::now() + Duration::from_hours(1));
    assert!(stuck.iter().any(|stuck| stuck.task == "dead letters"), "{stuck:?}");
    scene.watchdog.let_end();
    let Scene { exporters, watchdog, .. } = scene;
    exporters.close(Duration::from_secs(1)).await;
    assert_eq!(watchdog.failure(), None);
}
