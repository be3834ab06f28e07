//! A session's begin and end: rights, an upstream session hardened for them,
//! then both directions until one ends.
//!
//! Invariant: what hardens the upstream session, and the masking keys, go into
//! its startup packet, so that RESET ALL and DISCARD ALL go back to them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::answers::Answers;
use super::authority::{Sight, Standing};
use super::cancel::{Canceller, Key};
use super::incoming::Incoming;
use super::pipeline::Pipeline;
use super::requests::{Requests, no_grant, shutting_down};
use super::revoked::revoked;
use super::settings::{Asked, Path, default_path, list, names};
use super::{Caller, Dataset, End, Session, Settings, Shared, Tag};
use crate::audit::record::{Refusal, What, clipped};
use crate::audit::{Event, Fields, Id, Who};
use crate::error::{Severity, SqlState, Tell, Told};
use crate::sql::{Effect, Scope};
use crate::stage::Stage;
use crate::upstream::connect::{Upstream, connect};
use crate::upstream::frame::frontend::{Execute, put_execute};
use crate::wire;

/// How long upstream may take to say why it goes, once writing to it fails.
const LAST: Duration = Duration::from_secs(5);

/// How long both sides together may take to be told of a session's end; less than
/// the listener leaves for it when the proxy ends.
const PARTING: Duration = Duration::from_secs(1);

/// Serves a client from its authentication to its end.
pub(super) async fn run<S>(shared: &Arc<Shared>, caller: Caller, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let began = Instant::now();
    let who = Arc::new(Who {
        principal: (&caller.principal).into(),
        session: Id::next(),
        client: caller.peer,
        tls: caller.tls.clone(),
        application: caller
            .parameters
            .get("application_name")
            .map(|name| clipped(name).into()),
        dataset: clipped(&caller.dataset).into(),
        environment: shared
            .datasets
            .get(caller.dataset.as_str())
            .and_then(|dataset| dataset.environment.clone()),
        fields: Fields::default(),
    });
    let mut stage = caller.stage.clone();
    let opened = tokio::select! {
        opened = open(shared, &caller, &who) => opened,
        () = Stage::Ending.reached(&mut stage) => Err(shutting_down()),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(told) => return refuse(shared, who, told, &mut stream).await,
    };
    tracing::info!(
        session = %who.session, principal = %caller.principal.name, client = %who.client,
        dataset = %who.dataset, "session begins"
    );
    let end = opened.serve(&caller, stream).await;
    tracing::info!(session = %who.session, %end, "session ends");
    let what = What::Disconnect {
        reason: end.to_string(),
        duration: began.elapsed(),
    };
    // There is nobody left to be refused anything.
    let _ = shared.log.append(&Event::now(Some(who), what)).await;
}

async fn refuse<S>(shared: &Shared, who: Arc<Who>, told: Told, stream: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let told = Told {
        severity: Severity::Fatal,
        ..told
    };
    tracing::info!(session = %who.session, sqlstate = told.state.0, "session refused");
    let refusal = Refusal {
        decision: "deny",
        sqlstate: told.state.0,
        reason: "session",
        // A setting's value stands in it.
        message: (told.state != SqlState::INVALID_PARAMETER_VALUE)
            .then(|| told.message.to_string()),
        ..Refusal::default()
    };
    let event = Event::now(Some(who), What::Denial(Box::new(refusal)));
    // It is refused in any case.
    let _ = shared.log.append(&event).await;
    let mut bytes = Vec::new();
    told.encode(&mut bytes);
    // The client may be gone by now.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
    linger(&mut Incoming::new(stream)).await;
}

/// How long, and how much, a client may still send that has been told of the
/// session's end: closing a socket that holds unread bytes resets it, and what the
/// client has not yet received would be lost.
const LINGER: Duration = Duration::from_millis(300);
const LINGER_BYTES: usize = 64 << 10;

async fn linger<R: AsyncRead + Unpin>(from: &mut Incoming<R>) {
    // Whether the client hears it is the client's matter.
    let _ = tokio::time::timeout(LINGER, from.drain(LINGER_BYTES)).await;
}

/// A session that has what it needs.
struct Opened {
    session: Session,
    sight: Arc<Sight>,
    upstream: Upstream,
    /// Registered for as long as this lives.
    key: Key,
}

async fn open(shared: &Arc<Shared>, caller: &Caller, who: &Arc<Who>) -> Result<Opened, Told> {
    let home = shared
        .datasets
        .get(caller.dataset.as_str())
        .ok_or_else(|| unknown_dataset(&caller.dataset))?
        .clone();
    let epoch = shared.authority.epoch();
    let now = jiff::Timestamp::now();
    let standing = shared
        .authority
        .standing(&caller.principal, &home.name, now)?;
    if standing.nothing {
        return Err(no_grant(&home.name, &standing));
    }
    let asked = Asked::read(&caller.parameters, |name, value| {
        shared.authority.settable(&standing, name, value)
    })?;
    let rank = home.rank(&standing.rights);
    let dataset = home.at(rank).clone();
    let catalog = dataset.known(&shared.log).await?;
    let sight = Arc::new(Sight::new(
        standing,
        catalog,
        dataset.view.clone(),
        who.clone(),
        epoch,
    ));
    let path = search_path(shared, &sight, &asked)?;
    let tag = Tag::new(&caller.principal, who.session);
    // Before upstream hears of it: without a record, no session.
    let upstream_user = dataset.target.login().await;
    let what = What::Connect {
        method: caller.principal.method,
        policy: sight.standing.policy.clone(),
        upstream_user: upstream_user.clone(),
    };
    let event = Event::now(Some(who.clone()), what);
    shared
        .log
        .append(&event)
        .await
        .map_err(|error| error.tell())?;
    let parameters = parameters(&dataset, &sight.standing, &asked, &path, &tag);
    let upstream = connect(&dataset.target, &parameters)
        .await
        .map_err(|error| {
            tracing::error!(%error, "no upstream session");
            error.tell()
        })?;
    if upstream.user != upstream_user {
        // A vault has made another meanwhile.
        tracing::warn!(
            session = %who.session, %upstream_user, user = %upstream.user,
            "the session's user upstream is another than its record says"
        );
    }
    let canceller = Canceller::new(dataset.target.clone(), upstream.key.clone());
    let key = shared
        .cancels
        .register(canceller.clone(), caller.minor)
        .ok_or_else(no_randomness)?;
    let session = Session {
        shared: shared.clone(),
        dataset,
        home,
        rank,
        tag,
        ghost: ghost().ok_or_else(no_randomness)?,
        pipeline: Mutex::new(Pipeline::new(path, who.application.clone())),
        held: Arc::default(),
        ours: Notify::new(),
        failing: Notify::new(),
        progress: Arc::default(),
        canceller,
        cancelling: Arc::default(),
    };
    Ok(Opened {
        session,
        sight,
        upstream,
        key,
    })
}

impl Opened {
    async fn serve<S>(self, caller: &Caller, mut stream: S) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let session = &self.session;
        if let Err(error) = stream.write_all(&self.greeting()).await {
            return End::client(error);
        }
        if let Err(error) = stream.flush().await {
            return End::client(error);
        }
        let (from_client, to_client) = tokio::io::split(stream);
        let (from_upstream, to_upstream) = tokio::io::split(self.upstream.stream);
        let mut to_client = Answers::new(to_client);
        let mut requests = Requests {
            session,
            from: Incoming::new(from_client),
            to: to_upstream,
            out: Vec::new(),
            sight: self.sight,
            stage: caller.stage.clone(),
            waited: None,
            intents: Vec::new(),
            amid: false,
            streaming: false,
        };
        let mut stage = caller.stage.clone();
        let (end, unsaid) = {
            let mut answers = std::pin::pin!(session.answers(from_upstream, &mut to_client));
            let both = async {
                tokio::select! {
                    end = &mut answers => (end, false),
                    end = requests.run() => match end {
                        // Upstream finishes what it was sent, and closes.
                        End::Terminated => {
                            answers.await;
                            (End::Terminated, false)
                        }
                        // It may have said why before it went.
                        End::Upstream(error) => {
                            match tokio::time::timeout(LAST, &mut answers).await {
                                Ok(end) => (end, false),
                                Err(_) => (End::Upstream(error), false),
                            }
                        }
                        end => (end, true),
                    },
                }
            };
            // As long as upstream answers, whoever has said that it leaves included.
            tokio::select! {
                ended = both => ended,
                told = revoked(session, &caller.principal) => (End::Told(told), true),
                () = Stage::Ending.reached(&mut stage) => (End::Told(shutting_down()), true),
            }
        };
        let words = async {
            if unsaid {
                session.last_words(&end, &mut to_client).await;
            }
        };
        let cancel = async {
            if !session.pipeline().is_empty() {
                session.canceller.cancel().await;
            }
        };
        // A client that does not read, or an upstream that is gone, keeps neither
        // the other from hearing nor the record from being written.
        let _ = tokio::time::timeout(PARTING, async { tokio::join!(words, cancel) }).await;
        session.leftovers(&end, &mut to_client).await;
        to_client.close().await;
        if let End::Told(_) | End::Upstream(_) = end {
            linger(&mut requests.from).await;
        }
        drop(self.key);
        end
    }

    /// What a client waits for after AuthenticationOk.
    ///
    /// Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>
    fn greeting(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.upstream.parameters {
            let status = wire::ParameterStatus::new(name.clone(), value.clone());
            wire::put(&mut out, &status);
        }
        let secret = wire::SecretKey::Bytes(self.key.secret.clone().into());
        wire::put(&mut out, &wire::BackendKeyData::new(self.key.pid, secret));
        let ready = wire::ReadyForQuery::new(wire::TransactionStatus::Idle);
        wire::put(&mut out, &ready);
        out
    }
}

/// What a session looks names up in at first: what the client asks for, decided
/// as SET would be.
fn search_path(shared: &Shared, sight: &Sight, asked: &Asked) -> Result<Path, Told> {
    let Some(text) = &asked.search_path else {
        return Ok(default_path());
    };
    let wrong = || {
        Told::fatal(
            SqlState::INVALID_PARAMETER_VALUE,
            "the startup parameter `search_path` is not a list of names",
        )
        .hint("write it as SET search_path takes it: a, \"B\"")
    };
    let asked = names(text).ok_or_else(wrong)?;
    let list = match asked.as_slice() {
        [] => "''".to_owned(),
        names => list(names),
    };
    let set = format!("SET search_path TO {list}").into();
    let decided = shared
        .authority
        .decide(&set, &[], sight, &Scope::default())
        .map_err(|denial| denial.tell())?;
    match decided.iter().map(|decided| &decided.plan.effect).next() {
        Some(Effect::SearchPath {
            path: Some(path), ..
        }) => Ok(path.as_slice().into()),
        _ => Err(wrong()),
    }
}

/// What goes into the startup packet: ours first, then what was asked for and
/// is harmless.
fn parameters(
    dataset: &Dataset,
    standing: &Standing,
    asked: &Asked,
    path: &[Arc<str>],
    tag: &Tag,
) -> Settings {
    let application = tag.application_name(asked.application.as_deref());
    let mut all = Settings::default();
    all.extend(
        [
            ("application_name", application.as_str()),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("search_path", &list(path)),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    // An ALTER ROLE … SET could have more of what is sent upstream shown.
    if asked.setting("client_min_messages").is_none() {
        all.push(("client_min_messages".into(), "notice".into()));
    }
    if !standing.writes {
        all.push(("default_transaction_read_only".into(), "on".into()));
    }
    if let (Some(limit), None) = (
        standing.limits.statement_timeout_ms,
        asked.setting("statement_timeout"),
    ) {
        all.push(("statement_timeout".into(), limit.to_string()));
    }
    all.extend_from_slice(&dataset.settings);
    for (name, value) in &asked.settings {
        if !all.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)) {
            all.push((name.clone(), value.clone()));
        }
    }
    all
}

/// Execute of a portal whose name no client can come to use.
fn ghost() -> Option<Vec<u8>> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    let name = format!("pgveil refused {:032x}", u128::from_be_bytes(random));
    let mut message = Vec::new();
    let execute = Execute {
        portal: &name,
        max_rows: 0,
    };
    put_execute(&mut message, execute).ok()?;
    Some(message)
}

fn unknown_dataset(name: &str) -> Told {
    let name: String = name.chars().take(63).collect();
    Told::fatal(
        SqlState::INVALID_CATALOG_NAME,
        format!("no dataset is called `{}`", name.escape_debug()),
    )
    .hint("name a dataset of this proxy as the database (dbname)")
}

fn no_randomness() -> Told {
    Told::fatal(
        SqlState::INTERNAL_ERROR,
        "the system gives no random numbers",
    )
}
