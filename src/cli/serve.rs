//! `pgveil serve`: the real thing, until a signal ends it.
//!
//! SIGTERM and SIGINT drain: no new sessions, those that are idle end, the
//! others finish what they do within the configured time, or until the signal comes
//! a second time. Policy files are read again when they change, and at SIGHUP; a
//! policy that does not load leaves the old one in force. SIGHUP has the databases'
//! catalogs read again too.

mod failures;
mod files;
mod ground;
mod keeping;
mod keys;
mod proxy;
mod reload;
mod step_up;

use std::error::Error;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config, LogFormat};

use crate::session::STACK;
pub(crate) use proxy::{Running, start};
pub(super) use step_up::sealer;

/// Serve the datasets of a configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The configuration file
    #[arg(long, short, default_value = "pgveil.yaml")]
    config: PathBuf,
    /// Only check configuration, policy and secrets, and say what is wrong
    #[arg(long)]
    check: bool,
}

impl Serve {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let config = Config::load(&self.config)?;
        if self.check {
            return Ok(runtime()?.block_on(proxy::check(&config))?);
        }
        log(&config.log);
        runtime()?.block_on(serve(config))
    }
}

/// A runtime whose threads can plan.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build()
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let running = start(config).await?;
    for address in running.addresses() {
        tracing::info!(%address, "listening");
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => running.reload().await,
        }
    }
    tracing::info!("draining");
    let hurry = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending what is left");
    };
    running.shutdown(hurry).await;
    Ok(())
}

/// Logs to standard error. `PGVEIL_LOG` filters by module, as `RUST_LOG` would.
pub(crate) fn log(log: &config::Log) {
    let filter = EnvFilter::builder()
        .with_default_directive(log.level.into())
        .with_env_var("PGVEIL_LOG")
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for terminals: <https://no-color.org>.
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false);
    match log.format {
        LogFormat::Pretty => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

impl From<config::LogLevel> for tracing_subscriber::filter::Directive {
    fn from(level: config::LogLevel) -> Self {
        let level = match level {
            config::LogLevel::Error => tracing::Level::ERROR,
            config::LogLevel::Warn => tracing::Level::WARN,
            config::LogLevel::Info => tracing::Level::INFO,
            config::LogLevel::Debug => tracing::Level::DEBUG,
            config::LogLevel::Trace => tracing::Level::TRACE,
        };
        level.into()
    }
}
