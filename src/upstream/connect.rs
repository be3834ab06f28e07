//! Connects and authenticates to Postgres.

use tokio::io::{AsyncRead, AsyncWrite};

/// Where a dataset lives and how to get in.
#[derive(Clone, Debug)]
pub struct Target {
    /// The dataset's name, for messages.
    pub dataset: String,
}

/// Why there is no upstream session.
#[derive(Debug, thiserror::Error)]
#[error("todo")]
pub struct ConnectError;

/// What it takes to cancel a session's statement (protocol 3.0: 4 bytes; 3.2: up
/// to 256).
#[derive(Clone)]
pub struct CancelKey {
    /// Backend process id
    pub pid: i32,
    /// The secret
    pub secret: Vec<u8>,
}

/// A stream to Postgres: TCP, Unix or TLS over TCP.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

/// An authenticated session, idle.
pub struct Upstream {
    /// Its bytes
    pub stream: Box<dyn Socket>,
    /// ParameterStatus values reported at start, in order
    pub parameters: Vec<(String, String)>,
    /// For cancelling
    pub key: Option<CancelKey>,
}

/// Opens a session with these startup parameters (`application_name`,
/// `search_path`, …) beside user and database.
///
/// # Errors
/// As [`ConnectError`] says.
pub async fn connect(
    _target: &Target,
    _parameters: &[(String, String)],
) -> Result<Upstream, ConnectError> {
    todo!()
}

/// Asks Postgres to cancel what the session of that key is doing.
///
/// # Errors
/// Where it could not be asked.
pub async fn cancel(_target: &Target, _key: &CancelKey) -> Result<(), ConnectError> {
    todo!()
}
