//! Whose tokens are taken: the proxy's own, and those of identity providers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::duration;
use crate::http::Url;
use crate::identity::Kind;

/// Tokens that the proxy signs itself. All of these files are read again when they
/// change.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// Files of Ed25519 keys in PEM, as `pgveil token key` prints one. The first signs,
    /// and what any has signed is taken: a new key goes in front, and the old one when
    /// its last token has expired. Sessions by the tokens of a key that is gone end.
    pub keys: Vec<PathBuf>,
    /// How long a token may be in force, such as `1h`.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub lifetime: Duration,
    /// The file of tokens that are taken back, which `pgveil token revoke` adds to.
    pub revoked: PathBuf,
    /// What tokens call this proxy: those for another are not taken.
    pub issuer: String,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            lifetime: Duration::from_secs(60 * 60),
            revoked: "revoked.jsonl".into(),
            issuer: "pgveil".into(),
        }
    }
}

/// Somebody else whose tokens are taken: an identity provider. Whom they name is not
/// listed in policy, and has the roles that policy's `groups` give to the token's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What its tokens call it (`iss`).
    pub issuer: String,
    /// What its tokens call this proxy (`aud`).
    pub audience: String,
    /// Its keys (JWKS): a file, read again when it changes, or a URL. Left out: where the
    /// issuer itself says (OpenID Connect Discovery).
    #[serde(default)]
    #[schemars(with = "String")]
    pub jwks: Jwks,
    /// How often a URL is asked again, such as `10m`; for a key that is not known, sooner.
    #[serde(
        default = "default_refresh",
        deserialize_with = "duration::deserialize"
    )]
    #[schemars(with = "String")]
    pub refresh: Duration,
    /// How long keys are used after a URL was last read. Sessions by them then end.
    #[serde(default = "default_stale", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub stale: Duration,
    /// The authority by which a URL proves itself (PEM). Left out: those of this machine.
    pub ca: Option<PathBuf>,
    /// The login names that its tokens may have, such as `*@corp.example`: one `*` in
    /// each, at most. All of these names are asked for a token.
    pub names: Vec<String>,
    /// The claim that is the login name.
    #[serde(default = "default_name")]
    pub name: String,
    /// The claim that lists groups, if any does.
    pub groups: Option<String>,
    /// The groups of those that count, such as `data-*`: one `*` in each, at most. Left
    /// out: all; where there are several issuers with groups, each must say.
    pub group_names: Option<Vec<String>>,
    /// Whether all of these names are asked for a token by OAUTHBEARER, which libpq speaks
    /// since 18. Left out: as a password.
    #[serde(default)]
    pub oauth: bool,
    /// What clients that speak it are told to ask the issuer for.
    #[serde(default = "default_scope")]
    pub scope: String,
    /// The values of its tokens' `amr` that stand for a second factor, such as `mfa`. Left
    /// out: none.
    #[serde(default)]
    pub amr: BTreeSet<String>,
    /// The values of their `acr` that do. Left out: none.
    #[serde(default)]
    pub acr: BTreeSet<String>,
    /// The agents of policy that its tokens may name as acting (`act`) on behalf of whom they
    /// are of, such as `bot-*`: one `*` in each, at most. Left out: none.
    #[serde(default)]
    pub actors: Vec<String>,
    /// What those are whom it names.
    #[serde(default = "default_kind")]
    pub kind: Kind,
    /// The algorithms it may use.
    #[serde(default = "Algorithm::all")]
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may be from this machine's, such as `60s`.
    #[serde(default = "default_skew", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub skew: Duration,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Jwks {
    /// In a file.
    File(PathBuf),
    /// At an address.
    Url(String),
    /// Where the issuer's own document says.
    #[default]
    Discovered,
}

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Ok(match text.contains("://") {
            true => Self::Url(text),
            false => Self::File(text.into()),
        })
    }
}

impl Jwks {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Url(_) | Self::Discovered => None,
        }
    }

    fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Url(_) | Self::Discovered => None,
        }
    }
}

/// A signature's algorithm (RFC 7518, RFC 8037): those of public keys alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA, PKCS#1, SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA, P-256, SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    fn all() -> Vec<Self> {
        vec![Self::Rs256, Self::Es256, Self::EdDsa]
    }

    /// By the name in a header.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

impl Issuer {
    /// What it says that is in files.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.jwks.file_mut().into_iter().chain(&mut self.ca)
    }

    /// Where it says what it offers (OpenID Connect Discovery 1.0, section 4).
    pub(crate) fn document(&self) -> String {
        let issuer = self.issuer.trim_end_matches('/');
        format!("{issuer}/.well-known/openid-configuration")
    }

    /// Whether a name is one of those that its tokens may have.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| is_like(pattern, name))
    }

    /// Whether its tokens may name an agent as acting.
    pub(crate) fn lets_act(&self, agent: &str) -> bool {
        self.actors.iter().any(|pattern| is_like(pattern, agent))
    }

    /// Whether a group of its tokens counts.
    pub(crate) fn counts(&self, group: &str) -> bool {
        let only = self.group_names.as_ref();
        only.is_none_or(|only| only.iter().any(|pattern| is_like(pattern, group)))
    }

    /// Whether some name may be in the tokens of both.
    fn overlaps(&self, other: &Self) -> bool {
        let meet = |one: &str, two: &str| match (one.split_once('*'), two.split_once('*')) {
            (None, _) => is_like(two, one),
            (_, None) => is_like(one, two),
            // What both begin and end with can be made long enough.
            (Some((start, end)), Some((begin, finish))) => {
                (start.starts_with(begin) || begin.starts_with(start))
                    && (end.ends_with(finish) || finish.ends_with(end))
            }
        };
        self.names
            .iter()
            .any(|one| other.names.iter().any(|two| meet(one, two)))
    }

    fn check(&self) -> Result<(), String> {
        if self.issuer.is_empty() || self.audience.is_empty() {
            return Err("must name `issuer` and `audience`: empty ones are nobody's".into());
        }
        let url = match &self.jwks {
            Jwks::File(_) => None,
            Jwks::Url(url) => Some(url.clone()),
            Jwks::Discovered => Some(self.document()),
        };
        if let Some(Err(error)) = url.map(|url| Url::parse(&url)) {
            return Err(format!("has keys at no address that is asked: {error}"));
        }
        if self.refresh < SOONEST || self.stale < self.refresh {
            return Err("must have a `refresh` of 1s or more, and a `stale` of no less".into());
        }
        if self.skew > LONGEST_SKEW {
            return Err("must have a `skew` of at most 5m".into());
        }
        let mut groups = self.group_names.iter().flatten();
        if let Some(name) = groups.find(|name| name.matches('*').count() > 1) {
            return Err(format!(
                "`group_names` has `{name}`: one has one `*` at most"
            ));
        }
        if self.names.is_empty() || self.algorithms.is_empty() {
            return Err("must name `names` and `algorithms`, one of each at least".into());
        }
        let wide = |name: &&String| name.matches('*').count() > 1 || *name == "*";
        if let Some(name) = self.actors.iter().find(wide) {
            return Err(format!(
                "`actors` has `{name}`: a name has one `*` at most, and something beside it"
            ));
        }
        if !self.actors.is_empty() && self.kind != Kind::Human {
            return Err("has `actors`, who act on behalf of humans, and names others".into());
        }
        if let Some(name) = self.names.iter().find(wide) {
            return Err(format!(
                "`names` has `{name}`: a name has one `*` at most, and something beside it"
            ));
        }
        Ok(())
    }
}

/// Whether a proxy can tell by whom a token is.
pub(super) fn check(tokens: &Tokens, issuers: &BTreeMap<String, Issuer>) -> Result<(), String> {
    if tokens.lifetime.is_zero() {
        return Err("`tokens.lifetime` must be more than 0s".into());
    }
    for (name, issuer) in issuers {
        issuer
            .check()
            .map_err(|what| format!("`issuers.{name}` {what}"))?;
        let theirs = issuers.values().filter(|one| one.issuer == issuer.issuer);
        if issuer.issuer == tokens.issuer || theirs.count() > 1 {
            return Err(format!("`issuers.{name}.issuer` is another's name already"));
        }
        let mut others = issuers.iter().filter(|(other, _)| *other != name);
        if let Some((other, _)) = others.clone().find(|(_, other)| issuer.overlaps(other)) {
            return Err(format!(
                "`issuers.{name}.names` and `issuers.{other}.names` have names in common"
            ));
        }
        let mixed = issuer.groups.is_some() && others.any(|(_, other)| other.groups.is_some());
        if mixed && issuer.group_names.is_none() {
            return Err(format!(
                "`issuers.{name}` must name in `group_names` which groups are its to give, as \
                 another issuer gives groups too"
            ));
        }
    }
    Ok(())
}

/// Nobody is asked more often.
const SOONEST: Duration = Duration::from_secs(1);
/// Clocks that differ more are wrong.
const LONGEST_SKEW: Duration = Duration::from_secs(5 * 60);

/// Whether a name is like a pattern, in which a `*` is one character at least.
fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            let inner = name.strip_prefix(start);
            inner.is_some_and(|rest| rest.len() > end.len() && rest.ends_with(end))
        }
    }
}

fn default_name() -> String {
    "sub".into()
}

fn default_refresh() -> Duration {
    Duration::from_secs(10 * 60)
}

fn default_stale() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

fn default_scope() -> String {
    "openid".into()
}

fn default_kind() -> Kind {
    Kind::Human
}

fn default_skew() -> Duration {
    Duration::from_secs(60)
}
