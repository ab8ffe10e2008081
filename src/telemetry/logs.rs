//! Log lines on standard error: as text for people, as JSON for collectors.

use std::io::{self, IsTerminal as _};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// How log lines look.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// error, warn, info, debug, or a filter such as `info,tracestitch::completion=debug`.
    pub level: String,
    /// text or json.
    pub format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Text }
    }
}

impl Config {
    /// Notes a filter that can't be read.
    pub fn check(&self, problems: &mut crate::config::Problems) {
        let hint =
            Some("write error, warn, info, debug, or a filter: info,tracestitch::completion=debug");
        if let Err(error) = self.level.parse::<EnvFilter>() {
            return problems.push("level", error.to_string(), hint);
        }
        // A word that is no level would be taken for the name of what alone is logged: for hardly anything.
        let mut directives = self.level.split(',').map(str::trim);
        let is_word =
            |directive: &&str| !directive.is_empty() && !directive.contains(['=', '[', ':']);
        let is_no_level = |directive: &&str| directive.parse::<LevelFilter>().is_err();
        if let Some(word) = directives.find(|word| is_word(word) && is_no_level(word)) {
            problems.push("level", format!("`{word}` is no level"), hint);
        }
    }

    /// Starts logging; a second call in one process changes nothing.
    pub fn start(&self) {
        let filter = EnvFilter::try_new(&self.level).unwrap_or_default();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        // In a terminal NO_COLOR decides; files and containers get plain text.
        let lines = if io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
        let started = match self.format {
            Format::Text => lines.with_target(false).try_init(),
            Format::Json => lines.json().flatten_event(true).try_init(),
        };
        if started.is_err() {
            tracing::debug!("logging was started before");
        }
    }
}
