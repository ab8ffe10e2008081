//! What OTLP 1.11 asks of a receiver, asked of ours, or of any other.
//!
//! `cargo test --test conformance` starts our own pipeline and asks it. With `CONFORMANCE_GRPC=http://host:port` or
//! `CONFORMANCE_HTTP=http://host:port` it asks what listens there; README.md says what else can be set. A word on the
//! command line runs only the cases that have it in their name.
#![allow(clippy::print_stdout, reason = "the report")]

mod args;
mod foreign;
mod own;
mod suite;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "stories need more of it")]
mod support;

use std::process::ExitCode;

use self::{
    args::Args,
    suite::{Case, Instead, Report, Target},
};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::of_process();
    let cases: Vec<_> = suite::cases().filter(|case| args.wants(case.name)).collect();
    if args.is_list {
        for case in &cases {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() {
        return ExitCode::SUCCESS;
    }
    let is_good = match foreign::target().await {
        Err(problem) => {
            println!("{problem}");
            return ExitCode::from(2);
        }
        Ok(Some(target)) => {
            let is_failure = |report: &Report| matches!(report.ended, Err(Instead::Failed(_)));
            !ask(&target, &cases).await.iter().any(is_failure)
        }
        Ok(None) => {
            let own = own::Own::start().await;
            let reports = ask(&own.target, &cases).await;
            own.end().await;
            // Of our own everything can be known, and all is offered.
            reports.iter().all(|report| report.ended.is_ok())
        }
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn ask(target: &Target, cases: &[&'static Case]) -> Vec<Report> {
    let mut reports = Vec::new();
    for case in cases {
        let report = suite::run(target, case).await;
        println!("{report}");
        reports.push(report);
    }
    let count = |verdict| reports.iter().filter(|report| report.verdict() == verdict).count();
    let verdicts = ["passed", "FAILED", "not offered", "not decided"];
    let counts = verdicts.map(|verdict| format!("{} {verdict}", count(verdict)));
    println!("\n{} of OTLP 1.11's rules: {}", reports.len(), counts.join(", "));
    reports
}
