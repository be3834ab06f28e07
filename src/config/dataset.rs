//! What callers name as database, and how the proxy gets there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::SecretRef;
use super::{TlsMode, duration};

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
    /// Whether the upstream role `user` may be a superuser, past which Postgres itself
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
    /// The proxy's role: one of least privilege. With `users`, the least of them.
    pub user: String,
    /// Its password, by reference: `{ env: NAME }`, `{ file: path }` or `{ exec: … }`.
    pub password: Option<SecretRef>,
    /// Roles there for callers with more to do, the least powerful first. A caller goes as
    /// the first that fits all roles that have grants here, by one whose grants are in
    /// force, and as `user` where none does.
    #[serde(default)]
    pub users: Vec<UpstreamUser>,
    /// How the way there is encrypted. Must be said for a host that is not this
    /// machine.
    pub tls: Option<UpstreamTls>,
}

/// A role of the upstream's for some callers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamUser {
    /// Roles of the policy: it is for callers who have one of them or more, and no others.
    pub roles: BTreeSet<String>,
    /// But for these, which they may have as well; `"*"` is any.
    #[serde(default)]
    pub beside: BTreeSet<String>,
    /// The role there.
    pub user: String,
    /// Its password, by reference.
    pub password: Option<SecretRef>,
    /// Whether that role may be a superuser.
    #[serde(default)]
    pub allow_superuser: bool,
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
        self.socket_dir().is_some() || is_this_machine(&self.host)
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let others = self.users.iter_mut().map(|user| &mut user.password);
        let passwords = [&mut self.password].into_iter().chain(others).flatten();
        let ca = self.tls.as_mut().and_then(|tls| tls.ca.as_mut());
        passwords.flat_map(SecretRef::paths_mut).chain(ca)
    }
}

/// Whether a name or an address is of this machine itself.
pub(super) fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
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

impl Dataset {
    pub(super) fn check(&self) -> Result<(), String> {
        self.upstream.check("upstream")?;
        if self.catalog_refresh.is_zero() {
            return Err("`catalog_refresh` must be more than 0s".into());
        }
        Ok(())
    }
}

impl Upstream {
    /// `key` is what it is called in the file.
    pub(super) fn check(&self, key: &str) -> Result<(), String> {
        for (name, value) in [
            ("host", &self.host),
            ("dbname", &self.dbname),
            ("user", &self.user),
        ] {
            if value.is_empty() || value.contains('\0') {
                return Err(format!("`{key}.{name}` is empty or holds a zero byte"));
            }
        }
        let mut names = BTreeSet::from([self.user.as_str()]);
        for (number, user) in self.users.iter().enumerate() {
            let wrong = |what: &str| Err(format!("`{key}.users[{number}]` {what}"));
            if user.user.is_empty() || user.user.contains('\0') {
                return wrong("has a `user` that is empty or holds a zero byte");
            }
            if !names.insert(&user.user) {
                return wrong(&format!(
                    "is `{}` once more: list all its roles in one place",
                    user.user
                ));
            }
            if user.roles.is_empty() {
                return wrong("lists no `roles`: it would be for nobody");
            }
        }
        if self.port == 0 {
            return Err(format!("`{key}.port` must not be 0"));
        }
        match &self.tls {
            None if !self.is_this_machine() => Err(format!(
                "must say how `{}` is reached: `{key}.tls: {{ mode: verify-full, ca: ca.pem }}`, \
                 or `{{ mode: disable }}` where the network itself is trusted",
                self.host
            )),
            Some(tls) => {
                let verifies = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
                if verifies && tls.ca.is_none() {
                    Err(format!(
                        "`{key}.tls.ca` is missing: the certificates to verify by, such as \
                         /etc/ssl/certs/ca-certificates.crt"
                    ))
                } else if tls.mode != TlsMode::Disable && self.socket_dir().is_some() {
                    Err(format!("`{key}.tls` is not for Unix sockets"))
                } else {
                    Ok(())
                }
            }
            None => Ok(()),
        }
    }
}

fn default_catalog_refresh() -> Duration {
    Duration::from_secs(5 * 60)
}

fn default_catalog_pause() -> Duration {
    Duration::from_secs(1)
}

fn default_port() -> u16 {
    5432
}
