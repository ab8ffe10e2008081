//! argv → what to do → exit code.

mod demo;
mod explain;
mod replay;
mod run;
mod weave;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, ConfigError, Problem, ProcessEnvironment, reference::Reference},
    pipeline::Config,
    telemetry::chain,
};

/// Joins `DeepFlow`'s eBPF and network spans to OpenTelemetry traces while they flow.
#[derive(Debug, Parser)]
#[command(name = "tracestitch", version, about = "Joins DeepFlow's eBPF and network spans to OpenTelemetry traces while they flow", after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// The service: receives OTLP, asks DeepFlow, forwards enriched traces
    Run(ConfigFile),
    /// Everything in one process: a sample shop, a simulated DeepFlow, a backend that shows the traces
    Demo(demo::Options),
    /// Reports all problems of a configuration: path, line, what, hint; and which doors it leaves open
    Validate(ConfigFile),
    /// Prints the configuration's defaults or its JSON schema
    Config {
        #[command(subcommand)]
        what: ConfigPage,
    },
    /// Weaves one trace with one answer, offline or from a DeepFlow
    Weave(weave::Options),
    /// Tells what a running tracestitch did with a trace
    Explain(explain::Options),
    /// Sends dead-letter files again; exits with 0 only if every line was taken
    Replay(replay::Options),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file (YAML); without it ./config.yaml, if there is one, else the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ConfigPage {
    /// Every option at its default, with what it is for
    Defaults,
    /// JSON schema, for editors
    Schema,
}

/// What went wrong, and so the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Usage or configuration: 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Usage: 2.
    #[error("{0}")]
    Usage(String),
    /// While running: 1.
    #[error("{0}")]
    Runtime(String),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Runtime(_) => ExitCode::from(1),
        }
    }

    /// An error while running, with its causes.
    pub(crate) fn runtime(error: &dyn std::error::Error) -> Self {
        Self::Runtime(chain(error))
    }
}

/// Runs the program; the only place that prints errors.
#[allow(clippy::print_stderr, reason = "errors go to standard error, whatever the log level")]
pub fn main() -> ExitCode {
    // Usage errors are clap's: it prints them and exits with 2.
    let cli = Cli::parse();
    match cli.command.carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            if let CliError::Config(error) = &error {
                text = chain(error);
            }
            eprintln!("tracestitch: {text}");
            error.exit_code()
        }
    }
}

impl Command {
    fn carry_out(self) -> Result<(), CliError> {
        match self {
            Self::Run(file) => run::run(&file.load()?),
            Self::Demo(options) => demo::run(&options),
            Self::Validate(file) => {
                let warnings = file.load()?.warnings();
                say(&format!("{}: no problems{}\n", file.name(), listed(&warnings)))
            }
            Self::Config { what } => say(&what.text()),
            Self::Weave(options) => weave::run(&options),
            Self::Explain(options) => explain::run(&options),
            Self::Replay(options) => replay::run(&options),
        }
    }
}

fn listed(warnings: &[Problem]) -> String {
    let count = match warnings.len() {
        0 => return String::new(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    let lines: Vec<String> = warnings.iter().map(|warning| format!("\n  {warning}")).collect();
    format!(", {count}:{}", lines.concat())
}

impl ConfigPage {
    fn text(&self) -> String {
        match self {
            Self::Defaults => default_yaml(),
            Self::Schema => Reference::of::<Config>().json_schema(),
        }
    }
}

const TITLE: &str =
    "tracestitch: every option at its default. Printed by `tracestitch config defaults`.
${env:NAME}, ${env:NAME:-default} and ${file:PATH} work in every value; unknown keys are refused.
Sizes: 64MiB, 10GiB, 500kB. Times: 15s, 200ms, 1h30m.";

/// The text of config.yaml.
pub fn default_yaml() -> String {
    let from_environment = [
        (
            "completion.deepflow.endpoint",
            "${env:DEEPFLOW_ENDPOINT:-http://deepflow-app.deepflow:20418}",
        ),
        ("exporters.otlp/tempo.endpoint", "${env:OTLP_ENDPOINT:-http://tempo:4317}"),
        ("buffer.journal.directory", "${env:STATE_DIRECTORY:-./tracestitch-data}"),
        ("dead_letter.directory", "${env:STATE_DIRECTORY:-./tracestitch-data}/dead-letter"),
    ];
    Reference::of::<Config>().yaml(TITLE, &from_environment)
}

impl ConfigFile {
    fn path(&self) -> Option<&Path> {
        let default = Path::new("config.yaml");
        self.config.as_deref().or_else(|| default.exists().then_some(default))
    }

    fn name(&self) -> String {
        self.path().map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string())
    }

    fn load(&self) -> Result<Config, ConfigError> {
        match self.path() {
            Some(path) => config::load_file(path, Config::check),
            None => config::load(&self.name(), &default_yaml(), &ProcessEnvironment, Config::check),
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
pub(crate) fn say(text: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::runtime(&error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    struct Variables(&'static [(&'static str, &'static str)]);

    impl Environment for Variables {
        fn variable(&self, name: &str) -> Option<String> {
            let mut variables = self.0.iter();
            variables.find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        }

        fn file(&self, path: &str) -> Result<String, String> {
            Err(format!("no {path}"))
        }
    }

    fn without_file(variables: &'static [(&'static str, &'static str)]) -> Config {
        config::load("the defaults", &default_yaml(), &Variables(variables), Config::check).unwrap()
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        assert_eq!(without_file(&[]), Config::default());
    }

    #[test]
    fn without_a_file_the_environment_says_where_to_go() {
        let config = without_file(&[("DEEPFLOW_ENDPOINT", "http://deepflow.example:20418")]);
        let endpoint = format!("{:?}", config.completion.deepflow.endpoint);
        assert!(endpoint.contains("deepflow.example"), "{endpoint}");
    }
}
