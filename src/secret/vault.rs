//! Secrets that HashiCorp Vault gives, or what speaks its HTTP API.
//!
//! Knows nothing about when. The invariants: what belongs to a token that has ended is not
//! given out as good any longer than that token; what was given is renewed as long as the
//! vault lets it be, and only then replaced.
//!
//! <https://developer.hashicorp.com/vault/api-docs>

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::exec::Object;
use super::source::placed;
use super::{Given, Secret, SecretError};
use crate::config::{self, SecretRef, VaultAuth};
use crate::http::{Client, Url};

/// How long one answer may take, and how many bytes.
const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER: usize = 1 << 20;
/// Longer is not believed: it is added to a clock.
const LONGEST: u64 = 366 * 24 * 60 * 60;

/// What stands in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A vault, and what it has given.
#[derive(Debug)]
pub(super) struct Vault {
    config: config::Vault,
    /// The token, or what one is had by.
    proof: SecretRef,
    /// Held while it is asked.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Token {
    text: Secret,
    /// What it was had by.
    proof: Secret,
    /// `None`: no end is known.
    ends: Option<Term>,
}

/// A database user that the vault has made.
#[derive(Clone, Debug)]
struct Lease {
    id: String,
    login: Secret,
    term: Term,
}

/// How long something is good for.
#[derive(Clone, Copy, Debug)]
struct Term {
    until: Instant,
    /// As it was at first.
    whole: Duration,
    renewable: bool,
}

impl Term {
    /// As an answer or a part of one says.
    fn of(said: &Object, at: &str) -> Option<Self> {
        let at = |name: &str| said.field(&format!("{at}{name}"));
        let seconds = at("lease_duration").and_then(Value::as_u64)?;
        let whole = Duration::from_secs(seconds.min(LONGEST));
        Some(Self {
            until: Instant::now() + whole,
            whole,
            renewable: at("renewable").and_then(Value::as_bool).unwrap_or(false),
        })
        .filter(|_| seconds > 0)
    }

    fn lasts(&self) -> bool {
        !self.left().is_zero()
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Less is left than half of what it was: it is to be renewed, or replaced where
    /// renewing makes no more of it.
    fn is_old(&self) -> bool {
        self.left() < self.whole / 2
    }
}

/// Why it gives nothing.
enum Fault {
    /// It does not take the token, or not for this.
    Forbidden(String),
    Other(String),
}

impl Fault {
    fn why(self) -> String {
        match self {
            Self::Forbidden(why) | Self::Other(why) => why,
        }
    }
}

impl Vault {
    pub(super) fn new(config: &config::Vault) -> Arc<Self> {
        let proof = match &config.auth {
            VaultAuth::Token(place) => SecretRef::clone(place),
            VaultAuth::AppRole(own) => SecretRef::clone(&own.secret_id),
            VaultAuth::Kubernetes(own) => SecretRef::File(own.jwt.clone()),
        };
        Arc::new(Self {
            config: config.clone(),
            proof,
            state: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> String {
        self.config.to_string()
    }

    /// The secret; `anew` of a database's user for another one.
    pub(super) async fn ask(self: &Arc<Self>, anew: bool) -> Result<Given, SecretError> {
        let proof = placed(&self.proof).await?;
        let vault = self.clone();
        let asked = tokio::task::spawn_blocking(move || vault.asked(&proof, anew)).await;
        let asked = asked.unwrap_or_else(|fault| Err(fault.to_string()));
        asked.map_err(|why| SecretError::Refused {
            from: self.name(),
            why,
        })
    }

    fn asked(&self, proof: &Secret, anew: bool) -> Result<Given, String> {
        let desk = Desk::of(&self.config)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if anew {
            state.lease = None;
        }
        let known = state.token.is_some();
        match self.given(&desk, &mut state, proof) {
            // The token may have been taken back.
            Err(Fault::Forbidden(_)) if known => {
                *state = State::default();
                self.given(&desk, &mut state, proof)
            }
            given => given,
        }
        .map_err(Fault::why)
    }

    fn given(&self, desk: &Desk, state: &mut State, proof: &Secret) -> Result<Given, Fault> {
        self.admit(desk, state, proof)?;
        let Some(token) = &state.token else {
            return Err(Fault::Other("it gives no token".into()));
        };
        if let Some(kv) = &self.config.kv {
            let path = format!("{}/data/{}", kv.mount, kv.path);
            let said = desk.get(&token.text, &path)?;
            // A name may hold points: no path of names.
            let field = said.field("data.data").and_then(|data| data.get(&kv.field));
            let text = field
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty());
            let text =
                text.ok_or_else(|| Fault::Other(format!("it has no text `{}`", kv.field)))?;
            return Ok(Given {
                secret: Secret::new(text),
                lasts: kv.refresh,
            });
        }
        let lease = match &state.lease {
            Some(lease) => desk.prolong(&token.text, lease)?,
            None => None,
        };
        let lease = match lease {
            Some(lease) => lease,
            // The one before stays in the state until there is another.
            None => self.lease(desk, &token.text)?,
        };
        // It ends with its token.
        let token = token.ends.map(|term| term.left());
        let lasts = token.into_iter().chain([lease.term.left()]).min();
        let secret = lease.login.clone();
        state.lease = Some(lease);
        Ok(Given {
            secret,
            lasts: lasts.unwrap_or_default(),
        })
    }

    /// Sees to it that there is a token.
    fn admit(&self, desk: &Desk, state: &mut State, proof: &Secret) -> Result<(), Fault> {
        let by_token = matches!(self.config.auth, VaultAuth::Token(_));
        if let Some(token) = &mut state.token {
            // Another token in its place, or another secret id, which does not end this one.
            let stays = !by_token || token.proof == *proof;
            let old = token.ends.is_some_and(|term| term.is_old());
            if stays && !old {
                return Ok(());
            }
            if stays {
                match desk.renew_token(token) {
                    Ok(true) => return Ok(()),
                    // It is as good as it was, for what is left; and a login may be the last
                    // that its secret id is good for.
                    Err(Fault::Other(why)) if token.ends.is_some_and(|term| term.lasts()) => {
                        tracing::warn!(why, "a vault's token is not renewed yet");
                        return Ok(());
                    }
                    Ok(false) | Err(Fault::Forbidden(_) | Fault::Other(_)) => {}
                }
            }
        }
        let mut token = Token {
            text: proof.clone(),
            proof: proof.clone(),
            ends: None,
        };
        if by_token {
            // How long it is good for is known when it has been renewed, if it can be.
            let _ = desk.renew_token(&mut token);
        } else {
            self.log_in(desk, &mut token)?;
        }
        // What the old one was given ends with it.
        *state = State {
            token: Some(token),
            lease: None,
        };
        Ok(())
    }

    fn log_in(&self, desk: &Desk, token: &mut Token) -> Result<(), Fault> {
        let proof = token.proof.expose_str();
        let proof = proof.ok_or_else(|| Fault::Other("what it is to be told is no text".into()))?;
        let (mount, body) = match &self.config.auth {
            VaultAuth::Token(_) => return Ok(()),
            VaultAuth::AppRole(own) => (
                &own.mount,
                json!({ "role_id": own.role_id, "secret_id": proof }),
            ),
            VaultAuth::Kubernetes(own) => (&own.mount, json!({ "role": own.role, "jwt": proof })),
        };
        let said = desk.post(None, &format!("auth/{mount}/login"), Object(body))?;
        let text = said.field("auth.client_token").and_then(Value::as_str);
        token.text =
            Secret::new(text.ok_or_else(|| Fault::Other("it gives no token at login".into()))?);
        token.ends = Term::of(&said, "auth.");
        Ok(())
    }

    fn lease(&self, desk: &Desk, token: &Secret) -> Result<Lease, Fault> {
        let Some(of) = &self.config.database else {
            return Err(Fault::Other("it is asked for nothing".into()));
        };
        let said = desk.get(token, &format!("{}/creds/{}", of.mount, of.role))?;
        let text = |name: &str| {
            let text = said.field(name).and_then(Value::as_str);
            let text = text.filter(|text| !text.is_empty());
            text.ok_or_else(|| Fault::Other(format!("it gives no `{name}`")))
        };
        let term = Term::of(&said, "");
        Ok(Lease {
            id: text("lease_id")?.to_owned(),
            login: Secret::new(text("data.password")?).of(text("data.username")?),
            term: term.ok_or_else(|| Fault::Other("it gives no `lease_duration`".into()))?,
        })
    }
}

/// Where one vault is asked.
struct Desk {
    client: Client,
    address: String,
    namespace: Option<String>,
}

impl Desk {
    fn of(config: &config::Vault) -> Result<Self, String> {
        let client = Client::new(config.ca.as_deref(), TIMEOUT, ANSWER);
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            address: config.address.trim_end_matches('/').to_owned(),
            namespace: config.namespace.clone(),
        })
    }

    fn get(&self, token: &Secret, path: &str) -> Result<Object, Fault> {
        self.ask(Some(token), path, None)
    }

    fn post(&self, token: Option<&Secret>, path: &str, body: Object) -> Result<Object, Fault> {
        self.ask(token, path, Some(body))
    }

    fn ask(
        &self,
        token: Option<&Secret>,
        path: &str,
        body: Option<Object>,
    ) -> Result<Object, Fault> {
        let other = |why: String| Fault::Other(why);
        let url = format!("{}/v1/{}", self.address, utf8_percent_encode(path, PATH));
        let url = Url::parse(&url).map_err(|error| other(error.to_string()))?;
        let mut headers = vec![("X-Vault-Request", "true")];
        headers.extend(
            self.namespace
                .as_deref()
                .map(|name| ("X-Vault-Namespace", name)),
        );
        if let Some(token) = token {
            let text = token.expose_str();
            let text = text.filter(|text| text.chars().all(|c| c.is_ascii_graphic()));
            let text = text.ok_or_else(|| other("its token is no text of one line".into()))?;
            headers.push(("X-Vault-Token", text));
        }
        let answer = match body {
            None => self.client.get(&url, &headers),
            Some(body) => {
                headers.push(("Content-Type", "application/json"));
                // With room: growing would leave copies.
                let mut text = Zeroizing::new(Vec::with_capacity(64 << 10));
                serde_json::to_writer(&mut *text, &body.0)
                    .map_err(|error| other(error.to_string()))?;
                self.client.post(&url, &headers, &text)
            }
        };
        let answer = answer.map_err(|error| other(error.to_string()))?;
        let body = Zeroizing::new(answer.body);
        // An error of the parser's would quote it.
        let said = serde_json::from_slice(&body).ok().map(Object);
        let refused = || {
            let said = said.as_ref().and_then(|said| said.field("errors.0"));
            let why = said.and_then(Value::as_str).unwrap_or_default();
            let why: String = why.chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{url} answers {} {why}", answer.status)
                .trim_end()
                .to_owned()
        };
        match answer.status {
            200 => said.ok_or_else(|| other(format!("{url} answers no JSON"))),
            403 => Err(Fault::Forbidden(refused())),
            301 | 302 | 307 | 308 => Err(other(format!(
                "{url} sends elsewhere, which is not followed: name the active node, or what \
                 stands before all"
            ))),
            _ => Err(other(refused())),
        }
    }

    /// Whether a token is good for longer now.
    fn renew_token(&self, token: &mut Token) -> Result<bool, Fault> {
        if token.ends.is_some_and(|term| !term.renewable) {
            return Ok(false);
        }
        let body = match token.ends {
            Some(term) => json!({ "increment": term.whole.as_secs() }),
            None => json!({}),
        };
        let said = self.post(Some(&token.text), "auth/token/renew-self", Object(body))?;
        Ok(renewed(&mut token.ends, Term::of(&said, "auth.")))
    }

    /// A lease that is good for longer, if the vault lets it be.
    fn prolong(&self, token: &Secret, lease: &Lease) -> Result<Option<Lease>, Fault> {
        let mut lease = lease.clone();
        if !lease.term.renewable {
            return Ok(None);
        }
        let body = json!({ "lease_id": lease.id, "increment": lease.term.whole.as_secs() });
        let term = match self.post(Some(token), "sys/leases/renew", Object(body)) {
            Ok(said) => Term::of(&said, ""),
            Err(Fault::Forbidden(why)) => return Err(Fault::Forbidden(why)),
            Err(Fault::Other(why)) => {
                tracing::warn!(
                    why,
                    "a vault's lease is not renewed: another one is asked for"
                );
                None
            }
        };
        let mut ends = Some(lease.term);
        if !renewed(&mut ends, term) {
            return Ok(None);
        }
        lease.term = ends.unwrap_or(lease.term);
        Ok(Some(lease))
    }
}

/// Whether renewing made enough of it: towards the longest that it may last, it makes less
/// and less.
fn renewed(ends: &mut Option<Term>, term: Option<Term>) -> bool {
    let Some(term) = term else {
        return false;
    };
    let whole = ends.map_or(term.whole, |before| before.whole);
    *ends = Some(Term { whole, ..term });
    term.whole >= whole / 2
}

#[cfg(test)]
mod tests;
