//! A dataset as sessions share it: where it lives and what is in it.
//!
//! Knows nothing about callers. The catalog is a watched value: a refresh
//! replaces it for every session at once, and a failed one leaves it as it is.
//! Invariant: from when a change is seen until it has been read, the catalog is
//! known to be old, and nothing is to be decided by it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use zeroize::Zeroizing;

use super::User;
use crate::audit::record::What;
use crate::audit::{Event, Log};
use crate::catalog::{Catalog, load::load};
use crate::error::{SqlState, Told};
use crate::upstream::connect::Target;

/// [`Dataset::pause`], where nobody says otherwise.
const PAUSE: Duration = Duration::from_secs(1);

/// Settings by name, some of which are secret: overwritten in the end.
pub type Settings = Zeroizing<Vec<(String, String)>>;

/// A dataset.
pub struct Dataset {
    /// What a caller names as `dbname`.
    pub name: Arc<str>,
    /// What it is, for the record: `production`.
    pub environment: Option<Arc<str>>,
    /// Where it lives, and as whom it is gone to.
    pub target: Arc<Target>,
    /// Name and user: what is planned for one user is for none but that.
    pub(super) view: Arc<str>,
    /// As whom else it is gone to for some callers, the least powerful first.
    pub users: Vec<User>,
    /// Names that are not found cause at most one refresh in this time.
    pub pause: Duration,
    /// Settings that go into the startup packet of each session upstream, and
    /// nowhere else: the masking keys.
    pub settings: Settings,
    catalog: watch::Sender<Arc<Catalog>>,
    /// Held while it is being read.
    reading: Mutex<Read>,
    /// When it was seen to change, if it has not been read since.
    changed: std::sync::Mutex<Option<Instant>>,
    /// The same, for those that ask before every statement.
    old: AtomicBool,
}

/// When it was last read.
#[derive(Default)]
struct Read {
    /// When the last reading began that succeeded.
    done: Option<Instant>,
    /// When the last one ended, either way.
    tried: Option<Instant>,
    /// Whether that one failed, and not for the network or a server that starts.
    failed: bool,
}

/// Before it has been read.
const UNREAD: u64 = 0;

impl Dataset {
    /// A dataset with that catalog; with the default one, where it could not be read
    /// yet.
    pub fn new(name: Arc<str>, target: Arc<Target>, settings: Settings, catalog: Catalog) -> Self {
        let dataset = Self {
            // Neither holds a zero byte.
            view: format!("{name}\0{}", target.user).into(),
            users: Vec::new(),
            name,
            environment: None,
            target,
            pause: PAUSE,
            settings,
            catalog: watch::Sender::new(Arc::new(catalog)),
            reading: Mutex::default(),
            changed: std::sync::Mutex::default(),
            old: AtomicBool::new(false),
        };
        dataset.say_unguarded(&dataset.catalog());
        dataset
    }

    /// What is in it, as last read.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    /// What is in it, as last read; where it never was, it is read now.
    ///
    /// # Errors
    /// FATAL where it cannot be.
    pub async fn known(&self, log: &Log) -> Result<Arc<Catalog>, Told> {
        if self.catalog().epoch == UNREAD {
            self.look(Instant::now(), false, log).await;
        }
        let catalog = self.catalog();
        match catalog.epoch {
            UNREAD => Err(not_yet(&self.name)),
            _ => Ok(catalog),
        }
    }

    /// Whether it has been read.
    pub fn is_known(&self) -> bool {
        self.catalog.borrow().epoch != UNREAD
    }

    /// It has just been seen to change.
    pub fn change(&self) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        *changed = Some(Instant::now());
        self.old.store(true, Ordering::Release);
    }

    /// Whether what is known of it is known to be old.
    pub fn is_old(&self) -> bool {
        self.old.load(Ordering::Acquire)
    }

    /// Reads it again where what is known of it is old.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn renew(&self, log: &Log) -> Result<(), Told> {
        let changed = *self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = changed {
            self.refresh(changed, log).await;
        }
        match self.is_old() {
            false => Ok(()),
            true => Err(old(&self.name)),
        }
    }

    /// What was seen to change before that moment has been read.
    fn read_since(&self, began: Instant) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.is_some_and(|at| at <= began) {
            *changed = None;
            self.old.store(false, Ordering::Release);
        }
    }

    /// Takes a catalog from elsewhere than the upstream.
    pub fn replace_catalog(&self, catalog: Catalog) {
        self.catalog.send_replace(Arc::new(catalog));
    }

    /// Reads the catalog again, unless it has been read since that moment, or could not be
    /// a moment ago: callers who ask again and again are not to log in upstream as often.
    pub async fn refresh(&self, since: Instant, log: &Log) {
        let mut reading = self.reading.lock().await;
        let rests = reading.failed && !self.rest(&reading).is_zero();
        if reading.done.is_none_or(|at| at < since) && !rests {
            self.read(&mut reading, log).await;
        }
    }

    /// For how long it is not to be read again.
    fn rest(&self, reading: &Read) -> Duration {
        reading
            .tried
            .map_or(Duration::ZERO, |at| self.pause.saturating_sub(at.elapsed()))
    }

    /// The same for a name that was not found, at most about once a second: who is
    /// `patient` waits until then, the others go without. Answers whether it waited.
    pub async fn look(&self, since: Instant, patient: bool, log: &Log) -> bool {
        // Somebody else's reading may come first that began too early, or fails.
        for waited in [false, true, true] {
            let mut reading = self.reading.lock().await;
            if reading.done.is_some_and(|at| at >= since) {
                return waited;
            }
            let pause = self.rest(&reading);
            if pause.is_zero() {
                self.read(&mut reading, log).await;
                return waited;
            }
            drop(reading);
            if !patient {
                return false;
            }
            tokio::time::sleep(pause).await;
        }
        true
    }

    /// Warns of tables whose owner's session this is, or that of one in their owner's role.
    fn say_unguarded(&self, catalog: &Catalog) {
        if !catalog.unguarded.is_empty() {
            tracing::warn!(
                dataset = %self.name, user = self.target.user, tables = %catalog.unguarded,
                "row security does not hold for their owner (hint: ALTER TABLE … FORCE ROW LEVEL \
                 SECURITY)"
            );
        }
    }

    async fn read(&self, reading: &mut Read, log: &Log) {
        let epoch = self.catalog.borrow().epoch;
        let began = Instant::now();
        // Taking a large one in keeps a thread busy, which is to be nobody's session's.
        let (target, runtime) = (self.target.clone(), Handle::current());
        let loading = move || runtime.block_on(load(&target, epoch + 1));
        let mut unfit = false;
        reading.failed = false;
        let read = match tokio::task::spawn_blocking(loading).await {
            Ok(Err(error)) => {
                unfit = error.is_unfit();
                reading.failed = !error.may_pass();
                Err(error.to_string())
            }
            Ok(Ok(catalog)) => Ok(catalog),
            Err(fault) => Err(fault.to_string()),
        };
        reading.tried = Some(Instant::now());
        let (epoch, error) = match read {
            Ok(catalog) => {
                reading.done = Some(began);
                if catalog.unguarded != self.catalog().unguarded {
                    self.say_unguarded(&catalog);
                }
                self.catalog.send_replace(Arc::new(catalog));
                self.read_since(began);
                tracing::info!(dataset = %self.name, user = self.target.user, epoch = epoch + 1, took = ?began.elapsed(), "catalog refreshed");
                (epoch + 1, None)
            }
            Err(error) => {
                tracing::error!(dataset = %self.name, %error, "catalog not refreshed");
                // Row security does not hold for that user any more.
                if unfit {
                    self.change();
                }
                (epoch, Some(error))
            }
        };
        let what = What::CatalogRefresh {
            dataset: self.name.clone(),
            epoch,
            error,
        };
        // A log that fails refuses statements by itself.
        let _ = log.append(&Event::now(None, what)).await;
    }
}

fn not_yet(dataset: &str) -> Told {
    Told::fatal(
        SqlState::CANNOT_CONNECT_NOW,
        format!("the dataset `{dataset}` is not available yet"),
    )
    .hint("its upstream could not be reached since the proxy started; try again in a moment")
}

fn old(dataset: &str) -> Told {
    Told::error(
        SqlState::CANNOT_CONNECT_NOW,
        format!("what is in the dataset `{dataset}` has changed and could not be read again"),
    )
    .hint("try again in a moment")
}
