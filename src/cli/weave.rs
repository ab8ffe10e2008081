//! `weave`: one trace and one answer, joined offline or from a DeepFlow.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CliError, say};
use crate::{
    completion::deepflow::{self, answer::Outcome},
    telemetry::logs,
    trace::{Found, Fragment, TraceId, split},
    tree::{Style, render},
    weaving::{self, NetworkSpans},
    wire::json,
};

/// A trace, and where the answer comes from.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The trace: an OTLP/JSON ExportTraceServiceRequest of one trace; - for standard input
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// A recorded answer: {"http_status": …, "body": …} or the bare body
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "deepflow",
        required_unless_present = "deepflow"
    )]
    answer: Option<PathBuf>,
    /// Ask this DeepFlow, for example http://deepflow-app.deepflow:20418
    #[arg(long, value_name = "URL")]
    deepflow: Option<String>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::OtlpJson)]
    format: Format,
    /// Where network spans go
    #[arg(long, value_enum, default_value_t = Network::Inline)]
    network_spans: Network,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// The enriched trace as OTLP/JSON
    OtlpJson,
    /// The enriched trace as a tree, added spans begin with +
    Tree,
    /// The trees before and after, line by line: - gone, + new
    Diff,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Network {
    Inline,
    Beside,
    Off,
}

impl From<Network> for NetworkSpans {
    fn from(network: Network) -> Self {
        match network {
            Network::Inline => Self::Inline,
            Network::Beside => Self::Beside,
            Network::Off => Self::Off,
        }
    }
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    logs::Config { level: "warn".to_owned(), ..logs::Config::default() }.start();
    let before = read_trace(options)?;
    let (id, fragment) = only_trace(&before)?;
    let outcome = match (&options.answer, &options.deepflow) {
        (Some(path), _) => recorded(&read(path)?)?,
        (None, Some(url)) => ask(url, id, &fragment)?,
        (None, None) => return Err(CliError::Usage("name --answer or --deepflow".to_owned())),
    };
    let after = woven(id, fragment, outcome, options.network_spans.into())?;
    match options.format {
        Format::OtlpJson => say(&(pretty(&after)? + "\n")),
        Format::Tree => say(&render(&after, Style::plain())),
        Format::Diff => {
            say(&diff(&render(&before, Style::plain()), &render(&after, Style::plain())))
        }
    }
}

/// In many lines, for people.
fn pretty(request: &ExportTraceServiceRequest) -> Result<String, CliError> {
    serde_json::from_slice::<serde_json::Value>(&json::text(request))
        .and_then(|value| serde_json::to_string_pretty(&value))
        .map_err(|error| CliError::runtime(&error))
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CliError> {
    let read = if path.as_os_str() == "-" {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut text).map(|_| text)
    } else {
        fs::read(path)
    };
    read.map_err(|error| CliError::Usage(format!("cannot read {}: {error}", path.display())))
}

fn read_trace(options: &Options) -> Result<ExportTraceServiceRequest, CliError> {
    json::request(&read(&options.trace)?).map_err(|error| {
        CliError::Usage(format!("{} is no OTLP/JSON trace: {error}", options.trace.display()))
    })
}

fn only_trace(trace: &ExportTraceServiceRequest) -> Result<(TraceId, Fragment), CliError> {
    let mut split = split(Bytes::from(trace.encode_to_vec()))
        .map_err(|error| CliError::Usage(format!("the trace can't be used: {error}")))?;
    match (split.fragments.pop(), split.fragments.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), more) => {
            Err(CliError::Usage(format!("the file has {} traces, weave takes one", more + 1)))
        }
        (None, _) => {
            Err(CliError::Usage("the file has no span with a valid trace and span id".to_owned()))
        }
    }
}

/// A recording with its status, or a bare body, which was a 200.
#[derive(Deserialize)]
struct Recorded<'a> {
    http_status: Option<u16>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

fn recorded(text: &[u8]) -> Result<Outcome, CliError> {
    let recorded: Recorded<'_> = serde_json::from_slice(text)
        .map_err(|error| CliError::Usage(format!("the answer is no JSON object: {error}")))?;
    Ok(match (recorded.http_status, recorded.body) {
        (Some(status), Some(body)) => deepflow::answer::classify(status, body.get().as_bytes()),
        _ => deepflow::answer::classify(200, text),
    })
}

fn ask(url: &str, trace_id: TraceId, fragment: &Fragment) -> Result<Outcome, CliError> {
    let endpoint =
        url.parse().map(|url: crate::config::HttpUrl| url.into()).map_err(CliError::Usage)?;
    let config = deepflow::Config { endpoint, ..deepflow::Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::runtime(&error))?;
    runtime
        .block_on(deepflow::ask_once(&config, trace_id, &fragment.span_refs()))
        .map_err(|error| CliError::runtime(&error))
}

fn woven(
    trace_id: TraceId,
    fragment: Fragment,
    outcome: Outcome,
    network_spans: NetworkSpans,
) -> Result<ExportTraceServiceRequest, CliError> {
    let found = match outcome {
        Outcome::Found(found) => found,
        Outcome::NotFound => {
            tracing::warn!("nothing was found: the trace stays as it is");
            Found::default()
        }
        Outcome::Retry(why) | Outcome::Reject(why) => {
            return Err(CliError::Runtime(format!("DeepFlow did not answer: {why}")));
        }
    };
    let config = weaving::Config { network_spans, ..weaving::Config::default() };
    let (pieces, _) = weaving::pieces(trace_id, &[fragment], &found, &config);
    let bytes: Vec<Bytes> = pieces.into_iter().map(|piece| piece.bytes.to_bytes()).collect();
    ExportTraceServiceRequest::decode(bytes.concat().as_slice())
        .map_err(|error| CliError::runtime(&error))
}

/// Longest common subsequence by lines: traces are small enough for the plain way.
fn diff(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let words = |line: &str| line.trim_start_matches([' ', '│', '├', '└', '─']).to_owned();
    let (old_words, new_words): (Vec<String>, Vec<String>) = (
        old.iter().map(|line| words(line)).collect(),
        new.iter().map(|line| words(line)).collect(),
    );
    let width = new.len() + 1;
    let mut lengths = vec![0_u32; (old.len() + 1) * width];
    let at = |lengths: &[u32], i: usize, j: usize| lengths.get(i * width + j).copied().unwrap_or(0);
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let length = if old_words.get(i) == new_words.get(j) {
                at(&lengths, i + 1, j + 1) + 1
            } else {
                at(&lengths, i + 1, j).max(at(&lengths, i, j + 1))
            };
            if let Some(slot) = lengths.get_mut(i * width + j) {
                *slot = length;
            }
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        let same = i < old.len() && j < new.len() && old_words.get(i) == new_words.get(j);
        let (mark, line) = if same {
            i += 1;
            j += 1;
            ("  ", new.get(j - 1))
        } else if j < new.len()
            && (i == old.len() || at(&lengths, i, j + 1) >= at(&lengths, i + 1, j))
        {
            j += 1;
            ("+ ", new.get(j - 1))
        } else {
            i += 1;
            ("- ", old.get(i - 1))
        };
        out.push_str(mark);
        out.push_str(line.copied().unwrap_or_default());
        out.push('\n');
    }
    out
}
