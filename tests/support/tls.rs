//! Clients that trust the certificates of an [`Authority`], and doubles behind TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Endpoint;
use tracestitch::{
    demo::sender::Sender,
    tls::{Alpn, ClientTls, ClientTlsConfig, Connector, Reloads, ServerTls, ServerTlsConfig},
};

pub(crate) use super::authority::Authority;

impl Authority {
    /// Who trusts this authority, with a certificate of his own or without.
    pub(crate) fn client(&self, name: Option<&str>) -> ClientTls {
        let file = |ending: &str| name.map(|name| self.path(&format!("{name}.{ending}")));
        let config = ClientTlsConfig {
            ca_file: Some(self.path("ca.pem")),
            cert_file: file("pem"),
            key_file: file("key"),
            ..ClientTlsConfig::default()
        };
        ClientTls::new(&config, "story", &Reloads::default()).expect("files")
    }
}

/// A client of HTTP/1.1 that keeps no connection.
pub(crate) fn http(tls: &ClientTls) -> reqwest::Client {
    let config = tls.config(Alpn::Http1).expect("a configuration");
    let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config);
    builder.pool_max_idle_per_host(0).build().expect("a client")
}

/// A sender to a receiver on loopback.
pub(crate) fn sender(tls: &ClientTls, address: SocketAddr) -> Sender {
    let url = format!("https://localhost:{}", address.port());
    let connector =
        Connector::new(tls, "localhost", Alpn::Http2, Duration::from_secs(5)).expect("a name");
    let endpoint = Endpoint::from_shared(url).expect("a URL");
    Sender::over(endpoint.connect_with_connector_lazy(connector))
}

/// A connection after its handshake.
pub(crate) async fn connect(
    tls: &ClientTls,
    address: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = Arc::new(tls.config(Alpn::Http1).expect("a configuration"));
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(config).connect(name, TcpStream::connect(address).await?).await
}

/// TLS in front of something that speaks none: what comes by TLS goes on in plain text.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    pub(crate) async fn start(config: &ServerTlsConfig, alpn: Alpn, to: SocketAddr) -> Self {
        let tls = ServerTls::new(config, alpn, "story", &Reloads::default()).expect("files");
        let tls = tls.expect("TLS is on");
        let listener = TcpListener::bind(super::ANY_PORT).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let Ok(mut near) = tls.accept(stream).await else { return };
                    let mut far = TcpStream::connect(to).await.expect("it is there");
                    // An error means that either side ended.
                    let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
