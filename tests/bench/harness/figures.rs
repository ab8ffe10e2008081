//! [`Row`]: the figures of one run, as a line of a table and as JSON.

use std::{fmt::Write, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};

use super::sink::Verdict;

/// What one run showed. What it does not measure is absent.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    /// Different spans of the load that came out.
    pub(crate) spans: u64,
    /// User and system time of the program, over `spans`.
    pub(crate) cpu_us_per_span: Option<f64>,
    /// Taken while the load ran.
    pub(crate) spans_per_s: Option<f64>,
    /// Resident, before the first span.
    pub(crate) rss_idle_mib: Option<f64>,
    /// The most that was ever resident.
    pub(crate) rss_peak_mib: Option<f64>,
    /// From the end of a trace's wait to its arrival: p50, p99, p99.9.
    pub(crate) beyond_wait_ms: Option<[f64; 3]>,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) altered: u64,
    /// Compared with what was sent, for `altered`.
    pub(crate) checked: u64,
    pub(crate) added: u64,
    pub(crate) early: u64,
    /// Requests that were refused and sent again.
    pub(crate) refused: u64,
    /// What only this scenario measures.
    pub(crate) more: Map<String, Value>,
}

impl Row {
    pub(crate) fn new(scenario: impl Into<String>, verdict: &Verdict) -> Self {
        Self {
            scenario: scenario.into(),
            spans: verdict.spans,
            beyond_wait_ms: quantiles_ms(&verdict.beyond_us),
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            altered: verdict.altered,
            checked: verdict.checked,
            added: verdict.added,
            early: verdict.early,
            ..Self::default()
        }
    }

    /// The same with one figure more.
    pub(crate) fn with(mut self, name: &str, value: f64) -> Self {
        self.more.insert(name.to_owned(), ((value * 100.0).round() / 100.0).into());
        self
    }

    /// As a row of a Markdown table.
    pub(crate) fn line(&self) -> String {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or(String::new(), |value| format!("{value:.digits$}"))
        };
        let beyond = self
            .beyond_wait_ms
            .map_or(String::new(), |[p50, p99, p999]| format!("{p50:.1} · {p99:.1} · {p999:.1}"));
        let mut line = format!(
            "| {} | {} | {} | {} | {} | {} | {beyond} | {} · {} · {} |",
            self.scenario,
            self.spans,
            number(self.cpu_us_per_span, 2),
            number(self.spans_per_s, 0),
            number(self.rss_idle_mib, 0),
            number(self.rss_peak_mib, 0),
            self.lost,
            self.duplicated,
            self.altered,
        );
        let counts = [("added", self.added), ("early", self.early), ("refused", self.refused)];
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            write!(line, " {name} {count};").expect("memory");
        }
        for (name, value) in &self.more {
            let value = value.as_f64().unwrap_or_default();
            write!(line, " {name} {value:.2};").expect("memory");
        }
        line.push_str(" |");
        line
    }

    /// The head of the table.
    pub(crate) const HEAD: &str = "| run | spans | CPU µs/span | spans/s | RSS idle MiB | RSS peak MiB \
        | beyond the wait ms, p50 · p99 · p99.9 | lost · duplicated · altered | |\n\
        |---|--:|--:|--:|--:|--:|--:|--:|---|";
}

/// Microseconds for each.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn micros(time: Duration, each: u64) -> f64 {
    time.as_secs_f64() * 1e6 / each.max(1) as f64
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// `None` where nothing waited.
fn quantiles_ms(sorted_us: &[u32]) -> Option<[f64; 3]> {
    let last = sorted_us.len().checked_sub(1)?;
    Some([500, 990, 999].map(|per_mille| f64::from(sorted_us[last * per_mille / 1000]) / 1000.0))
}
