//! Where the configuration comes from: a file, else OpenTelemetry's variables, else the defaults.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clap::Args;

use super::default_yaml;
use crate::{
    config::{self, ConfigError, Environment, Problems, ProcessEnvironment},
    exporter::{self, FromEnvironment},
    pipeline::Config,
};

/// The option that names a file.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// Configuration file (YAML); without it ./config.yaml, if there is one, else the defaults, sending where
    /// OTEL_EXPORTER_OTLP_* say, if they are set
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A configuration, and where it comes from.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) source: Source,
}

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// With the variables that are set and not used.
    File(PathBuf, Vec<String>),
    /// These variables say where traces go, all else is by default.
    Environment(Vec<String>),
    Defaults,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => path.display().fmt(f),
            Self::Environment(variables) => write!(f, "the environment ({})", variables.join(", ")),
            Self::Defaults => f.write_str("the defaults"),
        }
    }
}

impl Source {
    /// Variables that are set and say nothing here.
    pub(super) fn unused(&self) -> &[String] {
        match self {
            Self::File(_, unused) => unused,
            Self::Environment(_) | Self::Defaults => &[],
        }
    }
}

impl ConfigFile {
    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        let default = Path::new("config.yaml");
        let path = self.config.as_deref().or_else(|| default.exists().then_some(default));
        load(path, &ProcessEnvironment)
    }
}

fn load(path: Option<&Path>, environment: &dyn Environment) -> Result<Loaded, ConfigError> {
    if let Some(path) = path {
        let config = config::load_file(path, Config::check)?;
        let unused = exporter::variables(environment);
        return Ok(Loaded { config, source: Source::File(path.to_owned(), unused) });
    }
    let text = default_yaml();
    let config: Config = config::load("the defaults", &text, environment, Config::check)?;
    let from_environment = exporter::from_environment(environment).map_err(invalid)?;
    let Some(FromEnvironment { config: exporters, variables }) = from_environment else {
        return Ok(Loaded { config, source: Source::Defaults });
    };
    let config = Config { exporters, ..config };
    let mut problems = Problems::default();
    config.check(&mut problems);
    if !problems.is_empty() {
        return Err(invalid(problems));
    }
    Ok(Loaded { config, source: Source::Environment(variables) })
}

fn invalid(problems: Problems) -> ConfigError {
    ConfigError::Invalid { file: "the environment".to_owned(), problems: problems.into_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn without_file(variables: &'static [(&'static str, &'static str)]) -> Loaded {
        load(None, &Variables(variables)).unwrap()
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let Loaded { config, source } = without_file(&[]);
        assert_eq!((config, source), (Config::default(), Source::Defaults));
    }

    #[test]
    fn without_a_file_the_environment_says_where_to_go() {
        let Loaded { config, .. } = without_file(&[
            ("DEEPFLOW_ENDPOINT", "http://deepflow.example:20418"),
            ("OTLP_ENDPOINT", "http://tempo.example:4317"),
        ]);
        let endpoint = format!("{:?}", config.completion.deepflow.endpoint);
        assert!(endpoint.contains("deepflow.example"), "{endpoint}");
        assert_eq!(config.exporters.destinations(), ["otlp/tempo: http://tempo.example:4317"]);
    }

    #[test]
    fn opentelemetrys_variables_win_over_the_defaults() {
        let Loaded { config, source } = without_file(&[
            ("OTLP_ENDPOINT", "http://tempo.example:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
        ]);
        let destination = "otlp_http: http://collector.example:4318/v1/traces";
        assert_eq!(config.exporters.destinations(), [destination]);
        assert_eq!(source.to_string(), "the environment (OTEL_EXPORTER_OTLP_ENDPOINT)");
    }

    #[test]
    fn a_file_wins_over_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let variables = Variables(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "not even a URL")]);
        let Loaded { config, source } = load(Some(file.path()), &variables).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(source.unused(), ["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    }
}
