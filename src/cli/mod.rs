//! argv → what to do → exit code.

mod demo;
mod explain;
mod replay;
mod run;
mod source;
mod weave;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::source::{ConfigFile, Loaded, Source};
use crate::{
    config::{ConfigError, Problem, reference::Reference},
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
            Self::Validate(file) => say(&verdict(&file.load()?)),
            Self::Config { what } => say(&what.text()),
            Self::Weave(options) => weave::run(&options),
            Self::Explain(options) => explain::run(&options),
            Self::Replay(options) => replay::run(&options),
        }
    }
}

/// What `validate` says of a configuration that can be used.
fn verdict(Loaded { config, source }: &Loaded) -> String {
    let verdict = format!("{source}: no problems{}\n", listed(&config.warnings()));
    let destinations = match source {
        Source::Environment(_) => {
            format!("  traces go to {}\n", config.exporters.destinations().join(", "))
        }
        Source::File(..) | Source::Defaults => String::new(),
    };
    let unused = match source.unused() {
        [] => String::new(),
        unused => {
            let unused = unused.join(", ");
            format!("  not used, for the file says where traces go: {unused}\n")
        }
    };
    [verdict, destinations, unused].concat()
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
Sizes: 64MiB, 10GiB, 500kB. Times: 15s, 200ms, 1h30m.
Without a file these defaults are in force, and traces go where OTEL_EXPORTER_OTLP_* say, if they are set.";

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
