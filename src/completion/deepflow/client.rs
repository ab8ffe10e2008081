//! Asking over HTTP (DeepFlow contract, sections 2, 12 and 14): HTTP/1.1 with keep-alive, no compression, no proxy.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Endpoints,
    answer::{Outcome, classify},
};
use crate::{
    clock::{self, Instant},
    http_client::{Connections, HttpError, Response, Server},
    retry::retry_after,
    telemetry::{catalogue, chain},
    tls::{ClientTls, ClientTlsConfig, Reloads, TlsError},
};

/// A client that can't be made: a file of `tls` can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask DeepFlow by TLS")]
pub struct ClientError(#[from] TlsError);

/// Limits of one ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect_timeout: Duration,
    pub(super) response_bytes_max: usize,
    pub(super) connections: usize,
}

/// How long an idle connection is kept; the server closes it after 120 s.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

const PATH: &str = "/v1/stats/querier/tracing-completion-by-external-app-spans";

/// An HTTP client for one DeepFlow, at one address or several.
#[derive(Debug)]
pub(super) struct DeepflowClient {
    servers: Vec<Server>,
    next: AtomicUsize,
    response_bytes_max: usize,
}

/// An outcome, and what it cost to read it.
#[derive(Debug)]
pub(in crate::completion) struct Reply {
    pub(in crate::completion) outcome: Outcome,
    /// From `Retry-After`.
    pub(in crate::completion) retry_after: Option<Duration>,
    pub(in crate::completion) bytes: usize,
    /// There was too little time to say that nobody answers.
    pub(in crate::completion) is_cut: bool,
}

impl From<Outcome> for Reply {
    /// Nothing was read for it.
    fn from(outcome: Outcome) -> Self {
        Self { outcome, retry_after: None, bytes: 0, is_cut: false }
    }
}

impl DeepflowClient {
    pub(super) fn new(
        endpoints: &Endpoints,
        tls: &ClientTlsConfig,
        limits: Limits,
        reloads: &Reloads,
    ) -> Result<Self, ClientError> {
        let uses_tls = endpoints.iter().any(crate::config::HttpUrl::is_tls);
        let tls =
            uses_tls.then(|| ClientTls::new(tls, catalogue::DEEPFLOW, reloads)).transpose()?;
        let connections = Connections {
            connect_timeout: limits.connect_timeout,
            keep_alive: KEEP_ALIVE,
            idle_max: limits.connections,
        };
        let server = |base| Server::new(base, PATH, connections, tls.as_ref());
        let servers = endpoints.iter().map(server).collect::<Result<_, _>>()?;
        let response_bytes_max = limits.response_bytes_max;
        Ok(Self { servers, next: AtomicUsize::new(0), response_bytes_max })
    }

    /// Asks once. The caller limits the whole by a timeout.
    pub(super) async fn ask(&self, body: Vec<u8>, mut headers: HeaderMap) -> Reply {
        let turn = self.next.fetch_add(1, Relaxed);
        let Some(server) = self.servers.get(turn % self.servers.len().max(1)) else {
            return Outcome::Retry("there is no endpoint".to_owned()).into();
        };
        let json = HeaderValue::from_static("application/json");
        headers.entry(header::ACCEPT).or_insert_with(|| json.clone());
        headers.append(header::CONTENT_TYPE, json);
        match server.post(headers, body.into()).await {
            Ok(response) => self.read(response).await,
            Err(error) => failed(&error).into(),
        }
    }

    /// Closes connections that nobody needed for long.
    pub(super) fn close_old(&self, now: Instant) {
        self.servers.iter().for_each(|server| server.close_old(now));
    }

    async fn read(&self, mut response: Response<'_>) -> Reply {
        let status = response.status();
        let retry_after = retry_after(response.headers(), clock::wall_us());
        let mut body = Body::default();
        let outcome = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.bytes().len() + chunk.len() > self.response_bytes_max => {
                    // A second ask would only bring the same.
                    let limit = self.response_bytes_max;
                    break Outcome::Reject(format!("the answer is larger than {limit} bytes"));
                }
                Ok(Some(chunk)) => body.add(chunk),
                Ok(None) if status == StatusCode::TOO_MANY_REQUESTS => {
                    break Outcome::Retry("429 Too Many Requests".to_owned());
                }
                Ok(None) => break classify(status.as_u16(), body.bytes()),
                Err(error) => break failed(&error),
            }
        };
        Reply { retry_after, bytes: body.bytes().len(), ..outcome.into() }
    }
}

fn failed(error: &HttpError) -> Outcome {
    Outcome::Retry(chain(error))
}

/// An answer's bytes. Mostly they come in one chunk, which is not copied.
#[derive(Default)]
struct Body {
    first: Bytes,
    /// All of it, from the second chunk on.
    all: Vec<u8>,
}

impl Body {
    fn add(&mut self, chunk: Bytes) {
        if self.first.is_empty() {
            self.first = chunk;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&chunk);
    }

    fn bytes(&self) -> &[u8] {
        if self.all.is_empty() { &self.first } else { &self.all }
    }
}
