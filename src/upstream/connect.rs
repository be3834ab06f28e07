//! Connects and authenticates to Postgres.
//!
//! Knows nothing about callers: the credentials are the proxy's own. The invariants:
//! everything up to ReadyForQuery is bounded in time and size; what is read is read
//! exactly, so that a session starts with nothing left in a buffer; a superuser's
//! session is given up unless the target allows it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

use super::auth::authenticate;
use super::frame::backend::{self, tag};
use super::frame::frontend::{Unencodable, put_cancel, put_startup};
use super::frame::{self, HEADER};
use super::stream::Stream;
use super::tls;
use crate::secret::{Secret, Source};
use crate::socket;

pub use super::refusal::{Cause, ConnectError};

/// How much of TLS there is to be, as libpq's `sslmode`; over a Unix socket there is
/// none.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// None.
    Disable,
    /// If the server has it; nothing is verified.
    #[default]
    Prefer,
    /// Always; nothing is verified, unless a CA is given: then as `verify-ca`.
    Require,
    /// Always, by a certificate of the given CA.
    VerifyCa,
    /// Always, by a certificate of the given CA for this very host.
    VerifyFull,
}

impl TlsMode {
    /// The mode's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Where a dataset lives and how to get in.
#[derive(Clone, Debug)]
pub struct Target {
    /// The dataset's name, for messages.
    pub dataset: String,
    /// A name, an address, or the absolute path of a Unix socket's directory.
    pub host: String,
    /// The port; of a Unix socket, the number in its name.
    pub port: u16,
    /// The database there
    pub dbname: String,
    /// The proxy's role there, unless its password comes with a name
    pub user: String,
    /// Its password, where one is needed
    pub password: Option<Arc<Source>>,
    /// How much TLS
    pub tls: TlsMode,
    /// The PEM file of the CAs to trust
    pub ca: Option<PathBuf>,
    /// Whether that role may be a superuser
    pub allow_superuser: bool,
    /// How long all of connecting may take
    pub timeout: Duration,
}

impl Target {
    /// Where it lives, for the log.
    pub fn address(&self) -> String {
        match self.socket() {
            Some(path) => path.display().to_string(),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    /// As whom it is gone to now: whose its password is, where that comes with it.
    pub async fn login(&self) -> Arc<str> {
        let secret = match &self.password {
            Some(source) => tokio::time::timeout(self.timeout, source.get()).await.ok(),
            None => None,
        };
        // Connecting says what is wrong with it.
        let secret = secret.and_then(Result::ok);
        secret
            .as_ref()
            .and_then(Secret::user)
            .unwrap_or(&self.user)
            .into()
    }

    fn socket(&self) -> Option<PathBuf> {
        self.host
            .starts_with('/')
            .then(|| PathBuf::from(format!("{}/.s.PGSQL.{}", self.host, self.port)))
    }
}

/// What it takes to cancel a session's statement (protocol 3.0: 4 bytes; 3.2: up
/// to 256).
#[derive(Clone)]
pub struct CancelKey {
    /// Backend process id
    pub pid: i32,
    /// The secret
    pub secret: Vec<u8>,
}

/// An authenticated session, idle, with nothing unread.
pub struct Upstream {
    /// Its bytes
    pub stream: Stream,
    /// ParameterStatus values reported at start, in order
    pub parameters: Vec<(String, String)>,
    /// For cancelling
    pub key: Option<CancelKey>,
    /// As whom
    pub user: Arc<str>,
}

/// Opens a session with these startup parameters (`application_name`,
/// `search_path`, …) beside user and database. A password that is refused may be an old
/// one: the connection is tried once more if another can be had. All of it, and having the
/// password, is bounded in time; and one that was refused is not shown again at once.
///
/// # Errors
/// As [`Cause`] says.
pub async fn connect(
    target: &Target,
    parameters: &[(String, String)],
) -> Result<Upstream, ConnectError> {
    let mut shown: Option<Secret> = None;
    let done = within(target, async {
        let Some(source) = &target.password else {
            return session(target, None, parameters).await;
        };
        let by = async |secret: &Secret| {
            source.may_try(secret).map_err(Cause::Rests)?;
            let tried = session(target, Some(secret), parameters).await;
            match &tried {
                Ok(_) => source.took(secret),
                Err(cause) if cause.is_of_the_password() => source.refused(secret),
                Err(_) => {}
            }
            tried
        };
        let first = source.get().await.map_err(Cause::Secret)?;
        shown = Some(first.clone());
        match by(&first).await {
            Err(cause) if cause.is_of_the_password() => match source.instead(&first).await {
                Some(other) => {
                    tracing::warn!(dataset = target.dataset, %cause, "tried again with another password");
                    shown = Some(other.clone());
                    by(&other).await
                }
                None => Err(cause),
            },
            tried => tried,
        }
    })
    .await;
    done.map_err(|error| match shown.as_ref().and_then(Secret::user) {
        Some(user) => error.cause.at_as(target, user),
        None => error,
    })
}

/// Asks Postgres to cancel what the session of that key is doing. Returns when
/// Postgres has taken note; whether there was anything to cancel it does not say.
///
/// # Errors
/// Where it could not be asked.
pub async fn cancel(target: &Target, key: &CancelKey) -> Result<(), ConnectError> {
    within(target, async {
        let mut stream = open(target).await?;
        send(&mut stream, |out| put_cancel(out, key.pid, &key.secret)).await?;
        // Postgres closes once the signal is sent; how it closes does not matter.
        let _ = stream.read(&mut [0; 64]).await;
        Ok(())
    })
    .await
}

pub(super) async fn within<T>(
    target: &Target,
    work: impl Future<Output = Result<T, Cause>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(target.timeout, work)
        .await
        .unwrap_or(Err(Cause::Timeout(target.timeout)))
        .map_err(|cause| cause.at(target))
}

pub(super) async fn open(target: &Target) -> Result<Stream, Cause> {
    match target.socket() {
        Some(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        None => {
            let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
            socket::tune(&tcp)?;
            tls::negotiate(target, tcp).await
        }
    }
}

async fn session(
    target: &Target,
    password: Option<&Secret>,
    parameters: &[(String, String)],
) -> Result<Upstream, Cause> {
    if let Some((name, _)) = parameters.iter().find(|(name, _)| is_reserved(name)) {
        return Err(Cause::Parameter(name.clone()));
    }
    let mut stream = open(target).await?;
    let user = password.and_then(Secret::user).unwrap_or(&target.user);
    let own = [("user", user), ("database", &target.dbname)];
    let given = parameters.iter().map(|(name, value)| (&**name, &**value));
    send(&mut stream, |out| {
        put_startup(out, own.into_iter().chain(given))
    })
    .await?;
    authenticate(&mut stream, user, password, false).await?;
    let upstream = greeting(stream, user).await?;
    match upstream.parameter("is_superuser") {
        Some("off") => Ok(upstream),
        _ if target.allow_superuser => Ok(upstream),
        // One that does not say is not trusted to be harmless.
        _ => Err(Cause::Superuser),
    }
}

/// Parameters that decide who and where, and protocol options.
fn is_reserved(name: &str) -> bool {
    matches!(name, "user" | "database" | "replication") || name.starts_with("_pq_.")
}

impl Upstream {
    /// The value of a parameter as reported at start.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().rfind(|(found, _)| found == name)?;
        Some(value)
    }
}

/// More than any server has to say before it is ready.
const MAX_GREETINGS: usize = 1_000;

/// From AuthenticationOk to ReadyForQuery.
async fn greeting(stream: Stream, user: &str) -> Result<Upstream, Cause> {
    let mut upstream = Upstream {
        stream,
        parameters: Vec::new(),
        key: None,
        user: user.into(),
    };
    for _ in 0..MAX_GREETINGS {
        let (tag, body) = read_message(&mut upstream.stream).await?;
        match tag {
            tag::PARAMETER_STATUS => {
                let (name, value) = backend::parameter(&body)?;
                upstream.parameters.push((name.into(), value.into()));
            }
            tag::BACKEND_KEY_DATA => {
                let (pid, secret) = backend::key(&body)?;
                let secret = secret.to_vec();
                upstream.key = Some(CancelKey { pid, secret });
            }
            tag::READY_FOR_QUERY => {
                return match backend::ready(&body)? {
                    backend::Transaction::Idle => Ok(upstream),
                    _ => Err(Cause::Protocol("a session begins in a transaction".into())),
                };
            }
            other => {
                let what = format!("a message `{}` in the greeting", other.escape_ascii());
                return Err(Cause::Protocol(what));
            }
        }
    }
    Err(Cause::Protocol("a greeting without end".into()))
}

/// More than any message before ReadyForQuery needs.
const MAX_MESSAGE: usize = 64 << 10;

/// Reads exactly one message. Notices are passed over, an error ends it.
pub(super) async fn read_message(stream: &mut Stream) -> Result<(u8, Vec<u8>), Cause> {
    for _ in 0..MAX_GREETINGS {
        let mut head = [0; HEADER];
        stream.read_exact(&mut head).await?;
        let (tag, len) = match frame::header(&head)? {
            Some((tag, len)) if len <= MAX_MESSAGE => (tag, len),
            _ => return Err(Cause::Protocol("a message that is too long".into())),
        };
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        match tag {
            tag::NOTICE_RESPONSE => {}
            tag::ERROR_RESPONSE => return Err(Cause::refused(&body)),
            _ => return Ok((tag, body)),
        }
    }
    Err(Cause::Protocol("notices without end".into()))
}

/// Sends what is put.
pub(super) async fn send(
    stream: &mut Stream,
    put: impl FnOnce(&mut Vec<u8>) -> Result<(), Unencodable>,
) -> Result<(), Cause> {
    // A password or a masking key may be in it. With room: growing would leave copies.
    let mut out = Zeroizing::new(Vec::with_capacity(4 << 10));
    put(&mut out)?;
    stream.write_all(&out).await?;
    stream.flush().await?;
    Ok(())
}
