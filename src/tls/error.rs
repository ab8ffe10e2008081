//! TLS files that can't be used: which one, and why.

use std::{io, path::PathBuf};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, or not readable for the user this runs as.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Mostly another file was meant.
    #[error("{} is larger than {limit_bytes} bytes, which no file of certificates is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is read at most.
        limit_bytes: u64,
    },
    /// Mostly a file that was cut, or is of another form (DER, PKCS#12).
    #[error("{} is no PEM: {why}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Mostly an empty file, or the key's.
    #[error("there is no certificate in {} (a section BEGIN CERTIFICATE)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Mostly an empty file, the certificate's, or a key with a passphrase.
    #[error("there is no private key in {} (a section BEGIN PRIVATE KEY, without a passphrase)", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Mostly one of the two was replaced and the other not yet.
    #[error("the key in {} does not belong to the first certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// It is PEM, but what it says can't be used.
    #[error("cannot use {}: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// It is PEM, but no certificate to verify clients by.
    #[error("cannot verify clients by {}: {why}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Mostly an image without the package ca-certificates.
    #[error(
        "this system has no certificates of authorities to trust: install ca-certificates, or name a ca_file"
    )]
    SystemRoots(#[source] rustls::Error),
    /// The settings can't be combined.
    #[error("cannot use TLS: {0}")]
    Settings(#[source] rustls::Error),
    /// The text is neither a host name nor an address.
    #[error("`{0}` is no name that a certificate can have")]
    Name(String),
}
