//! Puts checkpoints where else they belong: one that is held elsewhere shows what is cut
//! off.
//!
//! Knows nothing about what they tell. A thread of its own does it, so that a place that
//! does not answer keeps nobody from signing. What could not be put is put later.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::progress::Progress;
use super::tree::store;

/// So many are kept while there is no place for them; of more, the latest, which tell of
/// what the others told of.
const KEPT: usize = 10_000;
/// How soon what could not be put is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The way there. Its thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Copies(Arc<Room>);

#[derive(Debug, Default)]
struct Room {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// How many records each tells of, and it
    notes: VecDeque<(u64, Arc<str>)>,
    ended: bool,
}

impl Copies {
    /// Starts the thread.
    pub(super) fn start(file: PathBuf, progress: Arc<Progress>) -> std::io::Result<Self> {
        let room = Arc::new(Room::default());
        let own = room.clone();
        std::thread::Builder::new()
            .name("audit-copies".into())
            .spawn(move || run(&own, &file, &progress))?;
        Ok(Self(room))
    }

    /// Has one put there. Nobody waits for it.
    pub(super) fn give(&self, size: u64, note: String) {
        let mut waiting = self.0.lock();
        waiting.notes.push_back((size, note.into()));
        let more = waiting.notes.len().saturating_sub(KEPT);
        waiting.notes.drain(..more);
        self.0.wake.notify_one();
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.wake.notify_one();
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next, once there is one.
    fn next(&self) -> Option<(u64, Arc<str>)> {
        let idle = |waiting: &mut Waiting| waiting.notes.is_empty() && !waiting.ended;
        let woken = self.wake.wait_while(self.lock(), idle);
        let waiting = woken.unwrap_or_else(PoisonError::into_inner);
        waiting.notes.front().cloned()
    }
}

fn run(room: &Room, file: &std::path::Path, progress: &Progress) {
    while let Some((size, note)) = room.next() {
        match store::remember(file, &note) {
            Ok(()) => {
                let mut waiting = room.lock();
                // It may have been given up meanwhile.
                if waiting.notes.front().is_some_and(|(own, _)| *own == size) {
                    waiting.notes.pop_front();
                }
                drop(waiting);
                progress.copy(size);
            }
            Err(error) => {
                let waiting = room.lock();
                tracing::error!(
                    %error, file = %file.display(), waiting = waiting.notes.len(),
                    "a checkpoint could not be put elsewhere; tried again"
                );
                if waiting.ended {
                    return;
                }
                let idle = |waiting: &mut Waiting| !waiting.ended;
                // Only to wait: what it gives is looked at again.
                drop(room.wake.wait_timeout_while(waiting, AGAIN, idle));
            }
        }
    }
}
