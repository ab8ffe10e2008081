//! OTLP/HTTP towards any backend (OTLP 1.11, "OTLP/HTTP"): HTTP/1.1 with keep-alive, no redirects, no proxy.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Body, Client};
use tokio::time::timeout_at;

use super::{
    BodyEncoding, Compression, OtlpHttpConfig, RESPONSE_BYTES_MAX, StartError,
    body::{Pieces, PiecesBody, written},
    error::{ExportError, in_a_line},
    headers::SentHeaders,
};
use crate::{
    clock,
    http_client::{self, Connections},
    retry::retry_after,
    telemetry::chain,
    tls::{ClientTls, Reloads},
    trace::{Origin, Signal},
    wire::{Encoding, PartialSuccess, status::RpcStatus},
};

/// A client for one destination. Connections are made when they are needed.
#[derive(Debug)]
pub(crate) struct OtlpHttp {
    client: Client,
    traces_url: String,
    metrics_url: String,
    logs_url: String,
    encoding: Encoding,
    compression: Compression,
    headers: SentHeaders,
    timeout: Duration,
}

/// A client that can't be made.
pub type ClientError = reqwest::Error;

/// Idle connections are closed before servers do it: a request on its way to a closed one fails. And names are looked
/// up again for each new connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// An answer, whatever it says.
pub(super) struct Answer {
    pub(super) code: StatusCode,
    pub(super) encoding: Encoding,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl OtlpHttp {
    pub(super) fn new(
        exporter: &str,
        config: &OtlpHttpConfig,
        reloads: &Reloads,
    ) -> Result<Self, StartError> {
        Ok(Self {
            client: client(exporter, config, reloads)?,
            traces_url: config.traces_url(),
            metrics_url: config.url(Signal::Metrics.label()),
            logs_url: config.url(Signal::Logs.label()),
            encoding: match config.encoding {
                BodyEncoding::Proto => Encoding::Protobuf,
                BodyEncoding::Json => Encoding::Json,
            },
            compression: config.compression,
            headers: SentHeaders::new(&config.headers),
            timeout: config.timeout.get(),
        })
    }

    /// Sends one request.
    pub(super) async fn export(
        &self,
        origin: &Origin,
        pieces: Pieces,
    ) -> Result<PartialSuccess, ExportError> {
        let permanent = |error: io::Error| ExportError::Permanent(error.to_string());
        let body = self.body(pieces, self.encoding).await.map_err(permanent)?;
        let exchange = self.exchange(&self.traces_url, self.encoding, origin, body);
        let answer = exchange.await.map_err(|why| ExportError::Retry { after: None, why })?;
        if answer.code.is_success() {
            return Ok(PartialSuccess::of_response(answer.encoding, &answer.body));
        }
        Err(ExportError::of_http(answer.code, answer.retry_after, &answer.message()))
    }

    /// Sends a request of another signal as it came, in protobuf or JSON; an error when there is no answer.
    pub(super) async fn pass(
        &self,
        signal: Signal,
        encoding: Encoding,
        origin: &Origin,
        body: Bytes,
    ) -> Result<Answer, String> {
        let url = match signal {
            Signal::Metrics => &self.metrics_url,
            Signal::Logs => &self.logs_url,
        };
        // What is there is not written anew.
        let body = self.body([body.into()].into(), Encoding::Protobuf).await;
        let body = body.map_err(|error| error.to_string())?;
        self.exchange(url, encoding, origin, body).await
    }

    /// Protobuf is what pieces are.
    async fn body(&self, pieces: Pieces, encoding: Encoding) -> io::Result<Body> {
        let compression = self.compression;
        if (encoding, compression) == (Encoding::Protobuf, Compression::None) {
            return Ok(Body::wrap(PiecesBody::new(pieces)));
        }
        let writing = tokio::task::spawn_blocking(move || written(&pieces, encoding, compression));
        Ok(Body::from(writing.await.map_err(io::Error::other)??))
    }

    fn headers(&self, origin: &Origin) -> HeaderMap {
        let mut headers = self.headers.of(origin);
        let coding = match self.compression {
            Compression::None => return headers,
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        headers
    }

    /// Sends a request and reads the answer; an error when there is none.
    async fn exchange(
        &self,
        url: &str,
        encoding: Encoding,
        origin: &Origin,
        body: Body,
    ) -> Result<Answer, String> {
        let request = self
            .client
            .post(url)
            .headers(self.headers(origin))
            .header(header::CONTENT_TYPE, encoding.content_type())
            .body(body);
        let end = clock::now() + self.timeout;
        let late = |_| format!("no answer within {} ms", self.timeout.as_millis());
        let response = timeout_at(end, request.send()).await.map_err(late)?;
        let mut response = response.map_err(|error| chain(&error.without_url()))?;
        let mut answer = Answer::of_head(&response, encoding);
        // What the head says is settled: sent again, spans that were taken would be there twice.
        answer.body =
            timeout_at(end, body_of(&mut response)).await.ok().flatten().unwrap_or_default();
        Ok(answer)
    }
}

fn client(
    exporter: &str,
    config: &OtlpHttpConfig,
    reloads: &Reloads,
) -> Result<Client, StartError> {
    let failed = |source| StartError::Tls { exporter: exporter.to_owned(), source };
    let traces_use_tls =
        config.traces_endpoint.as_ref().is_some_and(crate::config::HttpUrl::is_tls);
    let uses_tls = config.endpoint.is_tls() || traces_use_tls;
    let tls = uses_tls.then(|| ClientTls::new(&config.tls, exporter, reloads)).transpose();
    let tls = tls.map_err(failed)?;
    let connections = Connections {
        connect_timeout: config.connect_timeout.get(),
        keep_alive: KEEP_ALIVE,
        idle_max: config.max_in_flight,
    };
    let builder = http_client::client(connections, tls.as_ref()).map_err(failed)?;
    builder.build().map_err(|source| StartError::Client { exporter: exporter.to_owned(), source })
}

impl Answer {
    fn of_head(response: &reqwest::Response, asked: Encoding) -> Self {
        Self {
            code: response.status(),
            encoding: Encoding::of(response.headers()).unwrap_or(asked),
            retry_after: retry_after(response.headers(), clock::wall_us()),
            body: Vec::new(),
        }
    }

    /// What it says for people.
    pub(super) fn message(&self) -> String {
        let text = match RpcStatus::of_body(self.encoding, &self.body) {
            Some(status) => status.message,
            None => String::from_utf8_lossy(&self.body).into_owned(),
        };
        in_a_line(&text)
    }
}

/// `None` when it breaks off or is too long: then only the head counts.
async fn body_of(response: &mut reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}
