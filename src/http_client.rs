//! HTTP clients, all alike: HTTP/1.1 with keep-alive, no redirects, no proxy, no compression of their own.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{net::TcpStream, time::timeout};
use tower::{BoxError, Service};

use crate::tls::{self, ClientTls, TlsError};

/// What differs between them.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// For a new one, with TLS if need be.
    pub connect_timeout: Duration,
    /// An idle one is closed after so long.
    pub keep_alive: Duration,
    /// Idle ones that are kept.
    pub idle_max: usize,
}

/// One for all requests of its kind: it keeps connections.
#[derive(Debug)]
pub struct HttpClient<B>(Client<Connector, B>);

/// An answer's body that was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than the reader takes.
    #[error("it is too large")]
    TooLarge,
    /// It broke off.
    #[error("it broke off")]
    Broken(#[from] hyper::Error),
}

/// A peer that is gone is noticed after about a minute, a request that it does not acknowledge sooner.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// An announced length is believed up to here: beyond, memory grows with what comes.
const ANNOUNCED_MAX: usize = 256 * 1024;

impl<B> HttpClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Without TLS it asks over http:// alone.
    pub fn new(connections: Connections, tls: Option<&ClientTls>) -> Result<Self, TlsError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(connections.keep_alive)
            .pool_max_idle_per_host(connections.idle_max)
            .build(Connector::new(connections.connect_timeout, tls)?);
        Ok(Self(client))
    }

    /// Sends a request; the answer has its head, its body is on the way.
    pub async fn send(
        &self,
        method: Method,
        uri: Uri,
        mut headers: HeaderMap,
        body: B,
    ) -> Result<Response<Incoming>, Error> {
        const AGENT: &str = concat!("tracestitch/", env!("CARGO_PKG_VERSION"));
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        self.0.request(request).await
    }
}

/// Reads an answer's body.
pub async fn read(body: &mut Incoming, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut read = Vec::with_capacity(announced.min(bytes_max).min(ANNOUNCED_MAX));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > bytes_max {
            return Err(BodyError::TooLarge);
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

/// Connects, with TLS to https://, within the time that there is for it.
#[derive(Clone)]
struct Connector {
    inner: HttpsConnector<HttpConnector>,
    limit: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Connector {
    fn new(limit: Duration, tls: Option<&ClientTls>) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limit));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
        Ok(Self { inner: HttpsConnector::from((tcp, tls::http1(tls)?)), limit })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(uri), self.limit);
        Box::pin(async move {
            let late = |_| {
                let why = format!("no connection within {} ms", limit.as_millis());
                io::Error::new(io::ErrorKind::TimedOut, why)
            };
            timeout(limit, connecting).await.map_err(late)?
        })
    }
}
