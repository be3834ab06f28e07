//! `pgveil token`: issues tokens, takes them back, makes the keys they are signed by.
//!
//! Knows nothing about a running proxy: both read the same files. Invariant: what it
//! issues is what the proxy would take now, so a mistake is told here.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::identity::first_line;
use crate::config::{self, Config};
use crate::identity::token::{Claims, Key, Revocation, TokenError, Tokens};
use crate::identity::{Kind, Method};
use crate::policy::Policy;

/// Words for the record are no longer than this.
const WORDS: usize = 200;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Print a token, to be given as the password
    ///
    /// For an identity of the policy that has `tokens: true`, signed by the first of
    /// the configuration's `tokens.keys`. Whoever has the token is that identity until
    /// it expires.
    #[command(after_help = "Examples:
  pgveil token mint trainer --lifetime 8h --dataset shop --run nightly-42
  pgveil token mint assistant --on-behalf-of analyst --purpose 'ticket 17'")]
    Mint(Mint),
    /// Take tokens back before they expire; sessions by them end within seconds
    #[command(after_help = "Examples:
  pgveil token revoke --id 01a21090-e53f-7000-baa9-f4b07fedaf87
  pgveil token revoke - < token
  pgveil token revoke --all-of trainer")]
    Revoke(Revoke),
    /// Print a new key for `tokens.keys`
    #[command(after_help = "Example:
  (umask 077 && pgveil token key > token.key)")]
    Key,
}

/// What the token is to say.
#[derive(Debug, Args)]
pub(super) struct Mint {
    /// The configuration file
    #[arg(long, short, default_value = "pgveil.yaml")]
    config: PathBuf,
    /// Who connects by it
    identity: String,
    /// The human on whose behalf: the stricter of both is what it may see
    #[arg(long, value_name = "HUMAN")]
    on_behalf_of: Option<String>,
    /// A role to use, of those that the identity has; once for each [default: all]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Arc<str>>,
    /// The only dataset it is for [default: all]
    #[arg(long)]
    dataset: Option<String>,
    /// What for: it is in each record
    #[arg(long)]
    purpose: Option<String>,
    /// For which run of what: it is in each record
    #[arg(long)]
    run: Option<String>,
    /// For how long, such as 15m [default and at most: the configuration's
    /// `tokens.lifetime`]
    #[arg(long, value_parser = lifetime)]
    lifetime: Option<Duration>,
}

/// What to take back.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Revoke {
    /// The configuration file
    #[arg(long, short, default_value = "pgveil.yaml")]
    config: PathBuf,
    /// A token, ours or an issuer's, or the id of one; `-`: a token from standard input,
    /// where other users of the machine do not read it
    #[arg(required_unless_present_any = ["all_of", "id"], conflicts_with_all = ["all_of", "id"])]
    token: Option<String>,
    /// A token's id, as `token mint` and each record say it
    #[arg(long, conflicts_with = "all_of")]
    id: Option<Arc<str>>,
    /// All tokens of this identity, issued until now; also those by which others act
    /// on its behalf
    #[arg(long, value_name = "IDENTITY")]
    all_of: Option<String>,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let found = config::duration_of(text).filter(|time| time.as_secs() > 0);
    found.ok_or_else(|| "write it as 30s, 15m or 1h30m".into())
}

impl Token {
    pub(super) fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Mint(mint) => mint.run(),
            Self::Revoke(revoke) => revoke.run(),
            Self::Key => Ok(std::io::stdout().write_all(Key::generate()?.as_bytes())?),
        }
    }
}

/// What the proxy would verify tokens by.
fn known(config: &Config) -> Result<Tokens, Box<dyn Error>> {
    Ok(Tokens::load(
        &config.tokens,
        &config.issuers,
        &BTreeMap::new(),
        None,
    )?)
}

impl Mint {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let config = Config::load(&self.config)?;
        let own = &config.tokens;
        let key = own.keys.first();
        let key = key.ok_or("the configuration names no `tokens.keys` (hint: [token.key])")?;
        let key = Key::read(key)?;
        let policy = Policy::load(&config.policies, 1)?;
        let policy = policy.trusting(known(&config)?.into());

        let identity = self.identity.as_str();
        let kind = |name: &str| -> Result<Kind, Box<dyn Error>> {
            let known = policy.principal(name, Method::Token);
            let known = known.ok_or_else(|| format!("policy names no identity `{name}`"))?;
            Ok(known.kind)
        };
        let acting = kind(identity)?;
        if !policy.token_identities().any(|name| **name == *identity) {
            return Err(format!(
                "`{identity}` does not connect by tokens (hint: `tokens: true` in place of `scram`)"
            )
            .into());
        }
        let lifetime = self.lifetime.unwrap_or(own.lifetime);
        if lifetime > own.lifetime {
            let longest = own.lifetime.as_secs();
            return Err(format!("`tokens.lifetime` is {longest} seconds, no longer").into());
        }
        if let Some(dataset) = &self.dataset
            && !config.datasets.contains_key(dataset)
        {
            return Err(format!("no dataset is called `{dataset}`").into());
        }
        for words in [&self.purpose, &self.run].into_iter().flatten() {
            if words.len() > WORDS || words.chars().any(char::is_control) {
                return Err(format!("a purpose or run has at most {WORDS} bytes of text").into());
            }
        }

        let text = |text: Option<String>| text.map(Arc::from);
        let mut claims = Claims::new(&own.issuer, (identity, acting), lifetime);
        claims.roles = (!self.roles.is_empty()).then(|| self.roles.into_iter().collect());
        claims.dataset = text(self.dataset.clone());
        claims.purpose = text(self.purpose);
        claims.run = text(self.run);
        if let Some(human) = &self.on_behalf_of {
            kind(human)?;
            claims = claims.on_behalf_of(human);
        }
        let token = key.mint(&claims);
        // As the proxy will.
        let dataset = self.dataset.unwrap_or_default();
        let principal = policy.bearer(identity, &dataset, &token, Timestamp::now());
        let principal = principal.map_err(|why| {
            let hint = match why {
                TokenError::Revoked => {
                    " (hint: all of them have been taken back, and clocks differ: wait a minute)"
                }
                _ => "",
            };
            format!("such a token would not be taken: {why}{hint}")
        })?;
        let expires = Timestamp::from_second(claims.exp)?;
        let human = principal.on_behalf_of.as_ref();
        let whom = human.map(|human| format!(" on behalf of {}", human.label()));
        eprintln!(
            "pgveil: token {} of {}{} until {expires}",
            claims.jti,
            principal.label(),
            whom.unwrap_or_default()
        );
        Ok(writeln!(std::io::stdout(), "{token}")?)
    }
}

/// Whether a name is nobody's, as far as the policy can be read: what is revoked is
/// revoked in any case.
fn names_nobody(config: &Config, name: &str) -> bool {
    let policy = Policy::load(&config.policies, 1);
    policy.is_ok_and(|policy| !policy.identities().any(|known| **known == *name))
        && !config.issuers.values().any(|issuer| issuer.has(name))
}

impl Revoke {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let config = Config::load(&self.config)?;
        let at = Timestamp::now();
        let (revocation, what) = match (self.all_of, self.token) {
            (Some(name), _) => {
                if names_nobody(&config, &name) {
                    eprintln!(
                        "pgveil: warning: policy has no identity `{name}`, and no issuer names it: \
                         check the spelling"
                    );
                }
                let what = format!("all tokens of `{name}` issued until {at:.0}");
                let name = name.into();
                (Revocation::Identity { name, at }, what)
            }
            (None, Some(text)) => {
                let text = match text.as_str() {
                    "-" => first_line(std::io::stdin().lock())?,
                    _ => text,
                };
                let id = match text.contains('.') {
                    true => known(&config)?
                        .id(&text)
                        .map_err(|why| format!("this is no token of ours: {why}"))?,
                    false => text.into(),
                };
                let what = format!("token {id}");
                (Revocation::Token { id, at }, what)
            }
            (None, None) => {
                let id = self.id.ok_or("name a token, its id, or an identity")?;
                let what = format!("token {id}");
                (Revocation::Token { id, at }, what)
            }
        };
        let path = &config.tokens.revoked;
        revocation
            .append(path)
            .map_err(|error| format!("not known to be revoked: {error}"))?;
        Ok(writeln!(std::io::stdout(), "revoked: {what}")?)
    }
}
