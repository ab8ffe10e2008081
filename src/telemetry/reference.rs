//! Catalogue → deploy/reference/metrics.md.

use std::fmt::Write as _;

use super::Metrics;

/// The page that lists every metric.
pub fn markdown() -> String {
    let metrics = Metrics::new(&["otlp/tempo".to_owned()]);
    let mut page = String::from(
        "# Metrics\n\nGenerated from the catalogue (src/telemetry/catalogue/). All series exist at 0 from the \
         first scrape.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for entry in metrics.entries() {
        let labels: Vec<String> = entry
            .labels
            .iter()
            .map(|(label, values)| match values.as_slice() {
                _ if matches!(*label, "exporter" | "destination" | "version" | "place") => {
                    format!("`{label}`")
                }
                [] => format!("`{label}`"),
                values => format!("`{label}`: {}", values.join(", ")),
            })
            .collect();
        let line = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            entry.name,
            entry.kind,
            labels.join("; "),
            entry.help
        );
        // Writing to a String can't fail.
        line.unwrap_or_default();
    }
    page
}
