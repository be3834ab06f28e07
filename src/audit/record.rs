//! The typed events and their JSON form: one object, one line.
//!
//! Knows nothing about where records go. Invariant: no field takes the text of
//! a statement as the client wrote it, or a value of a row; a statement appears
//! only normalized, its literals out.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::line::Fields;
use crate::identity::certificate::Certificate;
use crate::identity::token::Token;
use crate::identity::{Kind, Method, Principal};
use crate::sql::RelationUse;

/// A record's identifier: a UUID of version 7 (RFC 9562, section 5.7), unique
/// and, within one process, increasing in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

/// What the next identifier is made from.
struct Source {
    /// The millisecond of the last one, and how many that has seen
    last: (u64, u64),
    /// Random bytes, fetched together, of which so many are used up
    random: [u8; 512],
    used: usize,
}

static SOURCE: Mutex<Source> = Mutex::new(Source {
    last: (0, 0),
    random: [0; 512],
    used: 512,
});

impl Source {
    /// The next millisecond and count, later than the last.
    fn moment(&mut self, now: u64) -> (u64, u64) {
        // Twelve bits of counter within a millisecond; a clock that stands still or
        // steps back borrows from the next one.
        self.last = match self.last {
            (ms, _) if now > ms => (now, 0),
            (ms, 0xfff) => (ms + 1, 0),
            (ms, count) => (ms, count + 1),
        };
        self.last
    }

    fn random(&mut self) -> u64 {
        if self.used >= self.random.len() {
            // Without randomness the counter still keeps identifiers apart.
            let _ = SystemRandom::new().fill(&mut self.random);
            self.used = 0;
        }
        let rest = self.random.get(self.used..).unwrap_or_default();
        self.used += 8;
        rest.first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl Id {
    /// The next one.
    pub fn next() -> Self {
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
        let mut source = SOURCE.lock().unwrap_or_else(PoisonError::into_inner);
        let ((ms, count), random) = (source.moment(now), source.random());
        drop(source);
        let tail = random & (u64::MAX >> 2) | (0b10 << 62);
        let head = (ms & 0xffff_ffff_ffff) << 16 | 0x7000 | count;
        Self(u128::from(head) << 64 | u128::from(tail))
    }
}

impl Id {
    /// Its usual form: 32 digits and four dashes.
    pub fn text(self) -> [u8; 36] {
        let mut text = [b'-'; 36];
        let mut digits = (0..32).rev().map(|at| (self.0 >> (4 * at)) as usize & 0xf);
        for (at, byte) in text.iter_mut().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23)
                && let Some(digit) = digits
                    .next()
                    .and_then(|digit| b"0123456789abcdef".get(digit))
            {
                *byte = *digit;
            }
        }
        text
    }
}

impl Id {
    /// From its usual form.
    pub fn read(text: &str) -> Option<Self> {
        let dashed = text.len() == 36
            && text
                .bytes()
                .enumerate()
                .all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23));
        let digits = text.replace('-', "");
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (dashed && hex)
            .then(|| u128::from_str_radix(&digits, 16).ok().map(Self))
            .flatten()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl JsonSchema for Id {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "uuid" })
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Something that is recorded: a line of the log, canonical JSON.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Event {
    /// Its own
    pub id: Id,
    /// When it began: RFC 3339, UTC, microseconds
    #[serde(serialize_with = "time")]
    #[schemars(with = "String")]
    pub time: jiff::Timestamp,
    /// Whose session it belongs to, if any
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub who: Option<Arc<Who>>,
    /// What happened
    #[serde(flatten)]
    pub what: What,
}

impl Event {
    /// An event of this moment.
    pub fn now(who: Option<Arc<Who>>, what: What) -> Self {
        Self {
            id: Id::next(),
            time: jiff::Timestamp::now(),
            who,
            what,
        }
    }
}

/// What a record may hold, as a JSON schema.
pub fn schema() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<Event>()
}

/// As much of what a client calls itself, or asks for, as is recorded: as long as a
/// name of Postgres's can be. Whoever can write megabytes into each record could
/// fill the disk that every statement depends on.
pub fn clipped(text: &str) -> &str {
    let end = text.floor_char_boundary(CLIPPED);
    text.get(..end).unwrap_or_default()
}

/// `NAMEDATALEN` - 1
const CLIPPED: usize = 63;

/// A session and the identity behind it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Who {
    /// Who is asking
    pub principal: Identity,
    /// The session's own identifier, as in the tag
    pub session: Id,
    /// The client's address
    #[schemars(with = "String")]
    pub client: SocketAddr,
    /// The TLS version, if the client's connection has any
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<str>>,
    /// What the client calls itself
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Arc<str>>,
    /// The dataset it is connected to
    pub dataset: Arc<str>,
    /// What that is, as the configuration says
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Arc<str>>,
    /// All of it as text, once there is a record
    #[serde(skip)]
    pub fields: Fields,
}

/// A principal, as recorded.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Identity {
    /// Its name in policy
    pub name: Arc<str>,
    /// Human, agent or service
    pub kind: Kind,
    /// The roles it had
    pub roles: Vec<Arc<str>>,
    /// The human it acted for
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Box<Identity>>,
    /// The token it connected by
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<Token>>,
    /// The client certificate that it connected by, or that it needed beside
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Arc<Certificate>>,
}

impl From<&Principal> for Identity {
    fn from(principal: &Principal) -> Self {
        Self {
            name: principal.name.clone(),
            kind: principal.kind,
            roles: principal.roles.clone(),
            on_behalf_of: principal
                .on_behalf_of
                .as_deref()
                .map(|human| Box::new(Self::from(human))),
            token: principal.token.clone(),
            certificate: principal.certificate.clone(),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A session began.
    Connect {
        /// How its caller proved who it is
        method: Method,
        /// The policy it began under
        policy: PolicyStamp,
        /// As whom it goes upstream, by the configuration
        upstream_user: Arc<str>,
    },
    /// Somebody could not be identified.
    AuthenticationFailure {
        /// The name that was claimed, if it came that far
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// The client's address
        #[schemars(with = "String")]
        client: SocketAddr,
        /// The TLS version, if its connection had any
        #[serde(skip_serializing_if = "Option::is_none")]
        tls: Option<&'static str>,
        /// The dataset it asked for
        #[serde(skip_serializing_if = "Option::is_none")]
        dataset: Option<String>,
        /// What it called itself
        #[serde(skip_serializing_if = "Option::is_none")]
        application: Option<String>,
        /// SHA-256 of the client certificate that it showed, in hex, whether it holds or not
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate: Option<String>,
        /// Its serial number, in hex, as far as it can be read
        #[serde(skip_serializing_if = "Option::is_none")]
        serial: Option<String>,
        /// Why, for the operator
        reason: String,
    },
    /// More who could not be identified than are recorded one by one.
    AuthenticationFailuresOmitted {
        /// How many
        count: u64,
    },
    /// A statement is about to be sent; what became of it has this one's `query` as
    /// its `id`.
    Intent(Box<Intent>),
    /// A statement was executed.
    Statement(Box<Execution>),
    /// A statement that an intent tells of was not executed: what was sent before it
    /// failed, or it was never sent.
    NotRun,
    /// The proxy ended without a record of what became of a statement.
    OutcomeUnknown,
    /// A statement, or a whole session, was refused; nothing of it ran.
    Denial(Box<Refusal>),
    /// A session ended.
    Disconnect {
        /// How
        reason: String,
        /// How long it lasted
        #[serde(rename = "duration_us", serialize_with = "micros_of")]
        #[schemars(with = "u64")]
        duration: Duration,
    },
    /// A policy was loaded, or was refused and did not replace the one in force.
    PolicyLoad {
        /// The policy now in force
        policy: PolicyStamp,
        /// Why the new one was refused
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A human has proved a password and a one-time code, and gets a token.
    TokenIssued {
        /// Whose it is, and what it says
        principal: Identity,
        /// The client's address
        #[schemars(with = "String")]
        client: SocketAddr,
        /// The dataset that was named
        dataset: String,
    },
    /// Keys and revocations of tokens were read, or could not be and did not replace
    /// those in force.
    TokensLoad {
        /// The policy's epoch from then on
        epoch: u64,
        /// The ids of the keys in force, the one that signs first
        keys: Vec<String>,
        /// And of others, by whose they are
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        issuers: BTreeMap<String, Vec<String>>,
        /// How many revocations are in force
        revoked: usize,
        /// Those that are new: `token ID`, `all of NAME until TIME`; the first thousand
        #[serde(skip_serializing_if = "Vec::is_empty")]
        newly_revoked: Vec<String>,
        /// That there was no file of revocations at the start: the first one, or with it all
        /// that had been revoked is lost
        #[serde(skip_serializing_if = "Option::is_none")]
        unrevoked: Option<String>,
        /// Why the new ones were refused
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The proxy's certificate, the authorities of clients' and their lists of revocations
    /// were read, or could not be and did not replace those in force; what can be read of
    /// the lists does in any case.
    CertificatesLoad {
        /// The policy's epoch from then on
        epoch: u64,
        /// SHA-256 of the proxy's certificate in force, in hex
        fingerprint: String,
        /// How many authorities of clients are in force
        authorities: usize,
        /// How many of their lists of revocations are
        lists: usize,
        /// SHA-256 of each of those authorities' certificates, in hex
        trusted: Vec<String>,
        /// SHA-256 of each of those lists, in hex
        revocations: Vec<String>,
        /// What of the new ones was refused, and why
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A catalog was read again.
    CatalogRefresh {
        /// Of which dataset
        dataset: Arc<str>,
        /// The epoch now in force
        epoch: u64,
        /// Why it could not be read
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A result described a column that its caller may not see: a fault of
    /// the proxy, caught before a row was passed on.
    Tripwire(Box<Tripped>),
    /// The proxy began to append to the log.
    LogOpened {
        /// The number of this record, from 0
        first: u64,
        /// Bytes of an unfinished record at its end, which have been cut off
        torn: u64,
        /// Intents without an outcome that were found in it
        unknown: u64,
    },
    /// The proxy appends no more.
    LogClosed,
    /// The file that was appended to is closed, and another begins.
    LogRotated {
        /// The number of this record, from 0
        first: u64,
    },
    /// Files of records are removed, as retention has it; tiles and checkpoints stay.
    LogPruned {
        /// The number of the first record that they hold
        from: u64,
        /// The number of the first one that stays
        first: u64,
        /// How many files
        files: u64,
        /// A note by the log's key that allows it, as no line in a file could: the log's
        /// name, `first`, and how large the log was, with its root
        note: String,
    },
    /// Somebody verified the log.
    LogVerified(Reading),
    /// Somebody exported a record, with its proof.
    LogExported(Reading),
    /// Somebody searched the log.
    LogRead(Reading),
    /// Nothing else has happened for a while.
    Heartbeat,
    /// The log could be written again; what could not be kept meanwhile is lost.
    LogResumed {
        /// Records that were lost
        lost: u64,
    },
}

/// What a reader of the log did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Reading {
    /// Whose process it was, as the system says
    pub by: String,
    /// When, as the reader says
    pub at: String,
    /// What came of it, which record, or what was asked for
    pub what: String,
}

/// The policy that decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyStamp {
    /// SHA-256 of its files, in hex
    pub digest: Arc<str>,
    /// Its epoch
    pub epoch: u64,
}

/// What a statement is, apart from how it went.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Statement {
    /// As its command tag begins: `SELECT`
    pub kind: &'static str,
    /// The client's statement with its literals out
    #[serde(rename = "statement")]
    pub normalized: Arc<str>,
    /// Equal for statements that differ in literals only
    #[serde(serialize_with = "hex")]
    #[schemars(with = "String")]
    pub fingerprint: u64,
    /// Relations and columns, with treatment, rule and row filter
    pub relations: Vec<RelationUse>,
    /// All of it as text, once there is a record
    #[serde(skip)]
    pub fields: Fields,
}

/// One execution that is to come.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Intent {
    /// The `id` that the record of its outcome has
    pub query: Id,
    /// What is to be executed
    #[serde(flatten)]
    pub statement: Arc<Statement>,
    /// The policy that decided
    pub policy: PolicyStamp,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To its end.
    Completed,
    /// With an error.
    Failed,
    /// On request, or by a timeout.
    Cancelled,
    /// With the session, before upstream had answered: it may have taken effect.
    BrokenOff,
}

/// One execution.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Execution {
    /// What was executed
    #[serde(flatten)]
    pub statement: Arc<Statement>,
    /// Always `allow`: it ran
    pub decision: &'static str,
    /// How it ended
    pub outcome: Outcome,
    /// The policy that decided
    pub policy: PolicyStamp,
    /// `00000`, or the code it failed with
    pub sqlstate: String,
    /// Rows returned or affected
    pub rows: u64,
    /// Bytes of answer that went to the client
    pub bytes: u64,
    /// From when it was sent to when it was done
    #[serde(rename = "duration_us", serialize_with = "micros_of")]
    #[schemars(with = "u64")]
    pub duration: Duration,
}

/// One refusal.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Refusal {
    /// Always `deny`
    pub decision: &'static str,
    /// The code the client was given
    pub sqlstate: &'static str,
    /// What kind of rule refused: `policy`, `unsupported`, `syntax`, …
    pub reason: &'static str,
    /// What and why, unless that could quote a literal
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// As its command tag begins, if it is a statement that is served at all
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The statement with its literals out, if it could be parsed
    #[serde(rename = "statement", skip_serializing_if = "Option::is_none")]
    pub normalized: Option<Arc<str>>,
    /// Equal for statements that differ in literals only
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hex_if_any")]
    #[schemars(with = "Option<String>")]
    pub fingerprint: Option<u64>,
    /// What it would have touched
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<RelationUse>,
    /// The policy that decided
    pub policy: PolicyStamp,
    /// The record's own identifier, where an intent has named it
    #[serde(skip)]
    pub query: Option<Id>,
}

/// A column that must not have been in a result.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Tripped {
    /// What was executed
    #[serde(flatten)]
    pub statement: Option<Arc<Statement>>,
    /// The relation's OID
    pub table: u32,
    /// The column's attribute number
    pub attribute: i16,
    /// The policy that decided
    pub policy: PolicyStamp,
}

fn time<S: Serializer>(time: &jiff::Timestamp, to: S) -> Result<S::Ok, S::Error> {
    let mut text = Vec::with_capacity(32);
    micros(time, &mut text);
    to.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
}

/// RFC 3339, UTC, microseconds.
pub(super) fn micros(time: &jiff::Timestamp, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _ = write!(out, "{time:.6}");
}

fn hex<S: Serializer>(fingerprint: &u64, to: S) -> Result<S::Ok, S::Error> {
    // As text: JSON numbers lose integers over 2^53.
    to.collect_str(&format_args!("{fingerprint:016x}"))
}

fn hex_if_any<S: Serializer>(fingerprint: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match fingerprint {
        Some(fingerprint) => hex(fingerprint, to),
        None => to.serialize_none(),
    }
}

fn micros_of<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_ordered_and_of_version_7() {
        let ids: Vec<Id> = (0..10_000).map(|_| Id::next()).collect();
        assert!(ids.is_sorted_by(|one, next| one < next));
        let text = ids[0].to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'7');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        let id = Id(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0011-223344556677");
        assert_eq!(Id::read(&id.to_string()), Some(id));
        assert_eq!(Id::read("01234567-89ab-cdef-0011-22334455667+"), None);
        assert_eq!(Id::read("0123456789abcdef00112233445566770000"), None);
    }

    #[test]
    fn an_event_is_one_flat_line() {
        let event = Event::now(
            None,
            What::PolicyLoad {
                policy: PolicyStamp {
                    epoch: 3,
                    digest: "ab".into(),
                },
                error: Some("two\nlines".into()),
            },
        );
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "policy_load");
        assert_eq!(value["policy"]["epoch"], 3);
        let time = value["time"].as_str().unwrap();
        assert!(
            time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000000Z".len(),
            "{time}"
        );
    }
}
