//! HTTP clients, all alike: HTTP/1.1 with keep-alive, no redirects, no retries, no proxy, no compression of
//! their own.
//!
//! Exporters and tools ask by reqwest. [`Server`] is for one that is asked for every trace: hyper's connection, which is
//! below reqwest too, without what lies between.

mod connection;
mod response;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect, retry};

pub use self::{
    response::Response,
    server::{HttpError, Server},
};
use crate::tls::{self, Alpn, ClientTls, TlsError};

/// Who asks, as we say it.
const USER_AGENT: &str = concat!("tracestitch/", env!("CARGO_PKG_VERSION"));

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
        .user_agent(USER_AGENT);
    if let Some(tls) = tls {
        return Ok(builder.tls_backend_preconfigured(tls.config(Alpn::Http1)?));
    }
    // An image without certificates of authorities must be able to ask over http://.
    tls::install_provider();
    Ok(builder.tls_certs_only([]))
}
