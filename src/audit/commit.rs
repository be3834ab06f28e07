//! Brings records to disk, for many who wait at once.
//!
//! Knows nothing about records. A thread syncs the file again and again as long as
//! anybody waits: who comes while it does waits for the next time, together with all
//! others who came meanwhile (group commit). Invariant: who waits hears `Ok` only
//! when what it had written is on disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log::{Answer, tell};
use super::writer::Writer;

/// How long what nobody waits for may be on its way to disk.
const LINGER: Duration = Duration::from_millis(200);

/// The waiting room. Its thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Commit(Arc<Room>);

#[derive(Debug, Default)]
struct Room {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    all: Vec<Answer>,
    ended: bool,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Commit {
    /// Starts the thread.
    pub(super) fn start(writer: Arc<Mutex<Writer>>) -> std::io::Result<Self> {
        let room = Arc::new(Room::default());
        let own = room.clone();
        std::thread::Builder::new()
            .name("audit-sync".into())
            .spawn(move || run(&own, &writer))?;
        Ok(Self(room))
    }

    /// Has them wait until what they have had written is on disk.
    pub(super) fn wait(&self, those: Vec<Answer>) {
        if !those.is_empty() {
            self.0.lock().all.extend(those);
            self.0.wake.notify_one();
        }
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.wake.notify_one();
    }
}

fn run(room: &Room, writer: &Mutex<Writer>) {
    let lock = || writer.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let (served, ended) = {
            let waiting = room.lock();
            let idle = |waiting: &mut Waiting| waiting.all.is_empty() && !waiting.ended;
            let woken = room.wake.wait_timeout_while(waiting, LINGER, idle);
            let (mut waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut waiting.all), waiting.ended)
        };
        // All of them had written before they came.
        let syncing = lock().syncing();
        let alone = syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let unsynced = lock().unsynced();
        let synced = match unsynced {
            Some((file, upto)) => {
                let synced = file.sync_data();
                lock().synced(upto, synced)
            }
            None => lock().all_synced(),
        };
        drop(alone);
        tell(served, &synced);
        if ended {
            return;
        }
    }
}
