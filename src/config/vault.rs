//! A secret that HashiCorp Vault, or what speaks its HTTP API, gives.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::duration;
use super::secret::SecretRef;
use crate::http::Url;

/// Where a vault is, how the proxy proves itself to it, and what is asked of it: `kv` or
/// `database`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Such as `https://vault.example:8200`.
    pub address: String,
    /// The file of authorities to trust, in PEM; those of this machine where it is left
    /// out.
    pub ca: Option<PathBuf>,
    /// The namespace, where there are some.
    pub namespace: Option<String>,
    /// How the proxy proves itself.
    pub auth: VaultAuth,
    /// A field of a secret that is kept there (KV version 2).
    pub kv: Option<VaultKv>,
    /// A user of its own that Vault makes in the database; it takes the place of `user`.
    pub database: Option<VaultDatabase>,
}

/// How the proxy proves itself to a vault.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Ways")]
#[schemars(with = "Ways")]
pub enum VaultAuth {
    /// By a token, which is renewed as long as Vault lets it be.
    Token(Box<SecretRef>),
    /// By an AppRole.
    AppRole(AppRole),
    /// By the token that Kubernetes gives its pods.
    Kubernetes(Kubernetes),
}

/// How the proxy proves itself to a vault: by one of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ways {
    /// A token, `{ env: NAME }` or `{ file: path }`, which is renewed as long as Vault lets
    /// it be.
    token: Option<Box<SecretRef>>,
    /// An AppRole.
    approle: Option<AppRole>,
    /// The token that Kubernetes gives its pods.
    kubernetes: Option<Kubernetes>,
}

impl TryFrom<Ways> for VaultAuth {
    type Error = &'static str;

    fn try_from(ways: Ways) -> Result<Self, Self::Error> {
        match (ways.token, ways.approle, ways.kubernetes) {
            (Some(token), None, None) => Ok(Self::Token(token)),
            (None, Some(approle), None) => Ok(Self::AppRole(approle)),
            (None, None, Some(kubernetes)) => Ok(Self::Kubernetes(kubernetes)),
            _ => Err("`vault.auth` is one of `token`, `approle` and `kubernetes`"),
        }
    }
}

/// An AppRole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// Its id.
    pub role_id: String,
    /// Its secret id, `{ env: NAME }` or `{ file: path }`.
    pub secret_id: Box<SecretRef>,
    /// Where the method is mounted.
    #[serde(default = "approle")]
    pub mount: String,
}

/// A role of the Kubernetes method.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Its name.
    pub role: String,
    /// The file of the pod's token.
    #[serde(default = "jwt")]
    pub jwt: PathBuf,
    /// Where the method is mounted.
    #[serde(default = "kubernetes")]
    pub mount: String,
}

/// A secret of the KV engine, version 2.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultKv {
    /// Where the engine is mounted.
    #[serde(default = "secret")]
    pub mount: String,
    /// The secret's path.
    pub path: String,
    /// The field.
    #[serde(default = "password")]
    pub field: String,
    /// How long it is good for: it is read again before that.
    #[serde(default = "refresh", deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub refresh: Duration,
}

/// A role of the database engine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultDatabase {
    /// Where the engine is mounted.
    #[serde(default = "database")]
    pub mount: String,
    /// Its name.
    pub role: String,
}

fn approle() -> String {
    "approle".into()
}

fn kubernetes() -> String {
    "kubernetes".into()
}

fn secret() -> String {
    "secret".into()
}

fn password() -> String {
    "password".into()
}

fn database() -> String {
    "database".into()
}

/// Where Kubernetes puts it.
fn jwt() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

fn refresh() -> Duration {
    Duration::from_secs(5 * 60)
}

impl Vault {
    pub(super) fn check(&self) -> Result<(), String> {
        Url::parse(&self.address).map_err(|error| format!("`vault.address`: {error}"))?;
        if self.address.contains(['?', '#']) {
            return Err("`vault.address` is of a server, not of a page".into());
        }
        let (place, mount) = match &self.auth {
            VaultAuth::Token(place) => (Some(place), None),
            VaultAuth::AppRole(own) => (Some(&own.secret_id), Some(&own.mount)),
            VaultAuth::Kubernetes(own) => (None, Some(&own.mount)),
        };
        if place.is_some_and(|place| !matches!(**place, SecretRef::Env(_) | SecretRef::File(_))) {
            return Err("what `vault.auth` needs is in a variable or a file".into());
        }
        let (engine, name) = match (&self.kv, &self.database) {
            (Some(kv), None) if kv.refresh < Duration::from_secs(5) => {
                return Err("`vault.kv.refresh` must be 5s or more".into());
            }
            (Some(kv), None) => (&kv.mount, &kv.path),
            (None, Some(database)) => (&database.mount, &database.role),
            _ => return Err("`vault` wants `kv` or `database`, one of them".into()),
        };
        for path in [engine, name].into_iter().chain(mount) {
            let strange = |part: &str| matches!(part, "" | "." | "..");
            if path.split('/').any(strange) || path.contains(char::is_control) {
                return Err(format!("`{}` is no path of Vault's", path.escape_debug()));
            }
        }
        let namespace = self.namespace.as_deref().unwrap_or("x");
        match !namespace.is_empty() && namespace.chars().all(|c| c.is_ascii_graphic()) {
            true => Ok(()),
            false => Err("`vault.namespace` is no name of one".into()),
        }
    }

    pub(super) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let auth = match &mut self.auth {
            VaultAuth::Token(place) => place.paths_mut(),
            VaultAuth::AppRole(own) => own.secret_id.paths_mut(),
            VaultAuth::Kubernetes(own) => vec![&mut own.jwt],
        };
        auth.into_iter().chain(&mut self.ca).collect()
    }
}

/// Where, not what.
impl std::fmt::Display for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.kv, &self.database) {
            (Some(kv), _) => write!(f, "the vault's `{}/{}`", kv.mount, kv.path),
            (None, Some(of)) => write!(f, "the vault's `{}/creds/{}`", of.mount, of.role),
            (None, None) => f.write_str("the vault"),
        }
    }
}
