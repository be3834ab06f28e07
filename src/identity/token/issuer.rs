//! Tokens of others: identity providers whose keys are in a file, or have been fetched
//! (JWKS, RFC 7517).
//!
//! Knows nothing about policy. Invariants: a key is used with the one algorithm that it
//! is for, if the configuration allows that; none is used for what was signed by a shared
//! secret, or not at all; what a token says of keys is not followed.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::jws::Parts;
use super::{Token, TokenError, TokensError, Verified};
use crate::config::{self, Algorithm};
use crate::identity::Kind;
use crate::identity::oauth::Discovery;

/// Somebody whose tokens are taken.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    name: Arc<str>,
    config: config::Issuer,
    keys: Vec<Jwk>,
    /// Told of keys that are not among these, where others may be had.
    missed: Option<Arc<Notify>>,
}

/// A login name is no longer than one of Postgres.
const NAME: usize = 63;
/// A longer id of a token is known by its digest.
const ID: usize = 128;

/// A key of theirs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Jwk {
    id: String,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// What a header of theirs must say; what else it says is not read.
#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
    /// Whoever lists here what must be understood is not understood.
    #[serde(default)]
    crit: Option<Value>,
}

/// Keys that have been fetched, by the issuer's name; `missed` is told of those that are not
/// among them.
pub type Fetched = BTreeMap<String, Jwks>;

/// The keys of one issuer, fetched.
#[derive(Clone, Debug, Default)]
pub struct Jwks {
    keys: Vec<Jwk>,
    /// Who fetches.
    missed: Arc<Notify>,
}

impl Jwks {
    /// None yet.
    pub fn none(missed: Arc<Notify>) -> Self {
        Self {
            keys: Vec::new(),
            missed,
        }
    }

    /// Of a set that has been fetched. One without any key of use is one: whoever publishes
    /// it has taken back the others.
    ///
    /// # Errors
    /// Where it is none.
    pub fn of(&self, text: &[u8]) -> Result<Self, &'static str> {
        let missed = self.missed.clone();
        keys(text).map(|keys| Self { keys, missed })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether it has the same keys as another.
    pub fn is(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

/// What is said of a set of no use.
pub(crate) const NO_USE: &str = "it has no key to verify RS256, ES256 or EdDSA by";

/// In one order, whichever they are listed in.
fn keys(text: &[u8]) -> Result<Vec<Jwk>, &'static str> {
    let set: Result<Map<String, Value>, _> = serde_json::from_slice(text);
    let set = set.map_err(|_| "it is no JSON object")?;
    let all = set.get("keys").and_then(Value::as_array);
    let all = all.ok_or("it has no `keys`")?;
    let keys: BTreeSet<Jwk> = all.iter().filter_map(Jwk::of).collect();
    Ok(keys.into_iter().collect())
}

impl Issuer {
    /// With the keys of its file, or those that have been fetched.
    pub(super) fn load(
        name: &str,
        config: &config::Issuer,
        fetched: &Fetched,
    ) -> Result<Self, TokensError> {
        let fault = |path: &Path, why: String| TokensError::Key {
            path: path.to_owned(),
            why,
        };
        let (keys, missed) = match (config.jwks.file(), fetched.get(name)) {
            (Some(path), _) => {
                let text = std::fs::read(path).map_err(|error| fault(path, error.to_string()))?;
                let keys = keys(&text).and_then(|keys| match keys.is_empty() {
                    true => Err(NO_USE),
                    false => Ok(keys),
                });
                (keys.map_err(|why| fault(path, why.into()))?, None)
            }
            (None, Some(jwks)) => (jwks.keys.clone(), Some(jwks.missed.clone())),
            // Nothing has been fetched: none of its tokens is taken.
            (None, None) => (Vec::new(), None),
        };
        Ok(Self {
            name: name.into(),
            config: config.clone(),
            keys,
            missed,
        })
    }

    /// The same with the keys that have been fetched since. `None`: it has no others.
    pub(super) fn fetching(&self, fetched: &Fetched) -> Option<Self> {
        let jwks = fetched.get(&*self.name)?;
        (jwks.keys != self.keys).then(|| Self {
            keys: jwks.keys.clone(),
            ..self.clone()
        })
    }

    /// What it is called here.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The ids of its keys.
    pub(super) fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.id)
    }

    /// What its tokens call it.
    pub(super) fn is(&self, issuer: &str) -> bool {
        self.config.issuer == issuer
    }

    /// Whether a name is one of those that its tokens may have.
    pub(super) fn has(&self, name: &str) -> bool {
        self.config.has(name)
    }

    pub(super) fn by_oauth(&self) -> bool {
        self.config.oauth
    }

    pub(super) fn discovery(&self) -> Discovery {
        Discovery {
            document: self.config.document(),
            scope: self.config.scope.clone(),
        }
    }

    /// The ids of its keys, as sessions remember them.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|key| self.remembered(key))
    }

    /// Another key is another, also under the same id.
    fn remembered(&self, key: &Jwk) -> String {
        let material = digest(format!("{:?}", key.material).as_bytes());
        format!("{} {} {material}", self.name, key.id)
    }

    /// What a token says that is this issuer's; that it is still in force, and not
    /// revoked, is seen to elsewhere.
    pub(super) fn verify(&self, parts: &Parts<'_>, now: Timestamp) -> Result<Verified, TokenError> {
        let header: Header = serde_json::from_slice(&parts.header)
            .map_err(|_| TokenError::Malformed("its header lacks what is read of it"))?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed("its header has critical extensions"));
        }
        // Not a logout token, an event or a proof of possession (RFC 8725, section 3.11).
        let typ = header.typ.map(|typ| typ.to_ascii_lowercase());
        let typ = typ
            .as_deref()
            .map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        if !matches!(typ, None | Some("jwt" | "at+jwt")) {
            return Err(TokenError::Type);
        }
        let algorithm = Algorithm::named(&header.alg);
        let algorithm = algorithm.filter(|one| self.config.algorithms.contains(one));
        let algorithm = algorithm.ok_or(TokenError::Algorithm)?;
        let key = self.keys.iter().find(|key| key.id == header.kid);
        let key = key.ok_or_else(|| {
            self.missed.iter().for_each(|missed| missed.notify_one());
            TokenError::Key
        })?;
        if key.material.algorithm() != algorithm {
            return Err(TokenError::Algorithm);
        }
        key.material.verify(parts)?;

        let claims: Map<String, Value> =
            serde_json::from_slice(&parts.payload).map_err(|_| TokenError::Claims)?;
        let claims = Claims(&claims);
        if !self.is(claims.text("iss")?) {
            return Err(TokenError::Issuer);
        }
        if !claims.list("aud")?.contains(self.config.audience.as_str()) {
            return Err(TokenError::Audience);
        }
        let skew = SignedDuration::try_from(self.config.skew).unwrap_or(SignedDuration::ZERO);
        let expires = claims.time("exp")?.ok_or(TokenError::Claims)?;
        let issued = claims.time("iat")?;
        for from in [claims.time("nbf")?, issued].into_iter().flatten() {
            if now.duration_until(from) > skew {
                return Err(TokenError::Early(from));
            }
        }
        // A token that takes a key beside it (RFC 7800) is not taken without, and an
        // event (RFC 8417) says of somebody that they are not here.
        if ["cnf", "events"]
            .iter()
            .any(|name| claims.0.contains_key(*name))
        {
            return Err(TokenError::Type);
        }
        let name = claims.text(&self.config.name)?;
        let verified = claims.0.get("email_verified");
        if self.config.name == "email" && verified.is_some_and(|it| *it != Value::Bool(true)) {
            return Err(TokenError::Subject);
        }
        if name.len() > NAME || !self.has(name) {
            return Err(TokenError::Subject);
        }
        // Whoever acts for somebody is not them.
        let own = (Arc::from(name), self.config.kind);
        let (actor, on_behalf_of) = match claims.0.get("act") {
            None => (own, None),
            Some(act) => ((self.actor(act, &claims)?, Kind::Agent), Some(own)),
        };
        let mut groups = match &self.config.groups {
            Some(claim) if claims.0.contains_key(claim) => claims.list(claim)?,
            _ => BTreeSet::new(),
        };
        groups.retain(|group| self.config.counts(group));
        let (amr, second_factor) = self.factors(&claims, now, skew)?;
        let id = claims.id(parts)?;
        Ok(Verified {
            actor,
            on_behalf_of,
            token: Token {
                id,
                expires: expires.checked_add(skew).map_err(|_| TokenError::Claims)?,
                purpose: None,
                run: None,
                amr,
                second_factor,
                issuer: Some(self.name.clone()),
                // No later than it can have been by this clock: for whoever asks whether
                // it was issued before a revocation.
                issued: issued
                    .and_then(|issued| issued.checked_sub(skew).ok())
                    .unwrap_or(Timestamp::UNIX_EPOCH),
                key: self.remembered(key).into(),
                credential: None,
                roles: None,
                dataset: None,
                groups: groups.into_iter().map(Arc::from).collect(),
            },
        })
    }
}

impl Issuer {
    /// Who acts on behalf of a token's subject (RFC 8693, section 4.1): by its issuer's word,
    /// if that may name it, and if the subject has let it (section 4.4), where it says whom.
    fn actor(&self, act: &Value, claims: &Claims<'_>) -> Result<Arc<str>, TokenError> {
        let actor = act.as_object().ok_or(TokenError::Claims)?;
        // A chain is more than is recorded.
        if actor.contains_key("act") {
            return Err(TokenError::Delegation);
        }
        let name = Claims(actor).text("sub")?;
        if actor.contains_key("iss") && !self.is(Claims(actor).text("iss")?) {
            return Err(TokenError::Delegation);
        }
        if name.len() > NAME || !self.config.lets_act(name) {
            return Err(TokenError::Delegation);
        }
        if let Some(may_act) = claims.0.get("may_act") {
            let may_act = may_act.as_object().ok_or(TokenError::Claims)?;
            if Claims(may_act).text("sub")? != name {
                return Err(TokenError::MayAct);
            }
        }
        Ok(name.into())
    }

    /// How its bearer proved who they are, and when a second factor was among it. Neither
    /// claim is read that nothing is configured of.
    fn factors(
        &self,
        claims: &Claims<'_>,
        now: Timestamp,
        skew: SignedDuration,
    ) -> Result<(BTreeSet<Arc<str>>, Option<Timestamp>), TokenError> {
        let has = |name: &str| claims.0.contains_key(name);
        let mut amr = BTreeSet::new();
        let mut proved = false;
        if !self.config.amr.is_empty() && has("amr") {
            // An array always (RFC 8176, section 2); of it, what counts is remembered.
            let all = claims.0.get("amr").filter(|amr| amr.is_array());
            all.ok_or(TokenError::Claims)?;
            let counting = claims.list("amr")?;
            amr = counting
                .into_iter()
                .filter(|one| self.config.amr.contains(*one))
                .map(Arc::from)
                .collect();
            proved |= !amr.is_empty();
        }
        if !self.config.acr.is_empty() && has("acr") {
            proved |= self.config.acr.contains(claims.text("acr")?);
        }
        if !proved {
            return Ok((amr, None));
        }
        // Where it does not say when they were asked, at no time that is recent: a token that
        // is issued for another, or refreshed, has its `amr` and `acr` and a new `iat`.
        let at = claims.time("auth_time")?;
        let at = at.unwrap_or(Timestamp::UNIX_EPOCH);
        match now.duration_until(at) > skew {
            true => Err(TokenError::Early(at)),
            false => Ok((amr, Some(at.min(now)))),
        }
    }
}

fn digest(bytes: &[u8]) -> Arc<str> {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    URL_SAFE_NO_PAD.encode(digest).into()
}

/// What a token goes by, whoever signed it.
pub(super) fn id(parts: &Parts<'_>) -> Result<Arc<str>, TokenError> {
    let claims: Map<String, Value> =
        serde_json::from_slice(&parts.payload).map_err(|_| TokenError::Claims)?;
    Claims(&claims).id(parts)
}

/// Claims that have been signed.
struct Claims<'a>(&'a Map<String, Value>);

impl<'a> Claims<'a> {
    /// What it goes by: its own name, or, without one, what it is.
    fn id(&self, parts: &Parts<'_>) -> Result<Arc<str>, TokenError> {
        if !self.0.contains_key("jti") {
            return Ok(digest(parts.signed));
        }
        Ok(match self.text("jti")? {
            long if long.len() > ID => digest(long.as_bytes()),
            id => id.into(),
        })
    }

    /// A text that can be a name.
    fn text(&self, name: &str) -> Result<&'a str, TokenError> {
        let text = self.0.get(name).and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
        text.ok_or(TokenError::Claims)
    }

    /// One text, or several.
    fn list(&self, name: &str) -> Result<BTreeSet<&'a str>, TokenError> {
        let of = |value: &'a Value| value.as_str().ok_or(TokenError::Claims);
        match self.0.get(name) {
            Some(Value::Array(all)) => all.iter().map(of).collect(),
            Some(one) => Ok([of(one)?].into()),
            None => Err(TokenError::Claims),
        }
    }

    /// A moment, which RFC 7519 lets have a fraction.
    fn time(&self, name: &str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let seconds = value.as_i64().or_else(|| {
            // Less than a second of it is lost, which no skew of clocks is.
            let float = value.as_f64().filter(|it| (0.0..1e11).contains(it));
            float.map(|float| float as i64)
        });
        let moment = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        moment.map(Some).ok_or(TokenError::Claims)
    }
}

impl Jwk {
    /// `None`: a key for something else.
    fn of(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let material = match (text("kty")?, text("crv")) {
            ("RSA", None) => {
                let strip = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0);
                Material::Rsa {
                    n: strip(bytes("n")?).collect(),
                    e: strip(bytes("e")?).collect(),
                }
            }
            // A point, not compressed (SEC 1, section 2.3.3).
            ("EC", Some("P-256")) => Material::P256([vec![4], bytes("x")?, bytes("y")?].concat()),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
            _ => return None,
        };
        let signs = text("use").is_none_or(|what| what == "sig");
        let own = material.algorithm();
        let fits = text("alg").is_none_or(|alg| Algorithm::named(alg) == Some(own));
        (signs && fits).then_some(Self {
            id: text("kid")?.to_owned(),
            material,
        })
    }
}

impl Material {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verify(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let (text, signature) = (parts.signed, &parts.signature);
        let verified = match self {
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature)
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(text, signature),
        };
        verified.map_err(|_| TokenError::Signature)
    }
}
