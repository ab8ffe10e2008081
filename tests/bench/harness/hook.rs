//! [`Hook`]: a stand-in for DeepFlow that answers quickly, so that it leaves the cores to what is measured.
//!
//! One answer of the demo's DeepFlow to a trace of the reference load is kept as text; for each ask the ids and times of
//! the posted trace are written into it.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tracestitch::demo::deepflow::{Deepflow, DeepflowConfig};

use super::template::trace_id;

const SPANS: u64 = 8;
const PATH: &str = "/v1/stats/querier/tracing-completion-by-external-app-spans";
/// The trace that the kept answer is about, and when it starts.
pub(crate) const FIRST: u64 = 0x1111_2222_3333_4441;
pub(crate) const START_US: u64 = 1_700_000_000_000_000;
/// Times in an answer are close to the posted ones.
const AROUND_US: u64 = 10_000_000;
const TRACE_ID: &str = "\"trace_id\":\"";
const START: &str = "\"start_time_us\":";

/// A running stand-in. Ends with itself, connections with their clients.
#[derive(Debug)]
pub(crate) struct Hook {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Hook {
    pub(crate) async fn start() -> Self {
        let answer = Arc::new(Answer::recorded().await);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                // An error is the client's end.
                tokio::spawn(async move { drop(serve(stream, &answer).await) });
            }
        });
        Self { address, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: &Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        while let Some(request) = whole(&bytes) {
            let out = answer.to(&bytes[request.clone()]);
            bytes.drain(..request.end);
            stream.write_all(&out).await?;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// Where the body of the first request is, once all of it is here.
fn whole(bytes: &[u8]) -> Option<Range<usize>> {
    let start = find(bytes, b"\r\n\r\n", 0)? + 4;
    let head = std::str::from_utf8(&bytes[..start]).ok()?.to_ascii_lowercase();
    let (_, rest) = head.split_once("content-length:")?;
    let len: usize = rest.lines().next()?.trim().parse().ok()?;
    (bytes.len() >= start + len).then_some(start..start + len)
}

fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let windows = bytes.get(from..)?.windows(needle.len());
    windows.into_iter().position(|window| window == needle).map(|at| from + at)
}

/// What a place in the answer shows.
#[derive(Debug, Clone, Copy)]
enum Hole {
    Trace,
    /// Behind the root.
    Span(u64),
    /// Behind the trace's start.
    Time(i64),
}

/// An HTTP answer with places to fill.
#[derive(Debug)]
struct Answer {
    text: Vec<u8>,
    holes: Vec<(usize, Hole)>,
}

impl Answer {
    /// What the demo's DeepFlow says to a trace of the reference load, with the head of an HTTP answer.
    async fn recorded() -> Self {
        let body = recorded_body().await;
        let len = body.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        Self::new(format!("{head}{len}\r\n\r\n{body}"))
    }

    fn new(text: String) -> Self {
        let bytes = text.as_bytes();
        let ids: HashMap<String, Hole> = (0..SPANS)
            .map(|place| (format!("{:016x}", FIRST + place), Hole::Span(place)))
            .chain([(trace(), Hole::Trace)])
            .collect();
        let words = words(bytes).filter_map(|word| {
            let text = &text[word.clone()];
            let hole = ids.get(text).copied().or_else(|| time(text))?;
            Some((word.start, hole))
        });
        let holes = words.collect();
        Self { text: text.into_bytes(), holes }
    }

    /// The answer to this ask.
    fn to(&self, ask: &[u8]) -> Vec<u8> {
        let at = find(ask, TRACE_ID.as_bytes(), 0).expect("a trace id") + TRACE_ID.len();
        let trace = &ask[at..at + 32];
        let root = std::str::from_utf8(&trace[16..]).ok();
        let root = root.and_then(|hex| u64::from_str_radix(hex, 16).ok()).expect("an id");
        let start_us = starts_us(ask).min().expect("a start");
        let mut out = self.text.clone();
        for (at, hole) in &self.holes {
            let value = match hole {
                Hole::Trace => trace.to_vec(),
                Hole::Span(place) => format!("{:016x}", root + place).into_bytes(),
                Hole::Time(behind) => {
                    start_us.saturating_add_signed(*behind).to_string().into_bytes()
                }
            };
            out[*at..*at + value.len()].copy_from_slice(&value);
        }
        out
    }
}

/// What the demo's DeepFlow says to [`FIRST`]'s trace.
pub(crate) async fn recorded_body() -> String {
    let config = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let deepflow = Deepflow::start(config, address).await.expect("a free port");
    tracestitch::tls::install_provider();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
    let client = client.expect("a client without certificates");
    let asked = client.post(format!("{}{PATH}", deepflow.url())).body(ask()).send().await;
    let body = asked.expect("an answer").text().await.expect("UTF-8");
    deepflow.stop().await;
    assert!(body.contains("SUCCESS"), "{body}");
    body
}

fn starts_us(ask: &[u8]) -> impl Iterator<Item = u64> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = find(ask, START.as_bytes(), from)? + START.len();
        from = at + 16;
        std::str::from_utf8(ask.get(at..from)?).ok()?.parse().ok()
    })
}

/// Letters and digits without anything between them.
fn words(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes.get(at..)?.iter().position(u8::is_ascii_alphanumeric)?;
        let rest = &bytes[start..];
        let len = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
        at = start + len;
        Some(start..at)
    })
}

fn time(word: &str) -> Option<Hole> {
    let time: u64 = word.parse().ok()?;
    let is_near = time.abs_diff(START_US) < AROUND_US;
    is_near.then(|| Hole::Time(time.cast_signed() - START_US.cast_signed()))
}

/// The id of [`FIRST`]'s trace, in hex.
fn trace() -> String {
    format!("{:032x}", u128::from_be_bytes(trace_id(FIRST)))
}

/// A trace of the reference load, as tracestitch posts it.
fn ask() -> String {
    let trace = trace();
    let span = |place: u64| {
        let (id, kind) = (FIRST + place, 2 + place % 2);
        let parent = if place == 0 { String::new() } else { format!("{:016x}", id - 1) };
        let [start, end] = [START_US + 10 * place, START_US + 10 * (2 * SPANS - place)];
        format!(
            "{{\"trace_id\":\"{trace}\",\"span_id\":\"{id:016x}\",\"parent_span_id\":\"{parent}\",\
             \"span_kind\":{kind},\"start_time_us\":{start},\"end_time_us\":{end}}}"
        )
    };
    let spans: Vec<_> = (0..SPANS).map(span).collect();
    format!(
        "{{\"app_spans\":[{}],\"max_iteration\":30,\"network_delay_us\":3000000}}",
        spans.join(",")
    )
}
