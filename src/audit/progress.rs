//! How far a log is signed, for those who read it while it is written.
//!
//! Knows nothing about what they do with it. Invariant: what it says to be signed is on
//! disk, and under a checkpoint that is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tree::Hash;
use super::tree::note::Checkpoint;

/// How far.
#[derive(Debug)]
pub struct Progress {
    name: Arc<str>,
    reached: Mutex<Reached>,
    news: Condvar,
}

/// That.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// How many records are signed
    pub signed: u64,
    /// The root of their tree
    pub root: Hash,
    /// The checkpoint that says so; empty where there is none yet
    pub note: Arc<str>,
    /// How many are under a checkpoint that was put elsewhere
    pub copied: u64,
    /// Nothing more is to come
    pub ended: bool,
}

impl Progress {
    /// Of a log that is called so.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            reached: Mutex::default(),
            news: Condvar::new(),
        }
    }

    /// What the log is called, as in its checkpoints.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How far it is now.
    pub fn now(&self) -> Reached {
        self.lock().clone()
    }

    /// Waits until more than so many records are signed, or nothing more is to come; not
    /// for longer than that.
    pub fn beyond(&self, signed: u64, patience: Duration) -> Reached {
        self.until(patience, |it| it.ended || it.signed > signed)
    }

    /// Waits for that long, or until nothing more is to come.
    pub fn pause(&self, time: Duration) -> Reached {
        self.until(time, |it| it.ended)
    }

    /// Says that nothing more is to come.
    pub fn end(&self) {
        self.tell(|it| it.ended = true);
    }

    pub(super) fn sign(&self, head: &Checkpoint, note: &str) {
        self.tell(|it| {
            (it.signed, it.root) = (head.size, head.root);
            it.note = note.into();
        });
    }

    pub(super) fn copy(&self, copied: u64) {
        self.tell(|it| it.copied = copied);
    }

    pub(super) fn wait_for_copy(&self, patience: Duration) {
        self.until(patience, |it| it.copied >= it.signed);
    }

    fn tell(&self, what: impl FnOnce(&mut Reached)) {
        what(&mut self.lock());
        self.news.notify_all();
    }

    fn until(&self, patience: Duration, enough: impl Fn(&Reached) -> bool) -> Reached {
        let end = Instant::now() + patience;
        let mut reached = self.lock();
        while !enough(&reached) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.news.wait_timeout(reached, left);
            (reached, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        reached.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
