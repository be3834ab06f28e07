//! The authorities of a PEM file: whom a connection that the proxy makes trusts.
//!
//! Knows nothing about who is connected to. The invariant: a file that holds none, or one
//! that cannot be used, is an error, and not an empty trust.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

/// What is wrong with such a file, to be said of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsError {
    /// It is another kind of file, or is cut off.
    #[error("is not a PEM file: {0}")]
    Pem(#[from] pem::Error),
    /// Whoever wrote it forgot something.
    #[error("holds no certificate")]
    Empty,
    /// What it holds is no certificate of an authority.
    #[error("has a certificate that cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Its certificates, one at least.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    match all.is_empty() {
        true => Err(RootsError::Empty),
        false => Ok(all),
    }
}

/// The same, as rustls takes them.
pub(crate) fn store(pem: &[u8]) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}
