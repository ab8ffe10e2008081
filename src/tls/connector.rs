//! Connections with TLS for clients that leave connecting to others: gRPC channels, and the HTTP client that asks often.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{BoxError, Service};

use super::{Alpn, ClientTls, TlsError};

/// The system tells when the other side is gone without a word; otherwise what is sent next waits for it in vain.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;
/// The same of what was sent, and of probes in all.
#[cfg(target_os = "linux")]
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Connects to the address of a URL, and expects the certificate of the name that this was made for: the address may
/// be one of several that the name stands for.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    name: rustls::pki_types::ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Connector {
    /// For a protocol with this host.
    pub fn new(
        tls: &ClientTls,
        host: &str,
        alpn: Alpn,
        connect_timeout: Duration,
    ) -> Result<Self, TlsError> {
        let mut tcp = Self::tcp(connect_timeout);
        tcp.enforce_http(false);
        let config = Arc::new(tls.config(alpn)?);
        Ok(Self { tcp, tls: config, name: tls.name_of(host)? })
    }

    /// The same without TLS.
    pub fn tcp(connect_timeout: Duration) -> HttpConnector {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(PROBE_AFTER));
        tcp.set_keepalive_interval(Some(PROBE_AFTER));
        tcp.set_keepalive_retries(Some(PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNANSWERED_MAX));
        tcp
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tcp = self.tcp.call(uri);
        let (tls, name) = (TlsConnector::from(Arc::clone(&self.tls)), self.name.clone());
        Box::pin(async move {
            let stream = tls.connect(name, tcp.await?.into_inner()).await?;
            Ok(TokioIo::new(stream))
        })
    }
}
