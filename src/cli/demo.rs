//! `pgveil demo`: a private Postgres with a shop in it, the proxy in front, and
//! a tour of what three callers see.
//!
//! Knows nothing that another client would not know: the tour and whoever
//! follows its connection strings come in over the wire.

mod client;
mod postgres;
mod proxy;
mod screen;
mod tour;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use postgres::{PostgresError, Server};
use proxy::{Proxy, ProxyError};
use screen::Screen;
use tour::TourError;

/// Sets up a Postgres of its own with a shop's customers, puts the proxy in
/// front of it and shows what three callers see. Leaves nothing behind.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Demo {
    /// End after the tour
    #[arg(long, conflicts_with = "json")]
    once: bool,
    /// No tour: print one JSON object when ready, and serve
    #[arg(long)]
    json: bool,
    /// Listen on this port of 127.0.0.1, instead of any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Use the Postgres server in this directory, instead of the newest found
    #[arg(long, value_name = "DIRECTORY")]
    postgres: Option<PathBuf>,
}

/// Who takes part: the identities of `policies/demo`.
const PERSONAS: [Persona; 3] = [
    Persona {
        name: "analyst",
        about: "human: customer behaviour, never identities",
    },
    Persona {
        name: "trainer",
        about: "agent: EU customers, by pseudonym",
    },
    Persona {
        name: "auditor",
        about: "human: compliance, everything in clear",
    },
];

struct Persona {
    name: &'static str,
    about: &'static str,
}

/// Why the demo ends.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Tour(#[from] TourError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Demo {
    /// Runs it until the tour, or whoever watches it, is done.
    pub(super) fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let runtime = super::serve::runtime()?;
        Ok(runtime.block_on(self.show())?)
    }

    async fn show(&self) -> Result<(), DemoError> {
        // Registered before anything is started, so that no signal is missed.
        let mut interrupted = std::pin::pin!(interrupted()?);
        let (server, proxy) = tokio::select! {
            ready = demo(self) => ready?,
            () = &mut interrupted => return Ok(()),
        };
        if !self.once {
            interrupted.await;
        }
        proxy.stop().await;
        drop(server);
        Ok(())
    }
}

/// Ctrl-C or SIGTERM.
fn interrupted() -> Result<impl Future<Output = ()>, std::io::Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Everything up to serving.
async fn demo(args: &Demo) -> Result<(Server, Proxy), DemoError> {
    let began = Instant::now();
    let screen = Screen::new(args.json);
    let installation = postgres::find(args.postgres.as_deref())?;
    screen.progress(&format!("starting Postgres {} …", installation.version));
    let password = proxy::password()?;
    let server = Server::start(&installation, &password).await?;
    screen.progress("loading 100,000 customers, 300,000 orders, 200,000 events …");
    server.load().await?;
    screen.progress("starting the proxy …");
    let proxy = Proxy::start(&server, &password, args.port).await?;
    screen.progress("");

    if args.json {
        writeln!(std::io::stdout(), "{}", proxy.describe(&server, &password))?;
    } else {
        screen.title(&format!(
            "pgveil demo: Postgres {} with 100,000 customers, ready in {:.1} s",
            installation.version,
            began.elapsed().as_secs_f32()
        ));
        tour::run(&screen, &server, &proxy).await?;
    }
    if !args.once && !args.json {
        screen.farewell(&proxy);
    }
    Ok((server, proxy))
}
