//! HTTP clients, all alike: HTTP/1.1 with keep-alive, no redirects, no retries, no proxy, no compression of
//! their own.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect, retry};

use crate::tls::{self, Alpn, ClientTls, TlsError};

/// What differs between them.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// For a new one.
    pub connect_timeout: Duration,
    /// An idle one is closed after so long.
    pub keep_alive: Duration,
    /// Idle ones that are kept.
    pub idle_max: usize,
}

/// A client, but for its building; without TLS it asks over http:// alone.
pub fn client(
    connections: Connections,
    tls: Option<&ClientTls>,
) -> Result<ClientBuilder, TlsError> {
    let builder = Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        // Only HTTP/2 says what may be sent again: for that each request would be copied.
        .retry(retry::never().max_retries_per_request(0))
        .tcp_nodelay(true)
        .pool_idle_timeout(connections.keep_alive)
        .pool_max_idle_per_host(connections.idle_max)
        .connect_timeout(connections.connect_timeout)
        .user_agent(concat!("tracestitch/", env!("CARGO_PKG_VERSION")));
    if let Some(tls) = tls {
        return Ok(builder.tls_backend_preconfigured(tls.config(Alpn::Http1)?));
    }
    // An image without certificates of authorities must be able to ask over http://.
    tls::install_provider();
    Ok(builder.tls_certs_only([]))
}
