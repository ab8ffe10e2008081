//! Scenario: a pipeline that has just started, and its admin pages.
//! Guarantees: every metric of the catalogue is there with all values of its labels before anything happened, at 0 where
//! it counts; every metric that is there is in the catalogue. `/livez`, `/readyz`, `/metrics`
//! and `/ledger` answer.

use tracestitch::{
    ledger::DropReason,
    memory::Stage,
    telemetry::catalogue::{Entry, Mode},
    trace::{AskOutcome, Refusal, Release, Skip},
};

use crate::support::{self, Setup, World, http};

/// Not 0 from the start.
const SAY_SOMETHING: [&str; 6] = [
    "tracestitch_build_info",
    "tracestitch_connections_max",
    "tracestitch_completion_mode",
    "tracestitch_memory_limit_bytes",
    "tracestitch_memory_allowed_bytes",
    "tracestitch_exporter_queue_capacity_bytes",
];

/// The ledger's accounts, each for every destination: a balance can be computed from the first scrape.
const BOOKS: [&str; 8] = [
    "tracestitch_ledger_accepted_spans_total",
    "tracestitch_ledger_recovered_spans_total",
    "tracestitch_ledger_delivered_spans_total",
    "tracestitch_ledger_dead_lettered_spans_total",
    "tracestitch_ledger_dropped_spans_total",
    "tracestitch_ledger_handed_back_spans_total",
    "tracestitch_ledger_held_spans",
    "tracestitch_ledger_unaccounted_spans",
];

#[tokio::test]
async fn metrics_exist_at_zero() {
    let exporters = "debug: {}".to_owned();
    let world = World::start(Setup { exporters, ..Setup::default() }).await;
    let text = world.watched().render();
    let entries = world.watched().metrics.entries();
    assert!(entries.len() > 30);
    for entry in entries {
        for series in all_series(entry) {
            let line = text.lines().find_map(|line| line.strip_prefix(&series)?.strip_prefix(' '));
            let value = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
            let is_zero = value == "0";
            assert!(is_zero || SAY_SOMETHING.contains(&entry.name), "{series} {value}");
        }
        assert!(
            text.contains(&format!("# TYPE {} {}\n", entry.name, entry.kind)),
            "{}",
            entry.name
        );
        assert!(text.contains(&format!("# HELP {} ", entry.name)), "{}", entry.name);
    }
    for name in BOOKS {
        assert!(text.contains(&format!("\n{name}{{destination=\"debug\"")), "no {name} of debug");
    }
    for (name, label, values) in closed_sets() {
        let entry = entries.iter().find(|entry| entry.name == name).expect(name);
        let known = entry.labels.iter().find(|(known, _)| *known == label).expect(label);
        assert_eq!(known.1, values, "{name}");
    }
    let named = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for name in named.filter_map(|line| line.split(' ').next()) {
        let is_known = entries.iter().any(|entry| entry.name == name);
        assert!(is_known || name.starts_with("process_"), "{name} is in no catalogue");
    }
    world.end(&[]).await;
}

/// Labels whose values are the variants of a type.
fn closed_sets() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let reason = "reason";
    let drops = DropReason::ALL.map(DropReason::label).to_vec();
    let refusals = Refusal::ALL.map(Refusal::label).to_vec();
    let releases = Release::ALL.map(Release::label).to_vec();
    let asks = AskOutcome::ALL.map(AskOutcome::label).to_vec();
    let skips = Skip::ALL.map(Skip::label).to_vec();
    let stages = Stage::ALL.map(Stage::label).to_vec();
    vec![
        ("tracestitch_receiver_refused_spans_total", reason, refusals),
        ("tracestitch_buffer_released_traces_total", reason, releases),
        ("tracestitch_completion_requests_total", "outcome", asks),
        ("tracestitch_completion_skipped_traces_total", reason, skips),
        ("tracestitch_completion_mode", "mode", Mode::LABELS.to_vec()),
        ("tracestitch_exporter_send_failed_spans_total", reason, drops.clone()),
        ("tracestitch_ledger_dropped_spans_total", reason, drops),
        ("tracestitch_memory_bytes", "stage", stages),
    ]
}

/// Every combination of label values, as it is rendered; of a histogram its count.
fn all_series(entry: &Entry) -> Vec<String> {
    let mut combinations = vec![String::new()];
    for (label, values) in &entry.labels {
        assert!(!values.is_empty(), "{} {label}", entry.name);
        let with = |before: &String| {
            let comma = if before.is_empty() { "" } else { "," };
            let one = |value| format!("{before}{comma}{label}=\"{value}\"");
            values.iter().map(one).collect::<Vec<_>>()
        };
        combinations = combinations.iter().flat_map(with).collect();
    }
    let name = match entry.kind {
        "histogram" => format!("{}_count", entry.name),
        _ => entry.name.to_owned(),
    };
    let series = |labels: String| {
        if labels.is_empty() { name.clone() } else { format!("{name}{{{labels}}}") }
    };
    combinations.into_iter().map(series).collect()
}

#[tokio::test]
async fn admin_pages_answer() {
    let world = World::start(Setup::without_deepflow()).await;
    world.send(&support::trace(1, 3)).await;
    world.settled(3).await;
    let client = http::client();
    let admin = format!("http://{}", world.pipeline.admin());
    let page = async |path: &str| {
        let response = client.get(format!("{admin}{path}")).send().await.expect("an answer");
        let header = response.headers().get("content-type").cloned();
        let kind = header.and_then(|kind| kind.to_str().ok().map(str::to_owned));
        (response.status().as_u16(), kind.unwrap_or_default(), response.text().await.expect("text"))
    };
    for path in ["/livez", "/readyz"] {
        let (status, _, text) = page(path).await;
        assert_eq!(status, 200, "{path}: {text}");
    }
    let (status, kind, text) = page("/metrics").await;
    assert_eq!((status, kind.split(';').next()), (200, Some("text/plain")));
    let accepted =
        "tracestitch_receiver_accepted_spans_total{receiver=\"otlp\",transport=\"grpc\"} 3";
    assert!(text.contains(accepted), "{text}");
    let (status, kind, text) = page("/ledger").await;
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    let ledger: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(ledger["balanced"], true);
    let books = &ledger["destinations"][0];
    assert_eq!(books["destination"], "otlp/backend");
    assert_eq!((&books["accepted"], &books["delivered"]), (&3.into(), &3.into()));
    for account in ["recovered", "dead_lettered", "handed_back", "held", "unaccounted"] {
        assert_eq!(books[account], 0, "{account}");
    }
    assert_eq!(page("/nothing").await.0, 404);
    world.end(&[]).await;
}
