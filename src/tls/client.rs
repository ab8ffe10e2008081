//! TLS towards those we connect to.

use std::{fmt, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};

use super::{
    Alpn, Reloads, TlsError, VERSIONS,
    files::{self, Watched},
    provider,
    reload::Live,
};
use crate::config::{Interval, Problems};

/// TLS towards an https endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTlsConfig {
    /// PEM file of the certificate authority to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate, if the endpoint asks for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its private key.
    pub key_file: Option<PathBuf>,
    /// Trusts whoever answers: anybody on the way can read and change what is sent. For trying things out.
    pub insecure_skip_verify: bool,
    /// Name in the certificate, if it is not the endpoint's host.
    pub server_name_override: Option<String>,
    /// How often the files are looked at, to use new ones for new connections; 0s never does.
    pub reload_interval: Interval,
}

impl Default for ClientTlsConfig {
    fn default() -> Self {
        Self {
            ca_file: None,
            cert_file: None,
            key_file: None,
            insecure_skip_verify: false,
            server_name_override: None,
            reload_interval: Interval::from_secs(60),
        }
    }
}

impl ClientTlsConfig {
    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        let hint = Some("a certificate and its key go together");
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => problems.push("key_file", "is needed with cert_file", hint),
            (None, Some(_)) => problems.push("cert_file", "is needed with key_file", hint),
            _ => {}
        }
        if let Some(name) = &self.server_name_override
            && server_name(name).is_err()
        {
            problems.push("server_name_override", "is neither a host name nor an address", None);
        }
    }

    /// Notes what leaves a door open.
    pub fn warn(&self, is_used: bool, problems: &mut Problems) {
        if !is_used && *self != Self::default() {
            let hint = Some("https:// is what asks for TLS");
            return problems.push(
                "",
                "is not used: the endpoint is http://, what is sent is plain text",
                hint,
            );
        }
        if self.insecure_skip_verify {
            let hint = Some("name the authority's file in ca_file");
            let problem = "whoever answers is trusted, anybody on the way can read what is sent";
            problems.push("insecure_skip_verify", problem, hint);
        }
    }
}

/// A host name or an address, as a certificate can have it.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    // As URLs write an address of IPv6.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// Whom we trust and who we are, by the files as they are now. One for each endpoint; clones are the same.
#[derive(Debug, Clone)]
pub struct ClientTls {
    live: Live<Files>,
    name: Option<ServerName<'static>>,
}

/// What was in the files.
#[derive(Debug)]
struct Files {
    trust: Arc<dyn ServerCertVerifier>,
    identity: Option<Arc<CertifiedKey>>,
}

impl ClientTls {
    /// Reads the files. `place` is who connects, as metrics name it.
    pub fn new(config: &ClientTlsConfig, place: &str, reloads: &Reloads) -> Result<Self, TlsError> {
        let paths = [&config.ca_file, &config.cert_file, &config.key_file];
        let watched = Watched::new(paths.into_iter().flatten().cloned().collect());
        let live = Live::new(Files::read(config)?);
        let name = config.server_name_override.as_deref().map(server_name).transpose()?;
        let (next, config) = (live.clone(), config.clone());
        reloads.add(place, config.reload_interval.get(), watched, move || {
            Files::read(&config).map(|files| next.set(files))
        });
        Ok(Self { live, name })
    }

    /// The name that the certificate of a host must have.
    pub(super) fn name_of(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        self.name.clone().map_or_else(|| server_name(host), Ok)
    }

    /// For a client that speaks TLS by rustls itself. Follows the files.
    pub fn config(&self, alpn: Alpn) -> Result<ClientConfig, TlsError> {
        let current = Arc::new(Current { live: self.live.clone(), name: self.name.clone() });
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(TlsError::Settings)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&current) as Arc<dyn ServerCertVerifier>);
        let mut config = builder.with_client_cert_resolver(current);
        config.alpn_protocols = alpn.names();
        // A session that is taken up again asks nobody for a certificate: new files would not be looked at.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl Files {
    fn read(config: &ClientTlsConfig) -> Result<Self, TlsError> {
        let identity = match (&config.cert_file, &config.key_file) {
            (Some(certificate), Some(key)) => Some(files::identity(certificate, key)?),
            _ => None,
        };
        Ok(Self { trust: trust(config)?, identity })
    }
}

fn trust(config: &ClientTlsConfig) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if config.insecure_skip_verify {
        return Ok(Arc::new(Anybody));
    }
    let Some(path) = &config.ca_file else {
        let system = rustls_platform_verifier::Verifier::new(provider());
        return Ok(Arc::new(system.map_err(TlsError::SystemRoots)?));
    };
    let roots = Arc::new(files::roots(path)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
    let unusable = |error: rustls::client::VerifierBuilderError| TlsError::Unusable {
        path: path.clone(),
        source: rustls::Error::General(error.to_string()),
    };
    Ok(verifier.map_err(unusable)?)
}

/// Does what the files of this moment say.
struct Current {
    live: Live<Files>,
    /// In place of the endpoint's host.
    name: Option<ServerName<'static>>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Current {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        let trust = &self.live.now().trust;
        trust.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.live.now().trust.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.live.now().trust.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.live.now().trust.supported_verify_schemes()
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let identity = self.live.now().identity.clone()?;
        identity.key.choose_scheme(schemes).is_some().then_some(identity)
    }

    fn has_certs(&self) -> bool {
        self.live.now().identity.is_some()
    }
}

/// Trusts whoever answers, as `insecure_skip_verify` says; only that he has the key of his certificate is verified.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
