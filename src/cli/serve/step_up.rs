//! Gives a token to a human who has proved a password and a one-time code.
//!
//! Invariants: none is given that would not be taken; whoever has no code hears of nothing else
//! that is wrong; it is on record, and the code is used up, before it is given.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::proxy::ServeError;
use super::reload::Rules;
use crate::audit::record::{self, What, clipped};
use crate::audit::{Event, Log};
use crate::config::{self, Config};
use crate::identity::Kind;
use crate::identity::login::{LoginError, Logins};
use crate::identity::token::{Claims, Key, TokenError};
use crate::identity::totp::{Sealed, Sealer};
use crate::listener::{Asked, Issued};
use crate::policy::Policy;
use crate::secret::Source;

/// The shortest key that seals secrets.
const KEY: usize = 16;

/// What tokens are given by.
pub(super) struct StepUp {
    logins: Arc<Logins>,
    key: PathBuf,
    issuer: String,
    lifetime: Duration,
    log: Log,
}

/// What seals and opens the secrets of second factors.
///
/// # Errors
/// Where the configured key is missing or too short.
pub(in crate::cli) async fn sealer(login: &config::Login) -> Result<Sealer, ServeError> {
    let secret = Source::of(&login.key).get().await?;
    let long = secret.expose().len() >= KEY;
    let sealer = long.then(|| Sealer::new(secret.expose())).flatten();
    sealer.ok_or(ServeError::LoginKey)
}

impl StepUp {
    /// As configured; `None`: not at all.
    ///
    /// # Errors
    /// Where its key or the used codes cannot be read.
    pub(super) async fn open(config: &Config, log: Log) -> Result<Option<Self>, ServeError> {
        let (Some(login), Some(key)) = (&config.login, config.tokens.keys.first()) else {
            return Ok(None);
        };
        let logins = Logins::open(sealer(login).await?, &login.used);
        let logins = logins.map_err(|error| ServeError::Logins(login.used.clone(), error))?;
        Ok(Some(Self {
            logins: Arc::new(logins),
            key: key.clone(),
            issuer: config.tokens.issuer.clone(),
            lifetime: login.lifetime.unwrap_or(config.tokens.lifetime),
            log,
        }))
    }

    /// Gives a token, if what was given for it will do.
    ///
    /// # Errors
    /// As [`LoginError`] says.
    pub(super) async fn give(&self, asked: Asked<'_>, rules: &Rules) -> Result<Issued, LoginError> {
        let policy = rules.current();
        let human = &asked.principal.name;
        let sealed = policy.second_factor(human);
        let sealed = sealed.ok_or(LoginError::NotEnrolled)?.clone();
        let unissued = |why: &dyn std::fmt::Display| LoginError::Unissued(why.to_string());
        let now = Timestamp::now();
        let code = |taking: fn(&Logins, &str, &Sealed, &str, Timestamp) -> _| {
            let (logins, name) = (self.logins.clone(), human.clone());
            let (sealed, code) = (sealed.clone(), asked.code.to_owned());
            tokio::task::spawn_blocking(move || taking(&logins, &name, &sealed, &code, now))
        };
        // Whoever has no code hears of nothing else: not which agents there are.
        let checking = code(Logins::check).await;
        checking.map_err(|error| unissued(&error))??;
        // All of it before the code is taken, which is then not used up for nothing.
        let (claims, principal_of) = self.claims(&asked, &policy)?;
        let key = Key::read(&self.key).map_err(|error| unissued(&error))?;
        let token = key.mint(&claims);
        // As it will be taken, by the keys in force.
        let principal = policy.bearer(&principal_of, "", &token, Timestamp::now())?;
        let taking = code(Logins::take).await;
        taking.map_err(|error| unissued(&error))??;
        let expires = Timestamp::from_second(claims.exp).map_err(|error| unissued(&error))?;
        let issued = What::TokenIssued {
            principal: record::Identity::from(&principal),
            client: asked.client,
            dataset: clipped(asked.dataset).to_owned(),
        };
        let recorded = self.log.append(&Event::now(None, issued)).await;
        recorded.map_err(|error| unissued(&error))?;
        Ok(Issued { token, expires })
    }

    /// What the token is to say, and under which name it will be given.
    fn claims(&self, asked: &Asked<'_>, policy: &Policy) -> Result<(Claims, Arc<str>), LoginError> {
        let human = &asked.principal.name;
        let of = |name: &str, kind| Claims::new(&self.issuer, (name, kind), self.lifetime);
        // A password that was changed in between is not the one that was proved.
        let credential = policy.credential(asked.principal);
        let credential = credential.ok_or(TokenError::Credential)?;
        let Some(agent) = asked.agent else {
            let claims = of(human, asked.principal.kind).by_two_factors(credential);
            return Ok((claims, human.clone()));
        };
        let known = policy.principal(agent, asked.principal.method);
        let known = known.filter(|known| known.kind != Kind::Human);
        let known = known.ok_or(TokenError::Identity)?;
        let claims = of(&known.name, known.kind).by_two_factors(credential);
        Ok((claims.on_behalf_of(human), known.name))
    }
}
