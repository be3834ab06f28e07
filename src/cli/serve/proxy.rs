//! A running proxy: policy, catalogs, listener and sessions, joined.
//!
//! Invariant: it starts with all that is configured or not at all. A policy that
//! does not load, a secret that is not there or an upstream that refuses the proxy
//! is an error at the start, not at the first query; an upstream that is down is
//! not, lest it take the other datasets with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failures::Failures;
use super::ground::Ground;
use super::keeping;
use super::reload::Rules;
use super::step_up::StepUp;
use crate::audit::{Log, LogError, Sealing, key};
use crate::catalog::{Catalog, load};
use crate::config::{self, Config};
use crate::identity::login::LoginError;
use crate::identity::token::TokensError;
use crate::listener::{
    Accept, Asked, Client, Issued, ListenError, Listener, Protocol, Refusal, TlsError, Workers,
};
use crate::policy::mask::key_settings;
use crate::policy::{Policy, PolicyError};
use crate::secret::{Secret, SecretError, Source};
use crate::session::{
    self, Caller, Cancels, Dataset, Governed, Planning, STACK, Settings, Shared, User,
};
use crate::sinks::{self, SinkError, Sinks};
use crate::stage::Stage;
use crate::upstream::connect::Target;

/// How long connecting to an upstream may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How soon a dataset that could not be read at the start is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// What plans may take, in bytes.
const PLANS: u64 = 64 << 20;
/// The shortest masking key: below this it could be guessed from pseudonyms.
const KEY: usize = 16;

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The policy does not load.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Keys or revocations cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A secret is not where it should be.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A masking key that could be guessed.
    #[error(
        "mask_key of dataset {0} has fewer than {KEY} bytes (hint: `openssl rand -hex 32` makes one)"
    )]
    Key(String),
    /// A user before another that may do less.
    #[error(
        "upstream users of dataset {dataset}: `{first}` may write and `{then}`, who stands after \
         it, may not (hint: the least powerful is `user`, then come `users` in order)"
    )]
    Order {
        /// Of which dataset
        dataset: String,
        /// Who may write
        first: String,
        /// Who may not
        then: String,
    },
    /// A key of second factors that could be guessed.
    #[error("login.key has fewer than 16 bytes (hint: `openssl rand -hex 32` makes one)")]
    LoginKey,
    /// Codes that have been used.
    #[error("the used codes in {} cannot be read: {}", .0.display(), .1)]
    Logins(PathBuf, std::io::Error),
    /// An upstream cannot be read.
    #[error(transparent)]
    Catalog(#[from] load::LoadError),
    /// The records' directory or file.
    #[error(transparent)]
    Log(#[from] crate::audit::log::LogError),
    /// The records' key.
    #[error(transparent)]
    AuditKey(#[from] key::KeyError),
    /// Where else records go.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The records' directory.
    #[error("the directory {0} for records cannot be made: {1}")]
    Directory(PathBuf, std::io::Error),
    /// The certificate, or the authorities of clients'.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The addresses.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The threads that serve.
    #[error("the threads that serve cannot be started: {0}")]
    Threads(std::io::Error),
}

/// A proxy that serves.
pub(crate) struct Running {
    addresses: Vec<SocketAddr>,
    front: Arc<Front>,
    stage: watch::Sender<Stage>,
    listening: JoinHandle<()>,
    /// What goes on beside it.
    chores: Vec<JoinHandle<()>>,
    audit: config::Audit,
    sinks: Option<Sinks>,
}

/// Starts to serve.
///
/// # Errors
/// Whatever of the configuration, the policy, the secrets, the upstreams or the
/// log keeps it from serving.
pub(crate) async fn start(config: Config) -> Result<Running, ServeError> {
    let ground = Ground::of(&config);
    let unrevoked = ground.unrevoked();
    let looked = ground.look();
    let fetching = ground.clone();
    // It does not panic; if it did, there would be no keys yet.
    let _ = tokio::task::spawn_blocking(move || fetching.fetch()).await;
    let tls = ground.tls(None)?;
    let policy = ground.rules(1, tls.as_deref())?;
    for warning in &policy.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(parent) = config.audit.file.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| ServeError::Directory(parent.to_owned(), error))?;
    }
    let log = audit(&config.audit)?;
    let mut datasets = BTreeMap::new();
    let mut chores = Vec::new();
    for (name, dataset) in &config.datasets {
        let opened = Arc::new(open(name, dataset).await?);
        if let Some(error) = misplaced(&opened) {
            return Err(error);
        }
        for one in opened.all() {
            let all = (opened.clone(), one.clone());
            let refreshing = refresh(all, dataset.catalog_refresh, log.clone());
            chores.push(tokio::spawn(refreshing));
            let password = one.target.password.clone();
            chores.extend(password.map(|source| tokio::spawn(source.keep())));
        }
        datasets.insert(Arc::from(name.as_str()), opened);
    }
    let sinks = Sinks::start(&config.audit, &log).await?;
    let rules = Arc::new(Rules::new(
        policy,
        tls,
        ground,
        (looked, unrevoked),
        log.clone(),
    ));
    let front = Arc::new(Front {
        shared: Arc::new(Shared {
            authority: Box::new(Governed::new(
                rules.subscribe(),
                PLANS,
                config.limits.bounds(),
            )),
            datasets,
            log: log.clone(),
            cancels: Cancels::default(),
            planning: Planning::new(config.limits.statement_size),
        }),
        rules: rules.clone(),
        failures: Failures::new(log.clone()),
        step_up: StepUp::open(&config, log.clone()).await?,
    });
    rules.say_loaded().await?;
    let workers = Workers::start(STACK).map_err(ServeError::Threads)?;
    let listener = Listener::bind(&config.listen, rules.certificates(), workers).await?;
    let addresses = listener.addresses();
    let stage = watch::Sender::new(Stage::Serving);
    let listening = listener.run(front.clone(), stage.clone(), config.shutdown_timeout);
    let listening = tokio::spawn(listening);
    chores.extend(rules.fetch());
    chores.push(tokio::spawn(rules.watch()));
    if let Some(rule) = config.audit.retention {
        let taken = sinks.as_ref().map(Sinks::taken);
        chores.push(tokio::spawn(keeping::prune(
            config.audit.clone(),
            rule,
            log.clone(),
            taken,
        )));
    }
    chores.push(tokio::spawn(keeping::take_in(config.audit.clone(), log)));
    Ok(Running {
        audit: config.audit,
        addresses,
        front,
        stage,
        listening,
        chores,
        sinks,
    })
}

/// How long sinks may take for what is left when the proxy ends.
const LAST: Duration = Duration::from_secs(2);
/// How long nothing may happen without a record that says so.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// The log, sealed by its key.
fn audit(config: &config::Audit) -> Result<Log, ServeError> {
    let file = config.key();
    let (signer, made) = key::read_or_make(&file)?;
    if made {
        tracing::info!(
            file = %file.display(), public = signer.verifier().text(),
            "audit key made; keep the public one where the log's keeper cannot change it"
        );
    }
    let sealing = Sealing {
        signer,
        first: made,
        every: config.checkpoint_every,
        heartbeat: HEARTBEAT,
        segment: config.segment_size as u64,
        copies: config.checkpoints.clone(),
    };
    Ok(Log::sealed(&config.file, config.durability, sealing)?)
}

/// Whether it would start, as far as can be told without the upstreams and without
/// taking the addresses.
pub(super) async fn check(config: &Config) -> Result<(), ServeError> {
    let ground = Ground::of(config);
    let tls = ground.tls(None)?;
    let policy = ground.rules(1, tls.as_deref())?;
    for warning in &policy.warnings {
        eprintln!("pgveil: warning: {warning}");
    }
    if let Some(login) = &config.login {
        super::step_up::sealer(login).await?;
    }
    for (name, dataset) in &config.datasets {
        own(name, dataset).await?;
        for user in &dataset.upstream.users {
            other(name, dataset, user).await?;
        }
        keys(name, dataset).await?;
    }
    sinks::check(&config.audit).await?;
    println!(
        "{} dataset{}, policy {}: ok",
        config.datasets.len(),
        if config.datasets.len() == 1 { "" } else { "s" },
        policy.digest
    );
    Ok(())
}

impl Running {
    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Has a checkpoint made of all records so far.
    pub(crate) async fn seal(&self) -> Result<(), LogError> {
        self.front.shared.log.seal().await
    }

    /// Reads the policy again, all of it, or the old one stays; and the catalogs.
    pub(crate) async fn reload(&self) {
        self.front.reload().await;
    }

    /// Lets sessions finish, within the configured time or until `hurry` is done.
    pub(crate) async fn shutdown(mut self, hurry: impl Future<Output = ()>) {
        Stage::Draining.reach(&self.stage);
        tokio::select! {
            _ = &mut self.listening => {}
            () = hurry => {
                Stage::Ending.reach(&self.stage);
                let _ = self.listening.await;
            }
        }
        self.chores.iter().for_each(JoinHandle::abort);
        if let Err(error) = keeping::last(&self.audit, &self.front.shared.log).await {
            tracing::error!(%error, "what readers of the audit log did is not on record yet");
        }
        // What it could not say has been logged.
        let _ = self.front.shared.log.close().await;
        if let Some(sinks) = self.sinks.take() {
            let ended = tokio::task::spawn_blocking(|| sinks.end(LAST));
            let _ = ended.await;
        }
    }
}

/// Where the dataset lives, and as whom to go there: with a password that can be had.
async fn target(
    name: &str,
    dataset: &config::Dataset,
    user: &str,
    password: Option<&config::SecretRef>,
    allow_superuser: bool,
) -> Result<Target, SecretError> {
    let upstream = &dataset.upstream;
    Ok(Target {
        dataset: name.to_owned(),
        host: upstream.host.clone(),
        port: upstream.port,
        dbname: upstream.dbname.clone(),
        user: user.to_owned(),
        password: match password {
            Some(reference) => Some(self::password(reference).await?),
            None => None,
        },
        tls: upstream.tls_mode(),
        ca: upstream.tls.as_ref().and_then(|tls| tls.ca.clone()),
        allow_superuser,
        timeout: CONNECT,
    })
}

/// As the dataset's own user.
async fn own(name: &str, dataset: &config::Dataset) -> Result<Target, SecretError> {
    let upstream = &dataset.upstream;
    let password = upstream.password.as_ref();
    target(
        name,
        dataset,
        &upstream.user,
        password,
        dataset.allow_superuser,
    )
    .await
}

/// As another.
async fn other(
    name: &str,
    dataset: &config::Dataset,
    user: &config::UpstreamUser,
) -> Result<Target, SecretError> {
    let password = user.password.as_ref();
    target(name, dataset, &user.user, password, user.allow_superuser).await
}

async fn password(reference: &config::SecretRef) -> Result<Arc<Source>, SecretError> {
    let source = Source::of(reference);
    match source.get().await?.expose_str() {
        Some(_) => Ok(Arc::new(source)),
        None => Err(SecretError::NotText(reference.to_string())),
    }
}

/// The settings that carry the masking key, if the dataset has one.
async fn keys(name: &str, dataset: &config::Dataset) -> Result<Settings, ServeError> {
    let Some(reference) = &dataset.mask_key else {
        return Ok(Settings::default());
    };
    let key: Secret = Source::of(reference).get().await?;
    if key.expose().len() < KEY {
        return Err(ServeError::Key(name.to_owned()));
    }
    let settings = key_settings(key.expose()).map(|(name, value)| (name.to_owned(), value));
    Ok(Settings::new(settings.into()))
}

/// The dataset, as each of its users.
async fn open(name: &str, dataset: &config::Dataset) -> Result<Dataset, ServeError> {
    let settings = keys(name, dataset).await?;
    let mut own = open_as(own(name, dataset).await?, settings.clone(), dataset).await?;
    for user in &dataset.upstream.users {
        let target = other(name, dataset, user).await?;
        let opened = open_as(target, settings.clone(), dataset).await?;
        own.users.push(User {
            roles: user.roles.clone(),
            beside: user.beside.clone(),
            dataset: Arc::new(opened),
        });
    }
    Ok(own)
}

/// Who may write and stands before one who may not, as far as both are known.
fn misplaced(dataset: &Arc<Dataset>) -> Option<ServeError> {
    let known: Vec<_> = dataset.all().filter(|one| one.is_known()).collect();
    let (first, then) = known
        .iter()
        .zip(known.iter().skip(1))
        .find(|(first, then)| first.catalog().writes && !then.catalog().writes)?;
    Some(ServeError::Order {
        dataset: dataset.name.to_string(),
        first: first.target.user.clone(),
        then: then.target.user.clone(),
    })
}

async fn open_as(
    target: Target,
    settings: Settings,
    dataset: &config::Dataset,
) -> Result<Dataset, ServeError> {
    let name = target.dataset.as_str();
    let began = Instant::now();
    let catalog = match load::load(&target, 1).await {
        Ok(catalog) => {
            tracing::info!(
                dataset = name, user = target.user, relations = catalog.relations.len(),
                version = catalog.version, took = ?began.elapsed(), "catalog read"
            );
            catalog
        }
        // The others are served meanwhile.
        Err(load::LoadError::Connect(error)) if error.may_pass() => {
            tracing::error!(dataset = name, %error, "not available yet; tried again until it is");
            Catalog::default()
        }
        Err(error) => return Err(error.into()),
    };
    let mut opened = Dataset::new(name.into(), Arc::new(target), settings, catalog);
    opened.pause = dataset.catalog_pause;
    opened.environment = dataset.environment.as_deref().map(Arc::from);
    Ok(opened)
}

async fn refresh((home, dataset): (Arc<Dataset>, Arc<Dataset>), every: Duration, log: Log) {
    let mut said = false;
    loop {
        let pause = if dataset.is_known() {
            every
        } else {
            every.min(RETRY)
        };
        tokio::time::sleep(pause).await;
        dataset.refresh(Instant::now(), &log).await;
        // What was not known at the start, or has been granted since.
        let error = misplaced(&home);
        if let Some(error) = error.as_ref().filter(|_| !said) {
            tracing::error!("{error}");
        }
        said = error.is_some();
    }
}

/// What the listener hands its clients to.
struct Front {
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    failures: Failures,
    step_up: Option<StepUp>,
}

impl Front {
    async fn reload(&self) {
        self.rules.reload().await;
        // Statements wait for it; what else is to be done does not.
        for dataset in self.shared.datasets.values().flat_map(Dataset::all) {
            dataset.change();
            let (dataset, log) = (dataset.clone(), self.shared.log.clone());
            tokio::spawn(async move { dataset.renew(&log).await });
        }
    }
}

impl Accept for Front {
    type Identities = Policy;

    fn identities(&self) -> Arc<Policy> {
        self.rules.current()
    }

    async fn serve(&self, client: Client) {
        let caller = Caller {
            peer: client.peer,
            tls: client.tls.map(|tls| tls.version.into()),
            minor: match client.protocol {
                Protocol::V3_0 => 0,
                Protocol::V3_2 => 2,
            },
            parameters: client.parameters,
            dataset: client.dataset,
            principal: client.principal,
            stage: client.stage,
        };
        session::run(&self.shared, caller, client.stream).await;
    }

    async fn step_up(&self, asked: Asked<'_>) -> Result<Issued, LoginError> {
        let step_up = self.step_up.as_ref().ok_or(LoginError::None)?;
        step_up.give(asked, &self.rules).await
    }

    async fn cancel(&self, pid: i32, secret: &[u8]) {
        self.shared.cancels.cancel(pid, secret).await;
    }

    async fn refused(&self, refusal: &Refusal<'_>) {
        self.failures.record(refusal).await;
    }
}
