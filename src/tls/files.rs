//! PEM files: what is in them, and whether they changed.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};

use super::{TlsError, provider};

/// All public authorities together are a quarter of a MiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge { path: path.to_owned(), limit_bytes: FILE_BYTES_MAX });
    }
    Ok(bytes)
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates
        .map_err(|error| TlsError::Pem { path: path.to_owned(), why: error.to_string() })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(certificates)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { path: path.to_owned() },
        // Nothing of the file's content: it is a secret.
        _ => TlsError::Pem { path: path.to_owned(), why: "a section is cut or garbled".to_owned() },
    })
}

/// A certificate with those that vouch for it, and its key.
pub(super) fn identity(certificate: &Path, key_file: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(certificate)?;
    let made = CertifiedKey::from_der(chain, key(key_file)?, &provider());
    made.map(Arc::new).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { certificate: certificate.to_owned(), key: key_file.to_owned() }
        }
        // It parses the certificate to compare the keys.
        rustls::Error::InvalidCertificate(_) => {
            TlsError::Unusable { path: certificate.to_owned(), source }
        }
        source => TlsError::Unusable { path: key_file.to_owned(), source },
    })
}

/// Authorities to trust.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let unusable = |source| TlsError::Unusable { path: path.to_owned(), source };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

/// Files of one purpose, and how they stood when they were last read.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
}

/// Differs when a file was written, replaced or came to be; also where a directory is replaced by a link, as Kubernetes
/// does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    /// Also when only its rights changed: a file that could not be read may be readable now.
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl Watched {
    /// To be made before the files are read: what changes meanwhile counts as changed.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let stamps = stamps(&paths);
        Self { paths, stamps }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// They could not be used: asked again, they have changed.
    pub(super) fn forget(&mut self) {
        self.stamps.clear();
    }

    /// Whether they changed since this was asked.
    pub(super) fn have_changed(&mut self) -> bool {
        let now = stamps(&self.paths);
        let changed = now != self.stamps;
        self.stamps = now;
        changed
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        let changed = (meta.ctime(), meta.ctime_nsec());
        Some(Stamp {
            modified: meta.modified().ok()?,
            changed,
            bytes: meta.len(),
            inode: meta.ino(),
        })
    };
    paths.iter().map(stamp).collect()
}
