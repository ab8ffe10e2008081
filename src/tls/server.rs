//! TLS for those who connect to us.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Alpn, Reloads, TlsError, VERSIONS, files, files::Watched, provider, reload::Live};
use crate::config::{Interval, Problems};

/// TLS for those who connect to us. Without cert_file and key_file: plain text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTlsConfig {
    /// PEM file of the certificate, and of those that vouch for it. TLS 1.2 at least is spoken.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its private key.
    pub key_file: Option<PathBuf>,
    /// PEM file of authorities: who connects must have a certificate of one of them.
    pub client_ca_file: Option<PathBuf>,
    /// How often the files are looked at, to use new ones for new connections; 0s never does.
    pub reload_interval: Interval,
}

impl Default for ServerTlsConfig {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            reload_interval: Interval::from_secs(60),
        }
    }
}

impl ServerTlsConfig {
    /// TLS is spoken.
    pub fn is_on(&self) -> bool {
        self.cert_file.is_some() || self.key_file.is_some()
    }

    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        if *self == Self::default() {
            return;
        }
        let hint = Some("a certificate and its key go together");
        for (key, file) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            if file.is_none() {
                problems.push(key, "is needed for TLS", hint);
            }
        }
    }
}

/// Handshakes with those who connect, by the files as they are now.
#[derive(Debug, Clone)]
pub struct ServerTls(Live<ServerConfig>);

impl ServerTls {
    /// Reads the files; `None` for plain text. `place` is who listens, as metrics name it.
    pub fn new(
        config: &ServerTlsConfig,
        alpn: Alpn,
        place: &str,
        reloads: &Reloads,
    ) -> Result<Option<Self>, TlsError> {
        let ServerTlsConfig { cert_file: Some(certificate), key_file: Some(key), .. } = config
        else {
            return Ok(None);
        };
        let paths = [Some(certificate), Some(key), config.client_ca_file.as_ref()];
        let watched = Watched::new(paths.into_iter().flatten().cloned().collect());
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: config.client_ca_file.clone(),
            alpn,
        };
        let live = Live::new(files.read()?);
        let next = live.clone();
        reloads.add(place, config.reload_interval.get(), watched, move || {
            files.read().map(|config| next.set(config))
        });
        Ok(Some(Self(live)))
    }

    /// Shakes hands. The caller limits the time.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.0.now()).accept(stream).await
    }
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    alpn: Alpn,
}

impl Files {
    /// All anew, so that no session of a client who was trusted before is taken up again.
    fn read(&self) -> Result<ServerConfig, TlsError> {
        let identity = files::identity(&self.certificate, &self.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(TlsError::Settings)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(files::roots(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.build().map_err(|error| TlsError::ClientCa {
                    path: path.clone(),
                    why: error.to_string(),
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let identity = SingleCertAndKey::from(identity);
        let mut config = builder.with_cert_resolver(Arc::new(identity));
        config.alpn_protocols = self.alpn.names();
        Ok(config)
    }
}
