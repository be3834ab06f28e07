//! Whose certificates are taken: authorities, and what they have taken back.
//!
//! Knows nothing about who is who. Invariants: an authority that has expired vouches for
//! nobody; where lists of revocations are configured, one that is in date tells of each
//! certificate of a chain, or the chain is not taken.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::lists::Lists;
use super::read::{self, Fields, sha256};
use super::{Certificate, CertificateError, Presented};

/// So many certificates beside a client's own: webpki tries each order in which they may
/// stand, and whoever shows more than it needs chooses how long that takes.
const LONGEST: usize = 5;

/// Which trust it is, of all that there have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u64);

impl Id {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a certificate was last verified by, and until when that holds; all copies of it
/// have this in common, and are equal whatever it says.
#[derive(Clone, Debug)]
pub(super) struct Last(Arc<Mutex<(Id, Timestamp)>>);

impl PartialEq for Last {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Last {}

/// What client certificates are verified by: a snapshot of authorities and revocations.
pub struct Trust {
    id: Id,
    roots: Vec<Root>,
    lists: Lists,
    /// Some authority may vouch for some names alone.
    constrained: bool,
    /// Of those authorities that had not expired then.
    verifier: Mutex<Verifier>,
    /// As it was at first.
    handshake: Arc<dyn ClientCertVerifier>,
    faults: Vec<String>,
}

/// An authority.
#[derive(Clone)]
struct Root {
    der: CertificateDer<'static>,
    /// From then on it is none.
    end: Timestamp,
    fingerprint: String,
}

struct Verifier {
    verifier: Arc<dyn ClientCertVerifier>,
    /// When an authority expires.
    until: Timestamp,
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
    /// older than that authority's was `before`: it could pardon. In place of those before,
    /// one that is of no use leaves that one in force; [`Trust::faults`] says so.
    ///
    /// # Errors
    /// As [`TrustError`] says.
    pub fn load(
        authorities: &Path,
        lists: &[PathBuf],
        before: Option<&Self>,
    ) -> Result<Self, TrustError> {
        let now = Timestamp::now();
        let (mut roots, mut faults) = (Vec::new(), Vec::new());
        for der in pem::<CertificateDer<'static>>(authorities, "certificate")? {
            let end = read::expires(&der);
            let end = end.ok_or_else(|| unusable(authorities, "no certificate".into()))?;
            let root = Root {
                end: after(end),
                fingerprint: sha256(&der),
                der,
            };
            if root.end <= now {
                let why = format!("an authority in it has expired at {end}");
                faults.push(unusable(authorities, why));
            }
            roots.push(root);
        }
        let store = store(&roots, now).map_err(|why| unusable(authorities, why))?;
        let none = Lists::default();
        let old = before.map_or(&none, |before| &before.lists);
        let (mut found, wrong) = Lists::read(lists, &store, old, now);
        if before.is_some() && !wrong.is_empty() {
            found = found.beside(old, &store);
            faults.extend(wrong);
        } else if let Some(wrong) = wrong.into_iter().next() {
            return Err(wrong);
        }
        if let Some(path) = lists.first()
            && found.len() == 0
        {
            // Without any, nothing would be asked for.
            let why = match faults.last() {
                Some(fault) => fault.to_string(),
                None => "no list of revocations that counts".into(),
            };
            return Err(unusable(path, why));
        }
        let faults = faults.iter().map(ToString::to_string).collect();
        Self::of(roots, found, faults, now).map_err(|why| {
            let path = lists.first().map_or(authorities, PathBuf::as_path);
            unusable(path, why)
        })
    }

    /// The same, with the newer of the lists in force and of those in files that can be
    /// read; nothing, where that is the same.
    pub fn revoking(&self, lists: &[PathBuf]) -> Option<Self> {
        let now = Timestamp::now();
        let store = store(&self.roots, now).ok()?;
        let (found, _) = Lists::read(lists, &store, &self.lists, now);
        let found = found.beside(&self.lists, &store);
        let same = found.fingerprints().eq(self.lists.fingerprints());
        // Without any, nothing would be asked for.
        if same || found.len() == 0 {
            return None;
        }
        Self::of(self.roots.clone(), found, Vec::new(), now).ok()
    }

    fn of(
        roots: Vec<Root>,
        lists: Lists,
        faults: Vec<String>,
        now: Timestamp,
    ) -> Result<Self, String> {
        let verifier = Verifier::of(&roots, &lists, now)?;
        Ok(Self {
            id: Id::next(),
            constrained: roots.iter().any(|root| read::is_constrained(&root.der)),
            handshake: verifier.verifier.clone(),
            verifier: Mutex::new(verifier),
            roots,
            lists,
            faults,
        })
    }

    /// How many authorities there are.
    pub fn authorities(&self) -> usize {
        self.roots.len()
    }

    /// How many lists of revocations there are.
    pub fn lists(&self) -> usize {
        self.lists.len()
    }

    /// SHA-256 of each authority's certificate, in hex.
    pub fn trusted(&self) -> Vec<String> {
        let all = self.roots.iter();
        all.map(|root| root.fingerprint.clone()).collect()
    }

    /// SHA-256 of each list, in hex.
    pub fn revocations(&self) -> Vec<String> {
        self.lists.fingerprints().map(str::to_owned).collect()
    }

    /// What was of no use, though the rest is in force.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// The verifier of those authorities that have not expired.
    fn verifier(&self, now: Timestamp) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
        let mut verifier = self.verifier.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= verifier.until {
            // None is left.
            *verifier = Verifier::of(&self.roots, &self.lists, now)
                .map_err(|_| CertificateError::Issuer)?;
        }
        Ok(verifier.verifier.clone())
    }

    /// For the handshake: what it asks of clients, and that they have the key.
    pub(crate) fn handshake(&self) -> &Arc<dyn ClientCertVerifier> {
        &self.handshake
    }

    /// What was taken once, verified again, unless it has been and nothing has changed: a
    /// list's signature takes its time, and all sessions ask at once.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    pub fn again(
        &self,
        before: &Certificate,
        now: Timestamp,
    ) -> Result<Certificate, CertificateError> {
        let last = || before.by.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, until) = *last();
        if id == self.id && now < until {
            return Ok(Certificate {
                name: None,
                until,
                ..before.clone()
            });
        }
        let shown = self.verify(&before.presented, now)?;
        *last() = (self.id, shown.until);
        Ok(Certificate {
            by: before.by.clone(),
            ..shown
        })
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
        self.verifier(now)?
            .verify_client_cert(own, chain, at)
            .map_err(why)?;
        let mut fields = Fields::read(own)?;
        // What constrains an authority does not bind the common names that it gives.
        if self.constrained || chain.iter().any(|one| read::is_constrained(one)) {
            fields.names.retain(|name| !name.is_common());
        }
        let chain = chain.iter().filter_map(|one| read::expires(one));
        // What is not of the way to an authority counts too, but then only has it verified
        // again.
        let ends = chain
            .chain([fields.expires])
            .map(after)
            .chain(self.roots.iter().map(|root| root.end))
            .chain(self.lists.ends());
        // What has passed already did not matter, and does not from now on.
        let until = ends.filter(|end| *end > now).min();
        let until = until.unwrap_or(fields.expires);
        Ok(Certificate {
            name: None,
            serial: fields.serial.into(),
            fingerprint: fields.fingerprint.into(),
            expires: fields.expires,
            names: fields.names,
            until,
            presented: presented.clone(),
            by: Last(Arc::new(Mutex::new((self.id, until)))),
        })
    }
}

impl Verifier {
    fn of(roots: &[Root], lists: &Lists, now: Timestamp) -> Result<Self, String> {
        let ends = roots.iter().map(|root| root.end);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let store = Arc::new(store(roots, now)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(store, provider)
            .with_crls(lists.ders())
            .enforce_revocation_expiration()
            .allow_unauthenticated()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            verifier,
            until: ends
                .filter(|end| *end > now)
                .min()
                .unwrap_or(Timestamp::MAX),
        })
    }
}

/// Those that have not expired: rustls asks that of no authority.
fn store(roots: &[Root], now: Timestamp) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in roots.iter().filter(|root| root.end > now) {
        store
            .add(root.der.clone())
            .map_err(|error| error.to_string())?;
    }
    match store.is_empty() {
        true => Err("every authority in it has expired".into()),
        false => Ok(store),
    }
}

/// A certificate is valid to the end of that second.
fn after(end: Timestamp) -> Timestamp {
    let end = end.saturating_add(SignedDuration::from_secs(1));
    end.unwrap_or(Timestamp::MAX)
}

fn unusable(path: &Path, why: String) -> TrustError {
    TrustError::Unusable {
        path: path.to_owned(),
        why,
    }
}

pub(super) fn pem<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TrustError> {
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
            self.roots.len(),
            self.lists.len()
        )
    }
}
