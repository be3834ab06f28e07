//! Why there is no upstream session, for the log; and the little of it that a
//! client may hear.
//!
//! The invariant: a client never learns where a dataset lives, nor as whom the
//! proxy goes there.

use std::io;
use std::time::Duration;

use super::connect::Target;
use super::frame::FrameError;
use super::frame::backend::Fields;
use super::frame::body::Malformed;
use super::frame::frontend::Unencodable;
use crate::error::{SqlState, Tell, Told};
use crate::secret::SecretError;

/// Why there is no upstream session. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
#[error("dataset `{dataset}` at {address}: {cause}")]
pub struct ConnectError {
    /// Which dataset
    pub dataset: String,
    /// Where it lives, and as whom it is gone to
    pub address: String,
    /// What went wrong
    pub cause: Cause,
}

/// What went wrong on the way to an upstream session.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The network, or the other end gone.
    #[error("cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// Nothing, for too long.
    #[error("does not answer within {0:?}")]
    Timeout(Duration),
    /// The server does not speak TLS, and the mode requires it.
    #[error("refuses TLS, which `tls: {0}` requires")]
    NoTls(&'static str),
    /// What is configured cannot work.
    #[error("cannot be set up: {0}")]
    Setup(String),
    /// The handshake failed, or the certificate is not trusted.
    #[error("TLS fails: {0}")]
    Tls(io::Error),
    /// The certificate is an authority's own, which `openssl req -x509` makes unless told
    /// otherwise. libpq takes it; RFC 5280 (4.2.1.9) has it sign others.
    #[error(
        "TLS fails: its certificate is an authority's, not a server's (hint: make it with \
         `-addext basicConstraints=critical,CA:FALSE`, or have an authority sign another)"
    )]
    Authority,
    /// Postgres itself says no.
    #[error("refuses with {state}: {message}")]
    Refused {
        /// Its SQLSTATE
        state: String,
        /// Its message
        message: String,
    },
    /// It asks for a password and there is none.
    #[error("asks for a password, and none is configured")]
    NoPassword,
    /// The password cannot be had.
    #[error("asks for a password, which cannot be had: {0}")]
    Secret(SecretError),
    /// The password was refused a moment ago.
    #[error("has just refused the password, which is not tried again for {0:?}")]
    Rests(Duration),
    /// What is there in its place is none.
    #[error("asks for a password, and what is configured is not UTF-8 text")]
    NotText,
    /// It asks for the password in clear where others could read it.
    #[error("asks for the password in clear over an open network: use TLS or SCRAM")]
    Cleartext,
    /// A way of authenticating that the proxy does not know.
    #[error("asks for an authentication that is not supported: {0}")]
    Method(String),
    /// SCRAM fails on this side: the server could not prove that it knows the
    /// password either.
    #[error("fails the SCRAM exchange: {0}")]
    Scram(io::Error),
    /// The proxy's role could do anything.
    #[error(
        "gives the proxy a superuser's session: use a role of least privilege, or set \
         `allow_superuser`"
    )]
    Superuser,
    /// Row security does not hold for the proxy's role.
    #[error(
        "gives the proxy a session that row security does not hold for, as its role or the one \
         that logged in is a superuser, is in a superuser's role or has BYPASSRLS: ALTER ROLE … \
         NOBYPASSRLS, or set `allow_superuser`"
    )]
    BypassesRows,
    /// DISCARD ALL would make a session that of another role.
    #[error(
        "gives the proxy's session another role than the one that logged in, and DISCARD ALL \
         takes it back (CVE-2024-10978): ALTER ROLE … RESET role, or update Postgres"
    )]
    OtherRole,
    /// A startup parameter that is not the session's to set.
    #[error("the startup parameter `{0}` cannot be set here")]
    Parameter(String),
    /// It does not speak the protocol.
    #[error("does not speak the protocol: {0}")]
    Protocol(String),
}

impl From<Malformed> for Cause {
    fn from(malformed: Malformed) -> Self {
        Self::Protocol(malformed.to_string())
    }
}

impl From<FrameError> for Cause {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<Unencodable> for Cause {
    fn from(error: Unencodable) -> Self {
        Self::Setup(error.to_string())
    }
}

impl ConnectError {
    /// Whether it may pass by itself: the upstream is down, starting or full, and
    /// nothing is configured wrongly.
    pub fn may_pass(&self) -> bool {
        match &self.cause {
            Cause::Io(_) | Cause::Timeout(_) => true,
            // Connection exceptions, insufficient resources, operator intervention.
            Cause::Refused { state, .. } => matches!(state.get(..2), Some("08" | "53" | "57")),
            Cause::NoTls(_)
            | Cause::Setup(_)
            | Cause::Tls(_)
            | Cause::Authority
            | Cause::NoPassword
            | Cause::Secret(_)
            | Cause::Rests(_)
            | Cause::NotText
            | Cause::Cleartext
            | Cause::Method(_)
            | Cause::Scram(_)
            | Cause::Superuser
            | Cause::BypassesRows
            | Cause::OtherRole
            | Cause::Parameter(_)
            | Cause::Protocol(_) => false,
        }
    }
}

impl Cause {
    /// Whether another password might do.
    pub(super) fn is_of_the_password(&self) -> bool {
        match self {
            // Invalid authorization specification, and invalid password; a host that has no
            // entry in pg_hba.conf is the former, and no password changes that.
            Self::Refused { state, message } => {
                state.starts_with("28") && !message.contains("pg_hba.conf")
            }
            Self::NotText | Self::Rests(_) => true,
            _ => false,
        }
    }

    /// From the body of an ErrorResponse.
    pub(super) fn refused(body: &[u8]) -> Self {
        let (state, message) = report(body);
        Self::Refused { state, message }
    }

    /// With what the log needs to find the place.
    pub(crate) fn at(self, target: &Target) -> ConnectError {
        self.at_as(target, &target.user)
    }

    /// The same of another user than the configuration names.
    pub(super) fn at_as(self, target: &Target, user: &str) -> ConnectError {
        ConnectError {
            dataset: target.dataset.clone(),
            address: format!("{} as `{user}`", target.address()),
            cause: self,
        }
    }
}

/// SQLSTATE and message of an ErrorResponse, on one line. Before a session stands,
/// Postgres answers in the server's own encoding: what is not UTF-8 is replaced.
pub(super) fn report(body: &[u8]) -> (String, String) {
    let (mut state, mut message) = (String::new(), String::new());
    for (code, text) in Fields::of(body).map_while(Result::ok) {
        let text = || String::from_utf8_lossy(text).replace(char::is_control, " ");
        match code {
            b'C' => state = text(),
            b'M' => message = text(),
            _ => {}
        }
    }
    (state, message)
}

impl Tell for ConnectError {
    fn tell(&self) -> Told {
        let dataset = &self.dataset;
        let later = "try again in a moment";
        match &self.cause {
            Cause::Refused { state, message } => match state.as_str() {
                "53300" => Told::fatal(
                    SqlState::TOO_MANY_CONNECTIONS,
                    format!("the dataset `{dataset}` has no connection free"),
                )
                .hint(later),
                "57P03" => Told::fatal(
                    SqlState::CANNOT_CONNECT_NOW,
                    format!("the dataset `{dataset}` does not accept connections now"),
                )
                .hint(later),
                "57P01" | "57P02" => Told::fatal(
                    SqlState::ADMIN_SHUTDOWN,
                    format!("the dataset `{dataset}` is shutting down"),
                )
                .hint(later),
                // A setting that the client asked for: the message repeats what it sent.
                "22023" => setting(SqlState::INVALID_PARAMETER_VALUE, dataset, message),
                "42704" => setting(SqlState("42704"), dataset, message),
                _ => unreachable(dataset),
            },
            Cause::Parameter(name) => setting(
                SqlState::INVALID_PARAMETER_VALUE,
                dataset,
                &format!("`{name}` cannot be set"),
            ),
            Cause::Io(_)
            | Cause::Timeout(_)
            | Cause::NoTls(_)
            | Cause::Setup(_)
            | Cause::Tls(_)
            | Cause::Authority
            | Cause::NoPassword
            | Cause::Secret(_)
            | Cause::Rests(_)
            | Cause::NotText
            | Cause::Cleartext
            | Cause::Method(_)
            | Cause::Scram(_)
            | Cause::Superuser
            | Cause::BypassesRows
            | Cause::OtherRole
            | Cause::Protocol(_) => unreachable(dataset),
        }
    }
}

fn setting(state: SqlState, dataset: &str, message: &str) -> Told {
    Told::fatal(
        state,
        format!("the dataset `{dataset}` refuses a setting of this session: {message}"),
    )
    .hint("change or leave out that setting in the connection string")
}

fn unreachable(dataset: &str) -> Told {
    Told::fatal(
        SqlState::CANNOT_CONNECT,
        format!("the dataset `{dataset}` cannot be reached"),
    )
    .hint("ask the administrator: the cause is in pgveil's log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cause: Cause) -> Told {
        ConnectError {
            dataset: "shop".into(),
            address: "10.1.2.3:5432 as `proxy`".into(),
            cause,
        }
        .tell()
    }

    fn refused(state: &str, message: &str) -> Told {
        told(Cause::refused(
            format!("SFATAL\0C{state}\0M{message}\0\0").as_bytes(),
        ))
    }

    #[test]
    fn a_client_hears_no_place_and_no_name() {
        for told in [
            told(Cause::Io(io::Error::other("10.1.2.3 refused"))),
            refused("28P01", "password authentication failed for user \"proxy\""),
            refused("28000", "role \"proxy\" does not exist"),
            refused("3D000", "database \"secret_db\" does not exist"),
            refused("42501", "permission denied for database \"secret_db\""),
            refused("53300", "too many connections for role \"proxy\""),
            refused("57P03", "the database system is starting up"),
            told(Cause::Superuser),
        ] {
            let text = format!("{told:?}");
            for word in ["10.1.2.3", "proxy", "secret_db"] {
                assert!(!text.contains(word), "{text}");
            }
            assert!(text.contains("shop"), "{text}");
        }
    }

    #[test]
    fn the_upstreams_own_state_is_kept_where_it_helps() {
        assert_eq!(refused("53300", "x").state.0, "53300");
        assert_eq!(refused("57P03", "x").state.0, "57P03");
        assert_eq!(refused("28P01", "x").state.0, "08001");
        assert_eq!(refused("", "").state.0, "08001");
        let told = refused("22023", "invalid value for parameter \"TimeZone\": \"x\"");
        assert_eq!(told.state.0, "22023");
        assert!(told.message.contains("TimeZone"));
    }

    #[test]
    fn another_password_is_no_help_against_a_host_that_is_not_let_in() {
        let of_the_password = |state: &str, message: &str| {
            Cause::refused(format!("SFATAL\0C{state}\0M{message}\0\0").as_bytes())
                .is_of_the_password()
        };
        assert!(of_the_password("28P01", "password authentication failed"));
        assert!(of_the_password("28000", "PAM authentication failed"));
        assert!(!of_the_password("28000", "no pg_hba.conf entry for host"));
        assert!(!of_the_password("53300", "too many connections"));
    }

    #[test]
    fn a_report_is_one_line_of_text() {
        assert_eq!(
            report(b"C53300\0Mtwo\nlines \xff\0\0"),
            ("53300".to_owned(), "two lines \u{fffd}".to_owned())
        );
        assert_eq!(report(b"").0, "");
    }
}
