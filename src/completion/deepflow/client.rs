//! Asking over HTTP (DeepFlow contract, sections 2, 12 and 14): HTTP/1.1 with keep-alive, no compression, no proxy.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header, uri::InvalidUri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    Endpoints,
    answer::{Outcome, classify},
};
use crate::{
    clock,
    http_client::{self, BodyError, Connections, HttpClient},
    retry::retry_after,
    telemetry::{catalogue, chain},
    tls::{ClientTls, ClientTlsConfig, Reloads, TlsError},
};

/// A client that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of `tls` can't be used.
    #[error("cannot ask DeepFlow by TLS")]
    Tls(#[from] TlsError),
    /// The endpoint is none that can be asked.
    #[error("cannot ask at the endpoint of DeepFlow")]
    Url(#[from] InvalidUri),
}

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
    client: HttpClient<Full<Bytes>>,
    urls: Vec<Uri>,
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
        let urls = endpoints.iter().map(|url| format!("{url}{PATH}").parse());
        Ok(Self {
            client: HttpClient::new(connections, tls.as_ref())?,
            urls: urls.collect::<Result<_, _>>()?,
            next: AtomicUsize::new(0),
            response_bytes_max: limits.response_bytes_max,
        })
    }

    /// Asks once. The caller limits the whole by a timeout.
    pub(super) async fn ask(&self, body: Vec<u8>, mut headers: HeaderMap) -> Reply {
        let turn = self.next.fetch_add(1, Relaxed);
        let url = self.urls.get(turn % self.urls.len().max(1)).cloned().unwrap_or_default();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.client.send(Method::POST, url, headers, Full::from(body)).await {
            Ok(response) => self.read(response).await,
            Err(error) => {
                Reply { outcome: Outcome::Retry(chain(&error)), retry_after: None, bytes: 0 }
            }
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Reply {
        let status = response.status();
        let retry_after = retry_after(response.headers(), clock::wall_us());
        let limit = self.response_bytes_max;
        let (outcome, bytes) = match http_client::read(&mut response.into_body(), limit).await {
            Ok(body) if status == StatusCode::TOO_MANY_REQUESTS => {
                (Outcome::Retry("429 Too Many Requests".to_owned()), body.len())
            }
            Ok(body) => (classify(status.as_u16(), &body), body.len()),
            // A second ask would only bring the same.
            Err(BodyError::TooLarge) => {
                (Outcome::Reject(format!("the answer is larger than {limit} bytes")), 0)
            }
            Err(error) => (Outcome::Retry(chain(&error)), 0),
        };
        Reply { outcome, retry_after, bytes }
    }
}
