//! The rules in force: policy, and what tokens and certificates are verified by, read again
//! as their files change.
//!
//! Knows nothing about sessions, which watch what is in force. Invariant: a set that does
//! not load changes nothing, but for which tokens have been revoked and which keys an issuer
//! publishes; policy and certificates are taken only as their files were found at rest, each
//! of the two as one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};

use super::files::Stamp;
use super::ground::{Ground, Look, trust};
use super::keys::Source;
use crate::audit::record::{PolicyStamp, What};
use crate::audit::{Event, Log, LogError};
use crate::identity::token::{Jwks, Tokens};
use crate::listener::{Certificates, Tls};
use crate::policy::Policy;

/// How often files are looked at. What has changed of the policy is read once two looks
/// have found it the same: whoever writes several files is not overtaken.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks find files of certificates that do not rest: then what they revoke is taken.
const RESTLESS: u32 = 4;

/// What is in force, and where it comes from.
pub(super) struct Rules {
    current: watch::Sender<Arc<Policy>>,
    /// What connections are given.
    tls: watch::Sender<Option<Arc<Tls>>>,
    ground: Ground,
    log: Log,
    /// Held while files are read.
    read: Mutex<Read>,
    /// Said of the revocations at the start.
    unrevoked: Option<String>,
}

/// When files were last read, whether that took effect or not.
struct Read {
    /// What they looked like just before.
    looked: Look,
    /// The old one stayed in force.
    failed: bool,
    /// Why those before stayed in force, if they did.
    tokens_error: Option<String>,
}

impl Rules {
    /// What has been read, before which the files looked like that.
    pub(super) fn new(
        policy: Policy,
        tls: Option<Arc<Tls>>,
        ground: Ground,
        (looked, unrevoked): (Look, Option<String>),
        log: Log,
    ) -> Self {
        Self {
            unrevoked,
            current: watch::Sender::new(Arc::new(policy)),
            tls: watch::Sender::new(tls),
            ground,
            log,
            read: Mutex::new(Read {
                looked,
                failed: false,
                tokens_error: None,
            }),
        }
    }

    /// Those in force.
    pub(super) fn current(&self) -> Arc<Policy> {
        self.current.borrow().clone()
    }

    /// Those in force, now and later.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Policy>> {
        self.current.subscribe()
    }

    /// What connections are given, now and later.
    pub(super) fn certificates(&self) -> Certificates {
        self.tls.subscribe()
    }

    /// Puts on record what is in force at the start.
    pub(super) async fn say_loaded(&self) -> Result<(), LogError> {
        let policy = self.current();
        let loaded = What::PolicyLoad {
            policy: stamp(&policy),
            error: None,
        };
        self.log.append(&Event::now(None, loaded)).await?;
        if self.ground.takes_tokens() {
            let loaded = loaded_tokens(&policy, None, None, self.unrevoked.clone());
            self.log.append(&Event::now(None, loaded)).await?;
        }
        let tls = self.tls.borrow().clone();
        if let Some(tls) = tls {
            let loaded = loaded_tls(&policy, &tls, None);
            self.log.append(&Event::now(None, loaded)).await?;
        }
        Ok(())
    }

    /// Reads everything again.
    pub(super) async fn reload(&self) {
        self.load_tokens(true).await;
        self.load_tls(None).await;
        self.load(None).await;
    }

    /// Takes the policy's files, and those of tokens and certificates, as they change.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut last = None;
        let (mut last_tls, mut restless) = (None, 0);
        loop {
            tokio::time::sleep(LOOK).await;
            let look = self.look().await;
            let known = self.read.lock().await.looked.clone();
            // What is revoked is revoked at once, whether the policy loads or not, and whether
            // files settle or not: those of tokens that cannot be read yet are tried again.
            if look.tokens != known.tokens {
                self.load_tokens(false).await;
            }
            if look.tls == known.tls {
                (last_tls, restless) = (None, 0);
            } else if last_tls.replace(look.tls.clone()).as_ref() == Some(&look.tls) {
                self.load_tls(Some(&look.tls)).await;
                last_tls = None;
            }
            if self.read.lock().await.looked.tls == look.tls {
                restless = 0;
            } else if restless < RESTLESS {
                restless += 1;
            } else {
                self.load_revocations().await;
                restless = 0;
            }
            let look = look.policy;
            if look == known.policy {
                last = None;
            } else if last.replace(look.clone()).is_some_and(|last| last == look) {
                self.load(Some(&look)).await;
                last = None;
            }
        }
    }

    /// Asks for the keys of each issuer that are had by HTTP, again and again.
    pub(super) fn fetch(self: &Arc<Self>) -> Vec<tokio::task::JoinHandle<()>> {
        let sources = self.ground.sources.iter().cloned();
        sources
            .map(|source| tokio::spawn(self.clone().keep(source)))
            .collect()
    }

    async fn keep(self: Arc<Self>, source: Source) {
        let mut last = Instant::now();
        let unknown = self.ground.keys.fetched();
        let unknown = unknown.get(&source.name).is_none_or(Jwks::is_empty);
        let mut failed = unknown.then(String::new);
        loop {
            source.due(last, failed.is_some()).await;
            let (keys, asked) = (self.ground.keys.clone(), source.clone());
            let asking = tokio::task::spawn_blocking(move || keys.ask(&asked));
            // It does not panic; if it did, it would be asked again.
            let asked = asking.await.ok();
            last = Instant::now();
            let Some(asked) = asked else { continue };
            if asked.changed {
                self.load_tokens(false).await;
            }
            if let Some(error) = &asked.error
                && failed.as_ref() != Some(error)
            {
                let issuer = source.name.as_str();
                tracing::error!(issuer, error, "no keys to be had");
                let error = format!("keys of issuer {issuer}: {error}");
                let policy = self.current();
                let what = loaded_tokens(&policy, Some(policy.tokens()), Some(error), None);
                // A log that fails refuses statements by itself.
                let _ = self.log.append(&Event::now(None, what)).await;
            }
            failed = asked.error;
        }
    }

    /// What the files look like.
    async fn look(&self) -> Look {
        let ground = self.ground.clone();
        let look = tokio::task::spawn_blocking(move || ground.look());
        // It does not panic; if it did, the files would be read once more.
        look.await.unwrap_or_default()
    }

    /// Reads keys and revocations of tokens, under the policy that is in force. Where
    /// that is not `asked` for, a configuration without is no event.
    async fn load_tokens(&self, asked: bool) {
        let mut read = self.read.lock().await;
        read.looked.tokens = self.look().await.tokens;
        if asked && !self.ground.takes_tokens() {
            return;
        }
        let old = self.current.borrow().clone();
        let (ground, before) = (self.ground.clone(), old.tokens().clone());
        let loading = tokio::task::spawn_blocking(move || match ground.tokens(Some(&before)) {
            Ok(tokens) => (Some(tokens), None),
            // A file that cannot be read is no pardon for what has been revoked since, or for
            // a key that its issuer has taken back.
            Err(error) => {
                let despite = ground.despite(&before);
                (despite, Some(error.to_string()))
            }
        });
        let Ok((tokens, error)) = loading.await else {
            tracing::error!("reading the tokens' files did not come to its end");
            return;
        };
        if let Some(error) = &error {
            // Tried again until they can be read; one error is said once.
            read.looked.tokens = Stamp::default();
            if !asked && tokens.is_none() && read.tokens_error.as_ref() == Some(error) {
                return;
            }
            tracing::error!(%error, "tokens not loaded, those before stay in force");
        }
        read.tokens_error.clone_from(&error);
        let before = old.tokens().clone();
        let policy = match tokens {
            Some(tokens) => {
                let mut policy = Policy::clone(&old).trusting(Arc::new(tokens));
                policy.epoch += 1;
                let policy = Arc::new(policy);
                self.current.send_replace(policy.clone());
                policy
            }
            None => old,
        };
        let what = loaded_tokens(&policy, Some(&before), error, None);
        // A log that fails refuses statements by itself.
        let _ = self.log.append(&Event::now(None, what)).await;
    }

    /// Reads the certificates and lists of revocations, under the policy that is in force;
    /// what has `settled`, only if it has not changed since.
    async fn load_tls(&self, settled: Option<&Stamp>) {
        let mut read = self.read.lock().await;
        let before = self.look().await.tls;
        if settled.is_some_and(|settled| *settled != before) {
            return;
        }
        let (ground, own) = (self.ground.clone(), self.tls.borrow().clone());
        let loading = tokio::task::spawn_blocking(move || {
            let own = own.as_deref();
            // Certificates that cannot be read are no pardon for those that are revoked.
            let loaded = ground.tls(own);
            loaded.map_err(|error| (error, ground.revoking(own)))
        });
        let Ok(loaded) = loading.await else {
            tracing::error!("reading the certificates did not come to its end");
            return;
        };
        // Somebody writes: it is read again once that has settled.
        if settled.is_some() && self.look().await.tls != before {
            return;
        }
        read.looked.tls = before;
        let old = self.current.borrow().clone();
        let (tls, policy, error) = match loaded {
            // There is no TLS.
            Ok(None) => return,
            Ok(Some(tls)) => {
                tracing::info!(fingerprint = tls.fingerprint(), "certificates loaded");
                (Some(tls.clone()), self.take_tls(tls), None)
            }
            Err((error, revoking)) => {
                tracing::error!(%error, "certificates not loaded, those before stay in force");
                let policy = revoking.map_or(old, |tls| self.take_tls(tls));
                (self.tls.borrow().clone(), policy, Some(error.to_string()))
            }
        };
        if let Some(tls) = tls {
            let what = loaded_tls(&policy, &tls, error);
            // A log that fails refuses statements by itself.
            let _ = self.log.append(&Event::now(None, what)).await;
        }
    }

    /// Takes what the files of certificates revoke, and nothing else of them; no event where
    /// that is in force.
    async fn load_revocations(&self) {
        let _read = self.read.lock().await;
        let (ground, own) = (self.ground.clone(), self.tls.borrow().clone());
        let loading = tokio::task::spawn_blocking(move || ground.revoking(own.as_deref()));
        if let Ok(Some(tls)) = loading.await {
            tracing::info!("lists of revocations loaded, from files that do not rest");
            let policy = self.take_tls(tls.clone());
            let what = loaded_tls(&policy, &tls, None);
            // A log that fails refuses statements by itself.
            let _ = self.log.append(&Event::now(None, what)).await;
        }
    }

    /// Puts certificates in force, under the policy that is.
    fn take_tls(&self, tls: Arc<Tls>) -> Arc<Policy> {
        let mut policy = Policy::clone(&self.current.borrow()).certified_by(trust(Some(&tls)));
        policy.epoch += 1;
        let policy = Arc::new(policy);
        self.tls.send_replace(Some(tls));
        self.current.send_replace(policy.clone());
        policy
    }

    /// Reads the policy; of what has `settled`, only if it has not changed since, and no
    /// event where it says what is in force anyway.
    async fn load(&self, settled: Option<&Stamp>) {
        let mut read = self.read.lock().await;
        let before = self.look().await.policy;
        if settled.is_some_and(|settled| *settled != before) {
            return;
        }
        let old = self.current.borrow().clone();
        let (ground, epoch) = (self.ground.clone(), old.epoch + 1);
        let loading = tokio::task::spawn_blocking(move || ground.policy(epoch));
        let Ok(loaded) = loading.await else {
            tracing::error!("reading the policy did not come to its end");
            return;
        };
        // Somebody writes: it is read again once that has settled.
        if settled.is_some() && self.look().await.policy != before {
            return;
        }
        read.looked.policy = before;
        let failed = loaded.is_err();
        if let Ok(policy) = &loaded
            && settled.is_some()
            && !read.failed
            && policy.digest == old.digest
        {
            return;
        }
        read.failed = failed;
        let (stamp, error) = match loaded {
            Ok(policy) => {
                tracing::info!(
                    epoch = policy.epoch,
                    digest = policy.digest,
                    "policy loaded"
                );
                for warning in &policy.warnings {
                    tracing::warn!("{warning}");
                }
                let stamp = stamp(&policy);
                let policy = policy.trusting(old.tokens().clone());
                let policy = policy.certified_by(old.trust().cloned());
                self.current.send_replace(Arc::new(policy));
                (stamp, None)
            }
            Err(error) => {
                tracing::error!(%error, "policy not loaded, the old one stays in force");
                (stamp(&old), Some(error.to_string()))
            }
        };
        let loaded = What::PolicyLoad {
            policy: stamp,
            error,
        };
        // A log that fails refuses statements by itself.
        let _ = self.log.append(&Event::now(None, loaded)).await;
    }
}

/// So many revocations stand in one record.
const REVOCATIONS: usize = 1000;

fn loaded_tokens(
    policy: &Policy,
    before: Option<&Tokens>,
    error: Option<String>,
    unrevoked: Option<String>,
) -> What {
    let tokens = policy.tokens();
    let mut newly_revoked = tokens.revoked_since(before);
    newly_revoked.truncate(REVOCATIONS);
    What::TokensLoad {
        epoch: policy.epoch,
        keys: tokens.keys().map(str::to_owned).collect(),
        issuers: tokens.issuers_keys(),
        revoked: tokens.revoked(),
        newly_revoked,
        unrevoked,
        error,
    }
}

fn loaded_tls(policy: &Policy, tls: &Tls, error: Option<String>) -> What {
    let faults = tls.trust().map(|trust| trust.faults().join("; "));
    let faults = faults.filter(|faults| error.is_none() && !faults.is_empty());
    if let Some(faults) = &faults {
        tracing::error!(%faults, "not all of the clients' authorities and lists is taken");
    }
    What::CertificatesLoad {
        epoch: policy.epoch,
        fingerprint: tls.fingerprint().to_owned(),
        authorities: tls.trust().map_or(0, |trust| trust.authorities()),
        lists: tls.trust().map_or(0, |trust| trust.lists()),
        trusted: tls.trust().map_or_else(Vec::new, |trust| trust.trusted()),
        revocations: tls
            .trust()
            .map_or_else(Vec::new, |trust| trust.revocations()),
        error: error.or(faults),
    }
}

fn stamp(policy: &Policy) -> PolicyStamp {
    PolicyStamp {
        epoch: policy.epoch,
        digest: policy.digest.as_str().into(),
    }
}
