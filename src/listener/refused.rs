//! Why a connection ends before it becomes a session, and what its client hears.
//!
//! Invariant: no answer tells an unknown name from a wrong password.

use std::io;
use std::net::IpAddr;

use super::options::OptionsError;
use crate::error::{SqlState, Tell, Told};
use crate::identity::certificate::CertificateError;
use crate::identity::login::LoginError;
use crate::identity::oauth::OAuthError;
use crate::identity::scram::ScramError;
use crate::identity::token::TokenError;

/// Why a connection ends before it becomes a session.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It closed at a point where clients do: a port check, or psql that goes to
    /// ask for a password.
    #[error("the client went away")]
    Gone,
    /// It broke off within a message.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// TLS could not be negotiated.
    #[error("tls could not be negotiated: {0}")]
    Tls(io::Error),
    /// A client certificate that is none, or without its key: TLS itself ends there.
    #[error("tls ends at the client's certificate: {0}")]
    Key(rustls::Error),
    /// Direct TLS where none is configured.
    #[error("direct tls, but no certificate is configured")]
    NoTls,
    /// Direct TLS without ALPN: it could be meant for another protocol.
    #[error("direct tls without the ALPN protocol `postgresql`")]
    NoAlpn,
    /// It took too long to say what it wants.
    #[error("the startup took too long")]
    SlowStartup,
    /// It took too long to prove who it is.
    #[error("the authentication took too long")]
    SlowAuthentication,
    /// Bytes that came before TLS, to be taken for something within it
    /// (CVE-2021-23214).
    #[error("received unencrypted data after an encryption request")]
    EarlyBytes,
    /// The startup message's length.
    #[error("invalid length of startup packet: {0}")]
    Length(u32),
    /// The startup message's form.
    #[error("malformed startup packet: {0}")]
    Malformed(&'static str),
    /// A second request for encryption.
    #[error("encryption was requested twice")]
    AskedTwice,
    /// Not text.
    #[error("startup parameters must be in UTF-8")]
    NotUtf8,
    /// A protocol that is not served.
    #[error("unsupported frontend protocol {0}.{1}: 3.0 to 3.2 are served")]
    Version(u16, u16),
    /// Nobody in particular.
    #[error("no user name in the startup packet")]
    NoUser,
    /// Whole tables would stream past every rule.
    #[error("replication connections are not served")]
    Replication,
    /// The startup parameter `options`.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Plain TCP from where it is not served.
    #[error("the connection from {peer} is not encrypted")]
    Plaintext {
        /// Where it comes from
        peer: IpAddr,
        /// Whether it could be encrypted
        tls: bool,
    },
    /// The limit is reached.
    #[error("too many connections: the limit is {0}")]
    TooMany(usize),
    /// Too many logins from there have failed.
    #[error("too many failed logins from {peer}")]
    Throttled {
        /// Where it comes from
        peer: IpAddr,
        /// For how much longer
        seconds: u64,
    },
    /// Too many logins by that name have failed, and too many wait.
    #[error("too many logins by this user name have failed, and others wait")]
    Crowded,
    /// It came too late.
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// Another message than a SASL response.
    #[error("expected a SASL response, got message type {0:#04x}")]
    MessageType(u8),
    /// A SASL response of an impossible length.
    #[error("invalid length of a SASL response: {0}")]
    MessageLength(u32),
    /// A SASL response's form.
    #[error("malformed SASL response")]
    Sasl,
    /// The exchange failed.
    #[error(transparent)]
    Scram(#[from] ScramError),
    /// Wrong password or unknown name.
    #[error("password authentication failed for user \"{0}\"")]
    Password(String),
    /// A token that is not taken, or an unknown name.
    #[error("the token of user \"{user}\" is not taken: {why}")]
    Token {
        /// The name that was claimed
        user: String,
        /// For the record alone
        why: TokenError,
    },
    /// A client certificate that does not hold.
    #[error("the client certificate is not taken: {0}")]
    Certificate(CertificateError),
    /// None, or one that is not this name's, where it connects by one or needs one beside
    /// what else it proves.
    #[error("the certificate of user \"{user}\" is not taken: {why}")]
    Unbound {
        /// The name that was claimed
        user: String,
        /// For the record alone
        why: CertificateError,
        /// What it was asked for instead
        by_token: bool,
    },
    /// A token would pass in clear text.
    #[error("tokens are taken by encrypted connections, or from this machine")]
    OpenToken,
    /// A password's form.
    #[error("malformed password message")]
    PasswordMessage,
    /// The same, given by OAUTHBEARER.
    #[error("the bearer token of user \"{user}\" is not taken: {why}")]
    Bearer {
        /// The name that was claimed
        user: String,
        /// For the record alone
        why: String,
    },
    /// No token: it asks where they are to be had.
    #[error("user \"{0}\" asks where tokens are to be had")]
    Discovery(String),
    /// An OAUTHBEARER message's form.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    /// A way to prove oneself that there is none of.
    #[error("`pgveil.credential` is `token` or `oauth`")]
    Credential,
    /// Somebody gets no token.
    #[error("\"{user}\" gets no token: {why}")]
    Login {
        /// Who asked
        user: String,
        /// Why not
        why: LoginError,
    },
}

/// What a connection's end says of who came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// A credential was wrong.
    Guess,
    /// A certificate did not hold.
    Certificate,
    /// It was asked for a credential, and gave none.
    Silence,
}

impl Refused {
    /// Whether nobody is there who could hear a reason in plain text.
    pub(super) fn is_silent(&self) -> bool {
        matches!(
            self,
            Self::Gone
                | Self::Io(_)
                | Self::Tls(_)
                | Self::NoTls
                | Self::NoAlpn
                | Self::SlowStartup
        )
    }
}

impl Refused {
    /// What it says of who came.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Password(_) | Self::Token { .. } | Self::Unbound { .. } | Self::Bearer { .. } => {
                Fault::Guess
            }
            Self::Certificate(_) => Fault::Certificate,
            Self::Gone
            | Self::Io(_)
            | Self::SlowAuthentication
            | Self::MessageType(_)
            | Self::MessageLength(_)
            | Self::Sasl
            | Self::Scram(_)
            | Self::PasswordMessage
            | Self::Discovery(_)
            | Self::OAuth(_) => Fault::Silence,
            _ => Fault::None,
        }
    }

    /// Why TLS could not be negotiated.
    pub(super) fn tls(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(own @ rustls::Error::InvalidCertificate(_)) => Self::Key(own.clone()),
            _ => Self::Tls(error),
        }
    }

    /// What the client hears where it could have shown a certificate and has shown none:
    /// the same whoever it claims to be.
    pub(super) fn told(&self, may_show: bool) -> Told {
        let told = self.tell();
        if !may_show || told.state != SqlState::INVALID_PASSWORD {
            return told;
        }
        let certificate = "who connects by a client certificate, or needs one beside, shows it \
                           (sslcert, sslkey)";
        let hint = match &told.hint {
            Some(hint) => format!("{hint}; {certificate}"),
            None => certificate.to_owned(),
        };
        told.hint(hint)
    }
}

impl Tell for Refused {
    fn tell(&self) -> Told {
        let fatal = |state| Told::fatal(state, self.to_string());
        match self {
            Self::Gone
            | Self::Io(_)
            | Self::Tls(_)
            | Self::NoTls
            | Self::NoAlpn
            | Self::SlowStartup
            | Self::EarlyBytes
            | Self::Length(_)
            | Self::Malformed(_)
            | Self::AskedTwice
            | Self::MessageType(_)
            | Self::MessageLength(_)
            | Self::Sasl => fatal(SqlState::PROTOCOL_VIOLATION),
            Self::NotUtf8 => fatal(SqlState::CHARACTER_NOT_IN_REPERTOIRE),
            // query_canceled, as Postgres does
            Self::SlowAuthentication => fatal(SqlState("57014")),
            Self::Version(..) => fatal(SqlState::FEATURE_NOT_SUPPORTED),
            Self::NoUser => fatal(SqlState::INVALID_AUTHORIZATION),
            Self::Replication => fatal(SqlState::FEATURE_NOT_SUPPORTED)
                .hint("leave out the connection parameter `replication`"),
            Self::Options(error) => error.tell(),
            Self::Plaintext { tls: true, .. } => {
                fatal(SqlState::INVALID_AUTHORIZATION).hint("connect with sslmode=require or above")
            }
            Self::Plaintext { tls: false, .. } => fatal(SqlState::INVALID_AUTHORIZATION).hint(
                "this proxy has no certificate yet, so it serves its own machine only: \
                 ask its operator to set `listen.tls`",
            ),
            Self::TooMany(_) => fatal(SqlState::TOO_MANY_CONNECTIONS)
                .hint("close a connection, or raise `listen.max_connections`"),
            Self::Throttled { seconds, .. } => fatal(SqlState::TOO_MANY_CONNECTIONS).hint(format!(
                "try again in {seconds} s; if a program keeps a password or token that is no \
                 longer right, stop it"
            )),
            Self::Crowded => fatal(SqlState::TOO_MANY_CONNECTIONS)
                .hint("try again in some seconds, or connect from where you have connected before"),
            Self::ShuttingDown => fatal(SqlState::CANNOT_CONNECT_NOW),
            Self::Scram(error) => error.tell(),
            Self::Password(_) => fatal(SqlState::INVALID_PASSWORD),
            // Whatever is wrong with it: who has none must not learn what one needs.
            Self::Token { user, .. }
            | Self::Unbound {
                user,
                by_token: true,
                ..
            } => Told::fatal(
                SqlState::INVALID_PASSWORD,
                Self::Password(user.clone()).to_string(),
            )
            .hint("the password is a token here, and tokens expire: ask for a new one"),
            Self::Unbound {
                user,
                by_token: false,
                ..
            } => Self::Password(user.clone()).tell(),
            Self::Key(_) => fatal(SqlState::INVALID_AUTHORIZATION),
            Self::Certificate(_) => Told::fatal(
                SqlState::INVALID_AUTHORIZATION,
                "the client certificate is not taken",
            )
            .hint(
                "show one that is in force and issued for this proxy (sslcert, sslkey), or, \
                 where a password is enough, none (sslcertmode=disable)",
            ),
            Self::Bearer { user, .. } | Self::Discovery(user) => Told::fatal(
                SqlState::INVALID_AUTHORIZATION,
                format!("oauth bearer authentication failed for user \"{user}\""),
            )
            .hint("tokens expire: ask for a new one"),
            Self::OAuth(error) => error.tell(),
            Self::OpenToken => {
                fatal(SqlState::INVALID_AUTHORIZATION).hint("connect with sslmode=require or above")
            }
            Self::PasswordMessage => fatal(SqlState::PROTOCOL_VIOLATION),
            Self::Credential => fatal(SqlState::INVALID_PARAMETER_VALUE),
            Self::Login { why, .. } => why.tell(),
        }
    }
}
