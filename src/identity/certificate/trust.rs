//! Whose certificates are taken: authorities, and what they have taken back.
//!
//! Knows nothing about who is who. Invariant: where lists of revocations are configured,
//! one that is in date tells of each certificate of a chain, or the chain is not taken.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::read::{self, Fields, List};
use super::{Certificate, CertificateError, Presented};

/// A list is written by an authority; one beyond this is not.
const LARGEST: u64 = 64 * 1024 * 1024;

/// So many certificates beside a client's own: webpki tries each order in which they may
/// stand, and whoever shows more than it needs chooses how long that takes.
const LONGEST: usize = 5;

/// What client certificates are verified by: a snapshot of authorities and revocations.
pub struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: usize,
    /// Of when each authority's list is.
    lists: BTreeMap<Vec<u8>, Timestamp>,
    /// When lists are out of date.
    ends: Vec<Timestamp>,
}

/// Why authorities or lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read as PEM.
    #[error("{}: {source}", path.display())]
    Pem {
        /// Which file
        path: PathBuf,
        /// Why
        source: rustls::pki_types::pem::Error,
    },
    /// A file without what it should have.
    #[error("{}: no {what} in it", path.display())]
    Empty {
        /// Which file
        path: PathBuf,
        /// Certificate or list
        what: &'static str,
    },
    /// What is in a file is of no use.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// Which file
        path: PathBuf,
        /// Why
        why: String,
    },
}

impl Trust {
    /// Reads the files of authorities and of lists, both PEM. A list is not taken that is
    /// older than that authority's was `before`: it could pardon.
    ///
    /// # Errors
    /// As [`TrustError`] says.
    pub fn load(
        authorities: &Path,
        lists: &[PathBuf],
        before: Option<&Self>,
    ) -> Result<Self, TrustError> {
        let unusable = |path: &Path, why: String| TrustError::Unusable {
            path: path.to_owned(),
            why,
        };
        let certificates: Vec<CertificateDer<'static>> = pem(authorities, "certificate")?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| unusable(authorities, error.to_string()))?;
        }
        let mut issuers = BTreeMap::new();
        let mut all: Vec<CertificateRevocationListDer<'static>> = Vec::new();
        let mut ends = Vec::new();
        for path in lists {
            if std::fs::metadata(path).is_ok_and(|file| file.len() > LARGEST) {
                return Err(unusable(path, format!("more than {LARGEST} bytes")));
            }
            for one in pem::<CertificateRevocationListDer<'static>>(path, "list of revocations")? {
                let list = List::read(&one)
                    .ok_or_else(|| unusable(path, "no list of revocations".into()))?;
                let old = before.and_then(|before| before.lists.get(list.issuer));
                if let Some(old) = old.filter(|old| **old > list.written) {
                    let why = format!("a list of {}, older than that of {old}", list.written);
                    return Err(unusable(path, why));
                }
                // Of two, the first would be looked into, be it the older.
                if issuers.insert(list.issuer.to_vec(), list.written).is_some() {
                    return Err(unusable(path, "a second list of one authority".into()));
                }
                ends.extend(list.next);
                all.push(one);
            }
        }
        let count = roots.len();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(all)
            .enforce_revocation_expiration()
            .allow_unauthenticated()
            .build()
            .map_err(|error| {
                let path = lists.first().map_or(authorities, PathBuf::as_path);
                unusable(path, error.to_string())
            })?;
        Ok(Self {
            verifier,
            authorities: count,
            lists: issuers,
            ends,
        })
    }

    /// How many authorities there are.
    pub fn authorities(&self) -> usize {
        self.authorities
    }

    /// How many lists of revocations there are.
    pub fn lists(&self) -> usize {
        self.lists.len()
    }

    /// For the handshake: what it asks of clients, and that they have the key.
    pub(crate) fn handshake(&self) -> &Arc<dyn ClientCertVerifier> {
        &self.verifier
    }

    /// What a certificate says that holds at that time.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    pub fn verify(
        &self,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<Certificate, CertificateError> {
        let (own, chain) = presented.0.split_first().ok_or(CertificateError::Missing)?;
        if chain.len() > LONGEST {
            return Err(CertificateError::Malformed("its chain is too long"));
        }
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.verifier
            .verify_client_cert(own, chain, at)
            .map_err(why)?;
        let fields = Fields::read(own)?;
        let mut ends = vec![fields.expires];
        for one in chain {
            ends.extend(read::expires(one));
        }
        // Valid to the end of that second; what is not of the way to an authority counts
        // too, but then only has it verified again.
        let ends = ends
            .into_iter()
            .map(|end| end.saturating_add(SignedDuration::from_secs(1)))
            .map(|end| end.unwrap_or(Timestamp::MAX))
            .chain(self.ends.iter().copied());
        Ok(Certificate {
            name: None,
            serial: fields.serial.into(),
            fingerprint: fields.fingerprint.into(),
            expires: fields.expires,
            names: fields.names,
            // What has passed already did not matter, and does not from now on.
            until: ends
                .filter(|end| *end > now)
                .min()
                .unwrap_or(fields.expires),
            presented: presented.clone(),
        })
    }
}

fn pem<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TrustError> {
    let fault = |source| TrustError::Pem {
        path: path.to_owned(),
        source,
    };
    let all: Vec<T> = T::pem_file_iter(path)
        .map_err(fault)?
        .collect::<Result<_, _>>()
        .map_err(fault)?;
    match all.is_empty() {
        true => Err(TrustError::Empty {
            path: path.to_owned(),
            what,
        }),
        false => Ok(all),
    }
}

/// rustls's reason in our words.
fn why(error: rustls::Error) -> CertificateError {
    use rustls::CertificateError as Of;
    let error = match error {
        rustls::Error::InvalidCertificate(error) => error,
        // Signed by somebody else, say.
        rustls::Error::InvalidCertRevocationList(_) => return CertificateError::Unlisted,
        other => return CertificateError::Invalid(other.to_string()),
    };
    match error {
        Of::BadEncoding => CertificateError::Malformed("its encoding"),
        Of::Expired | Of::ExpiredContext { .. } => CertificateError::Expired,
        Of::NotValidYet | Of::NotValidYetContext { .. } => CertificateError::Early,
        Of::Revoked => CertificateError::Revoked,
        Of::UnknownIssuer | Of::BadSignature => CertificateError::Issuer,
        Of::UnknownRevocationStatus => CertificateError::Unlisted,
        Of::ExpiredRevocationList | Of::ExpiredRevocationListContext { .. } => {
            CertificateError::Outdated
        }
        Of::InvalidPurpose | Of::InvalidPurposeContext { .. } => CertificateError::Purpose,
        other => CertificateError::Invalid(format!("{other:?}").chars().take(80).collect()),
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "Trust({} authorities, {} lists)",
            self.authorities,
            self.lists.len()
        )
    }
}
