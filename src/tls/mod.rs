//! The one TLS stack, rustls with ring, on both sides. Who we are and whom we trust comes out of files, which are read
//! again when they change: connections that are there stay, new ones use the new files.

mod client;
mod connector;
mod error;
mod files;
mod reload;
mod server;

use std::sync::{Arc, Once};

use rustls::crypto::{CryptoProvider, ring};

pub use self::{
    client::{ClientTls, ClientTlsConfig},
    connector::Connector,
    error::TlsError,
    reload::{Reloads, keep_reloading},
    server::{ServerTls, ServerTlsConfig},
};

/// What a side of a connection may speak above TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone, as gRPC does.
    Http2,
    /// Either, HTTP/2 rather.
    Any,
}

impl Alpn {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&str] = match self {
            Self::Http1 => &["http/1.1"],
            Self::Http2 => &["h2"],
            Self::Any => &["h2", "http/1.1"],
        };
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }
}

/// TLS 1.0 and 1.1 are not there at all.
const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

static PROVIDER: Once = Once::new();

/// Makes ring the process' provider; building an HTTP client without TLS of ours panics without one.
pub fn install_provider() {
    // An error means that a provider was installed before.
    PROVIDER.call_once(|| drop(ring::default_provider().install_default()));
}
