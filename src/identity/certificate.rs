//! Client certificates: what one says of who shows it, and whether that holds.
//!
//! Knows nothing about policy or sockets. Invariants: a [`Certificate`] has been verified,
//! chain, validity and revocation, by the authorities in force at that time; one that was
//! taken is verified again, in the same way, for as long as its session lasts.

mod lists;
pub mod name;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

pub use name::{Name, Pattern, Template};
pub use trust::{Trust, TrustError};

/// What a client has shown, the certificate first: it has that certificate's key, and
/// nothing else of it is known to hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented(Arc<[CertificateDer<'static>]>);

impl Presented {
    /// A chain, of whose first certificate the client has proved to have the key.
    pub fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let chain: Arc<[_]> = chain.iter().map(|one| one.clone().into_owned()).collect();
        (!chain.is_empty()).then_some(Self(chain))
    }

    /// SHA-256 of the certificate, in hex.
    pub fn fingerprint(&self) -> Option<String> {
        self.0.first().map(|own| read::sha256(own))
    }

    /// Its serial number, in hex, if it has one of a length that is allowed.
    pub fn serial(&self) -> Option<String> {
        self.0.first().and_then(|own| read::serial(own))
    }
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Presented({} certificates)", self.0.len())
    }
}

/// A client certificate that has been verified, as a session and its records know it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Certificate {
    /// The name in it that counted
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Its serial number, in hex
    pub serial: Arc<str>,
    /// SHA-256 of it, in hex
    pub fingerprint: Arc<str>,
    /// When it is no longer valid
    #[schemars(with = "String")]
    pub expires: Timestamp,
    /// The names that it carries.
    #[serde(skip)]
    pub names: Vec<Name>,
    /// When it is to be verified again, if nothing changes: it, another of its chain or a
    /// list of revocations is then out of date.
    #[serde(skip)]
    pub until: Timestamp,
    /// All that was shown.
    #[serde(skip)]
    pub presented: Presented,
    /// What it was last verified by.
    #[serde(skip)]
    by: trust::Last,
}

impl Certificate {
    /// The same, of whose names that one counted.
    pub fn by(&self, name: &Name) -> Arc<Self> {
        Arc::new(Self {
            name: Some(name.text()),
            ..self.clone()
        })
    }
}

/// Why a certificate is not taken, for the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No authority is configured.
    #[error("no authority is configured")]
    None,
    /// None was shown.
    #[error("no certificate was shown")]
    Missing,
    /// Not one that can be read.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// Too late.
    #[error("it, or one of its chain, has expired")]
    Expired,
    /// Too early.
    #[error("it, or one of its chain, is not valid yet")]
    Early,
    /// By somebody else.
    #[error("no authority that is trusted has issued it")]
    Issuer,
    /// Taken back.
    #[error("it, or one of its chain, is revoked")]
    Revoked,
    /// No list says whether it is.
    #[error("no list of revocations tells of it")]
    Unlisted,
    /// The list that would say so is old.
    #[error("the list of revocations that tells of it is out of date")]
    Outdated,
    /// For something else.
    #[error("it is not for clients")]
    Purpose,
    /// Whatever else keeps it from being verified.
    #[error("it does not hold: {0}")]
    Invalid(String),
    /// SPIFFE has one at the most.
    #[error("it has more than one URI")]
    Uris,
    /// A SPIFFE ID that is none.
    #[error("its SPIFFE ID is malformed")]
    Spiffe,
    /// Several identities'.
    #[error("its names are those of several identities")]
    Ambiguous,
    /// Another's.
    #[error("none of its names is this identity's")]
    Subject,
    /// Policy says nothing of it.
    #[error("policy has no identity and no rule for any of its names")]
    Unknown,
    /// Policy disables whose it is.
    #[error("the identity whose it is may not connect")]
    Disabled,
}
