//! Accepts connections, negotiates TLS and startup with exact reads, has each
//! client prove who it is, and hands it over; within deadlines and limits, and
//! drained on shutdown.
//!
//! Knows nothing about sessions, SQL or upstreams: whoever serves the clients
//! implements [`Accept`]. Invariant: a [`Client`] has been authenticated, and no
//! byte of its stream has been read that came after its authentication.

mod endpoint;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod oauth;
pub mod options;
mod refused;
mod startup;
mod step_up;
mod stream;
#[cfg(test)]
mod tests;
mod throttle;
pub mod tls;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use options::parse_options;
pub use refused::Refused;
pub(crate) use startup::LOGIN;
pub use startup::Protocol;
pub use step_up::{Asked, Issued};
pub(crate) use step_up::{EXPIRES, TOKEN};
pub use stream::Stream;
pub use tls::{Tls, TlsError, TlsInfo};
pub use workers::Workers;

use crate::config::{Listen, Plaintext};
use crate::error::Told;
use crate::identity::certificate::{Certificate, CertificateError, Presented};
use crate::identity::login::LoginError;
use crate::identity::oauth::Discovery;
use crate::identity::token::TokenError;
use crate::identity::verifier::Verifier;
use crate::identity::{Method, Principal};
use crate::policy::Policy;
use crate::socket;
use crate::stage::Stage;
use handshake::{Channel, Ended, Greeting, Started, one_line};
use throttle::Throttle;

/// More than any machine has ports for, and what [`Door::empty`] can count.
const MOST_CONNECTIONS: usize = 1 << 24;
/// How long sessions have, once they are to end, to say so and to leave a record.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// An authenticated client: AuthenticationOk has been sent; ParameterStatus,
/// BackendKeyData and ReadyForQuery have not.
#[derive(Debug)]
pub struct Client {
    /// Its bytes, from its first query on.
    pub stream: Stream,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// How it is encrypted, if it is.
    pub tls: Option<TlsInfo>,
    /// What is spoken: decides the length of the cancel key.
    pub protocol: Protocol,
    /// The settings it starts with, lower-case names, `options` included; without
    /// `user`, `database`, `replication` and `_pq_.` options.
    pub parameters: BTreeMap<String, String>,
    /// The name it logged in by.
    pub user: String,
    /// What it named as database, by default its own name.
    pub dataset: String,
    /// Who it is.
    pub principal: Principal,
    /// Says when the session is to end.
    pub stage: watch::Receiver<Stage>,
}

/// A connection that ended before it became a session, for the record.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// Where it came from.
    pub peer: SocketAddr,
    /// How it was encrypted, if it was.
    pub tls: Option<&'a TlsInfo>,
    /// Who it claimed to be, if it came that far.
    pub user: Option<&'a str>,
    /// What it asked for, if it came that far.
    pub dataset: Option<&'a str>,
    /// What it called itself.
    pub application_name: Option<&'a str>,
    /// What it was told.
    pub told: Told,
    /// Why, for the log.
    pub why: &'a Refused,
}

/// Who exists: what authentication needs to know of policy.
pub trait Identities: Send + Sync {
    /// The stored verifier of a name.
    fn verifier(&self, name: &str) -> Option<&Verifier>;
    /// A verifier for a name that has none, which looks like one that has.
    fn stand_in(&self, name: &str) -> Verifier;
    /// Whether a name, known or not, is asked for a token instead.
    fn by_token(&self, name: &str) -> bool;
    /// Whether a name that is asked for a token, known or not, is asked by OAUTHBEARER.
    fn by_oauth(&self, _name: &str) -> bool {
        false
    }
    /// Where a token under that name is to be had, if that can be told.
    fn discovery(&self, _name: &str) -> Option<Discovery> {
        None
    }
    /// The principal who has a token, under that name, for that dataset.
    ///
    /// # Errors
    /// As [`TokenError`] says.
    fn bearer(&self, name: &str, dataset: &str, token: &str) -> Result<Principal, TokenError>;
    /// The principal of a name that has been proved.
    fn principal(&self, name: &str, method: Method) -> Option<Principal>;
    /// What a client has shown, verified.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    fn verify(&self, presented: &Presented) -> Result<Certificate, CertificateError>;
    /// The principal whose certificate it is, by that name.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    fn certified(
        &self,
        name: &str,
        certificate: &Certificate,
    ) -> Result<Principal, CertificateError>;
    /// What keeps a name out for want of the right certificate, if anything does: it
    /// connects by one, or needs one beside its password.
    fn lacks(&self, name: &str, shown: Option<&Certificate>) -> Option<CertificateError>;
    /// A principal who has proved who it is otherwise, with the certificate that it needs
    /// beside, if it needs one.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    fn bound(
        &self,
        principal: Principal,
        shown: Option<&Certificate>,
    ) -> Result<Principal, CertificateError>;
}

impl Identities for Policy {
    fn verifier(&self, name: &str) -> Option<&Verifier> {
        self.verifier(name)
    }

    fn stand_in(&self, name: &str) -> Verifier {
        self.stand_in(name)
    }

    fn by_token(&self, name: &str) -> bool {
        self.by_token(name)
    }

    fn by_oauth(&self, name: &str) -> bool {
        self.by_oauth(name)
    }

    fn discovery(&self, name: &str) -> Option<Discovery> {
        self.tokens().discovery(name)
    }

    fn bearer(&self, name: &str, dataset: &str, token: &str) -> Result<Principal, TokenError> {
        self.bearer(name, dataset, token, jiff::Timestamp::now())
    }

    fn principal(&self, name: &str, method: Method) -> Option<Principal> {
        self.principal(name, method)
    }

    fn verify(&self, presented: &Presented) -> Result<Certificate, CertificateError> {
        self.verify(presented, jiff::Timestamp::now())
    }

    fn certified(
        &self,
        name: &str,
        certificate: &Certificate,
    ) -> Result<Principal, CertificateError> {
        self.certified(name, certificate)
    }

    fn lacks(&self, name: &str, shown: Option<&Certificate>) -> Option<CertificateError> {
        self.lacks(name, shown)
    }

    fn bound(
        &self,
        principal: Principal,
        shown: Option<&Certificate>,
    ) -> Result<Principal, CertificateError> {
        self.bound(principal, shown)
    }
}

/// Serves the clients that the listener lets in.
pub trait Accept: Send + Sync + 'static {
    /// A snapshot of who exists.
    type Identities: Identities;

    /// The identities in force now: one snapshot serves one authentication.
    fn identities(&self) -> Arc<Self::Identities>;

    /// Serves a client until it or the session ends.
    fn serve(&self, client: Client) -> impl Future<Output = ()> + Send;

    /// Somebody who has proved a password asks for a token by a second factor. By default,
    /// there is none to be had.
    fn step_up(
        &self,
        _asked: Asked<'_>,
    ) -> impl Future<Output = Result<Issued, LoginError>> + Send {
        std::future::ready(Err(LoginError::None))
    }

    /// A CancelRequest: whoever has the secret may cancel; nothing is answered.
    fn cancel(&self, pid: i32, secret: &[u8]) -> impl Future<Output = ()> + Send;

    /// A connection is refused; its client hears of it when this is done.
    fn refused(&self, refusal: &Refusal<'_>) -> impl Future<Output = ()> + Send;
}

/// Why the listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which
        address: SocketAddr,
        /// Why
        source: io::Error,
    },
}

/// The certificate that new connections are given, as files have it at the time.
pub type Certificates = watch::Receiver<Option<Arc<Tls>>>;

/// Bound sockets, ready to accept.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    door: Arc<Door>,
    workers: Arc<Workers>,
}

/// What every connection must pass.
#[derive(Debug)]
struct Door {
    tls: Certificates,
    plaintext: Plaintext,
    handshake_timeout: Duration,
    max_connections: usize,
    throttle: Arc<Throttle>,
    /// Of sessions, authentication included.
    sessions: Arc<Semaphore>,
    /// Of sockets: some more, so that one too many still hears why, and so that
    /// cancel requests pass when all sessions are taken.
    sockets: Arc<Semaphore>,
}

impl Listener {
    /// Binds the sockets. Connections are served on those threads, and given the
    /// certificate that is in force when they begin.
    ///
    /// # Errors
    /// As [`ListenError`] says.
    pub async fn bind(
        listen: &Listen,
        tls: Certificates,
        workers: Workers,
    ) -> Result<Self, ListenError> {
        let mut sockets = Vec::new();
        for &address in &listen.address {
            let socket = TcpListener::bind(address).await;
            sockets.push(socket.map_err(|source| ListenError::Bind { address, source })?);
        }
        let max_connections = listen.max_connections.get().min(MOST_CONNECTIONS);
        let spare = (max_connections / 8).max(16);
        Ok(Self {
            sockets,
            workers: Arc::new(workers),
            door: Arc::new(Door {
                tls,
                plaintext: listen.plaintext,
                handshake_timeout: listen.handshake_timeout,
                max_connections,
                throttle: Throttle::new(listen.failures, listen.handshake_timeout),
                sessions: Arc::new(Semaphore::new(max_connections)),
                sockets: Arc::new(Semaphore::new(max_connections.saturating_add(spare))),
            }),
        })
    }

    /// Where it listens: the ports that port 0 became.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// Serves until the stage is [`Stage::Draining`], then waits for the sessions
    /// for no longer than `grace`, and says [`Stage::Ending`] to what is left.
    /// Until then it answers: new clients hear why they are not served, and what
    /// still runs can be cancelled.
    pub async fn run<A: Accept>(
        self,
        accept: Arc<A>,
        stage: watch::Sender<Stage>,
        grace: Duration,
    ) {
        let mut sockets = JoinSet::new();
        for socket in self.sockets {
            let (door, workers) = (self.door.clone(), self.workers.clone());
            let stage = stage.subscribe();
            sockets.spawn(serve_socket(socket, door, workers, accept.clone(), stage));
        }
        let mut now = stage.subscribe();
        Stage::Draining.reached(&mut now).await;
        tokio::select! {
            () = self.door.empty() => {}
            () = tokio::time::sleep(grace) => {
                tracing::warn!("sessions still open after the grace period are ended");
            }
            () = Stage::Ending.reached(&mut now) => {}
        }
        Stage::Ending.reach(&stage);
        let ended = async { while sockets.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            tracing::warn!("sessions that do not end are dropped");
        }
    }
}

impl Door {
    /// Waits until there is no session. Holds only once none can begin.
    async fn empty(&self) {
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        // It is never closed.
        let _all = self.sessions.acquire_many(all).await;
    }
}

async fn serve_socket<A: Accept>(
    socket: TcpListener,
    door: Arc<Door>,
    workers: Arc<Workers>,
    accept: Arc<A>,
    mut stage: watch::Receiver<Stage>,
) {
    let mut connections = JoinSet::new();
    let watched = stage.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = Stage::Ending.reached(&mut stage) => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let Ok(slot) = door.sockets.clone().try_acquire_owned() else {
                    tracing::warn!(%peer, "dropped: too many sockets");
                    continue;
                };
                let (worker, held) = workers.pick();
                let (door, accept, stage) = (door.clone(), accept.clone(), watched.clone());
                let tcp = tcp.into_std();
                let served = async move {
                    // From here on, this thread hears of it.
                    match tcp.and_then(TcpStream::from_std) {
                        Ok(tcp) => connection(tcp, peer, door, accept, stage).await,
                        Err(error) => tracing::warn!(%error, %peer, "a connection was dropped"),
                    }
                    drop((slot, held));
                };
                connections.spawn_on(served, &worker);
            }
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// One connection, from its first byte to its end.
async fn connection<A: Accept>(
    tcp: TcpStream,
    peer: SocketAddr,
    door: Arc<Door>,
    accept: Arc<A>,
    mut stage: watch::Receiver<Stage>,
) {
    let deadline = Instant::now() + door.handshake_timeout;
    // Without it, what is slow to answer and who is gone is slow to be told.
    let _tuned = socket::tune(&tcp);
    // This connection's to its end, whatever comes into force meanwhile.
    let own = door.tls.borrow().clone();
    let greeting = handshake::greet(tcp, own.as_deref());
    let greeting = tokio::select! {
        greeting = timeout_at(deadline, greeting) => greeting,
        () = Stage::Ending.reached(&mut stage) => return,
    };
    match greeting {
        Ok(Ok(Greeting::Cancel {
            pid,
            secret,
            stream,
        })) => {
            let cancel = timeout_at(deadline, accept.cancel(pid, &secret));
            if cancel.await.is_err() {
                tracing::debug!(%peer, "a cancel request took too long");
            }
            drop(stream);
        }
        Ok(Ok(Greeting::Start(started))) => {
            session(*started, peer, &door, &*accept, stage, deadline).await;
        }
        Ok(Err(ended)) => refuse(ended, peer, None, &*accept).await,
        Err(_elapsed) => tracing::debug!(%peer, "{}", Refused::SlowStartup),
    }
}

/// What a client gets that has proved who it is.
enum Outcome {
    /// A session.
    Session(Principal),
    /// A token, in those last words.
    Token(Vec<u8>),
}

async fn session<A: Accept>(
    started: Started,
    peer: SocketAddr,
    door: &Door,
    accept: &A,
    mut stage: watch::Receiver<Stage>,
    deadline: Instant,
) {
    let Started {
        mut stream,
        tls,
        startup,
    } = started;
    let slot = door.sessions.clone().try_acquire_owned();
    let attempt = door.throttle.attempt(peer.ip(), &startup.user);
    let outcome = if tls.is_none() && !door.plaintext.serves(peer.ip()) {
        Err(Refused::Plaintext {
            peer: peer.ip().to_canonical(),
            tls: door.tls.borrow().is_some(),
        })
    } else if *stage.borrow() > Stage::Serving {
        Err(Refused::ShuttingDown)
    } else if slot.is_err() {
        Err(Refused::TooMany(door.max_connections))
    } else {
        let identities = accept.identities();
        let channel = Channel {
            tls: tls.as_ref(),
            private: tls.is_some() || peer.ip().to_canonical().is_loopback(),
            attempt,
        };
        let proving = async {
            let proving = handshake::authenticate(&mut stream, &startup, &*identities, channel);
            let principal = proving.await?;
            match &startup.login {
                None => Ok(Outcome::Session(principal)),
                Some(agent) => {
                    let asked = Asked::new(&principal, agent, peer, &startup.dataset);
                    step_up::step_up(&mut stream, asked, channel.private, accept)
                        .await
                        .map(Outcome::Token)
                }
            }
        };
        tokio::select! {
            proved = timeout_at(deadline, proving) => match proved {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(Refused::SlowAuthentication),
            },
            () = Stage::Draining.reached(&mut stage) => Err(Refused::ShuttingDown),
        }
    };
    match outcome {
        // What it came for has been said.
        Ok(Outcome::Token(last)) => {
            attempt.proved();
            stream.close_with(&last).await;
        }
        Ok(Outcome::Session(principal)) => {
            attempt.proved();
            let client = Client {
                stream,
                peer,
                tls,
                protocol: startup.protocol,
                parameters: startup.parameters,
                user: startup.user,
                dataset: startup.dataset,
                principal,
                stage,
            };
            accept.serve(client).await;
        }
        Err(why) => {
            attempt.ended(&why);
            let ended = Ended {
                stream: Some(stream),
                tls,
                why,
            };
            refuse(ended, peer, Some(&startup), accept).await;
        }
    }
    drop(slot);
}

/// Records a refusal, then says it.
async fn refuse<A: Accept>(
    ended: Ended,
    peer: SocketAddr,
    startup: Option<&startup::Startup>,
    accept: &A,
) {
    let Ended { stream, tls, why } = ended;
    let user = startup.map(|startup| startup.user.as_str());
    if why.is_silent() {
        tracing::debug!(%peer, "connection ended: {why}");
        return;
    }
    tracing::info!(%peer, user = user.map(one_line), "connection refused: {why}");
    let may_show = tls.as_ref().is_some_and(TlsInfo::may_show);
    let told = why.told(may_show);
    let mut last = Vec::new();
    told.encode(&mut last);
    let refusal = Refusal {
        peer,
        tls: tls.as_ref(),
        user,
        dataset: startup.map(|startup| startup.dataset.as_str()),
        application_name: startup
            .and_then(|startup| startup.parameters.get("application_name"))
            .map(String::as_str),
        told,
        why: &why,
    };
    accept.refused(&refusal).await;
    if let Some(stream) = stream {
        stream.close_with(&last).await;
    }
}
