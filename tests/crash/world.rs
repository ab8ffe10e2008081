//! [`World`]: sinks, a simulated `DeepFlow` whose answers grow, senders and one journal directory, for one life of the
//! program after another; and what must be true at the end.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;
use tracestitch::{
    clock::{self, Instant},
    demo::deepflow::{Deepflow, DeepflowConfig},
};

use crate::{
    child::Role,
    load::{Load, Unsent},
    program::{Addresses, PATIENCE, Program},
    sink::{Arrivals, Key, Sink},
    steps::Target,
};

/// What a destination took so long before a kill is settled: it is not sent again.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// From a connection to the sink's books, on a busy machine.
const ARRIVES_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What differs between tests.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Configuration of each destination.
    pub(crate) destinations: &'static [&'static str],
    pub(crate) senders: u32,
    /// Some traces stay open for long.
    pub(crate) slow: bool,
    pub(crate) unsent: Unsent,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            destinations: &["on_outage: hold"],
            senders: 4,
            slow: false,
            unsent: Unsent::LeftOut,
        }
    }
}

/// All but the program.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) load: Load,
    pub(crate) rng: Rng,
    pub(crate) deepflow: Deepflow,
    destinations: Vec<Destination>,
    setup: Setup,
    lives: u32,
    began: Instant,
    kills: Vec<Instant>,
}

#[derive(Debug)]
struct Destination {
    sink: Sink,
    /// Acknowledged and not there, of the first so many acknowledged.
    missing: Vec<Key>,
    looked_at: usize,
}

/// What came where.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kills: usize,
    pub(crate) acknowledged: usize,
    /// Sent, not acknowledged, and there all the same.
    pub(crate) unacknowledged: usize,
    /// Spans of `DeepFlow`.
    pub(crate) added: usize,
    /// Arrivals beyond the first of a sent span.
    pub(crate) duplicates: usize,
    /// Spans, sent or added, that came again and were not the same.
    pub(crate) altered: usize,
    /// Acknowledged and not there.
    pub(crate) missing: Vec<Key>,
}

/// From `CRASH_SEED`, or another one each time; it is printed.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| clock::wall_us() % 1_000_000);
    println!("CRASH_SEED={seed}");
    seed
}

/// `CRASH=full` runs many kills, anything else a few.
pub(crate) fn is_full() -> bool {
    std::env::var("CRASH").is_ok_and(|size| size == "full")
}

impl World {
    pub(crate) async fn start(setup: Setup) -> Self {
        let deepflow =
            DeepflowConfig { synthesise: true, grows: true, ..DeepflowConfig::default() };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut destinations = Vec::new();
        for _ in setup.destinations {
            let sink = Sink::start().await;
            destinations.push(Destination { sink, missing: Vec::new(), looked_at: 0 });
        }
        Self {
            directory: TempDir::new().expect("a directory"),
            load: Load::start(setup.senders, setup.slow, setup.unsent),
            rng: Rng::with_seed(seed()),
            deepflow: Deepflow::start(deepflow, any).await.expect("a free port"),
            destinations,
            setup,
            lives: 0,
            began: clock::now(),
            kills: Vec::new(),
        }
    }

    pub(crate) fn sink(&self, destination: usize) -> &Sink {
        &self.destinations[destination].sink
    }

    /// The journal's.
    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// That of dead letters.
    pub(crate) fn letters(&self) -> PathBuf {
        self.directory.path().join("letters")
    }

    /// The configuration of the last life.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("config.yaml")
    }

    /// Starts the program that users run.
    pub(crate) fn real(&mut self) -> Program {
        let (config, log) = self.next_life(&["always", "20ms", "never"]);
        Program::real(&config, log)
    }

    /// Starts one with small segments, on a disk of this size, that ends by itself at a step.
    pub(crate) fn stepped(&mut self, target: Option<Target>, disk_bytes: Option<u64>) -> Program {
        // A kill of a group sync needs one.
        let (config, log) = self.next_life(&["always", "20ms"]);
        let role = Role { config, target, hit: self.hit_file(), capacity_bytes: disk_bytes };
        Program::stepped(&role, log)
    }

    /// Nothing is lost by a kill whatever `sync` says.
    fn next_life(&mut self, syncs: &[&str]) -> (PathBuf, PathBuf) {
        self.lives += 1;
        let config = self.config_file();
        let sync = syncs[self.rng.usize(..syncs.len())];
        fs::write(&config, self.config(sync)).expect("a file");
        (config, self.directory.path().join(format!("life-{}.log", self.lives)))
    }

    fn hit_file(&self) -> PathBuf {
        self.directory.path().join("hit")
    }

    /// Which step the last life ended at; forgotten by asking.
    pub(crate) fn hit(&self) -> Option<String> {
        let hit = fs::read_to_string(self.hit_file()).ok()?;
        fs::remove_file(self.hit_file()).expect("our own file");
        Some(hit)
    }

    fn config(&self, sync: &str) -> String {
        let any = "{endpoint: '127.0.0.1:0'}";
        let journal = self.journal();
        let journal = journal.display();
        let letters = self.letters();
        let letters = letters.display();
        let deepflow = self.deepflow.url();
        let retry = "retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}";
        let destinations = self.destinations.iter().zip(self.setup.destinations).zip(1..);
        let exporters: Vec<String> = destinations
            .map(|((destination, options), number)| {
                let url = destination.sink.url();
                format!("otlp/{number}: {{endpoint: '{url}', {options}, {retry}}}")
            })
            .collect();
        let exporters = exporters.join(", ");
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {any}, http: {any}}}}}}}\n\
             memory: {{limit: 256MiB}}\n\
             buffer:\n  \
             idle: 600ms\n  \
             max_age: 20s\n  \
             journal: {{directory: '{journal}', sync: {sync}, max_bytes: 256MiB}}\n\
             completion: {{deepflow: {{endpoint: '{deepflow}', timeout: 2s, deadline: 5s, reask: [300ms, 900ms]}}}}\n\
             exporters: {{{exporters}}}\n\
             dead_letter: {{directory: '{letters}'}}\n\
             admin: {any}\n\
             logs: {{format: json}}\n\
             shutdown: {{mode: keep}}\n"
        )
    }

    /// To be told of each kill, when it is done. Nobody sends to the address it had: it may become that of another.
    pub(crate) fn killed(&mut self) {
        self.kills.push(clock::now());
        self.load.stop();
    }

    /// How many acknowledged spans a destination lacks.
    pub(crate) fn undelivered(&mut self, destination: usize) -> usize {
        let destination = &mut self.destinations[destination];
        let fresh = self.load.acknowledged_since(destination.looked_at);
        destination.looked_at += fresh.len();
        destination.missing.extend(fresh);
        destination.sink.retain_missing(&mut destination.missing);
        destination.missing.len()
    }

    /// Waits until so many more spans were acknowledged.
    pub(crate) async fn takes(&self, spans: usize) {
        let all = self.load.acknowledged() + spans;
        let end = clock::now() + PATIENCE;
        while self.load.acknowledged() < all {
            assert!(clock::now() < end, "not within {PATIENCE:?}: {spans} more spans are taken");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the first destination lacks at least so many acknowledged spans.
    pub(crate) async fn has_undelivered(&mut self, spans: usize) {
        let end = clock::now() + PATIENCE;
        while self.undelivered(0) < spans {
            assert!(clock::now() < end, "not within {PATIENCE:?}: {spans} undelivered spans");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops sending and waits until every destination has all that was acknowledged, but for what can't come any more, and
    /// nothing is held for it.
    pub(crate) async fn settle(&mut self, at: &Addresses, lost: &HashSet<Key>) {
        self.settle_at(0..self.destinations.len(), at, lost).await;
    }

    /// The same, where only these destinations get all.
    pub(crate) async fn settle_at(
        &mut self,
        destinations: Range<usize>,
        at: &Addresses,
        lost: &HashSet<Key>,
    ) {
        self.load.pause().await;
        let end = clock::now() + PATIENCE;
        loop {
            let books = at.books().await.expect("it runs");
            let held: i64 = held(books.get(destinations.clone()).unwrap_or_default());
            let all_there = destinations.clone().all(|number| {
                self.undelivered(number);
                self.destinations[number].missing.iter().all(|key| lost.contains(key))
            });
            if held == 0 && all_there {
                return;
            }
            let missing: Vec<_> = self.destinations.iter().map(|to| to.missing.len()).collect();
            assert!(
                clock::now() < end,
                "not within {PATIENCE:?}: all is delivered; {held} held, {missing:?} missing, {books:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until nothing is held.
    pub(crate) async fn drained(&self, at: &Addresses) {
        let end = clock::now() + PATIENCE;
        while held(&at.books().await.expect("it runs")) > 0 {
            assert!(clock::now() < end, "not within {PATIENCE:?}: nothing is held");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Compares what a destination got with what was sent: all is as it was sent but for parents, what came again was the
    /// same, and was under way at a kill.
    pub(crate) fn report(&self, destination: usize) -> Report {
        for (key, arrivals) in &self.sink(destination).spans() {
            self.assert_under_way(key, arrivals);
        }
        let report = self.contents(destination);
        assert_eq!(report.altered, 0, "what came again was not the same: {report:?}");
        report
    }

    /// The same, whenever it came again, and whatever parents it had then.
    pub(crate) fn contents(&self, destination: usize) -> Report {
        let arrived = self.sink(destination).spans();
        let sent = self.load.sent();
        let acknowledged: HashSet<Key> = self.load.acknowledged_since(0).into_iter().collect();
        let mut report = Report {
            kills: self.kills.len(),
            acknowledged: acknowledged.len(),
            ..Report::default()
        };
        for (key, arrivals) in &arrived {
            report.altered += usize::from(arrivals.altered);
            match sent.get(key) {
                Some(digest) => {
                    let is_as_sent = arrivals.before.iter().all(|before| before == digest);
                    assert!(is_as_sent, "a span is not what was sent: {key:x?}");
                    report.unacknowledged += usize::from(!acknowledged.contains(key));
                    report.duplicates += arrivals.times.len() - 1;
                }
                None => report.added += 1,
            }
        }
        report.missing = missing(&acknowledged, &arrived);
        report
    }

    fn assert_under_way(&self, key: &Key, arrivals: &Arrivals) {
        for (earlier, later) in arrivals.times.iter().zip(arrivals.times.iter().skip(1)) {
            // What the program had written to its connection arrives when it is dead.
            let killed = |kill: &Instant| {
                *earlier <= *kill + ARRIVES_WITHIN
                    && kill <= later
                    && kill.saturating_duration_since(*earlier) <= SETTLED_AFTER
            };
            let seconds = |time: &Instant| time.saturating_duration_since(self.began).as_secs_f64();
            assert!(
                self.kills.iter().any(killed),
                "sent again though nothing was under way at a kill: {key:x?} at {:?} s, kills at {:?} s",
                arrivals.times.iter().map(seconds).collect::<Vec<_>>(),
                self.kills.iter().map(seconds).collect::<Vec<_>>(),
            );
        }
    }
}

fn held(books: &[Value]) -> i64 {
    books.iter().filter_map(|books| books["held"].as_i64()).sum()
}

fn missing(acknowledged: &HashSet<Key>, arrived: &HashMap<Key, Arrivals>) -> Vec<Key> {
    acknowledged.iter().filter(|key| !arrived.contains_key(*key)).copied().collect()
}
