//! Where and how clients connect.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::duration;

/// Nobody is refused for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// What becomes of those who fail to log in too often.
    pub failures: Failures,
}

/// What becomes of those who fail to log in too often: a wrong password or token counts,
/// whether the name exists or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failures {
    /// So often may logins from one address fail (of IPv6, a /64; on this machine, from an
    /// address by one name) before others from there are refused for a while (53300).
    pub per_source: u32,
    /// So often may logins by one name fail, from wherever, before others wait some
    /// seconds; those from where it has logged in before do not.
    pub per_identity: u32,
    /// How long at first, such as `1s`; twice as long with each failure after that …
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub pause: Duration,
    /// … and at most, such as `1m`. In each such time, one failure is forgotten.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub longest: Duration,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            per_source: 20,
            per_identity: 20,
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(60),
        }
    }
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

/// The server's certificate and key, and whose certificates clients may show: all in PEM,
/// read again, as one, when a file changes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The file of the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// The file of its private key.
    pub key: PathBuf,
    /// The file of the authorities whose client certificates are taken. Left out: clients
    /// are not asked for one.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Files of certificates that those have revoked (CRLs). Where there are any, one that
    /// is in date must tell of each certificate of a client's chain.
    #[serde(default)]
    pub client_crls: Vec<PathBuf>,
}

impl ServerTls {
    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let own = [&mut self.certificate, &mut self.key].into_iter();
        own.chain(&mut self.client_ca).chain(&mut self.client_crls)
    }

    /// Every file that it names.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let own = [&self.certificate, &self.key].into_iter();
        own.chain(&self.client_ca).chain(&self.client_crls)
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
            failures: Failures::default(),
        }
    }
}

impl Listen {
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(what.to_owned());
        if self.address.is_empty() {
            return wrong("`listen.address` is empty: name at least one");
        }
        if self.handshake_timeout.is_zero() {
            return wrong("`listen.handshake_timeout` must be more than 0s");
        }
        if self.plaintext == Plaintext::Never && self.tls.is_none() {
            return wrong(
                "`listen.plaintext` is never and `listen.tls` is missing: nobody could connect",
            );
        }
        let failures = &self.failures;
        if failures.per_source == 0 || failures.per_identity == 0 {
            return wrong("`listen.failures` must let one login fail at the least");
        }
        if failures.pause.is_zero()
            || failures.longest < failures.pause
            || failures.longest > LONGEST_PAUSE
        {
            return wrong(
                "`listen.failures.longest` must be from `pause`, which is more than 0s, to 1d",
            );
        }
        let listed = self.tls.as_ref().filter(|tls| !tls.client_crls.is_empty());
        if listed.is_some_and(|tls| tls.client_ca.is_none()) {
            return wrong(
                "`listen.tls.client_crls` tells of certificates of nobody: `client_ca` is missing",
            );
        }
        let loopback_only = self.plaintext == Plaintext::Loopback && self.tls.is_none();
        if let Some(address) = self.address.iter().find(|address| {
            loopback_only && !address.ip().is_unspecified() && !address.ip().is_loopback()
        }) {
            return Err(format!(
                "`listen.address` {address} serves other machines, which need `listen.tls` (or \
                 `plaintext: anywhere`)"
            ));
        }
        Ok(())
    }
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
