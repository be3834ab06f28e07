//! `pgveil.yaml` → [`Config`]: what an operator writes.
//!
//! Knows nothing about policy or what the values are used for. Invariants: a
//! [`Config`] is complete and consistent, its paths do not depend on the working
//! directory, and it holds no secret: those are named by environment variable or
//! file ([`SecretRef`]) and read when they are needed.

mod duration;
mod fault;
mod secret;
mod size;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::identity::Kind;
use crate::sql::Bounds;
pub use crate::upstream::connect::TlsMode;
pub use duration::parse as duration_of;
pub use fault::{ConfigError, nearest};
pub use secret::{Secret, SecretError, SecretRef};

/// The configuration of `pgveil serve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    #[serde(default)]
    pub listen: Listen,
    /// The folder of policy files, relative to this file's.
    #[serde(default = "default_policies")]
    pub policies: PathBuf,
    /// What callers name as database, and where it lives.
    pub datasets: BTreeMap<String, Dataset>,
    /// How identities that connect by tokens prove themselves.
    #[serde(default)]
    pub tokens: Tokens,
    /// Whose tokens are taken beside this proxy's own.
    #[serde(default)]
    pub issuers: BTreeMap<String, Issuer>,
    /// Where records go.
    #[serde(default)]
    pub audit: Audit,
    /// How large and how deep statements may be.
    #[serde(default)]
    pub limits: Limits,
    /// How the proxy speaks of itself.
    #[serde(default)]
    pub log: Log,
    /// How long sessions may go on after the signal to end, such as `30s`.
    #[serde(
        default = "default_shutdown_timeout",
        deserialize_with = "duration::deserialize"
    )]
    #[schemars(with = "String")]
    pub shutdown_timeout: Duration,
}

/// Where and how clients connect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// An address and port such as `127.0.0.1:6432` or `[::]:6432`, or a list.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub address: Vec<SocketAddr>,
    /// Who is served without TLS.
    pub plaintext: Plaintext,
    /// The server's certificate; without it there is no TLS.
    pub tls: Option<ServerTls>,
    /// How long a client may take until it is authenticated, such as `10s`.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub handshake_timeout: Duration,
    /// How many sessions there may be at a time.
    pub max_connections: NonZeroUsize,
}

/// Who is served without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// Clients on this machine.
    #[default]
    Loopback,
    /// Everybody: only where the network itself is trusted.
    Anywhere,
    /// Nobody.
    Never,
}

impl Plaintext {
    /// Whether a client at that address is served without TLS.
    pub fn serves(self, peer: IpAddr) -> bool {
        match self {
            Self::Loopback => peer.to_canonical().is_loopback(),
            Self::Anywhere => true,
            Self::Never => false,
        }
    }
}

/// The server's certificate and key, in PEM.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The file of the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// The file of its private key.
    pub key: PathBuf,
}

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

/// Somebody else whose tokens are taken: an identity provider. Whom they name is not
/// listed in policy, and has the roles that policy's `groups` give to the token's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What its tokens call it (`iss`).
    pub issuer: String,
    /// What its tokens call this proxy (`aud`).
    pub audience: String,
    /// The file of its keys (JWKS), read again when it changes.
    pub jwks: PathBuf,
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

/// One database behind the proxy.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Where it lives and how to get in.
    pub upstream: Upstream,
    /// The key of `hash` masks, at least 16 bytes; a policy that uses them for this
    /// dataset does not load without.
    /// Another key makes other pseudonyms.
    pub mask_key: Option<SecretRef>,
    /// What it is: `production`, `staging`; for the record, and for grants that are in
    /// force in some `environments` only.
    pub environment: Option<String>,
    /// Whether the upstream role may be a superuser, past which Postgres itself
    /// checks nothing.
    #[serde(default)]
    pub allow_superuser: bool,
    /// How often its catalog is read anew, such as `5m`.
    #[serde(
        default = "default_catalog_refresh",
        deserialize_with = "duration::deserialize"
    )]
    #[schemars(with = "String")]
    pub catalog_refresh: Duration,
    /// Names that are not in it have it read anew, once in this time at most.
    #[serde(
        default = "default_catalog_pause",
        deserialize_with = "duration::deserialize"
    )]
    #[schemars(with = "String")]
    pub catalog_pause: Duration,
}

/// A Postgres server, and the proxy's own role there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// A host name or IP address, or the absolute path of the folder that holds
    /// its Unix socket.
    pub host: String,
    /// Its port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The database.
    pub dbname: String,
    /// The proxy's role: one of least privilege.
    pub user: String,
    /// Its password, by reference: `{ env: NAME }` or `{ file: path }`.
    pub password: Option<SecretRef>,
    /// How the way there is encrypted. Must be said for a host that is not this
    /// machine.
    pub tls: Option<UpstreamTls>,
}

impl Upstream {
    /// The folder of its Unix socket, if it is one.
    pub fn socket_dir(&self) -> Option<&Path> {
        self.host.starts_with('/').then(|| Path::new(&self.host))
    }

    /// How the way there is encrypted: unless it is said, not at all by Unix
    /// socket, and if the server can on this machine.
    pub fn tls_mode(&self) -> TlsMode {
        match &self.tls {
            Some(tls) => tls.mode,
            None if self.socket_dir().is_some() => TlsMode::Disable,
            None => TlsMode::Prefer,
        }
    }

    fn is_this_machine(&self) -> bool {
        self.socket_dir().is_some()
            || self.host == "localhost"
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// As libpq's `sslmode`.
    pub mode: TlsMode,
    /// The file of certificates to trust, in PEM; required to verify.
    pub ca: Option<PathBuf>,
}

/// Where records go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file they are appended to, one JSON object a line.
    pub file: PathBuf,
    /// What must have happened to the record of a statement before that is sent.
    pub durability: Durability,
    /// The file of the key that signs checkpoints; made at the first start. Unless it
    /// is said, it is beside the records.
    pub key: Option<PathBuf>,
    /// How often a checkpoint is made while there are records, such as `10s`; at most
    /// `1m`.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub checkpoint_every: Duration,
    /// A file elsewhere that checkpoints are added to as well.
    pub checkpoints: Option<PathBuf>,
    /// How long the file becomes before another begins, such as `64MB`.
    #[serde(deserialize_with = "size::deserialize")]
    #[schemars(with = "String")]
    pub segment_size: usize,
}

impl Audit {
    /// The file of the key.
    pub fn key(&self) -> PathBuf {
        match &self.key {
            Some(key) => key.clone(),
            None => self.file.with_extension("key"),
        }
    }
}

/// What a record must survive before what it tells of is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A machine that fails: it is on disk. Those who wait at once share one sync.
    #[default]
    Fsync,
    /// A proxy that is killed: the system has it.
    Flush,
    /// Nothing: it is handed over to be written.
    Async,
}

/// How large and how deep statements may be. What is beyond is refused before it is
/// planned: planning takes time and memory of the proxy's own.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The text of one message, such as `1MB`; at most `16MB`. Beyond: 54000.
    #[serde(deserialize_with = "size::deserialize")]
    #[schemars(with = "String")]
    pub statement_size: usize,
    /// How many levels a statement's syntax tree may have, at most 12,000: a term of
    /// a sum is one, a call or a subquery is a few. Beyond: 54001.
    pub statement_depth: usize,
}

impl Limits {
    /// As planning takes them.
    pub fn bounds(self) -> Bounds {
        Bounds {
            size: self.statement_size,
            depth: self.statement_depth,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let Bounds { size, depth } = Bounds::default();
        Self {
            statement_size: size,
            statement_depth: depth,
        }
    }
}

/// How the proxy speaks of itself, on standard error.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines to read.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name, as filters take it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// With file, line and a suggestion, for the first fault found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::read(path, &source))?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let folder =
            std::path::absolute(folder).map_err(|source| ConfigError::read(path, &source))?;
        Self::parse(&text, &folder).map_err(|error| error.in_file(path))
    }

    /// Reads a text; relative paths in it start from `base`.
    ///
    /// # Errors
    /// As [`Config::load`], without the file.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::yaml(&error))?;
        config.check()?;
        for path in config.paths() {
            *path = base.join(&*path);
        }
        Ok(config)
    }

    /// What the file may hold, as a JSON schema.
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: String| Err(ConfigError::value(what));
        if self.datasets.is_empty() {
            return wrong("`datasets` is empty: name at least one".into());
        }
        let listen = &self.listen;
        if listen.address.is_empty() {
            return wrong("`listen.address` is empty: name at least one".into());
        }
        if listen.handshake_timeout.is_zero() {
            return wrong("`listen.handshake_timeout` must be more than 0s".into());
        }
        if listen.plaintext == Plaintext::Never && listen.tls.is_none() {
            return wrong(
                "`listen.plaintext` is never and `listen.tls` is missing: nobody could connect"
                    .into(),
            );
        }
        let Bounds { size, depth } = Bounds::MOST;
        let limits = &self.limits;
        if !(1 << 10..=size).contains(&limits.statement_size) {
            return wrong("`limits.statement_size` must be from 1kB to 16MB".into());
        }
        if !(10..=depth).contains(&limits.statement_depth) {
            return wrong(format!(
                "`limits.statement_depth` must be from 10 to {depth}"
            ));
        }
        let audit = &self.audit;
        if audit.checkpoint_every.is_zero() || audit.checkpoint_every > Duration::from_secs(60) {
            return wrong("`audit.checkpoint_every` must be more than 0s and at most 1m".into());
        }
        if audit.segment_size < 64 << 10 {
            return wrong("`audit.segment_size` must be at least 64kB".into());
        }
        if self.tokens.lifetime.is_zero() {
            return wrong("`tokens.lifetime` must be more than 0s".into());
        }
        for (name, issuer) in &self.issuers {
            issuer
                .check()
                .map_err(|what| ConfigError::value(format!("`issuers.{name}` {what}")))?;
            let theirs = self
                .issuers
                .values()
                .filter(|one| one.issuer == issuer.issuer);
            if issuer.issuer == self.tokens.issuer || theirs.count() > 1 {
                return wrong(format!("`issuers.{name}.issuer` is another's name already"));
            }
            let mut others = self.issuers.iter().filter(|(other, _)| *other != name);
            if let Some((other, _)) = others.clone().find(|(_, other)| issuer.overlaps(other)) {
                return wrong(format!(
                    "`issuers.{name}.names` and `issuers.{other}.names` have names in common"
                ));
            }
            let mixed = issuer.groups.is_some() && others.any(|(_, other)| other.groups.is_some());
            if mixed && issuer.group_names.is_none() {
                return wrong(format!(
                    "`issuers.{name}` must name in `group_names` which groups are its to give, as \
                     another issuer gives groups too"
                ));
            }
        }
        let loopback_only = listen.plaintext == Plaintext::Loopback && listen.tls.is_none();
        if let Some(address) = listen.address.iter().find(|address| {
            loopback_only && !address.ip().is_unspecified() && !address.ip().is_loopback()
        }) {
            return wrong(format!(
                "`listen.address` {address} serves other machines, which need `listen.tls` (or \
                 `plaintext: anywhere`)"
            ));
        }
        self.datasets.iter().try_for_each(|(name, dataset)| {
            dataset
                .check()
                .map_err(|what| ConfigError::value(format!("`datasets.{name}` {what}")))
        })
    }

    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.listen.tls.iter_mut();
        let tokens = self
            .tokens
            .keys
            .iter_mut()
            .chain([&mut self.tokens.revoked]);
        let issuers = self.issuers.values_mut().map(|issuer| &mut issuer.jwks);
        let datasets = self.datasets.values_mut().flat_map(|dataset| {
            let upstream = &mut dataset.upstream;
            let secrets = [dataset.mask_key.as_mut(), upstream.password.as_mut()];
            secrets
                .into_iter()
                .flatten()
                .filter_map(SecretRef::path_mut)
                .chain(upstream.tls.as_mut().and_then(|tls| tls.ca.as_mut()))
        });
        let audit = &mut self.audit;
        [&mut self.policies, &mut audit.file]
            .into_iter()
            .chain(&mut audit.key)
            .chain(&mut audit.checkpoints)
            .chain(tls.flat_map(|tls| [&mut tls.certificate, &mut tls.key]))
            .chain(tokens)
            .chain(issuers)
            .chain(datasets)
    }
}

impl Issuer {
    /// Whether a name is one of those that its tokens may have.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| is_like(pattern, name))
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
        if let Some(name) = self.names.iter().find(wide) {
            return Err(format!(
                "`names` has `{name}`: a name has one `*` at most, and something beside it"
            ));
        }
        Ok(())
    }
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

impl Dataset {
    fn check(&self) -> Result<(), String> {
        let upstream = &self.upstream;
        for (name, value) in [
            ("host", &upstream.host),
            ("dbname", &upstream.dbname),
            ("user", &upstream.user),
        ] {
            if value.is_empty() || value.contains('\0') {
                return Err(format!("`upstream.{name}` is empty or holds a zero byte"));
            }
        }
        if upstream.port == 0 {
            return Err("`upstream.port` must not be 0".into());
        }
        if self.catalog_refresh.is_zero() {
            return Err("`catalog_refresh` must be more than 0s".into());
        }
        match &upstream.tls {
            None if !upstream.is_this_machine() => Err(format!(
                "must say how `{}` is reached: `upstream.tls: {{ mode: verify-full, ca: ca.pem }}`, \
                 or `{{ mode: disable }}` where the network itself is trusted",
                upstream.host
            )),
            Some(tls) => {
                let verifies = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
                if verifies && tls.ca.is_none() {
                    Err(
                        "`upstream.tls.ca` is missing: the certificates to verify by, such as \
                         /etc/ssl/certs/ca-certificates.crt"
                            .into(),
                    )
                } else if tls.mode != TlsMode::Disable && upstream.socket_dir().is_some() {
                    Err("`upstream.tls` is not for Unix sockets".into())
                } else {
                    Ok(())
                }
            }
            None => Ok(()),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: vec![SocketAddr::from(([127, 0, 0, 1], 6432))],
            plaintext: Plaintext::default(),
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            max_connections: NonZeroUsize::MIN.saturating_add(999),
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            file: "audit/records.jsonl".into(),
            durability: Durability::default(),
            key: None,
            checkpoint_every: Duration::from_secs(10),
            checkpoints: None,
            segment_size: 64 << 20,
        }
    }
}

fn default_policies() -> PathBuf {
    "policies".into()
}

fn default_shutdown_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_catalog_refresh() -> Duration {
    Duration::from_secs(5 * 60)
}

fn default_catalog_pause() -> Duration {
    Duration::from_secs(1)
}

fn default_name() -> String {
    "sub".into()
}

fn default_kind() -> Kind {
    Kind::Human
}

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

fn default_skew() -> Duration {
    Duration::from_secs(60)
}

fn default_port() -> u16 {
    5432
}

#[derive(Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected an address and port, or a list of them"
)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let words = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(word) => vec![word],
        OneOrMany::Many(words) => words,
    };
    words
        .iter()
        .map(|word| {
            word.parse().map_err(|_| {
                serde::de::Error::custom(format!(
                    "`{word}` is not an IP address and port such as 127.0.0.1:6432"
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
