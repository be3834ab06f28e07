//! Second factors, checked: which codes have been used, and who has guessed too often.
//!
//! Knows nothing about how a password is proved before, nor about what a login gives.
//! Invariants: a code is taken once (RFC 6238, section 5.2), also by a proxy that starts
//! anew, for it is on disk before it counts; whoever guesses waits longer and longer (RFC
//! 4226, section 7.3).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::token::TokenError;
use super::totp::{Sealed, Sealer, Totp, TotpError};
use crate::error::{SqlState, Tell, Told};

/// So many wrong codes in a row are mistakes.
const FREE: u32 = 5;
/// How long whoever makes one more waits, which doubles …
const WAIT: SignedDuration = SignedDuration::from_secs(30);
/// … as often as this.
const DOUBLED: u32 = 5;

/// Codes that have been used, and those that were wrong.
pub struct Logins {
    sealer: Sealer,
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By name, the step of the last code.
    used: BTreeMap<String, i64>,
    /// By name, how many have been wrong since, and until when none is looked at.
    failed: BTreeMap<String, (u32, Timestamp)>,
}

/// Why somebody gets no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Not configured.
    #[error("this proxy has no `login`, so it takes no second factor")]
    None,
    /// Who proved themselves by something else than a password.
    #[error("a second factor is given beside a password")]
    Method,
    /// Nothing to check it by.
    #[error("no second factor is enrolled")]
    NotEnrolled,
    /// A token would pass in clear text.
    #[error("tokens are given over encrypted connections, or on this machine")]
    Open,
    /// A message's form.
    #[error("malformed code")]
    Malformed,
    /// The secret does not open.
    #[error("the secret of the second factor cannot be used: {0}")]
    Secret(#[from] TotpError),
    /// Not the code of now.
    #[error("the code is wrong")]
    Wrong,
    /// It was, once.
    #[error("the code has been used")]
    Used,
    /// Too many were.
    #[error("codes are not looked at before {0}, after {1} wrong ones")]
    Locked(Timestamp, u32),
    /// The file of used codes.
    #[error("the used codes cannot be written to {}: {why}", path.display())]
    Unwritten {
        /// Which file
        path: PathBuf,
        /// Why
        why: io::Error,
    },
    /// Whom it was to be for.
    #[error("such a token would not be taken: {0}")]
    Token(#[from] TokenError),
    /// Whatever else keeps it from being given; for the log.
    #[error("no token can be given: {0}")]
    Unissued(String),
}

impl Tell for LoginError {
    fn tell(&self) -> Told {
        let fatal = |state, message: &'static str| Told::fatal(state, message);
        let refused = SqlState::INVALID_AUTHORIZATION;
        match self {
            Self::None => fatal(refused, "this proxy takes no second factor")
                .hint("ask its operator to set `login`"),
            Self::Method => fatal(refused, "a second factor is given beside a password"),
            // Their password has been proved.
            Self::NotEnrolled => fatal(refused, "no second factor is enrolled for you")
                .hint("ask whoever keeps identities.yaml for `pgveil identity enroll-totp`"),
            Self::Open => fatal(refused, "tokens are given over encrypted connections alone"),
            Self::Malformed => fatal(SqlState::PROTOCOL_VIOLATION, "malformed code"),
            // One answer, whether it was guessed, replayed, or not looked at.
            Self::Wrong | Self::Used | Self::Locked(..) => {
                fatal(SqlState::INVALID_PASSWORD, "the code is not taken").hint(
                    "wait for the next one: each is taken once, and after several wrong ones \
                     none is for a while",
                )
            }
            Self::Token(_) => fatal(refused, "no token is given for that")
                .hint("the identity must be one that may act on your behalf"),
            Self::Secret(_) | Self::Unwritten { .. } | Self::Unissued(_) => {
                fatal(SqlState::INTERNAL_ERROR, "no token can be given now")
                    .hint("ask the operator of the proxy, whose log says why")
            }
        }
    }
}

impl Logins {
    /// With the codes that are known to have been used.
    ///
    /// # Errors
    /// Where the file is there and cannot be read: a code could be taken twice.
    pub fn open(sealer: Sealer, file: &Path) -> io::Result<Self> {
        let used = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            sealer,
            file: file.to_owned(),
            state: Mutex::new(State {
                used,
                failed: BTreeMap::new(),
            }),
        })
    }

    /// Whether somebody's code would be taken at a moment: what else is wrong is for whoever
    /// has it to hear. A wrong one counts as one.
    ///
    /// # Errors
    /// As [`LoginError`] says.
    pub fn check(
        &self,
        name: &str,
        sealed: &Sealed,
        code: &str,
        now: Timestamp,
    ) -> Result<(), LoginError> {
        let totp = self.sealer.open(name, sealed)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.step(name, &totp, code, now).map(|_| ())
    }

    /// Takes somebody's code at a moment, once.
    ///
    /// # Errors
    /// As [`LoginError`] says.
    pub fn take(
        &self,
        name: &str,
        sealed: &Sealed,
        code: &str,
        now: Timestamp,
    ) -> Result<(), LoginError> {
        let totp = self.sealer.open(name, sealed)?;
        // Of one name, one code at a time: two that come together are not both taken.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let step = state.step(name, &totp, code, now)?;
        // Old ones too are kept: a clock may be set back, and there is one for each name.
        let mut used = state.used.clone();
        used.insert(name.to_owned(), step);
        write(&self.file, &used).map_err(|why| LoginError::Unwritten {
            path: self.file.clone(),
            why,
        })?;
        state.used = used;
        state.failed.remove(name);
        Ok(())
    }
}

impl State {
    /// The step of a code that may be taken.
    fn step(
        &mut self,
        name: &str,
        totp: &Totp,
        code: &str,
        now: Timestamp,
    ) -> Result<i64, LoginError> {
        if let Some((count, until)) = self.failed.get(name)
            && now < *until
        {
            return Err(LoginError::Locked(*until, *count));
        }
        let last = self.used.get(name).copied();
        match totp.step(code, now) {
            Some(step) if last.is_none_or(|last| step > last) => Ok(step),
            found => {
                self.fail(name, now);
                Err(match found {
                    Some(_) => LoginError::Used,
                    None => LoginError::Wrong,
                })
            }
        }
    }

    fn fail(&mut self, name: &str, now: Timestamp) {
        let (count, until) = self
            .failed
            .entry(name.to_owned())
            .or_insert((0, Timestamp::UNIX_EPOCH));
        *count = count.saturating_add(1);
        if let Some(over) = count.checked_sub(FREE) {
            let wait = WAIT * 2_i32.pow(over.min(DOUBLED));
            *until = now.checked_add(wait).unwrap_or(now);
        }
    }
}

/// Whole at every moment, and there after a power cut.
fn write(file: &Path, used: &BTreeMap<String, i64>) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut new, used)?;
    new.write_all(b"\n")?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    std::fs::File::open(folder)?.sync_all()
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logins({})", self.file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-06-01T12:00:10Z";

    fn after(seconds: i64) -> Timestamp {
        NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
    }

    struct World {
        directory: tempfile::TempDir,
        totp: Totp,
        sealed: Sealed,
    }

    impl World {
        fn new() -> Self {
            let totp = Totp::generate().unwrap();
            let sealed = Sealer::new(b"a key").unwrap().seal("jo", &totp).unwrap();
            let directory = tempfile::tempdir().unwrap();
            Self {
                directory,
                totp,
                sealed,
            }
        }

        fn open(&self) -> Logins {
            let sealer = Sealer::new(b"a key").unwrap();
            Logins::open(sealer, &self.directory.path().join("used")).unwrap()
        }

        /// What becomes of the code of a moment at another.
        fn take(&self, logins: &Logins, of: i64, at: i64) -> Result<(), LoginError> {
            logins.take("jo", &self.sealed, &self.totp.at(after(of)), after(at))
        }
    }

    #[test]
    fn a_code_is_taken_once_also_after_a_start_and_none_before_it() {
        let world = World::new();
        let logins = world.open();
        // That it was looked at takes nothing of it.
        let check = || logins.check("jo", &world.sealed, &world.totp.at(after(0)), after(0));
        check().unwrap();
        world.take(&logins, 0, 0).unwrap();
        assert!(matches!(check(), Err(LoginError::Used)));
        let used = |result| matches!(result, Err(LoginError::Used));
        assert!(used(world.take(&logins, 0, 0)));
        assert!(used(world.take(&logins, 0, 25)));
        let again = world.open();
        assert!(used(world.take(&again, 0, 1)));
        // One that was shown before it is not taken either.
        assert!(used(world.take(&again, -30, 1)));
        world.take(&again, 30, 40).unwrap();
        assert!(used(world.take(&again, 30, 41)));
        // Nor when the clock goes back.
        assert!(used(world.take(&again, 0, 5)));
    }

    #[test]
    fn whoever_guesses_waits_longer_and_longer() {
        let world = World::new();
        let logins = world.open();
        let guess = |code: &str, at: i64| logins.take("jo", &world.sealed, code, after(at));
        for code in ["", "12345", "1234567", "abcdef", "12345\u{0}"] {
            assert!(matches!(guess(code, 0), Err(LoginError::Wrong)), "{code}");
        }
        // Not even the right one.
        let locked = |result: Result<(), LoginError>| match result {
            Err(LoginError::Locked(until, _)) => until.duration_since(after(0)).as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(locked(world.take(&logins, 10, 10)), 30);
        assert!(matches!(guess("x", 30), Err(LoginError::Wrong)));
        assert_eq!(locked(world.take(&logins, 60, 60)), 90);
        assert!(matches!(guess("x", 90), Err(LoginError::Wrong)));
        assert_eq!(locked(guess("x", 200)), 90 + 120);
        world.take(&logins, 210, 210).unwrap();
        // Whoever is right begins anew.
        assert!(matches!(guess("x", 211), Err(LoginError::Wrong)));
        world.take(&logins, 240, 240).unwrap();
        // The longest is 16 minutes.
        let mut at = 1000;
        for _ in 0..20 {
            assert!(matches!(guess("x", at), Err(LoginError::Wrong)));
            at += 960;
        }
    }

    #[test]
    fn nothing_is_taken_that_cannot_be_remembered() {
        let world = World::new();
        let logins = Logins {
            file: world.directory.path().join("none/used"),
            ..world.open()
        };
        for _ in 0..2 {
            let taken = world.take(&logins, 0, 0);
            assert!(matches!(taken, Err(LoginError::Unwritten { .. })));
        }
        std::fs::write(world.directory.path().join("used"), "{").unwrap();
        let sealer = Sealer::new(b"a key").unwrap();
        assert!(Logins::open(sealer, &world.directory.path().join("used")).is_err());
    }

    #[test]
    fn what_is_heard_does_not_tell_a_guess_from_a_replay() {
        let told = |error: LoginError| {
            let told = error.tell();
            (told.state, told.message.to_string(), told.hint)
        };
        let wrong = told(LoginError::Wrong);
        assert_eq!(told(LoginError::Used), wrong);
        assert_eq!(told(LoginError::Locked(after(0), 7)), wrong);
        assert_eq!(wrong.0, SqlState::INVALID_PASSWORD);
    }
}
