//! What a client may be told, apart from what is logged.
//!
//! Every room has typed errors of its own; one that can reach a client
//! implements [`Tell`]. The message a client hears is one line, lower case,
//! and says what was refused, why (the rule) and the way out (`HINT`).
//!
//! SQLSTATEs: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::borrow::Cow;

use crate::wire;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    /// A rule of policy refuses it.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// Syntax that the proxy does not serve.
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    /// Not SQL.
    pub const SYNTAX_ERROR: Self = Self("42601");
    /// A relation that is not there, or that this caller may not know of.
    pub const UNDEFINED_TABLE: Self = Self("42P01");
    /// A function that is not there.
    pub const UNDEFINED_FUNCTION: Self = Self("42883");
    /// A column that is not there, or that this caller may not know of.
    pub const UNDEFINED_COLUMN: Self = Self("42703");
    /// A type that is not there.
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    /// A prepared statement that is not there.
    pub const UNDEFINED_STATEMENT: Self = Self("26000");
    /// A cursor or portal that is not there.
    pub const UNDEFINED_CURSOR: Self = Self("34000");
    /// Nested too deeply to plan.
    pub const STATEMENT_TOO_COMPLEX: Self = Self("54001");
    /// More than a limit allows: a statement too large to plan, or more rows than
    /// policy lets it return.
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self("54000");
    /// Bytes that are not text in the client's encoding.
    pub const CHARACTER_NOT_IN_REPERTOIRE: Self = Self("22021");
    /// A setting's value that is not acceptable.
    pub const INVALID_PARAMETER_VALUE: Self = Self("22023");
    /// The caller could not be identified.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// The password is wrong, or the user unknown: the same answer for both.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// No such dataset.
    pub const INVALID_CATALOG_NAME: Self = Self("3D000");
    /// The client broke the wire protocol.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// The upstream was lost within a session.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// The upstream is down or refuses, so that no session can start.
    pub const CANNOT_CONNECT: Self = Self("08001");
    /// A limit on connections is reached.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// The proxy is shutting down or not yet ready.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// The session was ended by an administrator (drain, revocation).
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// The audit log cannot be written.
    pub const IO_ERROR: Self = Self("58030");
    /// A fault of the proxy itself.
    pub const INTERNAL_ERROR: Self = Self("XX000");
}

/// How much of the session an error takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement fails; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

/// What a client is told: never more than it may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether the session survives.
    pub severity: Severity,
    /// The code that programs read.
    pub state: SqlState,
    /// One line, lower case: what and why.
    pub message: Cow<'static, str>,
    /// The way out.
    pub hint: Option<Cow<'static, str>>,
    /// Where in the client's text, in characters from 1.
    pub position: Option<u32>,
}

impl Told {
    /// A statement's error.
    pub fn error(state: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            severity: Severity::Error,
            state,
            message: message.into(),
            hint: None,
            position: None,
        }
    }

    /// A session's end.
    pub fn fatal(state: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            severity: Severity::Fatal,
            ..Self::error(state, message)
        }
    }

    /// With the way out.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The bytes of an `ErrorResponse`, header included.
    ///
    /// Source: <https://www.postgresql.org/docs/current/protocol-error-fields.html>
    pub fn encode(&self, out: &mut Vec<u8>) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        // A NUL would end the field early and misframe the rest.
        let text = |text: &str| text.replace('\0', " ");
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.state.0.to_owned()),
            (b'M', text(&self.message)),
        ];
        if let Some(hint) = &self.hint {
            fields.push((b'H', text(hint)));
        }
        if let Some(position) = self.position {
            fields.push((b'P', position.to_string()));
        }
        wire::put(out, &wire::ErrorResponse::new(fields));
    }
}

/// An error that can reach a client says what the client may hear of it.
pub trait Tell: std::error::Error {
    /// What the client hears; `Display` is for the log.
    fn tell(&self) -> Told;
}
