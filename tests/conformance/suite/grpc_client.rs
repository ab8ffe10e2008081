//! gRPC by hand, over HTTP/2: whatever one likes can be sent.

use std::future::poll_fn;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{PingPong, client::SendRequest};
use http::{HeaderMap, Request, Response, header};
use prost::Message as _;
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::Code;
use tracestitch::wire::status::RpcStatus;

use super::{Instead, fail, http_client::decompressed, must};

/// OTLP's method.
pub(super) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A connection.
pub(super) struct Grpc {
    authority: String,
    send: SendRequest<Bytes>,
    pings: PingPong,
    connection: JoinHandle<()>,
}

/// What was answered to a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: Code,
    /// Of `grpc-status-details-bin`.
    pub(super) details: RpcStatus,
    pub(super) headers: HeaderMap,
    /// The frames of gRPC.
    pub(super) body: Bytes,
}

impl From<h2::Error> for Instead {
    fn from(error: h2::Error) -> Self {
        Self::Failed(format!("HTTP/2: {error}"))
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Grpc {
    pub(super) async fn connect(authority: &str) -> Result<Self, Instead> {
        let connect = TcpStream::connect(authority).await;
        let tcp = connect.or_else(|error| fail(format!("no connection: {error}")))?;
        let (send, mut connection) = h2::client::handshake(tcp).await?;
        // It is asked for once.
        let Some(pings) = connection.ping_pong() else { return fail("no pings") };
        // Requests tell how it ended.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { authority: authority.to_owned(), send, pings, connection })
    }

    /// Calls OTLP's method with a message.
    pub(super) async fn export(&self, message: Bytes) -> Result<Answer, Instead> {
        self.call(EXPORT, &[], framed(false, &message)).await
    }

    /// Calls a method with these headers beside gRPC's own, and with this body.
    pub(super) async fn call(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Instead> {
        Answer::read(self.ask(path, headers, body).await?).await
    }

    /// The answer to a request, as HTTP/2 has it.
    pub(super) async fn ask(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<h2::RecvStream>, Instead> {
        let mut send = self.send.clone().ready().await?;
        let url = format!("http://{}{path}", self.authority);
        let mut request = Request::post(url).header("te", "trailers");
        if headers.iter().all(|(name, _)| *name != header::CONTENT_TYPE) {
            request = request.header(header::CONTENT_TYPE, "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).or_else(|error| fail(error.to_string()))?;
        let (response, mut stream) = send.send_request(request, false)?;
        // What can't be sent yet waits in memory; what is not wanted any more is no error of ours.
        let _unwanted = stream.send_data(body, true);
        Ok(response.await?)
    }

    /// Returns when it is answered.
    pub(super) async fn ping(&mut self) -> Result<(), Instead> {
        self.pings.ping(h2::Ping::opaque()).await?;
        Ok(())
    }
}

impl Answer {
    async fn read(response: Response<h2::RecvStream>) -> Result<Self, Instead> {
        let (parts, mut stream) = response.into_parts();
        if parts.status != 200 {
            return fail(format!("HTTP {}", parts.status));
        }
        if parts.headers.contains_key("grpc-status") {
            return Self::new(&parts.headers, parts.headers.clone(), Bytes::new());
        }
        let body = body(&mut stream).await?;
        match poll_fn(|context| stream.poll_trailers(context)).await? {
            Some(trailers) => Self::new(&trailers, parts.headers, body),
            None => fail("an answer without grpc-status"),
        }
    }

    fn new(trailers: &HeaderMap, headers: HeaderMap, body: Bytes) -> Result<Self, Instead> {
        let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
        let Some(code) = text("grpc-status") else { return fail("trailers without grpc-status") };
        Ok(Self {
            code: Code::from_bytes(code.as_bytes()),
            details: details(text("grpc-status-details-bin")),
            headers,
            body,
        })
    }

    /// The one message of a success.
    pub(super) fn message_of_success(&self) -> Result<Bytes, Instead> {
        if self.code != Code::Ok {
            return fail(self.to_string());
        }
        let [flag, a, b, c, d, message @ ..] = self.body.as_ref() else {
            return fail("OK without a message");
        };
        let announced = u32::from_be_bytes([*a, *b, *c, *d]);
        must(usize::try_from(announced) == Ok(message.len()), || {
            "OK with something else than one message".to_owned()
        })?;
        match flag {
            0 => Ok(self.body.slice_ref(message)),
            _ => decompressed(self.header("grpc-encoding"), message),
        }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.code)
    }
}

/// Reads to the end, giving room for more on the way.
pub(super) async fn body(stream: &mut h2::RecvStream) -> Result<Bytes, Instead> {
    let mut body = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(body.freeze())
}

fn details(base64: Option<&str>) -> RpcStatus {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let text = base64.unwrap_or_default().trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(text).unwrap_or_default();
    RpcStatus::decode(bytes.as_slice()).unwrap_or_default()
}

/// A message in gRPC's frame.
pub(super) fn framed(compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(u8::from(compressed));
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
