//! The rules of OTLP 1.11 for those who receive, each a [`Case`] that asks an endpoint from outside and looks at what it
//! answers.
//!
//! Clients are as raw as can be (`grpc_client`, `http_client`): they send what no OTLP library would.

mod grpc;
mod grpc_client;
mod http;
mod http_client;
mod json;
mod overload;
mod target;
mod traces;
mod values;

use std::{fmt, pin::Pin, time::Duration};

pub(crate) use self::target::{BYTES_MAX, Target};

/// One rule.
pub(crate) struct Case {
    /// Says what is right.
    pub(crate) name: &'static str,
    /// Where it is said, and how.
    pub(crate) rule: &'static str,
    run: Run,
}

type Run = for<'a> fn(&'a Target) -> Pin<Box<dyn Future<Output = Ended> + Send + 'a>>;

/// How a case ends.
pub(crate) type Ended = Result<(), Instead>;

/// What came instead of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instead {
    /// What came is against the rule.
    Failed(String),
    /// The rule is for something that need not be there.
    NotOffered(String),
    /// It can't be seen from outside.
    NotDecided(String),
}

/// What became of one case.
pub(crate) struct Report {
    pub(crate) case: &'static Case,
    pub(crate) ended: Ended,
}

/// A case of this module's name for it.
macro_rules! case {
    ($name:ident, $rule:expr $(,)?) => {
        $crate::suite::Case {
            name: stringify!($name),
            rule: $rule,
            run: |target| Box::pin($name(target)),
        }
    };
}
pub(crate) use case;

/// For one case beyond the time that it waits on purpose.
const PATIENCE: Duration = Duration::from_mins(1);

/// All cases, in the order of the specification.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    [grpc::CASES, http::CASES, json::CASES, values::CASES, overload::CASES].into_iter().flatten()
}

/// Asks the target, one case after the other: some of them change what it can take at the moment.
pub(crate) async fn run(target: &Target, case: &'static Case) -> Report {
    let patience = PATIENCE + target.between_pings * grpc::PINGS;
    let ended = tokio::time::timeout(patience, (case.run)(target)).await;
    let ended = ended.unwrap_or_else(|_| fail(format!("no end within {patience:?}")));
    Report { case, ended }
}

/// Against the rule.
fn fail<T>(what: impl Into<String>) -> Result<T, Instead> {
    Err(Instead::Failed(what.into()))
}

/// This must be so; else `what` came.
fn must(holds: bool, what: impl FnOnce() -> String) -> Ended {
    if holds { Ok(()) } else { fail(what()) }
}

impl Report {
    /// In two words.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.ended {
            Ok(()) => "passed",
            Err(Instead::Failed(_)) => "FAILED",
            Err(Instead::NotOffered(_)) => "not offered",
            Err(Instead::NotDecided(_)) => "not decided",
        }
    }

    /// What came instead of a pass.
    pub(crate) fn instead(&self) -> &str {
        match &self.ended {
            Ok(()) => "",
            Err(Instead::Failed(what) | Instead::NotOffered(what) | Instead::NotDecided(what)) => {
                what
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:11}  {}", self.verdict(), self.case.name)?;
        let came = self.instead();
        match self.ended {
            Ok(()) => Ok(()),
            Err(Instead::Failed(_)) => {
                write!(f, "\n             came: {came}\n             rule: {}", self.case.rule)
            }
            Err(Instead::NotOffered(_) | Instead::NotDecided(_)) => write!(f, "  ({came})"),
        }
    }
}
