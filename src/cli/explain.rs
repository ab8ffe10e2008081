//! `explain`: what a running tracestitch did with a trace.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use http::{HeaderValue, StatusCode, header};
use reqwest::Client;
use serde::Deserialize;

use super::{CliError, chain, say};
use crate::{
    auth::bearer,
    config::{Environment, HttpUrl, ProcessEnvironment, Secret},
    tls::{Alpn, ClientTls, ClientTlsConfig, Reloads},
    trace::{
        TraceId,
        told::{Asks, Ending, Outcome, State, Told, Woven},
    },
};

/// What to explain.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What became of a trace, and why: of the last ones that were released (admin.recent_traces)
    Trace {
        /// 32 hexadecimal digits
        #[arg(value_name = "ID")]
        id: TraceId,
        /// The admin pages of a running tracestitch
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:13133")]
        admin: HttpUrl,
        /// File with one of admin.auth.tokens; without it the variable TRACESTITCH_ADMIN_TOKEN, if it is set
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// PEM file of the certificate authority to trust, instead of the system's
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
}

/// Not an argument: everybody on the machine can read those.
const TOKEN_VARIABLE: &str = "TRACESTITCH_ADMIN_TOKEN";

/// The admin pages are near and answer from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// See `admin`: what `/traces/ID` answers.
#[derive(Debug, Deserialize)]
struct Page {
    parts: Vec<Told>,
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let What::Trace { id, admin, token_file, ca_file } = &options.what;
    let client = client(admin, ca_file.as_ref())?;
    let token = token(token_file.as_ref(), &ProcessEnvironment)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::runtime(&error))?;
    let text = runtime.block_on(ask(&client, admin, token, *id))?;
    let page: Page = serde_json::from_str(&text).map_err(|error| {
        CliError::Runtime(format!(
            "{admin} does not answer like tracestitch's admin pages: {error}"
        ))
    })?;
    say(&explained(&page.parts))
}

fn token(
    file: Option<&PathBuf>,
    environment: &dyn Environment,
) -> Result<Option<HeaderValue>, CliError> {
    let token = match file {
        Some(path) => {
            let path = path.display().to_string();
            let unreadable = |error| CliError::Usage(format!("cannot read {path}: {error}"));
            Some(environment.file(&path).map_err(unreadable)?)
        }
        None => environment.variable(TOKEN_VARIABLE),
    };
    // Any text is a secret; not every one can be sent.
    let Some(token) = token.and_then(|token| token.parse::<Secret>().ok()) else { return Ok(None) };
    let unusable = || CliError::Usage("the token has characters that can't be sent".to_owned());
    bearer(&token).map(Some).ok_or_else(unusable)
}

fn client(admin: &HttpUrl, ca_file: Option<&PathBuf>) -> Result<Client, CliError> {
    let builder = Client::builder().no_proxy().timeout(PATIENCE);
    let builder = if admin.is_tls() {
        let config = ClientTlsConfig { ca_file: ca_file.cloned(), ..ClientTlsConfig::default() };
        let tls = ClientTls::new(&config, "admin", &Reloads::default())
            .and_then(|tls| tls.config(Alpn::Http1))
            .map_err(|error| CliError::Usage(chain(&error)))?;
        builder.tls_backend_preconfigured(tls)
    } else {
        // An image without certificates of authorities must be able to ask over http://.
        crate::tls::install_provider();
        builder.tls_certs_only([])
    };
    builder.build().map_err(|error| CliError::runtime(&error))
}

async fn ask(
    client: &Client,
    admin: &HttpUrl,
    token: Option<HeaderValue>,
    id: TraceId,
) -> Result<String, CliError> {
    let failed = |error: reqwest::Error| {
        let why = chain(&error);
        CliError::Runtime(format!(
            "cannot ask {admin}: is tracestitch running, and is --admin its admin.endpoint? ({why})"
        ))
    };
    let token = token.into_iter().map(|token| (header::AUTHORIZATION, token));
    let request = client.get(format!("{admin}/traces/{id}")).headers(token.collect());
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let text = response.text().await.map_err(failed)?;
    match status {
        StatusCode::OK => Ok(text),
        // It says so in a sentence.
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN if !text.is_empty() => {
            Err(CliError::Runtime(text.trim_end().to_owned()))
        }
        StatusCode::UNAUTHORIZED => Err(CliError::Runtime(format!(
            "{admin} asks for another token: name a file with one of its admin.auth.tokens by --token-file, or set \
             {TOKEN_VARIABLE}"
        ))),
        status => Err(CliError::Runtime(format!(
            "{admin} answered {status}: is it tracestitch's admin.endpoint?"
        ))),
    }
}

/// All parts of a trace, as text.
fn explained(parts: &[Told]) -> String {
    let mut text = String::new();
    for (number, told) in (1..).zip(parts) {
        let part = if parts.len() > 1 {
            format!(", part {number} of {}", parts.len())
        } else {
            String::new()
        };
        // Writing to a String can't fail.
        writeln!(text, "trace {}{part}: {}", told.trace_id, state(told)).unwrap_or_default();
        if let Some(origin) = &told.origin {
            writeln!(text, "  of the tenant with hash {origin}").unwrap_or_default();
        }
        let mut lines = lines(told);
        lines.sort_by_key(|(at_ms, _)| *at_ms);
        for (at_ms, line) in lines {
            writeln!(text, "  {:>10}  {line}", after(at_ms)).unwrap_or_default();
        }
    }
    text
}

fn state(told: &Told) -> &'static str {
    match told.state() {
        State::Waiting => "waits for DeepFlow's answer",
        State::Sending => "on its way",
        State::Ended => "has left",
    }
}

/// What happened, and when.
fn lines(told: &Told) -> Vec<(u64, String)> {
    let Told { spans, fragments, released, .. } = told;
    let first = format!("the first of {} in {}", many(*spans, "span"), many(*fragments, "request"));
    let quiet_ms = released.at_ms.saturating_sub(told.last_arrival_ms);
    let release = format!(
        "released ({}), {} after its last span",
        released.reason,
        after(quiet_ms).trim_start_matches('+')
    );
    let mut lines = vec![(0, first)];
    if told.last_arrival_ms > 0 {
        lines.push((told.last_arrival_ms, "the last span".to_owned()));
    }
    lines.push((released.at_ms, release));
    lines.extend(told.follows_spans.map(|spans| {
        let line = format!("goes on where {} of it left off", many(spans, "earlier span"));
        (released.at_ms, line)
    }));
    lines.extend(told.asks.iter().flat_map(asked));
    lines.extend(told.answer.as_ref().map(answered));
    lines.extend(told.woven.as_ref().and_then(woven));
    for (destination, endings) in &told.destinations {
        lines.extend(endings.iter().map(|ending| ended(destination, ending)));
    }
    lines
}

fn asked(asks: &Asks) -> Vec<(u64, String)> {
    let mut lines = vec![(asks.first_ms, "asked DeepFlow".to_owned())];
    if asks.count > 1 {
        lines.push((asks.last_ms, format!("asked DeepFlow again, {} times in all", asks.count)));
    }
    lines.extend(
        asks.ended.iter().map(|ended| (ended.at_ms, format!("DeepFlow: {}", ended.reason))),
    );
    lines
}

fn answered(outcome: &Outcome) -> (u64, String) {
    match outcome {
        Outcome::Found { spans, at_ms } => {
            (*at_ms, format!("goes on with {} found", many(*spans, "span")))
        }
        Outcome::Skipped(why) => (why.at_ms, format!("goes on as it came ({})", why.reason)),
    }
}

/// Nothing to say of a trace that went on as it came.
fn woven(woven: &Woven) -> Option<(u64, String)> {
    let Woven { system, network, omitted, reparented, at_ms } = *woven;
    if system + network + omitted + reparented == 0 {
        return None;
    }
    let mut text = format!("woven: {system} system and {network} network spans added");
    if omitted > 0 {
        write!(text, ", {omitted} network spans left out").unwrap_or_default();
    }
    write!(text, ", {} with a new parent", many(reparented, "received span")).unwrap_or_default();
    Some((at_ms, text))
}

fn ended(destination: &str, ending: &Ending) -> (u64, String) {
    let Ending { fate, reason, spans, at_ms } = ending;
    let fate = match fate.as_str() {
        "dead_lettered" => "in the dead-letter file",
        "handed_back" => "left in the journal for the next start",
        "parked" => "waiting in the journal",
        other => other,
    };
    let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    (*at_ms, format!("{destination}: {} {fate}{why}", many(*spans, "span")))
}

fn many(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Three digits are enough to see what took long.
fn after(ms: u64) -> String {
    match ms {
        0..1000 => format!("+{ms} ms"),
        1000..60_000 => format!("+{}.{:02} s", ms / 1000, ms % 1000 / 10),
        _ => format!("+{} m {:02} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_told_in_the_order_it_happened() {
        let page = r#"{"trace_id": "0af7651916cd43dd8448eb211c80319c", "parts": [{
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "first_arrival_unix_ms": 1000000000,
            "last_arrival_ms": 40, "fragments": 2, "spans": 5,
            "released": {"reason": "idle", "at_ms": 15060}, "follows_spans": 3,
            "asks": {"count": 2, "first_ms": 15061, "last_ms": 25061, "ended": {"reason": "found", "at_ms": 25200}},
            "answer": {"found": {"spans": 14, "at_ms": 25200}},
            "woven": {"system": 4, "network": 10, "omitted": 0, "reparented": 1, "at_ms": 25210},
            "destinations": {
                "otlp/a": [{"fate": "delivered", "spans": 5, "at_ms": 25400}],
                "otlp/b": [{"fate": "dropped", "reason": "permanent_error", "spans": 5, "at_ms": 99000}]}
        }]}"#;
        let page: Page = serde_json::from_str(page).expect("a page");
        let expected = "\
trace 0af7651916cd43dd8448eb211c80319c: has left
       +0 ms  the first of 5 spans in 2 requests
      +40 ms  the last span
    +15.06 s  released (idle), 15.02 s after its last span
    +15.06 s  goes on where 3 earlier spans of it left off
    +15.06 s  asked DeepFlow
    +25.06 s  asked DeepFlow again, 2 times in all
    +25.20 s  DeepFlow: found
    +25.20 s  goes on with 14 spans found
    +25.21 s  woven: 4 system and 10 network spans added, 1 received span with a new parent
    +25.40 s  otlp/a: 5 spans delivered
   +1 m 39 s  otlp/b: 5 spans dropped (permanent_error)
";
        assert_eq!(explained(&page.parts), expected);
    }

    #[test]
    fn a_trace_on_its_way_says_where_it_is() {
        let told = |answer| Told {
            trace_id: "1".to_owned(),
            spans: 3,
            answer,
            destinations: [("otlp/a".to_owned(), Vec::new())].into(),
            ..Told::default()
        };
        let text = explained(&[told(None), told(Some(Outcome::Found { spans: 1, at_ms: 7 }))]);
        assert!(text.contains("trace 1, part 1 of 2: waits for DeepFlow's answer\n"), "{text}");
        assert!(text.contains("trace 1, part 2 of 2: on its way\n"), "{text}");
        assert!(text.contains("+7 ms  goes on with 1 span found\n"), "{text}");
    }
}
