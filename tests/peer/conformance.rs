//! The rules of OTLP, asked of a real Collector: a suite that finds nothing wrong with anybody proves nothing, and what the
//! Collector does otherwise is what senders and backends have to live with.
//!
//! CONFORMANCE.md has all of it; `UPDATE=1 cargo test --test peer conformance` writes it anew.

use std::{fs, time::Duration};

use tracestitch::demo::backend::Backend;

use crate::{
    collector::Collector,
    collector::Onward,
    parts::{Part::Otelcol, Parts, here},
    suite::{self, BYTES_MAX, Report, Target},
};

const PAGE: &str = "CONFORMANCE.md";
const HEAD: &str = "# What a Collector does otherwise than OTLP says

`tests/conformance` asked of an OpenTelemetry Collector, v0.155.0, which forwards by OTLP/gRPC (`otelcol/forward.yaml`):
all cases that it does not pass. Written by `UPDATE=1 cargo test --test peer conformance`, which otherwise fails when
anything here is no longer so.

| case | | what came | the rule |
|---|---|---|---|
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_does_otherwise_is_known() {
    let Some(parts) = Parts::here(&[Otelcol]) else { return };
    let sink = Backend::start(0).await.expect("a free port");
    let collector = Collector::before(&parts, &Onward::default(), &sink.url()).await;
    let address = |url: &str| url.strip_prefix("http://").map(ToOwned::to_owned);
    let target = Target {
        grpc: address(&collector.otlp),
        http: address(&collector.otlp_http),
        grpc_bytes_max: BYTES_MAX,
        http_bytes_max: BYTES_MAX,
        // As its own clients do.
        between_pings: Duration::from_secs(10),
        sink: Some(sink),
        overload: None,
    };
    let mut page = HEAD.to_owned();
    for case in suite::cases() {
        let report = suite::run(&target, case).await;
        if report.ended.is_err() {
            page.push_str(&row(&report));
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(here(PAGE), &page).expect("writable");
    }
    let known = fs::read_to_string(here(PAGE)).unwrap_or_default();
    assert_eq!(page, known, "UPDATE=1 writes tests/peer/{PAGE} anew");
}

fn row(report: &Report) -> String {
    let Report { case, .. } = report;
    format!(
        "| `{}` | {} | {} | {} |\n",
        case.name,
        report.verdict(),
        report.instead().replace('|', "\\|"),
        case.rule
    )
}
