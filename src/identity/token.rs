//! Tokens that the proxy itself or an issuer it trusts has signed: JWTs (RFC 7519) that
//! stand in place of a password, for a short time.
//!
//! Knows nothing about policy: what a token says of an identity is held against it
//! elsewhere. Invariants: a [`Verified`] was signed by one of the configured keys, for
//! this proxy, and is in force; whoever hears of a token that is not hears the same
//! words whatever is wrong with it.

pub(crate) mod issuer;
mod jws;
mod key;
mod revoked;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub(crate) use issuer::NO_USE;
pub use issuer::{Fetched, Jwks};
pub(crate) use jws::LONGEST;
pub use key::Key;
pub use revoked::{Revocation, make as make_revocations};

use super::Kind;
use super::oauth::Discovery;
use crate::audit::Id;
use crate::config;
use issuer::Issuer;
use jws::{Parts, Public};
use revoked::Revoked;

/// As much later a token may have been issued than it is here: clocks differ.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Of `amr`: a one-time code was given, in `pgveil login`.
const OTP: &str = "otp";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who issued it, and whom it is for: this proxy, both.
    pub iss: Arc<str>,
    /// See `iss`.
    pub aud: Arc<str>,
    /// Its own name.
    pub jti: Arc<str>,
    /// When it was issued, in seconds of Unix time.
    pub iat: i64,
    /// From when on it is no longer in force.
    pub exp: i64,
    /// Whose it is; on behalf of whom, where there is an `act`.
    pub sub: Arc<str>,
    /// What that is.
    pub kind: Kind,
    /// Who acts (RFC 8693, section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// How the subject proved who it is (RFC 8176), where the proxy saw it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub amr: BTreeSet<Arc<str>>,
    /// What tells the password and the second factor that the subject gave from any that
    /// they have later, where the proxy saw them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Arc<str>>,
    /// The roles that are used, of those that whoever acts has. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<Arc<str>>>,
    /// The only dataset that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<Arc<str>>,
    /// What for, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Arc<str>>,
    /// For which run of what, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Arc<str>>,
}

impl Claims {
    /// Of a new token: whose, and for how long from now on.
    pub fn new(issuer: &str, (sub, kind): (&str, Kind), lifetime: Duration) -> Self {
        let now = Timestamp::now().as_second();
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        Self {
            iss: issuer.into(),
            aud: issuer.into(),
            jti: Id::next().to_string().into(),
            iat: now,
            exp: now.saturating_add(seconds),
            sub: sub.into(),
            kind,
            act: None,
            amr: BTreeSet::new(),
            credential: None,
            roles: None,
            dataset: None,
            purpose: None,
            run: None,
        }
    }

    /// The same of somebody who has given a password and a one-time code of that credential.
    pub fn by_two_factors(self, credential: Arc<str>) -> Self {
        Self {
            amr: ["pwd", OTP, "mfa"].map(Arc::from).into(),
            credential: Some(credential),
            ..self
        }
    }

    /// The same of whoever acts on behalf of a human.
    pub fn on_behalf_of(self, human: &str) -> Self {
        Self {
            act: Some(Actor {
                sub: self.sub,
                kind: self.kind,
            }),
            sub: human.into(),
            kind: Kind::Human,
            ..self
        }
    }
}

/// Who acts on behalf of somebody.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Its name.
    pub sub: Arc<str>,
    /// What it is.
    pub kind: Kind,
}

/// What a session knows of the token that it began with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Token {
    /// Its own name.
    pub id: Arc<str>,
    /// From when on it is no longer in force.
    #[schemars(with = "String")]
    pub expires: Timestamp,
    /// What for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Arc<str>>,
    /// For which run of what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Arc<str>>,
    /// Who issued it, as the configuration calls them, if it was not this proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
    /// How its subject proved who it is, as its issuer says.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub amr: BTreeSet<Arc<str>>,
    /// When its subject proved a second factor, if it did: at the beginning of 1970, where its
    /// issuer does not say when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub second_factor: Option<Timestamp>,
    /// When it was issued.
    #[serde(skip)]
    pub issued: Timestamp,
    /// The key that signed it.
    #[serde(skip)]
    pub key: Arc<str>,
    /// What its subject had given for it, if this proxy saw that.
    #[serde(skip)]
    pub credential: Option<Arc<str>>,
    /// The roles that are used, where it does not leave that open.
    #[serde(skip)]
    pub roles: Option<BTreeSet<Arc<str>>>,
    /// The only dataset that it is for.
    #[serde(skip)]
    pub dataset: Option<Arc<str>>,
    /// The groups that its issuer says its bearer is in.
    #[serde(skip)]
    pub groups: BTreeSet<Arc<str>>,
}

/// A token that was ours and is in force.
#[derive(Debug)]
pub struct Verified {
    /// Who connects.
    pub actor: (Arc<str>, Kind),
    /// On whose behalf.
    pub on_behalf_of: Option<(Arc<str>, Kind)>,
    /// What the session is to know.
    pub token: Token,
}

/// Why a token is not taken, for the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No key is configured.
    #[error("no tokens are configured")]
    None,
    /// Not a token.
    #[error("it is no token: {0}")]
    Malformed(&'static str),
    /// `none`, and whatever else.
    #[error("its algorithm is none of those for it, or not its key's")]
    Algorithm,
    /// A token for something else.
    #[error("its type is not that of tokens for it")]
    Type,
    /// Signed by somebody else, or by a key that is used no longer.
    #[error("none of the keys for it has its key's id")]
    Key,
    /// Not signed by that key.
    #[error("its signature is wrong")]
    Signature,
    /// Claims that are missing, unknown or of wrong types.
    #[error("its claims are not those of a token")]
    Claims,
    /// By somebody else.
    #[error("it was issued by somebody else")]
    Issuer,
    /// For somebody else.
    #[error("it is for somebody else")]
    Audience,
    /// Too late.
    #[error("it expired at {0}")]
    Expired(Timestamp),
    /// Too early.
    #[error("it is issued in the future, at {0}")]
    Early(Timestamp),
    /// Longer than configured.
    #[error("it is in force for longer than `tokens.lifetime`")]
    Lifetime,
    /// Taken back.
    #[error("it is revoked")]
    Revoked,
    /// Another's.
    #[error("it is not this identity's")]
    Subject,
    /// Policy has no such identity, or not one that connects by tokens.
    #[error("policy names no such identity that connects by tokens")]
    Identity,
    /// Policy says otherwise what the identity is.
    #[error("policy has another kind of identity by that name")]
    Kind,
    /// Got by what has been replaced since.
    #[error("the password or the second factor that it was got by is no longer its human's")]
    Credential,
    /// Roles that the identity does not have.
    #[error("it names a role that the identity does not have")]
    Roles,
    /// Acts for somebody for whom nobody can.
    #[error("it is on behalf of somebody who is no human of the policy's")]
    Delegation,
    /// Acts for somebody who has not named it.
    #[error("it is on behalf of somebody whose `may_act` does not name whoever acts")]
    MayAct,
    /// Another dataset than asked for.
    #[error("it is for another dataset")]
    Dataset,
}

/// Why the keys or the revocations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A key's file.
    #[error("the key in {} cannot be used: {why}", path.display())]
    Key {
        /// Which file
        path: PathBuf,
        /// Why
        why: String,
    },
    /// The file of revocations.
    #[error("the revocations in {} cannot be used: {why}", path.display())]
    Revoked {
        /// Which file
        path: PathBuf,
        /// Why
        why: String,
    },
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// What tokens are verified by: a snapshot of keys and revocations. By default, none.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    issuer: Arc<str>,
    lifetime: Duration,
    keys: Vec<Public>,
    issuers: Vec<Issuer>,
    revoked: Revoked,
}

impl Tokens {
    /// Reads the files that the configuration names. What was known to be revoked
    /// `before` must still be.
    ///
    /// # Errors
    /// As [`TokensError`] says.
    pub fn load(
        config: &config::Tokens,
        issuers: &BTreeMap<String, config::Issuer>,
        fetched: &Fetched,
        before: Option<&Self>,
    ) -> Result<Self, TokensError> {
        let issuers = issuers.iter();
        let keys = config.keys.iter().map(|path| Key::read(path));
        let revoked = Revoked::read(&config.revoked)?;
        if before.is_some_and(|before| !revoked.holds(&before.revoked)) {
            return Err(TokensError::Revoked {
                path: config.revoked.clone(),
                why: "revocations that were in it are gone".into(),
            });
        }
        Ok(Self {
            issuer: config.issuer.as_str().into(),
            lifetime: config.lifetime,
            keys: keys
                .map(|key| Ok(key?.public().clone()))
                .collect::<Result<_, TokensError>>()?,
            issuers: issuers
                .map(|(name, issuer)| Issuer::load(name, issuer, fetched))
                .collect::<Result<_, TokensError>>()?,
            revoked,
        })
    }

    /// The same with all that is revoked by now, as far as that can be read, and with the
    /// keys that have been fetched: for when files cannot be loaded anew. `None`: it knows all
    /// of it already.
    pub fn despite(&self, config: &config::Tokens, fetched: &Fetched) -> Option<Self> {
        let mut revoked = self.revoked.clone();
        // Whoever could not load them knows what is wrong.
        let _ = revoked.add_from(&config.revoked);
        let mut changed = revoked != self.revoked;
        let mut issuers = self.issuers.clone();
        for issuer in &mut issuers {
            if let Some(other) = issuer.fetching(fetched) {
                *issuer = other;
                changed = true;
            }
        }
        changed.then(|| Self {
            revoked,
            issuers,
            ..self.clone()
        })
    }

    /// The ids of its keys, the one that signs first.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// The ids of others' keys, by whose they are.
    pub fn issuers_keys(&self) -> BTreeMap<String, Vec<String>> {
        let ids = |issuer: &Issuer| issuer.key_ids().map(str::to_owned).collect();
        let issuers = self.issuers.iter();
        issuers
            .map(|issuer| (issuer.name().to_owned(), ids(issuer)))
            .collect()
    }

    /// How many revocations it knows.
    pub fn revoked(&self) -> usize {
        self.revoked.len()
    }

    /// What it knows to be revoked and `before` did not, for the record.
    pub fn revoked_since(&self, before: Option<&Self>) -> Vec<String> {
        match before {
            Some(before) => self.revoked.since(&before.revoked),
            None => self.revoked.since(&Revoked::default()),
        }
    }

    /// What a token says that is ours, in force at that time and not revoked.
    ///
    /// # Errors
    /// As [`TokenError`] says.
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let verified = match self.foreign(text)? {
            Some((issuer, parts)) => issuer.verify(&parts, now)?,
            None => self.own(text, now)?,
        };
        self.admits(&verified.token, verified.names(), now)?;
        Ok(verified)
    }

    /// Whose keys a token is to be verified by, if not ours. It is what the token says of
    /// itself, and chooses between those who are trusted anyway.
    fn foreign<'a>(&self, text: &'a str) -> Result<Option<(&Issuer, Parts<'a>)>, TokenError> {
        #[derive(serde::Deserialize)]
        struct Peek {
            iss: String,
        }
        if self.issuers.is_empty() {
            return Ok(None);
        }
        let parts = Parts::of(text)?;
        let peek: Result<Peek, _> = serde_json::from_slice(&parts.payload);
        let issuer = peek
            .ok()
            .and_then(|it| self.issuers.iter().find(|one| one.is(&it.iss)));
        Ok(issuer.map(|issuer| (issuer, parts)))
    }

    fn own(&self, text: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let (claims, key) = self.claims(text)?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| TokenError::Claims);
        let (issued, expires) = (time(claims.iat)?, time(claims.exp)?);
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if claims.aud != self.issuer {
            return Err(TokenError::Audience);
        }
        let longest = SignedDuration::try_from(self.lifetime).unwrap_or(SignedDuration::ZERO);
        if issued.duration_until(expires) > longest {
            return Err(TokenError::Lifetime);
        }
        if now.duration_until(issued) > SKEW {
            return Err(TokenError::Early(issued));
        }
        let subject = (claims.sub, claims.kind);
        let (actor, on_behalf_of) = match claims.act {
            Some(act) => ((act.sub, act.kind), Some(subject)),
            None => (subject, None),
        };
        Ok(Verified {
            actor,
            on_behalf_of,
            token: Token {
                id: claims.jti,
                expires,
                purpose: claims.purpose,
                run: claims.run,
                second_factor: claims.amr.contains(OTP).then_some(issued),
                amr: claims.amr,
                credential: claims.credential,
                issued,
                key: key.into(),
                roles: claims.roles,
                dataset: claims.dataset,
                issuer: None,
                groups: BTreeSet::new(),
            },
        })
    }

    /// Whether a token that was taken still is.
    ///
    /// # Errors
    /// As [`TokenError`] says.
    pub fn admits<'a>(
        &self,
        token: &Token,
        names: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        if now >= token.expires {
            return Err(TokenError::Expired(token.expires));
        }
        if self.revoked.has(token, names) {
            return Err(TokenError::Revoked);
        }
        let theirs = self.issuers.iter().flat_map(Issuer::keys);
        let known = match &token.issuer {
            None => self.keys().any(|key| *key == *token.key),
            Some(_) => theirs.into_iter().any(|key| *key == *token.key),
        };
        match known {
            true => Ok(()),
            false => Err(TokenError::Key),
        }
    }

    /// Whether tokens of others may have that name: all such are asked for one.
    pub fn names(&self, name: &str) -> bool {
        self.issuers.iter().any(|issuer| issuer.has(name))
    }

    /// Whether tokens under that name are asked for by OAUTHBEARER.
    pub fn by_oauth(&self, name: &str) -> bool {
        let mut issuers = self.issuers.iter();
        issuers.any(|issuer| issuer.has(name) && issuer.by_oauth())
    }

    /// Where tokens under that name are to be had, if others issue them.
    pub fn discovery(&self, name: &str) -> Option<Discovery> {
        let issuer = self.issuers.iter().find(|issuer| issuer.has(name));
        issuer.map(Issuer::discovery)
    }

    /// The id of a token that one of these keys has signed, or that is by the word of it an
    /// issuer's, in force or not: as it is revoked by.
    ///
    /// # Errors
    /// As [`TokenError`] says.
    pub fn id(&self, text: &str) -> Result<Arc<str>, TokenError> {
        match self.foreign(text)? {
            // Its keys may be elsewhere. Whoever revokes what nobody has issued does no harm.
            Some((_, parts)) => issuer::id(&parts),
            None => Ok(self.claims(text)?.0.jti),
        }
    }

    fn claims(&self, text: &str) -> Result<(Claims, String), TokenError> {
        if self.keys.is_empty() {
            return Err(TokenError::None);
        }
        let payload = Parts::of(text)?.verify(&self.keys)?;
        let claims = serde_json::from_slice(&payload.bytes).map_err(|_| TokenError::Claims)?;
        Ok((claims, payload.key))
    }
}

impl Verified {
    /// Everybody whose token it is.
    fn names(&self) -> impl Iterator<Item = &str> {
        let human = self.on_behalf_of.iter();
        std::iter::once(&self.actor)
            .chain(human)
            .map(|(name, _)| &**name)
    }
}
