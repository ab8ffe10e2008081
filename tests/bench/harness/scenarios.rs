//! The scenarios by name, and how large they are.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    carrier::Carrier,
    figures::{Row, mib, micros, ratio},
    load::{Load, Until},
    shape::Shape,
    stand::{Setup, Stand, rate},
};
use tracestitch::clock;

/// All of them, in the order in which they run.
pub(crate) const SCENARIOS: [&str; 12] = [
    "sat-journal",
    "sat-nojournal",
    "asks",
    "rate",
    "gzip",
    "http",
    "json",
    "latency",
    "hold",
    "idle",
    "restart",
    "curve",
];

/// How large the scenarios are.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// What is measured.
    pub(crate) binary: Arc<Path>,
    /// Of a load.
    until: Until,
    /// Until a trace is quiet.
    wait: Duration,
    /// The same for traces that are to stay.
    long_wait: Duration,
    /// Spans a second.
    rates: [u64; 2],
    curve_rate: u64,
    /// Spans held, and spans left behind for a restart.
    held: u64,
    /// How long an idle program is watched.
    watch: Duration,
    /// Open traces for the curve.
    open: Vec<u64>,
    /// Spans a trace for the curve.
    spans: Vec<u64>,
    /// Of the long traces.
    long_spans: u64,
}

impl Sizes {
    /// To measure: each load takes so long.
    pub(crate) fn full(time: Duration) -> Self {
        Self {
            binary: Path::new(env!("CARGO_BIN_EXE_tracestitch")).into(),
            until: Until::Time(time),
            wait: Duration::from_secs(3),
            long_wait: Duration::from_mins(1),
            rates: [20_000, 100_000],
            curve_rate: 100_000,
            held: 500_000,
            watch: Duration::from_secs(5),
            open: vec![1_000, 10_000, 100_000, 1_000_000],
            spans: vec![2, 8, 50, 500],
            long_spans: 2000,
        }
    }

    /// To see that nothing is lost; far too small to measure.
    pub(crate) fn smoke() -> Self {
        Self {
            until: Until::Spans(6_000),
            wait: Duration::from_millis(500),
            rates: [10_000, 20_000],
            curve_rate: 20_000,
            held: 6_000,
            watch: Duration::from_millis(100),
            open: vec![1_000],
            spans: vec![2, 500],
            ..Self::full(Duration::ZERO)
        }
    }

    /// With a journal.
    fn setup(&self, idle: Duration) -> Setup {
        Setup { binary: Arc::clone(&self.binary), idle, has_journal: true, asks: false }
    }
}

/// Runs a scenario; each of its rows is handed over when it is there.
pub(crate) async fn run(scenario: &str, sizes: &Sizes, show: &mut impl FnMut(Row)) {
    let reference = Load::closed(Shape::REFERENCE, sizes.until);
    let setup = sizes.setup(sizes.wait);
    match scenario {
        "sat-journal" => show(once(scenario, setup, &reference).await),
        "sat-nojournal" => {
            show(once(scenario, Setup { has_journal: false, ..setup }, &reference).await);
        }
        "asks" => show(once(scenario, Setup { asks: true, ..setup }, &reference).await),
        "rate" => {
            let [low, _] = sizes.rates;
            show(once(&format!("rate {low}/s"), setup, &reference.at(low)).await);
        }
        "gzip" | "http" | "json" => {
            let [low, _] = sizes.rates;
            let carrier = match scenario {
                "gzip" => Carrier::GrpcGzip,
                "http" => Carrier::Http,
                _ => Carrier::Json,
            };
            let load = reference.at(low).by(carrier);
            show(once(&format!("{scenario} {low}/s"), setup, &load).await);
        }
        "latency" => latency(sizes, show).await,
        "hold" => {
            for has_journal in [true, false] {
                show(hold(sizes, has_journal).await);
            }
        }
        "idle" => show(idle(sizes).await),
        "restart" => show(restart(sizes).await),
        "curve" => curve(sizes, show).await,
        _ => unreachable!("names are checked before"),
    }
}

async fn once(name: &str, setup: Setup, load: &Load) -> Row {
    Stand::new(setup).await.run(name, load).await
}

/// Small requests at a low rate; the reference load at a higher one, without and with some long traces.
async fn latency(sizes: &Sizes, show: &mut impl FnMut(Row)) {
    let setup = || sizes.setup(sizes.wait);
    let small = Load::closed(Shape::new(8, 16), few(sizes.until, 1000)).at(1000);
    show(once("latency 1000/s, 16 a request", setup(), &small).await);
    let [_, high] = sizes.rates;
    let even = Load::closed(Shape::REFERENCE, sizes.until).at(high);
    show(once(&format!("latency {high}/s"), setup(), &even).await);
    let long = Some((Shape::new(sizes.long_spans, 512), 0.01));
    let name = format!("latency {high}/s, 1 % long");
    show(once(&name, setup(), &Load { long, ..even }).await);
}

/// No more than a load of this rate has in a second, where the load is a number of spans.
fn few(until: Until, rate: u64) -> Until {
    match until {
        Until::Spans(spans) => Until::Spans(spans.min(rate)),
        time @ Until::Time(_) => time,
    }
}

/// What waits, in memory.
async fn hold(sizes: &Sizes, has_journal: bool) -> Row {
    let setup = Setup { has_journal, ..sizes.setup(sizes.long_wait) };
    let stand = Stand::new(setup).await;
    let load = Load::closed(Shape::REFERENCE, Until::Spans(sizes.held));
    let (program, wire_bytes) = stand.filled(&load).await;
    let held = stand.ledger.end() - 1;
    let (resident, anonymous) = (program.resident(), program.anonymous());
    let mut row = Row { scenario: "hold".to_owned(), ..Row::default() };
    if !has_journal {
        row.scenario.push_str(", no journal");
    }
    row.rss_peak_mib = Some(mib(program.peak()));
    row.with("held spans", ratio(held, 1))
        .with("wire MiB", mib(wire_bytes))
        .with("RSS/wire", ratio(resident, wire_bytes))
        .with("anonymous/wire", ratio(anonymous, wire_bytes))
}

/// A program without work.
async fn idle(sizes: &Sizes) -> Row {
    let stand = Stand::new(sizes.setup(sizes.wait)).await;
    let program = stand.program().await;
    let before = program.cpu();
    tokio::time::sleep(sizes.watch).await;
    let cpu = program.cpu().saturating_sub(before);
    let mut row = Row { scenario: "idle".to_owned(), ..Row::default() };
    row.rss_idle_mib = Some(mib(program.resident()));
    row.rss_peak_mib = Some(mib(program.peak()));
    row.with("ready ms", micros(program.ready_after, 1000))
        .with("CPU %", 100.0 * cpu.as_secs_f64() / sizes.watch.as_secs_f64())
}

/// What a killed program left in its journal.
async fn restart(sizes: &Sizes) -> Row {
    let stand = Stand::new(sizes.setup(sizes.long_wait)).await;
    let load = Load::closed(Shape::REFERENCE, Until::Spans(sizes.held));
    let (program, _) = stand.filled(&load).await;
    program.kill();
    let (left, begun) = (stand.ledger.end() - 1, clock::now());
    // They have waited for so long already.
    let program = stand.program_that_waits(Duration::from_millis(10)).await;
    let took = stand.until_all_came(left, begun).await;
    let verdict = stand.sink.verdict();
    let arriving = rate(verdict.spans, verdict.took);
    let mut row = Row::new("restart", &verdict);
    // The wait was another one.
    (row.beyond_wait_ms, row.early) = (None, 0);
    row.cpu_us_per_span = Some(micros(program.cpu(), row.spans));
    row.spans_per_s = Some(rate(row.spans, took));
    row.rss_peak_mib = Some(mib(program.peak()));
    let ready_after = program.ready_after;
    program.end().await;
    row.with("ready ms", micros(ready_after, 1000)).with("spans/s, first to last", arriving)
}

/// By open traces, which follow from the rate and the wait, and by spans a trace.
async fn curve(sizes: &Sizes, show: &mut impl FnMut(Row)) {
    let rate = sizes.curve_rate;
    let shape = Shape::new(2, 512);
    for open in &sizes.open {
        let wait = Duration::from_millis(open * shape.spans * 1000 / rate);
        let until = match sizes.until {
            Until::Time(time) => Until::Time(time.max(wait * 3 / 2)),
            spans @ Until::Spans(_) => spans,
        };
        let load = Load::closed(shape, until).at(rate);
        show(once(&format!("curve {open} open"), sizes.setup(wait), &load).await);
    }
    for spans in &sizes.spans {
        let load = Load::closed(Shape::new(*spans, 512), sizes.until).at(rate);
        show(once(&format!("curve {spans} spans a trace"), sizes.setup(sizes.wait), &load).await);
    }
}
