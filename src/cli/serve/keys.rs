//! Keys of identity providers that are had by HTTP: fetched at the start, again by age, and
//! when a token names one that is not among them.
//!
//! Knows nothing about what is done with them. Invariants: nobody who connects waits for it;
//! no issuer is asked more often than once in [`REST`], whoever sends tokens; what one says is
//! believed, also that it has no keys; where one cannot be asked, its keys stay as they were,
//! but not for longer than configured.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::{self, Jwks};
use crate::http::{Client, Url};
use crate::identity::token;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A set of keys, or what an issuer says of itself, is no longer.
const LONGEST: usize = 256 << 10;
/// An error has no more characters.
const REASON: usize = 300;
/// How long no issuer is asked again, whatever its tokens say.
const REST: Duration = Duration::from_secs(3);
/// How soon one is asked again that could not be.
const RETRY: Duration = Duration::from_secs(30);

/// One issuer, and where its keys are.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    issuer: String,
    at: Place,
    ca: Option<PathBuf>,
    refresh: Duration,
    stale: Duration,
    missed: Arc<Notify>,
}

#[derive(Clone, Debug)]
enum Place {
    /// The keys themselves.
    Keys(String),
    /// What says where they are.
    Document(String),
}

/// What has been fetched.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Arc<Mutex<BTreeMap<String, Known>>>);

#[derive(Clone, Debug)]
struct Known {
    jwks: token::Jwks,
    /// When it was last read.
    at: Option<Instant>,
}

/// What came of asking.
#[derive(Debug)]
pub(super) struct Asked {
    /// Other keys than before are known now.
    pub(super) changed: bool,
    /// Why it could not be asked, or that what it says is of no use.
    pub(super) error: Option<String>,
}

/// What the documents of OpenID Connect Discovery 1.0 (section 4.2) must say.
#[derive(serde::Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    /// Of an issuer whose keys are not in a file.
    pub(super) fn of(name: &str, config: &config::Issuer) -> Option<Self> {
        Some(Self {
            at: match &config.jwks {
                Jwks::File(_) => return None,
                Jwks::Url(url) => Place::Keys(url.clone()),
                Jwks::Discovered => Place::Document(config.document()),
            },
            name: name.to_owned(),
            issuer: config.issuer.clone(),
            ca: config.ca.clone(),
            refresh: config.refresh,
            stale: config.stale,
            missed: Arc::default(),
        })
    }

    /// Waits until it is to be asked again, which it was `last`.
    pub(super) async fn due(&self, last: Instant, failed: bool) {
        let pause = match failed {
            true => self.refresh.min(RETRY),
            false => self.refresh,
        };
        tokio::select! {
            () = tokio::time::sleep(pause.saturating_sub(last.elapsed())) => {}
            () = self.missed.notified() => {
                tokio::time::sleep(REST.saturating_sub(last.elapsed())).await;
            }
        }
    }

    /// Asks, and waits for it.
    fn fetch(&self, known: &token::Jwks) -> Result<token::Jwks, String> {
        let client = Client::new(self.ca.as_deref(), TIMEOUT, LONGEST);
        let client = client.map_err(|error| error.to_string())?;
        let url = match &self.at {
            Place::Keys(url) => url.clone(),
            Place::Document(url) => self.discover(&client, url)?,
        };
        let keys = known.of(&get(&client, &url)?);
        keys.map_err(|why| format!("{url}: {why}"))
    }

    /// Where the keys are, as an issuer's document says.
    fn discover(&self, client: &Client, url: &str) -> Result<String, String> {
        let document: Document = serde_json::from_slice(&get(client, url)?)
            .map_err(|_| format!("{url}: it does not say `issuer` and `jwks_uri`"))?;
        if document.issuer != self.issuer {
            return Err(format!("{url}: it is that of another issuer"));
        }
        // What came by https leads nowhere else.
        if url.starts_with("https:") && !document.jwks_uri.starts_with("https:") {
            return Err(format!("{url}: its `jwks_uri` is not https"));
        }
        Ok(document.jwks_uri)
    }
}

fn get(client: &Client, url: &str) -> Result<Vec<u8>, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let answer = client.get(&parsed, &[("accept", "application/json")]);
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("{url}: it answers {status}")),
    }
}

impl Keys {
    /// Of these, none yet.
    pub(super) fn none(sources: &[Source]) -> Self {
        let known = sources.iter().map(|source| {
            let jwks = token::Jwks::none(source.missed.clone());
            (source.name.clone(), Known { jwks, at: None })
        });
        Self(Arc::new(Mutex::new(known.collect())))
    }

    /// What is known.
    pub(super) fn fetched(&self) -> token::Fetched {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let jwks = known.iter();
        jwks.map(|(name, known)| (name.clone(), known.jwks.clone()))
            .collect()
    }

    /// Asks one issuer, on this thread.
    pub(super) fn ask(&self, source: &Source) -> Asked {
        let before = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&source.name).cloned()
        };
        let Some(before) = before else {
            return Asked {
                changed: false,
                error: None,
            };
        };
        let now = Instant::now();
        let none = token::Jwks::none(source.missed.clone());
        // What it says of itself, which is quoted, may be long.
        let fetched = source.fetch(&before.jwks);
        let fetched = fetched.map_err(|error| error.chars().take(REASON).collect::<String>());
        let (known, error) = match fetched {
            Ok(jwks) => {
                let none = jwks.is_empty().then(|| token::NO_USE.to_owned());
                let at = Some(now);
                (Known { jwks, at }, none)
            }
            Err(error) => match before.at {
                Some(at) if at.elapsed() < source.stale => (before.clone(), Some(error)),
                Some(_) => {
                    let error = format!("{error}; its keys are used no longer");
                    (
                        Known {
                            jwks: none,
                            at: None,
                        },
                        Some(error),
                    )
                }
                None => (before.clone(), Some(error)),
            },
        };
        let changed = !known.jwks.is(&before.jwks);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(source.name.clone(), known);
        Asked { changed, error }
    }
}
