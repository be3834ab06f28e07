//! One secret's source, asked again as the secret changes.
//!
//! A variable does not change. A file is read at each asking, which is at each connection.
//! A program runs, or a vault is asked, before what it gave has ended, in the background, and
//! its answer is kept until then. Invariant: one asking at a time, and after a failure none
//! until a pause is over.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use zeroize::Zeroizing;

#[cfg(any(feature = "vault", test))]
use super::vault::Vault;
use super::{Given, Secret, SecretError, exec};
use crate::config::{Exec, SecretRef};

/// More than any secret has.
pub(super) const LONGEST: usize = 64 << 10;

/// How long after a failure a program is not run again: at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is run because what it gave was refused: at first, and at least.
const REFUSED: Duration = Duration::from_secs(5);
const LONGEST_REFUSED: Duration = Duration::from_secs(600);
/// As many secrets that were refused as are remembered.
const REMEMBERED: usize = 4;

/// Where a secret comes from. Must be made where a runtime runs that outlives its users.
#[derive(Debug)]
pub struct Source {
    place: Place,
    tried: Mutex<Tried>,
}

/// What upstream said to secrets.
#[derive(Debug, Default)]
struct Tried {
    /// The last that it took.
    taken: Option<Secret>,
    /// Those that it refused since, the last one last.
    refused: Vec<Refused>,
}

#[derive(Debug)]
struct Refused {
    secret: Secret,
    pause: Duration,
    again: Instant,
}

impl Tried {
    fn refusal(&mut self, secret: &Secret) -> Option<&mut Refused> {
        self.refused.iter_mut().find(|one| one.secret == *secret)
    }

    /// Another than that one, if upstream took it.
    fn other(&self, than: &Secret) -> Option<Secret> {
        self.taken.clone().filter(|taken| taken != than)
    }
}

#[derive(Debug)]
enum Place {
    /// Always the same.
    Fixed(Secret),
    Variable(String),
    /// Read at each asking.
    File(PathBuf),
    /// Asked from time to time.
    Giver(Arc<Giver>),
}

impl Source {
    /// The one that a configuration names.
    pub fn of(reference: &SecretRef) -> Self {
        Self::new(match reference {
            SecretRef::Env(name) => Place::Variable(name.clone()),
            SecretRef::File(path) => Place::File(path.clone()),
            SecretRef::Exec(exec) => Place::Giver(Giver::new(Maker::Exec(exec.clone()))),
            #[cfg(any(feature = "vault", test))]
            SecretRef::Vault(vault) => Place::Giver(Giver::new(Maker::Vault(Vault::new(vault)))),
        })
    }

    /// A secret that does not change.
    pub fn fixed(secret: impl Into<Vec<u8>>) -> Self {
        Self::new(Place::Fixed(Secret::new(secret)))
    }

    fn new(place: Place) -> Self {
        Self {
            place,
            tried: Mutex::default(),
        }
    }

    /// The secret as it is now; the last that was taken where a file cannot be read, or
    /// where what is there now has been refused a moment ago.
    ///
    /// # Errors
    /// As [`SecretError`] says.
    pub async fn get(&self) -> Result<Secret, SecretError> {
        let now = self.now().await?;
        let mut tried = lock(&self.tried);
        let rests = tried
            .refusal(&now)
            .is_some_and(|one| Instant::now() < one.again);
        Ok(tried.other(&now).filter(|_| rests).unwrap_or(now))
    }

    async fn now(&self) -> Result<Secret, SecretError> {
        match &self.place {
            Place::Fixed(secret) => Ok(secret.clone()),
            Place::Variable(name) => variable(name),
            Place::File(path) => {
                let read = file(path).await;
                match (read, lock(&self.tried).taken.clone()) {
                    (Err(error), Some(taken)) => {
                        tracing::warn!(%error, "the secret before stays in use");
                        Ok(taken)
                    }
                    (read, _) => read,
                }
            }
            Place::Giver(giver) => giver.get().await,
        }
    }

    /// Another one, now that this one has been refused: had anew, or else the last that
    /// was taken.
    pub async fn instead(&self, refused: &Secret) -> Option<Secret> {
        let anew = match &self.place {
            Place::Fixed(_) | Place::Variable(_) => None,
            Place::File(path) => file(path).await.ok(),
            Place::Giver(giver) => giver.renew(Wanted::Instead(refused.clone())).await.ok(),
        };
        let taken = lock(&self.tried).taken.clone();
        [anew, taken]
            .into_iter()
            .flatten()
            .find(|secret| secret != refused)
    }

    /// Whether that one may be shown upstream: one that was refused may not until a pause is
    /// over, longer each time, and then once before it is over again. Whoever guards accounts
    /// there is not to lock the proxy's because its callers are many.
    ///
    /// # Errors
    /// For how long not.
    pub fn may_try(&self, secret: &Secret) -> Result<(), Duration> {
        let mut tried = lock(&self.tried);
        let Some(refused) = tried.refusal(secret) else {
            return Ok(());
        };
        let now = Instant::now();
        if now < refused.again {
            return Err(refused.again - now);
        }
        refused.pause = (refused.pause * 2).min(LONGEST_PAUSE);
        refused.again = now + refused.pause;
        Ok(())
    }

    /// Upstream took that one.
    pub fn took(&self, secret: &Secret) {
        let mut tried = lock(&self.tried);
        tried.refused.retain(|one| one.secret != *secret);
        if tried.taken.as_ref() != Some(secret) {
            tried.taken = Some(secret.clone());
        }
    }

    /// Upstream refused that one.
    pub fn refused(&self, secret: &Secret) {
        let mut tried = lock(&self.tried);
        if tried.refusal(secret).is_some() {
            return;
        }
        if tried.taken.as_ref() == Some(secret) {
            // It is another now that is right: those before may be.
            tried.refused.clear();
        }
        if tried.refused.len() >= REMEMBERED {
            tried.refused.remove(0);
        }
        tried.refused.push(Refused {
            secret: secret.clone(),
            pause: PAUSE,
            again: Instant::now() + PAUSE,
        });
    }

    /// Keeps it fresh: ends at once where nothing has to be done for that.
    pub async fn keep(self: Arc<Self>) {
        if let Place::Giver(giver) = &self.place {
            giver.keep().await;
        }
    }
}

/// What is in a variable or a file.
#[cfg(any(feature = "vault", test))]
pub(super) async fn placed(reference: &SecretRef) -> Result<Secret, SecretError> {
    match reference {
        SecretRef::Env(name) => variable(name),
        SecretRef::File(path) => file(path).await,
        SecretRef::Exec(_) | SecretRef::Vault(_) => Err(SecretError::Refused {
            from: reference.to_string(),
            why: "it is neither in a variable nor in a file".into(),
        }),
    }
}

fn variable(name: &str) -> Result<Secret, SecretError> {
    let value = std::env::var_os(name).ok_or_else(|| SecretError::Unset(name.to_owned()))?;
    let trimmed = Secret::trimmed(value.into_encoded_bytes().into());
    trimmed.ok_or_else(|| SecretError::Empty(SecretRef::Env(name.to_owned()).to_string()))
}

async fn file(path: &Path) -> Result<Secret, SecretError> {
    let own = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_file(&own)).await;
    let bytes = read.map_err(std::io::Error::other).flatten();
    let bytes = bytes.map_err(|error| SecretError::File {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    Secret::trimmed(bytes).ok_or_else(|| SecretError::Empty(path.display().to_string()))
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

/// Who gives secrets that end, and the one that was given.
#[derive(Debug)]
struct Giver {
    maker: Maker,
    held: Mutex<Held>,
    /// Held while it is asked.
    asking: tokio::sync::Mutex<()>,
    /// Where it is asked: a login that is given up takes no asking with it.
    runtime: Option<Handle>,
}

#[derive(Debug)]
enum Maker {
    Exec(Exec),
    #[cfg(any(feature = "vault", test))]
    Vault(Arc<Vault>),
}

impl Maker {
    /// Asks; `anew` for another than the last.
    #[cfg_attr(
        not(any(feature = "vault", test)),
        expect(unused_variables, reason = "a program knows no other than its last")
    )]
    async fn make(&self, anew: bool) -> Result<Given, SecretError> {
        match self {
            Self::Exec(exec) => exec::run(exec).await,
            #[cfg(any(feature = "vault", test))]
            Self::Vault(vault) => vault.ask(anew).await,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Exec(exec) => exec.to_string(),
            #[cfg(any(feature = "vault", test))]
            Self::Vault(vault) => vault.name(),
        }
    }
}

/// Why it is asked.
enum Wanted {
    /// There is none that is good.
    One,
    /// It was due then.
    Fresh(Instant),
    /// This one has been refused.
    Instead(Secret),
}

#[derive(Debug, Default)]
struct Held {
    given: Option<Kept>,
    failure: Option<Failure>,
    /// When it was last asked because of a refusal, and for how long it is not again.
    refused: Option<(Instant, Duration)>,
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

    /// Whether it is still to be asked, now that it is our turn.
    fn wants(&mut self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::One => self.valid().is_none(),
            Wanted::Fresh(then) => self.due() <= *then,
            Wanted::Instead(refused) => {
                let now = Instant::now();
                let kept = self.given.as_ref();
                let same = kept.is_some_and(|kept| kept.secret == *refused);
                let wants = same && self.refused.is_none_or(|(at, pause)| now >= at + pause);
                if wants {
                    // What it makes each time may stay in the database for hours.
                    let soon = self.refused.filter(|(at, pause)| now < *at + *pause * 4);
                    let pause = soon.map_or(REFUSED, |(_, pause)| pause * 2);
                    self.refused = Some((now, pause.min(LONGEST_REFUSED)));
                }
                wants
            }
        }
    }

    /// When it is to be asked: in the last quarter of what it gave, and not before a pause
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

impl Giver {
    fn new(maker: Maker) -> Arc<Self> {
        Arc::new(Self {
            maker,
            held: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
            runtime: Handle::try_current().ok(),
        })
    }

    async fn get(self: &Arc<Self>) -> Result<Secret, SecretError> {
        if let Some(secret) = lock(&self.held).valid() {
            return Ok(secret);
        }
        self.renew(Wanted::One).await
    }

    /// Asks where that is still wanted once it is its turn, and gives what is held then.
    async fn renew(self: &Arc<Self>, wanted: Wanted) -> Result<Secret, SecretError> {
        let giver = self.clone();
        let work = async move {
            let _turn = giver.asking.lock().await;
            giver.ask(&wanted).await
        };
        let runtime = self.runtime.clone().or_else(|| Handle::try_current().ok());
        let done = match runtime {
            Some(runtime) => runtime.spawn(work).await,
            None => Ok(work.await),
        };
        done.unwrap_or_else(|fault| {
            Err(SecretError::Refused {
                from: self.maker.name(),
                why: fault.to_string(),
            })
        })
    }

    async fn ask(&self, wanted: &Wanted) -> Result<Secret, SecretError> {
        {
            let mut held = lock(&self.held);
            let valid = held.valid();
            let wants = held.wants(wanted);
            if let Some(secret) = valid.clone().filter(|_| !wants) {
                return Ok(secret);
            }
            let now = Instant::now();
            let failure = held.failure.as_ref().filter(|failure| now < failure.again);
            if let Some(failure) = failure {
                return valid.ok_or_else(|| failure.error.clone());
            }
        }
        let made = self.maker.make(matches!(wanted, Wanted::Instead(_))).await;
        let mut held = lock(&self.held);
        match made {
            Ok(given) => {
                let now = Instant::now();
                tracing::info!(from = self.maker.name(), lasts = ?given.lasts, "secret renewed");
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
            // What went wrong has been logged.
            let _ = self.renew(Wanted::Fresh(Instant::now())).await;
            // Nothing is worth a loop that does not rest.
            tokio::time::sleep(PAUSE / 4).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vault makes another user each time, who stays for hours.
    #[test]
    fn what_is_refused_again_and_again_is_replaced_less_and_less_often() {
        let secret = Secret::new("x");
        let mut held = Held::default();
        for expected in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
            let now = Instant::now();
            held.given = Some(Kept {
                secret: secret.clone(),
                since: now,
                until: now + PAUSE,
            });
            assert!(held.wants(&Wanted::Instead(secret.clone())), "{expected}");
            assert!(!held.wants(&Wanted::Instead(secret.clone())), "{expected}");
            let (at, pause) = held.refused.unwrap();
            assert_eq!(pause, Duration::from_secs(expected));
            // As if that had passed.
            held.refused = at.checked_sub(pause).map(|at| (at, pause));
        }
        // After a time without, it is as at first.
        held.refused = held
            .refused
            .and_then(|(at, pause)| Some((at.checked_sub(pause * 4)?, pause)));
        assert!(held.wants(&Wanted::Instead(secret)));
        assert_eq!(held.refused.unwrap().1, REFUSED);
    }
}
