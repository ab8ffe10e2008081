//! One server and the connections to it, for one kind of request that is sent often.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::Mutex;
use tower::{BoxError, ServiceExt as _};

use super::{
    Connections, USER_AGENT,
    connection::{Connection, Post},
    response::Response,
};
use crate::{
    clock::Instant,
    config::HttpUrl,
    tls::{Alpn, ClientTls, Connector, TlsError},
};

/// Why there is no answer, or not all of one.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody is there, or he isn't trusted.
    #[error("cannot connect to {to}")]
    Connect {
        /// Host and port.
        to: String,
        /// The resolver's, the socket's or TLS'.
        source: BoxError,
    },
    /// Nobody says anything.
    #[error("cannot connect to {to} within {} ms", .within.as_millis())]
    Late {
        /// Host and port.
        to: String,
        /// The timeout.
        within: Duration,
    },
    /// The connection ended, or what came is no HTTP.
    #[error("there is no answer, or not all of one")]
    Exchange(#[from] hyper::Error),
}

/// A server that is sent requests, all of them POST to one path.
#[derive(Debug)]
pub struct Server {
    /// As it is connected to.
    uri: Uri,
    path: Uri,
    pub(super) host: HeaderValue,
    tcp: HttpConnector,
    tls: Option<Connector>,
    limits: Connections,
    /// The one that was used last is the next one: those that a burst needed get old.
    pub(super) idle: Mutex<Vec<Idle>>,
}

pub(super) struct Idle {
    connection: Connection,
    since: Instant,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idle").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Server {
    /// For requests to `path` below a URL; `tls` is for an https one.
    ///
    /// # Panics
    ///
    /// When `path` is none.
    pub fn new(
        base: &HttpUrl,
        path: &'static str,
        limits: Connections,
        tls: Option<&ClientTls>,
    ) -> Result<Self, TlsError> {
        // The query stays out: it may hold a key.
        let uri: Uri = format!("{base}{path}").parse().expect("a path below a URL");
        let tls = tls.filter(|_| base.is_tls()).map(|tls| {
            let host = uri.host().unwrap_or_default();
            Connector::new(tls, host, Alpn::Http1, limits.connect_timeout)
        });
        Ok(Self {
            path: uri.path().parse().expect("the path of a URL"),
            host: host(&uri),
            tcp: Connector::tcp(limits.connect_timeout),
            tls: tls.transpose()?,
            limits,
            idle: Mutex::default(),
            uri,
        })
    }

    /// Sends a request, over a connection that is there or a new one, and waits for the head of its answer. The caller
    /// limits how long.
    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Response<'_>, HttpError> {
        let mut request = self.request(headers, body);
        while let Some(mut connection) = self.take() {
            match connection.send(request).await {
                Ok(response) => return Ok(Response::new(response, connection, self)),
                Err(mut error) => match error.take_message() {
                    // It was closed while nobody used it.
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        // Rare and large: whoever asks would be three times its size, and tasks are moved about.
        let mut connection = Box::pin(self.connect()).await?;
        match connection.send(request).await {
            Ok(response) => Ok(Response::new(response, connection, self)),
            Err(error) => Err(error.into_error().into()),
        }
    }

    /// Closes the connections that were idle too long: servers close them some day, and a request may be on its way
    /// then.
    pub fn close_old(&self, now: Instant) {
        let is_old =
            |idle: &mut Idle| now.saturating_duration_since(idle.since) >= self.limits.keep_alive;
        let old: Vec<Idle> = self.idle.lock().extract_if(.., is_old).collect();
        for Idle { connection, .. } in old {
            tokio::spawn(tokio::time::timeout(self.limits.connect_timeout, connection.close()));
        }
    }

    fn request(&self, mut headers: HeaderMap, body: Bytes) -> Post {
        // Operators may say both.
        headers.entry(header::HOST).or_insert_with(|| self.host.clone());
        let agent = headers.entry(header::USER_AGENT);
        agent.or_insert_with(|| HeaderValue::from_static(USER_AGENT));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        request
    }

    fn take(&self) -> Option<Connection> {
        self.idle.lock().pop().map(|idle| idle.connection)
    }

    /// Keeps a connection whose answer was read, if it is good for another request.
    pub(super) fn keep(&self, connection: Connection) {
        if !connection.is_free() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.limits.idle_max {
            idle.push(Idle { connection, since: crate::clock::now() });
        }
    }

    async fn connect(&self) -> Result<Connection, HttpError> {
        let to = || self.uri.authority().map_or_else(String::new, ToString::to_string);
        let within = self.limits.connect_timeout;
        match tokio::time::timeout(within, self.connected()).await {
            Ok(Ok(connection)) => Ok(connection),
            // Of several addresses each has its share of the time.
            Ok(Err(source)) if !is_late(&*source) => Err(HttpError::Connect { to: to(), source }),
            Ok(Err(_)) | Err(_) => Err(HttpError::Late { to: to(), within }),
        }
    }

    async fn connected(&self) -> Result<Connection, BoxError> {
        let uri = self.uri.clone();
        Ok(match &self.tls {
            Some(tls) => Connection::over(tls.clone().oneshot(uri).await?).await?,
            None => Connection::over(self.tcp.clone().oneshot(uri).await?).await?,
        })
    }
}

/// The system waited long enough, or the connector did, which says so in the same words.
pub(super) fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| {
        let error = error.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    })
}

/// As the server is called; the port of the scheme goes without saying (RFC 9110, section 4.2.3).
fn host(uri: &Uri) -> HeaderValue {
    let usual = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let host = uri.host().unwrap_or_default();
    let text = match uri.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::from_str(&text).expect("the host of a URL is a header's text")
}
