//! HTTP/1 by hand, one connection at a time.

use std::{
    convert::Infallible,
    fmt,
    io::{Read as _, Write as _},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle};
use tracestitch::wire::{Encoding, PartialSuccess, status::RpcStatus};

use super::{Ended, Instead, fail, must};

/// OTLP's path.
pub(super) const TRACES: &str = "/v1/traces";
pub(super) const PROTOBUF: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";

/// A connection.
pub(super) struct Http {
    host: String,
    send: SendRequest<UnsyncBoxBody<Bytes, Infallible>>,
    connection: JoinHandle<()>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl From<hyper::Error> for Instead {
    fn from(error: hyper::Error) -> Self {
        Self::Failed(format!("HTTP: {error}"))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Http {
    pub(super) async fn connect(host: &str) -> Result<Self, Instead> {
        let connect = TcpStream::connect(host).await;
        let tcp = connect.or_else(|error| fail(format!("no connection: {error}")))?;
        let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        // Requests tell how it ended.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { host: host.to_owned(), send, connection })
    }

    /// Sends to OTLP's path.
    pub(super) async fn post(
        &mut self,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Instead> {
        self.post_with(content_type, &[], body).await
    }

    /// The same with more headers.
    pub(super) async fn post_with(
        &mut self,
        content_type: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Instead> {
        let headers = [&[("content-type", content_type)], headers].concat();
        self.ask(Method::POST, TRACES, &headers, body).await
    }

    /// Sends anything anywhere.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Instead> {
        self.send(method, path, headers, Full::new(body.into())).await
    }

    /// Sends a body in pieces, without its length.
    pub(super) async fn post_chunked(
        &mut self,
        content_type: &str,
        body: &Bytes,
    ) -> Result<Answer, Instead> {
        let pieces: Vec<_> = body.chunks(7).map(|piece| body.slice_ref(piece)).collect();
        let frames = pieces.into_iter().map(|piece| Ok(http_body::Frame::data(piece)));
        let body = StreamBody::new(tokio_stream::iter(frames));
        self.send(Method::POST, TRACES, &[("content-type", content_type)], body).await
    }

    async fn send<B>(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: B,
    ) -> Result<Answer, Instead>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.boxed_unsync()).or_else(|error| fail(error.to_string()))?;
        self.send.ready().await?;
        let (parts, body) = self.send.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// It has this status.
    pub(super) fn is(&self, status: u16) -> Ended {
        must(self.status == status, || self.to_string())
    }

    /// It is written in what the request was written in.
    pub(super) fn is_in(&self, content_type: &str) -> Ended {
        let is = self.header("content-type");
        let media_type = is.split(';').next().unwrap_or_default().trim();
        must(media_type.eq_ignore_ascii_case(content_type), || {
            format!("{self} to a request in {content_type}")
        })
    }

    /// What was refused, of an answer with 200.
    pub(super) fn partial_success(&self, content_type: &str) -> Result<PartialSuccess, Instead> {
        self.is(200)?;
        self.is_in(content_type)?;
        let encoding = if content_type == JSON { Encoding::Json } else { Encoding::Protobuf };
        Ok(PartialSuccess::of_response(encoding, &self.body))
    }

    /// Nothing was refused, and nothing is said of it.
    pub(super) fn is_full_success(&self, content_type: &str) -> Ended {
        self.is(200)?;
        self.is_in(content_type)?;
        match content_type {
            JSON => {
                let body: Result<Value, _> = serde_json::from_slice(&self.body);
                let is_unset =
                    body.is_ok_and(|body| body.is_object() && body.get("partialSuccess").is_none());
                must(is_unset, || format!("200 with {}", self.body.escape_ascii()))
            }
            _ => full_success(&self.body),
        }
    }

    /// The `google.rpc.Status` of a failure.
    pub(super) fn status_body(&self, content_type: &str) -> Result<Status, Instead> {
        self.is_in(content_type)?;
        let status = match content_type {
            JSON => serde_json::from_slice(&self.body).ok().as_ref().and_then(Status::of_json),
            _ => RpcStatus::decode(self.body.clone()).ok().map(Status::of_protobuf),
        };
        match status {
            Some(status) if !status.message.is_empty() => Ok(status),
            Some(_) => fail(format!("{self}, a Status without a message")),
            None => fail(format!("{self}, a body that is no google.rpc.Status")),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.header("content-type") {
            "" => write!(f, "{} without Content-Type", self.status),
            content_type => write!(f, "{} in {content_type}", self.status),
        }
    }
}

/// The answer of protobuf has no `partial_success`; an empty one would be one.
pub(super) fn full_success(response: &[u8]) -> Ended {
    match ExportTraceServiceResponse::decode(response) {
        Ok(ExportTraceServiceResponse { partial_success: None }) => Ok(()),
        Ok(_) => fail(format!("partial_success is set: {}", response.escape_ascii())),
        Err(_) => fail(format!("no ExportTraceServiceResponse: {}", response.escape_ascii())),
    }
}

/// `google.rpc.Status`, from either form.
pub(super) struct Status {
    pub(super) message: String,
    /// The types of its details.
    pub(super) details: Vec<String>,
}

impl Status {
    fn of_protobuf(status: RpcStatus) -> Self {
        let details = status.details.into_iter().map(|any| any.type_url).collect();
        Self { message: status.message, details }
    }

    fn of_json(status: &Value) -> Option<Self> {
        let message = status.as_object()?.get("message")?.as_str()?.to_owned();
        let details = status.get("details").and_then(Value::as_array);
        let types = details.into_iter().flatten().filter_map(|any| any.get("@type")?.as_str());
        Some(Self { message, details: types.map(ToOwned::to_owned).collect() })
    }
}

/// As Content-Encoding says.
pub(super) fn compressed(encoding: &str, body: &[u8]) -> Result<Bytes, Instead> {
    use flate2::{Compression, write};
    let fast = Compression::fast();
    let compressed = match encoding {
        "gzip" => {
            let mut encoder = write::GzEncoder::new(Vec::new(), fast);
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        "deflate" => {
            let mut encoder = write::ZlibEncoder::new(Vec::new(), fast);
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        _ => zstd::encode_all(body, 1),
    };
    compressed.map(Bytes::from).or_else(|error| fail(error.to_string()))
}

/// The other way round.
pub(super) fn decompressed(encoding: &str, body: &[u8]) -> Result<Bytes, Instead> {
    let mut text = Vec::new();
    let read = match encoding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut text).map(drop),
        "zstd" => zstd::stream::copy_decode(body, &mut text),
        _ => return fail(format!("compressed by {encoding:?}")),
    };
    read.map(|()| text.into()).or_else(|error| fail(format!("{encoding}: {error}")))
}
