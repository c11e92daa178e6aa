//! Certificates and keys in PEM files.

use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::client::VerifierBuilderError;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {path}: {cause}")]
    Read { path: String, cause: io::Error },
    #[error("{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate { path: String },
    #[error("{path} holds no private key in PEM that is not encrypted (-----BEGIN PRIVATE KEY-----)")]
    NoKey { path: String },
    #[error("{path} is not PEM: {cause}")]
    Pem { path: String, cause: PemError },
    #[error("a certificate of {path} cannot be read: {cause}")]
    Certificate { path: String, cause: rustls::Error },
    #[error("the system has no certificates of authorities: {0}; install ca-certificates, or name a file")]
    NoSystem(String),
    #[error("{}", unusable(.0))]
    Unusable(#[from] rustls::Error),
    #[error("{0}")]
    Verifier(String),
}

/// rustls's own words, where it has some that help.
fn unusable(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".into(),
        other => other.to_string(),
    }
}

impl FileError {
    pub(super) fn verifier(error: VerifierBuilderError) -> Self {
        Self::Verifier(error.to_string())
    }
}

/// A certificate, those between it and an authority, and its key.
pub(crate) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(super) fn digest(&self, digest: &mut Sha256) {
        digest_all(digest, b"chain", self.chain.iter().map(AsRef::as_ref));
        digest_all(digest, b"key", std::iter::once(self.key.secret_der()));
    }
}

/// Certificates of authorities.
pub(crate) struct Authorities {
    /// For errors.
    path: String,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those that the system trusts.
    pub(crate) fn of_the_system() -> Result<Self, FileError> {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(FileError::NoSystem(errors.join("; ")));
        }
        Ok(Self { path: String::new(), certificates: found.certs })
    }

    pub(super) fn digest(&self, digest: &mut Sha256) {
        digest_all(digest, b"authorities", self.certificates.iter().map(AsRef::as_ref));
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, FileError> {
        let mut roots = RootCertStore::empty();
        if self.path.is_empty() {
            // The system may have some that nobody can read, among many.
            roots.add_parsable_certificates(self.certificates.iter().cloned());
            return Ok(roots);
        }
        for certificate in &self.certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|cause| FileError::Certificate { path: self.path.clone(), cause })?;
        }
        Ok(roots)
    }
}

/// So that no two lists give the same digest: each part with its length.
fn digest_all<'a>(digest: &mut Sha256, what: &[u8], parts: impl Iterator<Item = &'a [u8]>) {
    digest.update(what);
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
}

/// Reads a certificate with its chain, and its key.
pub(crate) fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
    let chain = certificates(certificate)?;
    let text = read(key)?;
    let path = key.display().to_string();
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|cause| match cause {
        PemError::NoItemsFound => FileError::NoKey { path },
        cause => FileError::Pem { path, cause },
    })?;
    Ok(Identity { chain, key })
}

/// Reads the certificates of authorities.
pub(crate) fn read_authorities(path: &Path) -> Result<Authorities, FileError> {
    Ok(Authorities { path: path.display().to_string(), certificates: certificates(path)? })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(path)?;
    let path = path.display().to_string();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(FileError::NoCertificate { path }),
        Ok(found) => Ok(found),
        Err(cause) => Err(FileError::Pem { path, cause }),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let text = std::fs::read(path).map(Zeroizing::new);
    text.map_err(|cause| FileError::Read { path: path.display().to_string(), cause })
}
