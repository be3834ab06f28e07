//! What rules are made of, by the configuration: where their files are, and whom keys are
//! asked of.
//!
//! Knows nothing about what is in force. Invariant: it reads, and changes nothing but a file
//! of revocations that is not there yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::Stamp;
use super::keys::{Keys, Source};
use super::proxy::ServeError;
use crate::config::{self, Config};
use crate::identity::certificate::Trust;
use crate::identity::token::{Tokens, TokensError, make_revocations};
use crate::listener::{Tls, TlsError};
use crate::policy::{Policy, PolicyError};

/// What the configuration says that policy hangs on.
#[derive(Clone)]
pub(super) struct Ground {
    directory: PathBuf,
    /// The datasets that have no masking key.
    keyless: Vec<String>,
    /// What each dataset is.
    environments: BTreeMap<Arc<str>, Arc<str>>,
    /// Where keys and revocations are.
    tokens: config::Tokens,
    /// And the keys of others.
    issuers: BTreeMap<String, config::Issuer>,
    /// Roles that upstream users are for: of which dataset, which user, which role.
    users: Vec<[String; 3]>,
    /// Where certificates are: the proxy's own, and those of clients' authorities.
    tls: Option<config::ServerTls>,
    /// Those of them whose keys are fetched, and what has been.
    pub(super) sources: Vec<Source>,
    pub(super) keys: Keys,
}

impl Ground {
    pub(super) fn of(config: &Config) -> Self {
        let datasets = || config.datasets.iter();
        let keyless = datasets().filter(|(_, dataset)| dataset.mask_key.is_none());
        let environments = datasets().filter_map(|(name, dataset)| {
            let environment = dataset.environment.as_deref()?;
            Some((Arc::from(name.as_str()), Arc::from(environment)))
        });
        let sources = config.issuers.iter();
        let sources = sources.filter_map(|(name, issuer)| Source::of(name, issuer));
        let sources: Vec<_> = sources.collect();
        Self {
            keys: Keys::none(&sources),
            sources,
            directory: config.policies.clone(),
            keyless: keyless.map(|(name, _)| name.clone()).collect(),
            environments: environments.collect(),
            tokens: config.tokens.clone(),
            issuers: config.issuers.clone(),
            users: datasets()
                .flat_map(|(name, dataset)| {
                    let users = dataset.upstream.users.iter();
                    users.map(move |user| (name, user))
                })
                .flat_map(|(name, user)| {
                    let roles = user.roles.iter().chain(&user.beside);
                    let roles = roles.filter(|role| *role != "*");
                    roles.map(|role| [name.clone(), user.user.clone(), role.clone()])
                })
                .collect(),
            tls: config.listen.tls.clone(),
        }
    }

    /// Fetches keys for the first time. An issuer that cannot be asked is no reason not to
    /// start: it is asked again.
    pub(super) fn fetch(&self) {
        std::thread::scope(|scope| {
            for source in &self.sources {
                scope.spawn(|| {
                    if let Some(error) = self.keys.ask(source).error {
                        let issuer = source.name.as_str();
                        tracing::error!(issuer, error, "no keys yet; asked again until there are");
                    }
                });
            }
        });
    }

    /// What is to be said where there is no file of revocations: at the first start, or of
    /// one that has been lost, with all that was in it.
    pub(super) fn unrevoked(&self) -> Option<String> {
        if !self.takes_tokens() {
            return None;
        }
        let path = self.tokens.revoked.display();
        let what = match make_revocations(&self.tokens.revoked) {
            Ok(false) => return None,
            Ok(true) => "there was none, and it has been made".to_owned(),
            Err(error) => format!("there is none, and it cannot be made: {error}"),
        };
        let what = format!("the revocations in {path}: {what}; no token is revoked");
        tracing::warn!("{what}");
        Some(what)
    }

    /// Whether anybody can connect by a token.
    pub(super) fn takes_tokens(&self) -> bool {
        !self.tokens.keys.is_empty() || !self.issuers.is_empty()
    }

    /// What the files look like.
    pub(super) fn look(&self) -> Look {
        let issuers = self.issuers.values();
        let issuers = issuers.filter_map(|issuer| issuer.jwks.file());
        let tokens = self.tokens.keys.iter().chain([&self.tokens.revoked]);
        let tokens = tokens.chain(issuers);
        Look {
            policy: Stamp::of_directory(&self.directory),
            tokens: Stamp::of(tokens.cloned()),
            tls: Stamp::of(self.tls.iter().flat_map(|tls| tls.paths()).cloned()),
        }
    }

    /// What connections are given, if there is TLS, in place of what they were `before`.
    pub(super) fn tls(&self, before: Option<&Tls>) -> Result<Option<Arc<Tls>>, TlsError> {
        let loading = self.tls.as_ref().map(|files| Tls::load(files, before));
        Ok(loading.transpose()?.map(Arc::new))
    }

    /// Those, with what has been revoked meanwhile; nothing, where that is the same.
    pub(super) fn revoking(&self, before: Option<&Tls>) -> Option<Arc<Tls>> {
        let files = self.tls.as_ref()?;
        before?.revoking(files).map(Arc::new)
    }

    /// What tokens are verified by.
    pub(super) fn tokens(&self, before: Option<&Tokens>) -> Result<Tokens, TokensError> {
        Tokens::load(&self.tokens, &self.issuers, &self.keys.fetched(), before)
    }

    /// Those before, with what has been revoked meanwhile and the keys that issuers publish:
    /// neither needs the files that do not load.
    pub(super) fn despite(&self, before: &Tokens) -> Option<Tokens> {
        before.despite(&self.tokens, &self.keys.fetched())
    }

    /// The policy, if it fits those datasets.
    pub(super) fn policy(&self, epoch: u64) -> Result<Policy, PolicyError> {
        let mut policy = Policy::load(&self.directory, epoch)?;
        for dataset in &self.keyless {
            policy.hashes_nothing_of(dataset)?;
        }
        let nobody = policy.token_identities().next().map(|name| {
            format!(
                "`{name}` connects by tokens, and the configuration has no `tokens.keys`: nobody \
                 can connect as it"
            )
        });
        let nobody = nobody.filter(|_| self.tokens.keys.is_empty());
        policy.warnings.extend(nobody);
        for [dataset, user, role] in &self.users {
            if !policy.roles().any(|known| **known == **role) {
                policy.warnings.push(format!(
                    "the upstream user `{user}` of `{dataset}` is for the role `{role}`, which the \
                     policy does not have"
                ));
            }
        }
        let asked = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let nobody = policy.certificate_identities().next().map(|name| {
            format!(
                "`{name}` needs a client certificate, and the configuration has no \
                 `listen.tls.client_ca`: nobody can connect as it"
            )
        });
        policy.warnings.extend(nobody.filter(|_| !asked));
        Ok(policy.within(self.environments.clone()))
    }

    /// Both, and what is known of certificates.
    ///
    /// # Errors
    /// What of either does not load.
    pub(super) fn rules(&self, epoch: u64, tls: Option<&Tls>) -> Result<Policy, ServeError> {
        let tokens = Arc::new(self.tokens(None)?);
        let policy = self.policy(epoch)?.trusting(tokens);
        Ok(policy.certified_by(trust(tls)))
    }
}

/// What files looked like.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) policy: Stamp,
    pub(super) tokens: Stamp,
    pub(super) tls: Stamp,
}

/// What of it clients' certificates are verified by.
pub(super) fn trust(tls: Option<&Tls>) -> Option<Arc<Trust>> {
    tls.and_then(Tls::trust).cloned()
}
