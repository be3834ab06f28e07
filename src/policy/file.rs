//! The format of policy files, as types: what YAML is read into and what the
//! published JSON schema is made from, so that the two cannot drift apart.
//!
//! Knows nothing about what the words mean: `load` checks references and makes
//! a [`super::Policy`]. Every name keeps the line it stands on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::Action;
use super::answerable::Answerable;
use super::mask::DatePart;
use super::window::Day;
use crate::identity::Kind;

/// A value and the line it stands on.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: u64,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// A mapping in the order it was written (roles and grants are read in order),
/// each key with its line. Duplicate keys are refused by the parser.
#[derive(Clone, Debug)]
pub(super) struct Entries<V>(pub(super) Vec<(At<String>, V)>);

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Entries<V>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

impl<V: JsonSchema> JsonSchema for Entries<V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        BTreeMap::<String, V>::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, V>::json_schema(generator)
    }
}

/// A policy file. The `*.yaml` files of a directory are read as one unit; any
/// key may stand in any of them, and no name twice.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "pgveil policy", rename = "PolicyFile")]
pub(super) struct File {
    /// What the columns of each dataset hold.
    pub(super) datasets: Entries<Dataset>,
    /// Who may see what.
    pub(super) roles: Entries<Role>,
    /// Who exists.
    pub(super) identities: Entries<Identity>,
    /// By group, as the configuration's `issuers` say them: the roles of whoever is in
    /// it. In order, as an identity's.
    pub(super) groups: Entries<Vec<At<String>>>,
    /// By the name that a client certificate must carry, such as `spiffe://corp/agent/*`:
    /// what those are who are listed nowhere else. They connect by that name.
    pub(super) certificates: Entries<Certified>,
}

/// What somebody is whom a client certificate names.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Certified {
    /// Human, agent or service.
    pub(super) kind: Kind,
    /// In order, as an identity's.
    #[serde(default)]
    pub(super) roles: Vec<At<String>>,
    /// The human who answers for it.
    #[serde(default)]
    pub(super) owner: Option<At<String>>,
}

/// What the columns of a dataset hold.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Dataset {
    /// How columns are treated that no entry of `tables` names. Left out: block.
    #[serde(default)]
    pub(super) unclassified: Unclassified,
    /// Whether only grants that name it reach it, and none of `dataset: "*"`.
    #[serde(default)]
    pub(super) isolated: bool,
    /// What is wanted of agents that connect to it.
    #[serde(default)]
    pub(super) agents: Option<Agents>,
    /// By `schema.table`: which tag each column carries. A materialized view or
    /// foreign table must be named here (an empty mapping will do) to be read.
    #[serde(default)]
    pub(super) tables: Entries<Entries<At<String>>>,
    /// Functions outside `pg_catalog` that may be called, as `schema.name` or
    /// `schema.*`: each is trusted to reveal no more than its caller may see. A
    /// pattern trusts also those that are yet to be made there.
    #[serde(default)]
    pub(super) functions: Vec<At<String>>,
}

/// How a column is treated that policy does not classify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unclassified {
    /// As stored.
    Clear,
    /// A reference to it is refused.
    #[default]
    Block,
    /// It does not exist for the caller.
    Hide,
}

/// What is wanted of agents.
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Agents {
    /// Who must answer for them; others are not let in.
    pub(super) require: Answerable,
}

/// A role: a named set of grants.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Role {
    /// For people.
    #[serde(default)]
    #[expect(dead_code, reason = "for the people who read the file")]
    pub(super) description: Option<String>,
    /// The client certificate that whoever has this role must show beside a password or a
    /// token, as an identity's `clientcert`; with `{name}` in it.
    #[serde(default)]
    pub(super) clientcert: Option<At<String>>,
    /// What is wanted of agents that use it.
    #[serde(default)]
    pub(super) agents: Option<Agents>,
    /// What the role may do. Grants add up; `block` and `hide` win over any grant.
    #[serde(default)]
    pub(super) grants: Vec<At<Grant>>,
}

/// A grant: what may be done with some tables of a dataset, and how their
/// columns are treated.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    /// The dataset's name; `"*"`: every dataset. In one that is `isolated`, that gives
    /// nothing, and only `block`, `hide` and limits count.
    pub(super) dataset: At<String>,
    /// Only where the configuration says one of these of the dataset: `production`,
    /// `staging`. Left out: everywhere.
    #[serde(default)]
    pub(super) environments: Option<Vec<At<String>>>,
    /// Tables and views: `schema.table`, `schema.prefix_*`, `schema.*` or `*`.
    pub(super) tables: Vec<At<String>>,
    /// What may be done. Left out: read.
    #[serde(default = "read_only")]
    pub(super) actions: Vec<Action>,
    /// By tag: how columns that carry it are treated. `"*"`: every classified
    /// column whose tag is not named. A tag that no grant speaks of is blocked.
    #[serde(default)]
    pub(super) tags: Entries<At<TagRule>>,
    /// By table (patterns as in `tables`): a condition on its rows.
    #[serde(default)]
    pub(super) rows: Entries<At<String>>,
    /// Bounds on a statement.
    #[serde(default)]
    pub(super) limits: Option<GrantLimits>,
    /// Not before this time (RFC 3339).
    #[serde(default)]
    pub(super) from: Option<At<String>>,
    /// Not from this time on (RFC 3339).
    #[serde(default)]
    pub(super) until: Option<At<String>>,
    /// Only in these hours of each week. Left out: at any.
    #[serde(default)]
    pub(super) hours: Option<Vec<At<Hours>>>,
    /// What the caller must have proved.
    #[serde(default)]
    pub(super) require: Requirements,
}

/// Hours of a week.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hours {
    /// The days on which they begin. Left out: every day.
    #[serde(default)]
    pub(super) days: Vec<Day>,
    /// When they begin: `08:00`.
    pub(super) from: String,
    /// When they end: `18:00`. No later than they begin: on the next day.
    pub(super) until: String,
    /// Whose time that is: `Europe/Berlin`. Left out: UTC.
    #[serde(default = "utc")]
    pub(super) zone: String,
}

fn utc() -> String {
    "UTC".into()
}

fn read_only() -> Vec<Action> {
    vec![Action::Read]
}

/// Bounds on a statement.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantLimits {
    /// Rows that one statement may return.
    #[serde(default)]
    pub(super) rows_per_query: Option<u64>,
    /// How long a statement may run: `500ms`, `60s`, `5min`, `1h`.
    #[serde(default)]
    pub(super) statement_timeout: Option<At<String>>,
}

/// What a caller must have proved for a grant to apply.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Requirements {
    /// A second factor: by `pgveil login`, or by an issuer whose tokens say so.
    pub(super) mfa: bool,
    /// How long ago at most that was: `15min`, `8h`. Left out: as long as the token lasts.
    pub(super) max_age: Option<At<String>>,
}

/// How the columns of a tag are treated: `clear`, `block`, `hide` or a mask.
#[derive(Clone, Debug)]
pub(super) enum TagRule {
    Clear,
    Block,
    Hide,
    Mask(Box<MaskFields>),
}

const WORDS: &[&str] = &["clear", "block", "hide"];

impl<'de> Deserialize<'de> for TagRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMask;
        impl<'de> Visitor<'de> for WordOrMask {
            type Value = TagRule;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`clear`, `block`, `hide` or `{ mask: … }`")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<TagRule, E> {
                match word {
                    "clear" => Ok(TagRule::Clear),
                    "block" => Ok(TagRule::Block),
                    "hide" => Ok(TagRule::Hide),
                    mask if super::mask::NAMES.contains(&mask) => Err(E::custom(format!(
                        "`{mask}` is a mask: write {{ mask: {mask} }}"
                    ))),
                    other => Err(E::unknown_variant(other, WORDS)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TagRule, A::Error> {
                let fields = MaskFields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(TagRule::Mask(Box::new(fields)))
            }
        }
        deserializer.deserialize_any(WordOrMask)
    }
}

impl JsonSchema for TagRule {
    fn schema_name() -> Cow<'static, str> {
        "TagRule".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mask = generator.subschema_for::<MaskRule>();
        schemars::json_schema!({
            "description": "How the columns of a tag are treated.",
            "anyOf": [
                { "type": "string", "enum": WORDS },
                mask,
                // An unquoted null is YAML's own.
                {
                    "type": "object",
                    "properties": { "mask": { "type": "null" } },
                    "required": ["mask"],
                    "additionalProperties": false
                }
            ],
        })
    }
}

/// A mask's name and the parameters of all masks: read flat, so that a fault
/// keeps its line; `load` checks that the parameters are this mask's.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MaskFields {
    /// Outer `None`: left out; inner `None`: YAML's null, which names the mask.
    #[serde(deserialize_with = "present")]
    pub(super) mask: Option<Option<At<String>>>,
    pub(super) value: Option<At<String>>,
    pub(super) keep_first: Option<At<u16>>,
    pub(super) keep_last: Option<At<u16>>,
    pub(super) with: Option<At<String>>,
    pub(super) to: Option<At<DatePart>>,
    #[serde(alias = "bucket")]
    pub(super) step: Option<At<String>>,
    pub(super) nearest: Option<At<bool>>,
    pub(super) prefix: Option<At<u8>>,
    pub(super) prefix6: Option<At<u8>>,
    pub(super) expression: Option<At<String>>,
}

fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<At<String>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A mask and its parameters, for the schema.
#[derive(JsonSchema)]
#[schemars(tag = "mask", rename_all = "lowercase", deny_unknown_fields)]
#[expect(dead_code, reason = "the schema's shape of `MaskFields`")]
enum MaskRule {
    /// NULL, for a column of any type.
    Null {},
    /// The same value for every row; NULL stays NULL.
    Constant {
        /// As Postgres would read it for the column's type.
        value: Scalar,
    },
    /// Text: the first and last characters, and something in between. A value too
    /// short to have a middle is replaced whole.
    Partial {
        /// How many characters to keep at the start.
        keep_first: Option<u16>,
        /// How many characters to keep at the end.
        keep_last: Option<u16>,
        /// What stands for the rest. Left out: `***`.
        with: Option<String>,
    },
    /// Text: an e-mail address's first letter and domain.
    Email {},
    /// A keyed pseudonym of the column's own type; equal values give equal ones.
    Hash {},
    /// Dates and times: cut down to the year, month or day (UTC).
    Date {
        /// What to keep.
        to: DatePart,
    },
    /// Numbers: a multiple of a step instead, towards zero.
    Number {
        /// The step, above zero: 1000, 0.5. `bucket` means the same.
        step: Scalar,
        /// Round to the nearest multiple. Left out: cut down to the next one towards
        /// zero.
        nearest: Option<bool>,
    },
    /// Addresses (also IPv4 ones in text): the network alone.
    Ip {
        /// Bits kept of an IPv4 address. Left out: 24.
        #[schemars(range(max = 32))]
        prefix: Option<u8>,
        /// Bits kept of an IPv6 address. Left out: 48.
        #[schemars(range(max = 128))]
        prefix6: Option<u8>,
    },
    /// Text and JSON: e-mail addresses and long digit groups (phone and card
    /// numbers, national ids) are taken out.
    Redact {},
    /// Text and numbers: an SQL expression over `{column}`.
    Sql {
        /// Such as `left({column}, 2) || '…'`.
        expression: String,
    },
}

/// A string, number or truth value.
struct Scalar;

impl JsonSchema for Scalar {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// Somebody or something that may connect.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// Human, agent or service.
    pub(super) kind: Kind,
    /// In order: where two grants mask a column differently, the first one's
    /// mask stands.
    #[serde(default)]
    pub(super) roles: Vec<At<String>>,
    /// The human who answers for it.
    #[serde(default)]
    pub(super) owner: Option<At<String>>,
    /// A verifier, as `pgveil identity verifier` prints it: `SCRAM-SHA-256$…`.
    #[serde(default)]
    pub(super) scram: Option<At<String>>,
    /// Whether it connects by tokens, as `pgveil token mint` prints them, given as
    /// its password.
    #[serde(default)]
    pub(super) tokens: bool,
    /// The secret of its second factor, sealed, as `pgveil identity enroll-totp` prints
    /// it: `TOTP-A256GCM$…`. By it and its password, `pgveil login` gets a token.
    #[serde(default)]
    pub(super) totp: Option<At<String>>,
    /// The agents that may act on its behalf. Left out: any that is given a token for it.
    #[serde(default)]
    pub(super) may_act: Option<Vec<At<String>>>,
    /// The name in the client certificate by which it connects, with its kind:
    /// `spiffe://…`, `dns:…`, `email:…` or `cn:…`.
    #[serde(default)]
    pub(super) certificate: Option<At<String>>,
    /// The name in the client certificate that it must show beside its password or token,
    /// in which `{name}` stands for its own: `email:{name}@corp.example`.
    #[serde(default)]
    pub(super) clientcert: Option<At<String>>,
    /// Whether it may not connect at all.
    #[serde(default)]
    pub(super) disabled: bool,
}

/// The JSON schema of a policy file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}
