//! Secrets, named by where they are: never written into a configuration.
//!
//! Invariant: neither `Debug` nor an error shows a secret.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// A secret's bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, to be used and not shown.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The text, where it is one.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(PathBuf),
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable `{0}`, which should hold a secret, is not set")]
    Unset(String),
    /// The file cannot be read.
    #[error("the secret in {path} cannot be read: {source}")]
    File {
        /// Which
        path: PathBuf,
        /// Why
        source: std::io::Error,
    },
    /// Bytes that are not text, where a password belongs.
    #[error("the secret from {0} is not UTF-8 text")]
    NotText(SecretRef),
    /// Nothing in it.
    #[error("the secret from {0} is empty")]
    Empty(SecretRef),
}

impl SecretRef {
    /// Reads it, without the line end that editors leave.
    ///
    /// # Errors
    /// As [`SecretError`] says.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        let mut bytes = match self {
            Self::Env(name) => std::env::var_os(name)
                .ok_or_else(|| SecretError::Unset(name.clone()))?
                .into_encoded_bytes(),
            Self::File(path) => std::fs::read(path).map_err(|source| SecretError::File {
                path: path.clone(),
                source,
            })?,
        };
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(SecretError::Empty(self.clone()));
        }
        Ok(Secret(bytes))
    }

    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Env(_) => None,
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "{}", path.display()),
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
    name where it is, by `{ env: VARIABLE }` or `{ file: path }`";

fn inline<T, E: de::Error>() -> Result<T, E> {
    Err(E::custom(INLINE))
}

impl<'de> Visitor<'de> for Reference {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{ env: VARIABLE }` or `{ file: path }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        const FIELDS: &[&str] = &["env", "file"];
        let reference = match map.next_key::<String>()?.as_deref() {
            Some("env") => {
                let name: String = map.next_value()?;
                // The environment has no such names, and asking for one panics.
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(de::Error::custom("not a name of an environment variable"));
                }
                SecretRef::Env(name)
            }
            Some("file") => SecretRef::File(map.next_value()?),
            Some(other) => return Err(de::Error::unknown_field(other, FIELDS)),
            None => return inline(),
        };
        match map.next_key::<String>()? {
            None => Ok(reference),
            Some(key) if FIELDS.contains(&key.as_str()) => Err(de::Error::custom(
                "a secret is in one place: `env` or `file`, not both",
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

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "Where a secret is; it is never written here itself.",
            "oneOf": [
                {
                    "type": "object",
                    "properties": { "env": {
                        "type": "string",
                        "description": "The environment variable that holds it."
                    } },
                    "required": ["env"],
                    "additionalProperties": false
                },
                {
                    "type": "object",
                    "properties": { "file": {
                        "type": "string",
                        "description": "The file that holds it, relative to the configuration's."
                    } },
                    "required": ["file"],
                    "additionalProperties": false
                }
            ]
        })
    }
}
