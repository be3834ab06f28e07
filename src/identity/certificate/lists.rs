//! Lists of revocations: which of those in files count, in place of those before.
//!
//! Knows nothing about certificates. Invariants: of one authority there is one list, and it
//! gives way to no older one; none counts that an authority in force has not signed though
//! it has that authority's name, or that is said to be of the future. So no date is
//! believed before the signature, but where nobody in force has the name (whose
//! certificate comes with its clients'): there, older is taken for a pardon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;

use super::read::{List, sha256};
use super::trust::{TrustError, pem};

/// Each list's signature is verified again at each look into it: of that many bytes, some
/// milliseconds' work.
const LARGEST: u64 = 8 * 1024 * 1024;
/// By how much clocks may differ.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Lists, by their authorities' names.
#[derive(Clone, Default)]
pub(super) struct Lists(BTreeMap<Vec<u8>, Kept>);

#[derive(Clone)]
struct Kept {
    der: CertificateRevocationListDer<'static>,
    /// Of when it is.
    written: Timestamp,
    /// When there is to be another.
    next: Option<Timestamp>,
    /// SHA-256, in hex.
    fingerprint: String,
}

impl Lists {
    /// Those in files, in place of those `before` by the same authorities, and what is
    /// wrong with the others.
    pub(super) fn read(
        paths: &[PathBuf],
        roots: &RootCertStore,
        before: &Self,
        now: Timestamp,
    ) -> (Self, Vec<TrustError>) {
        let mut found = Self::default();
        let mut faults = Vec::new();
        for path in paths {
            let all = match of_file(path) {
                Ok(all) => all,
                Err(error) => {
                    faults.push(error);
                    continue;
                }
            };
            for one in all {
                if let Err(why) = found.take(one, roots, before, now) {
                    faults.push(unusable(path, why));
                }
            }
        }
        (found, faults)
    }

    fn take(
        &mut self,
        der: CertificateRevocationListDer<'static>,
        roots: &RootCertStore,
        before: &Self,
        now: Timestamp,
    ) -> Result<(), String> {
        let list = List::read(&der).ok_or("no list of revocations")?;
        let written = list.written;
        if written > now.saturating_add(AHEAD).unwrap_or(Timestamp::MAX) {
            return Err(format!("a list of {written}, which is yet to come"));
        }
        if is_forged(&list, roots) {
            return Err("a list that the authority whose name it has did not sign".into());
        }
        let old = before.0.get(list.issuer);
        let old = old.filter(|old| old.written > written && !old.is_forged(roots));
        if let Some(old) = old {
            let old = old.written;
            return Err(format!("a list of {written}, older than that of {old}"));
        }
        let kept = Kept {
            written,
            next: list.next,
            fingerprint: sha256(&der),
            der: der.clone(),
        };
        let other = self.0.get(list.issuer).map(|other| other.written);
        // Of two, the older could pardon.
        if other.is_none_or(|other| other < written) {
            self.0.insert(list.issuer.to_vec(), kept);
        }
        match other {
            Some(_) => Err("a second list of one authority".into()),
            None => Ok(()),
        }
    }

    /// With those before of authorities that have none here.
    pub(super) fn beside(mut self, before: &Self, roots: &RootCertStore) -> Self {
        for (issuer, kept) in &before.0 {
            if !self.0.contains_key(issuer) && !kept.is_forged(roots) {
                self.0.insert(issuer.clone(), kept.clone());
            }
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn ders(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.0.values().map(|kept| kept.der.clone())
    }

    /// When they are out of date.
    pub(super) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        self.0.values().filter_map(|kept| kept.next)
    }

    /// SHA-256 of each, in hex.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|kept| kept.fingerprint.as_str())
    }
}

impl Kept {
    fn is_forged(&self, roots: &RootCertStore) -> bool {
        List::read(&self.der).is_none_or(|list| is_forged(&list, roots))
    }
}

/// Whether it has the name of authorities of whom none has signed it.
fn is_forged(list: &List<'_>, roots: &RootCertStore) -> bool {
    let named = roots.roots.iter();
    let mut named = named
        .filter(|root| root.subject.as_ref() == list.issuer)
        .peekable();
    let known = named.peek().is_some();
    known && !named.any(|root| list.is_signed_by(&root.subject_public_key_info))
}

fn of_file(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TrustError> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > LARGEST) {
        return Err(unusable(path, format!("more than {LARGEST} bytes")));
    }
    pem(path, "list of revocations")
}

fn unusable(path: &Path, why: String) -> TrustError {
    TrustError::Unusable {
        path: path.to_owned(),
        why,
    }
}
