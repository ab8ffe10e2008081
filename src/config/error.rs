//! What is wrong with a configuration: all of it at once, each with path, line, problem and hint.

use std::{fmt, io, path::PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `exporters.otlp/tempo.endpoint`; empty for the document itself.
    pub path: String,
    /// Line and column in the file, from 1; `None` for a value that is not in the file.
    pub at: Option<(u64, u64)>,
    /// What is wrong; never the value of a secret.
    pub problem: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.at {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Collects problems while a configuration is checked.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
    prefix: Vec<String>,
}

impl Problems {
    /// Notes a problem at this path below the current section.
    pub fn push(&mut self, key: &str, problem: impl Into<String>, hint: Option<&str>) {
        let mut path = self.prefix.join(".");
        if !key.is_empty() {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
        }
        let hint = hint.map(str::to_owned);
        self.found.push(Problem { path, at: None, problem: problem.into(), hint });
    }

    /// Runs the checks of a section below this key.
    pub fn within(&mut self, key: &str, check: impl FnOnce(&mut Self)) {
        self.prefix.push(key.to_owned());
        check(self);
        self.prefix.pop();
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was found.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read: mostly a wrong path, or missing rights.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that can't be.
    #[error("{}", list(file, problems))]
    Invalid {
        /// The file, or a word for where the text came from.
        file: String,
        /// All problems, in the order of the file.
        problems: Vec<Problem>,
    },
}

fn list(file: &str, problems: &[Problem]) -> String {
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    format!("{count} in {file}:{}", lines.concat())
}
