//! One secret's source, asked again as the secret changes.
//!
//! A variable does not change. A file is read at each asking, which is at each connection.
//! A program runs before what it gave has ended, in the background, and its answer is kept
//! until then. Invariant: one run at a time, and after a failure none until a pause is over.

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::{Secret, SecretError, exec};
use crate::config::{Exec, SecretRef};

/// More than any secret has.
pub(super) const LONGEST: usize = 64 << 10;

/// How long after a failure a program is not run again: at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is run because what it gave was refused.
const REFUSED: Duration = Duration::from_secs(5);

/// Where a secret comes from. Must be made where a runtime runs that outlives its users.
#[derive(Debug)]
pub struct Source {
    from: From,
    /// The last that upstream took.
    taken: Mutex<Option<Secret>>,
}

#[derive(Debug)]
enum From {
    /// Always the same.
    Fixed(Secret),
    /// Read at each asking.
    Place(SecretRef),
    /// Run from time to time.
    Program(Arc<Program>),
}

impl Source {
    /// The one that a configuration names.
    pub fn of(reference: &SecretRef) -> Self {
        Self::new(match reference {
            SecretRef::Env(_) | SecretRef::File(_) => From::Place(reference.clone()),
            SecretRef::Exec(exec) => From::Program(Arc::new(Program::new(exec.clone()))),
        })
    }

    /// A secret that does not change.
    pub fn fixed(secret: impl Into<Vec<u8>>) -> Self {
        Self::new(From::Fixed(Secret::new(secret)))
    }

    fn new(from: From) -> Self {
        Self {
            from,
            taken: Mutex::default(),
        }
    }

    /// The secret as it is now; of a file that cannot be read, the last that was taken.
    ///
    /// # Errors
    /// As [`SecretError`] says.
    pub async fn get(&self) -> Result<Secret, SecretError> {
        match &self.from {
            From::Fixed(secret) => Ok(secret.clone()),
            From::Place(reference) => {
                let read = read(reference).await;
                match (read, lock(&self.taken).clone()) {
                    (Err(error), Some(taken)) => {
                        tracing::warn!(%error, "the secret before stays in use");
                        Ok(taken)
                    }
                    (read, _) => read,
                }
            }
            From::Program(program) => program.get().await,
        }
    }

    /// Another one, now that this one has been refused: had anew, or else the last that
    /// was taken.
    pub async fn instead(&self, refused: &Secret) -> Option<Secret> {
        let anew = match &self.from {
            From::Fixed(_) => None,
            From::Place(reference) => read(reference).await.ok(),
            From::Program(program) => {
                let refused = refused.clone();
                program.renew(move |held| held.refuses(&refused)).await.ok()
            }
        };
        let taken = lock(&self.taken).clone();
        [anew, taken]
            .into_iter()
            .flatten()
            .find(|secret| secret != refused)
    }

    /// Upstream took that one.
    pub fn took(&self, secret: &Secret) {
        let mut taken = lock(&self.taken);
        if taken.as_ref() != Some(secret) {
            *taken = Some(secret.clone());
        }
    }

    /// Keeps it fresh: ends at once where nothing has to be done for that.
    pub async fn keep(self: Arc<Self>) {
        if let From::Program(program) = &self.from {
            program.keep().await;
        }
    }
}

/// Reads a variable or a file.
async fn read(reference: &SecretRef) -> Result<Secret, SecretError> {
    let bytes = match reference {
        SecretRef::Env(name) => std::env::var_os(name)
            .ok_or_else(|| SecretError::Unset(name.clone()))?
            .into_encoded_bytes()
            .into(),
        SecretRef::File(path) => {
            let own = path.clone();
            let read = tokio::task::spawn_blocking(move || read_file(&own)).await;
            read.map_err(std::io::Error::other)
                .flatten()
                .map_err(|error| SecretError::File {
                    path: path.clone(),
                    why: error.to_string(),
                })?
        }
        SecretRef::Exec(exec) => return exec::run(exec).await.map(|given| given.secret),
    };
    Secret::trimmed(bytes).ok_or_else(|| SecretError::Empty(reference.to_string()))
}

fn read_file(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    // With room for all of it: growing would leave copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > LONGEST {
        true => Err(std::io::Error::other(format!(
            "it has more than {LONGEST} bytes"
        ))),
        false => Ok(bytes),
    }
}

/// A program, and what it gave.
#[derive(Debug)]
struct Program {
    exec: Exec,
    held: Mutex<Held>,
    /// Held while it runs.
    running: tokio::sync::Mutex<()>,
    /// Where it runs: a login that is given up takes no run with it.
    runtime: Option<Handle>,
}

#[derive(Debug, Default)]
struct Held {
    given: Option<Kept>,
    failure: Option<Failure>,
    /// When it was last run because of a refusal.
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    secret: Secret,
    since: Instant,
    until: Instant,
}

#[derive(Debug)]
struct Failure {
    error: SecretError,
    pause: Duration,
    again: Instant,
}

impl Held {
    fn valid(&self) -> Option<Secret> {
        let kept = self.given.as_ref();
        kept.filter(|kept| Instant::now() < kept.until)
            .map(|kept| kept.secret.clone())
    }

    fn is(&self, secret: &Secret) -> bool {
        let kept = self.given.as_ref();
        kept.is_some_and(|kept| kept.secret == *secret)
    }

    /// Whether to ask anew, now that this one has been refused.
    fn refuses(&mut self, secret: &Secret) -> bool {
        let now = Instant::now();
        let wanted = self.is(secret) && self.refused.is_none_or(|at| now >= at + REFUSED);
        if wanted {
            self.refused = Some(now);
        }
        wanted
    }

    /// When it is to be run: in the last quarter of what it gave, and not before a pause
    /// is over.
    fn due(&self) -> Instant {
        let due = self.given.as_ref().map(|kept| {
            let life = kept.until.saturating_duration_since(kept.since);
            kept.since + life / 4 * 3
        });
        let again = self.failure.as_ref().map(|failure| failure.again);
        due.into_iter()
            .chain(again)
            .max()
            .unwrap_or_else(Instant::now)
    }
}

impl Program {
    fn new(exec: Exec) -> Self {
        Self {
            exec,
            held: Mutex::default(),
            running: tokio::sync::Mutex::new(()),
            runtime: Handle::try_current().ok(),
        }
    }

    async fn get(self: &Arc<Self>) -> Result<Secret, SecretError> {
        if let Some(secret) = lock(&self.held).valid() {
            return Ok(secret);
        }
        self.renew(|held| held.valid().is_none()).await
    }

    /// Has it run where that is `wanted` once it is its turn, and gives what is held then.
    async fn renew(
        self: &Arc<Self>,
        wanted: impl FnOnce(&mut Held) -> bool + Send + 'static,
    ) -> Result<Secret, SecretError> {
        let program = self.clone();
        let work = async move {
            let _turn = program.running.lock().await;
            program.run(wanted).await
        };
        let runtime = self.runtime.clone().or_else(|| Handle::try_current().ok());
        let done = match runtime {
            Some(runtime) => runtime.spawn(work).await,
            None => Ok(work.await),
        };
        done.unwrap_or_else(|fault| Err(self.fault(fault.to_string())))
    }

    async fn run(&self, wanted: impl FnOnce(&mut Held) -> bool) -> Result<Secret, SecretError> {
        let now = Instant::now();
        {
            let mut held = lock(&self.held);
            let valid = held.valid();
            if let Some(secret) = &valid
                && !wanted(&mut held)
            {
                return Ok(secret.clone());
            }
            let failure = held.failure.as_ref().filter(|failure| now < failure.again);
            if let Some(failure) = failure {
                return valid.ok_or_else(|| failure.error.clone());
            }
        }
        let ran = exec::run(&self.exec).await;
        let mut held = lock(&self.held);
        match ran {
            Ok(given) => {
                let now = Instant::now();
                tracing::info!(from = %self.exec, lasts = ?given.lasts, "secret renewed");
                held.failure = None;
                held.given = Some(Kept {
                    secret: given.secret.clone(),
                    since: now,
                    until: now + given.lasts,
                });
                Ok(given.secret)
            }
            Err(error) => {
                let before = held.failure.as_ref().map(|failure| failure.pause * 2);
                let pause = before.unwrap_or(PAUSE).min(LONGEST_PAUSE);
                tracing::error!(%error, again = ?pause, "secret not renewed");
                held.failure = Some(Failure {
                    error: error.clone(),
                    pause,
                    again: Instant::now() + pause,
                });
                held.valid().ok_or(error)
            }
        }
    }

    async fn keep(self: &Arc<Self>) {
        loop {
            let due = lock(&self.held).due();
            tokio::time::sleep_until(due.into()).await;
            let since = Instant::now();
            // What went wrong has been logged.
            let _ = self.renew(move |held| held.due() <= since).await;
            // Nothing is worth a loop that does not rest.
            tokio::time::sleep(PAUSE / 4).await;
        }
    }

    fn fault(&self, why: String) -> SecretError {
        SecretError::Exec {
            from: self.exec.to_string(),
            why,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
