//! Joins the parts: owns what survives a statement. No other room imports it.
//!
//! A session is one task. Its two directions run side by side in it and share a
//! [`pipeline::Pipeline`]: `requests` decides what the client sends and says
//! what answer is due, `answers` ties what upstream sends to that. Each
//! direction alone writes to its side, so messages are never torn.
//!
//! Invariant: nothing is sent upstream as SQL that is not a
//! [`crate::sql::Plan`] made for this caller's rights, and nothing runs that
//! cannot be recorded.

mod answers;
mod authority;
mod cancel;
mod dataset;
mod errors;
mod extended;
mod incoming;
mod names;
mod pipeline;
mod planning;
mod requests;
mod revoked;
mod settings;
mod simple;
mod start;
mod tag;
#[cfg(test)]
pub(crate) mod tests;
mod users;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};

pub use authority::{Authority, Decided, Governed, Sight, Standing};
pub use cancel::Cancels;
pub use dataset::{Dataset, Settings};
pub use planning::{Planning, STACK};
pub use tag::Tag;
pub use users::User;

use crate::audit::Log;
use crate::error::{SqlState, Told};
use crate::identity::Principal;
use crate::policy::Rights;
use crate::stage::Stage;
use cancel::Canceller;
use pipeline::Pipeline;
use users::{Rank, another};

/// What all sessions share.
pub struct Shared {
    /// Who decides
    pub authority: Box<dyn Authority>,
    /// By the name that callers use
    pub datasets: BTreeMap<Arc<str>, Arc<Dataset>>,
    /// Where records go
    pub log: Log,
    /// The cancel keys
    pub cancels: Cancels,
    /// How much text may be planned at a time
    pub planning: Planning,
}

/// Who is at the other end: authenticated, AuthenticationOk sent.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client's address
    pub peer: SocketAddr,
    /// The TLS version, if any
    pub tls: Option<Arc<str>>,
    /// The minor protocol version: 0 or 2
    pub minor: u16,
    /// Startup parameters, `options` expanded
    pub parameters: BTreeMap<String, String>,
    /// The dataset asked for
    pub dataset: String,
    /// Who has been proved to ask
    pub principal: Principal,
    /// Says when the session is to end
    pub stage: watch::Receiver<Stage>,
}

/// Serves one client until it or upstream ends the session.
pub async fn run<S>(shared: &Arc<Shared>, caller: Caller, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    start::run(shared, caller, stream).await;
}

/// What both directions of a session share.
struct Session {
    shared: Arc<Shared>,
    /// As its upstream user has it.
    dataset: Arc<Dataset>,
    /// As all may have it.
    home: Arc<Dataset>,
    /// As whom it goes upstream.
    rank: Rank,
    tag: Tag,
    /// A message that fails: Execute of a portal that cannot exist, for its name is
    /// a secret of this session.
    ghost: Vec<u8>,
    pipeline: Mutex<Pipeline>,
    /// Bytes held for prepared statements.
    held: Arc<AtomicUsize>,
    /// Something of the proxy's own has been put in the queue.
    ours: Notify,
    /// The transaction is to be failed.
    failing: Notify,
    /// An answer has come in.
    progress: Arc<Notify>,
    canceller: Canceller,
    /// Upstream is being asked to cancel: what is sent now could be hit by it.
    cancelling: Arc<AtomicBool>,
}

impl Session {
    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the dataset has just been seen to change, for whoever uses it.
    fn change(&self) {
        self.home.all().for_each(|dataset| dataset.change());
        let (dataset, log) = (self.dataset.clone(), self.shared.log.clone());
        tokio::spawn(async move { dataset.renew(&log).await });
    }

    /// Refuses to go on as a user whom who has these rights would not go as now; the
    /// dataset's own is for everybody.
    fn outgrown(&self, rights: &Rights) -> Result<(), Told> {
        match self.rank {
            Rank::LEAST => Ok(()),
            rank if self.home.rank(rights) == rank => Ok(()),
            _ => Err(another(&self.home.name)),
        }
    }

    /// To be called after the queue has become shorter.
    fn settled(&self, pipeline: &Pipeline) {
        if pipeline.is_empty() {
            self.canceller.busy.store(false, Ordering::Release);
        }
        self.progress.notify_one();
    }

    /// Asks upstream to cancel what it is doing, without waiting for it.
    fn stop_upstream(&self) {
        self.cancelling.store(true, Ordering::Release);
        let (canceller, cancelling) = (self.canceller.clone(), self.cancelling.clone());
        let progress = self.progress.clone();
        tokio::spawn(async move {
            canceller.cancel().await;
            cancelling.store(false, Ordering::Release);
            progress.notify_one();
        });
    }
}

/// How a session ends.
#[derive(Debug)]
enum End {
    /// The client closed its connection, or it broke.
    Client(Option<std::io::Error>),
    /// The client said Terminate.
    Terminated,
    /// Upstream closed its connection, or it broke.
    Upstream(Option<std::io::Error>),
    /// The proxy ends it, and says why.
    Told(Told),
}

impl End {
    fn client(error: std::io::Error) -> Self {
        Self::Client(Some(error))
    }

    /// Upstream's answers make no sense, so nothing after them can be trusted.
    fn garbled() -> Self {
        tracing::error!("an answer of upstream does not fit what it was asked");
        Self::Told(Told::fatal(
            SqlState::INTERNAL_ERROR,
            "the upstream database gave an answer that was not expected",
        ))
    }

    /// A name turned out to stand for another statement than was decided on.
    fn mismatch() -> Self {
        Self::Told(
            Told::fatal(
                SqlState::INTERNAL_ERROR,
                "a prepared statement or portal is not the one that was decided on",
            )
            .hint("wait for answers before using a name again after an error"),
        )
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(None) => write!(out, "client closed the connection"),
            Self::Client(Some(error)) => write!(out, "client's connection broke: {error}"),
            Self::Terminated => write!(out, "client terminated"),
            Self::Upstream(None) => write!(out, "upstream closed the connection"),
            Self::Upstream(Some(error)) => write!(out, "upstream's connection broke: {error}"),
            Self::Told(told) => write!(out, "{}: {}", told.state.0, told.message),
        }
    }
}
