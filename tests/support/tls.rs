//! Certificates of an afternoon, clients that use them, and doubles behind TLS.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
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

/// Files are looked at so often in stories.
pub(crate) const RELOAD: &str = "reload_interval: 50ms";

/// An authority, with a directory for what it issues.
pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Its own certificate is in `ca.pem`.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self { directory, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// As PEM: a certificate for `localhost` and 127.0.0.1, and its key.
    pub(crate) fn issue(&self) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.issue_for(names)
    }

    pub(crate) fn issue_for(&self, names: Vec<String>) -> (String, String) {
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Into NAME.pem and NAME.key, each at once, as those who rotate them do it.
    pub(crate) fn issue_into(&self, name: &str) {
        let (certificate, key) = self.issue();
        for (ending, text) in [("pem", certificate), ("key", key)] {
            self.replace(&format!("{name}.{ending}"), &text);
        }
    }

    /// A file's content, changed at once.
    pub(crate) fn replace(&self, file: &str, text: &str) {
        let fresh = self.path(&format!("{file}.fresh"));
        fs::write(&fresh, text).expect("a file");
        fs::rename(fresh, self.path(file)).expect("the same directory");
    }

    /// The inside of a section `tls` of who has `NAME.pem` and `NAME.key`.
    pub(crate) fn section(&self, name: &str) -> String {
        let directory = self.directory().display();
        format!("cert_file: '{directory}/{name}.pem', key_file: '{directory}/{name}.key', {RELOAD}")
    }

    /// The same for who asks those who connect for a certificate of this authority.
    pub(crate) fn mutual_section(&self, name: &str) -> String {
        let directory = self.directory().display();
        format!("{}, client_ca_file: '{directory}/ca.pem'", self.section(name))
    }

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
    let connector = Connector::new(tls, "localhost", Duration::from_secs(5)).expect("a name");
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
