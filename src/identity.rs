//! Turns credentials into a [`Principal`]. Nothing downstream asks how.
//!
//! Knows nothing about SQL, sessions or upstreams.

pub mod certificate;
pub mod login;
pub mod oauth;
pub mod scram;
pub mod stand_in;
pub mod token;
pub mod totp;
pub mod verifier;

use std::sync::Arc;

/// What kind of identity is asking.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person.
    Human,
    /// A program that decides for itself: an AI agent, a training job.
    Agent,
    /// A program that does one fixed thing.
    Service,
}

impl Kind {
    /// The kind's name in policy, tag and record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Agent => "agent",
            Self::Service => "service",
        }
    }
}

/// How the principal proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// SCRAM-SHA-256 against a stored verifier.
    Scram,
    /// SCRAM-SHA-256 bound to the TLS channel.
    ScramPlus,
    /// A token in place of a password.
    Token,
    /// A client certificate.
    Certificate,
}

/// Somebody whose identity has been proved: there is no other way to make one
/// than to authenticate (or, in tests, to name one).
#[derive(Clone, Debug)]
pub struct Principal {
    /// The unique name in `policies/identities.yaml`.
    pub name: Arc<str>,
    /// Human, agent or service.
    pub kind: Kind,
    /// The roles that policy gives this identity.
    pub roles: Vec<Arc<str>>,
    /// The human an agent answers to, if policy names one.
    pub owner: Option<Arc<str>>,
    /// The human on whose behalf the agent acts in this session.
    pub on_behalf_of: Option<Box<Principal>>,
    /// How it was proved.
    pub method: Method,
    /// When a second factor was proved, if one was.
    pub mfa: Option<jiff::Timestamp>,
    /// Which password it was, if it was one: another is another, also of the same identity.
    pub verifier: Option<verifier::Fingerprint>,
    /// The token that it connected by.
    pub token: Option<Arc<token::Token>>,
    /// The client certificate that it connected by, or that it needed beside.
    pub certificate: Option<Arc<certificate::Certificate>>,
}

impl Principal {
    /// `kind:name`, as in the tag and the record: `agent:trainer`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.kind.as_str(), self.name)
    }

    /// Its name, and that of whom it acts for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let human = self.on_behalf_of.as_deref();
        std::iter::once(self).chain(human).map(|one| &*one.name)
    }

    /// When what it proved is to be looked at again, if ever.
    pub fn until(&self) -> Option<jiff::Timestamp> {
        let token = self.token.as_ref().map(|token| token.expires);
        let certificate = self.certificate.as_ref().map(|shown| shown.until);
        token.into_iter().chain(certificate).min()
    }

    /// Whether a role is used: all are, unless a token names some.
    pub fn uses(&self, role: &str) -> bool {
        let some = self.token.as_ref().and_then(|token| token.roles.as_ref());
        some.is_none_or(|some| some.contains(role))
    }
}
