//! [`Authority`]: certificates of an afternoon.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

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
}
