//! Secrets, named by where they are: never written into a configuration.
//!
//! Knows nothing about how they are read. Invariant: what is written where a name belongs
//! is not repeated in an error.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::duration;
#[cfg(any(feature = "vault", test))]
use super::vault::Vault;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(PathBuf),
    /// Printed by a program.
    Exec(Exec),
    /// In a vault.
    #[cfg(any(feature = "vault", test))]
    Vault(Vault),
}

/// A program that prints a secret: run as it is, not by a shell, and again before what it
/// gave has ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program by its absolute path, and its arguments. No secret belongs here.
    pub command: Vec<String>,
    /// How long it may run before it is killed.
    #[serde(
        default = "default_timeout",
        deserialize_with = "duration::deserialize"
    )]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How long what it prints is good for; left out where `json.expires` tells.
    #[serde(default, deserialize_with = "lifetime")]
    #[schemars(with = "Option<String>")]
    pub lifetime: Option<Duration>,
    /// Where the secret is in what it prints, if that is a JSON object; else all of it is.
    pub json: Option<Json>,
    /// Variables of the proxy's own environment that it gets, beside PATH and HOME.
    #[serde(default)]
    pub environment: Vec<String>,
}

/// Fields of a JSON object; `a.b` is the field `b` of the object `a`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Json {
    /// The field that is the secret.
    pub secret: String,
    /// The field that says when it ends: RFC 3339, or seconds since 1970.
    pub expires: Option<String>,
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

impl Exec {
    fn check(&self) -> Result<(), &'static str> {
        let within = |time: Duration, least, most| {
            (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&time)
        };
        let expires = self.json.as_ref().and_then(|json| json.expires.as_ref());
        match (self.command.first(), self.lifetime, expires) {
            (None, ..) => Err("`command` is empty: name a program"),
            (Some(program), ..) if !program.starts_with('/') => {
                Err("the program in `command` is named by its absolute path: no shell looks for it")
            }
            _ if self.command.iter().any(|word| word.contains('\0')) => {
                Err("`command` holds a zero byte")
            }
            _ if !self.environment.iter().all(|name| is_variable(name)) => {
                Err("`environment` lists names of variables")
            }
            _ if !within(self.timeout, 1, 300) => Err("`timeout` must be from 1s to 5m"),
            (_, None, None) => {
                Err("say how long what it prints is good for: `lifetime`, or `json.expires`")
            }
            (_, Some(_), Some(_)) => Err("either `lifetime` or `json.expires`, not both"),
            (_, Some(lifetime), None) if lifetime < Duration::from_secs(5) => {
                Err("`lifetime` must be 5s or more")
            }
            (_, Some(_), None) | (_, None, Some(_)) => Ok(()),
        }
    }
}

/// The program alone: arguments are for nobody's log.
impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.command.first().map_or("", String::as_str);
        write!(f, "the program `{}`", program.escape_debug())
    }
}

/// The environment has no other names, and asking for one panics.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

impl SecretRef {
    pub(super) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::File(path) => vec![path],
            Self::Env(_) | Self::Exec(_) => Vec::new(),
            #[cfg(any(feature = "vault", test))]
            Self::Vault(vault) => vault.paths_mut(),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Exec(exec) => exec.fmt(f),
            #[cfg(any(feature = "vault", test))]
            Self::Vault(vault) => vault.fmt(f),
        }
    }
}

/// By hand, because a derived one would print an inline secret into its error.
impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reference)
    }
}

struct Reference;

const INLINE: &str = "a secret is not written here: \
    name where it is, by `{ env: VARIABLE }`, `{ file: path }` or `{ exec: { command: … } }`";

fn inline<T, E: de::Error>() -> Result<T, E> {
    Err(E::custom(INLINE))
}

impl<'de> Visitor<'de> for Reference {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{ env: VARIABLE }`, `{ file: path }` or `{ exec: … }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        const FIELDS: &[&str] = &["env", "file", "exec", "vault"];
        let reference = match map.next_key::<String>()?.as_deref() {
            Some("env") => {
                let name: String = map.next_value()?;
                if !is_variable(&name) {
                    return Err(de::Error::custom("not a name of an environment variable"));
                }
                SecretRef::Env(name)
            }
            Some("file") => SecretRef::File(map.next_value()?),
            Some("exec") => {
                let exec: Exec = map.next_value()?;
                exec.check().map_err(de::Error::custom)?;
                SecretRef::Exec(exec)
            }
            #[cfg(any(feature = "vault", test))]
            Some("vault") => {
                let vault: Vault = map.next_value()?;
                vault.check().map_err(de::Error::custom)?;
                SecretRef::Vault(vault)
            }
            #[cfg(not(any(feature = "vault", test)))]
            Some("vault") => {
                return Err(de::Error::custom(
                    "this pgveil is built without vaults (hint: cargo build --features vault)",
                ));
            }
            Some(other) => return Err(de::Error::unknown_field(other, FIELDS)),
            None => return inline(),
        };
        match map.next_key::<String>()? {
            None => Ok(reference),
            Some(key) if FIELDS.contains(&key.as_str()) => Err(de::Error::custom(
                "a secret is in one place: `env`, `file`, `exec` or `vault`",
            )),
            Some(key) => Err(de::Error::unknown_field(&key, FIELDS)),
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_unit<E: de::Error>(self) -> Result<SecretRef, E> {
        inline()
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<SecretRef, A::Error> {
        inline()
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let mut exec = schemas.subschema_for::<Exec>();
        exec.insert("description".into(), "The program that prints it.".into());
        let place = |name: &str, of: Schema| {
            schemars::json_schema!({
                "type": "object",
                "properties": { name: of },
                "required": [name],
                "additionalProperties": false
            })
        };
        let variable = schemars::json_schema!({
            "type": "string",
            "description": "The environment variable that holds it."
        });
        let file = schemars::json_schema!({
            "type": "string",
            "description": "The file that holds it, relative to the configuration's."
        });
        let places = vec![
            place("env", variable),
            place("file", file),
            place("exec", exec),
            #[cfg(any(feature = "vault", test))]
            place("vault", {
                let mut vault = schemas.subschema_for::<Vault>();
                vault.insert("description".into(), "The vault that gives it.".into());
                vault
            }),
        ];
        schemars::json_schema!({
            "description": "Where a secret is; it is never written here itself.",
            "oneOf": places
        })
    }
}
