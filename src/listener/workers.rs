//! The threads that connections are served on: each has a scheduler of its own.
//!
//! Knows nothing about what is served. A connection stays on its thread: both its
//! sockets wake the thread that serves it and no other, which is most of what a
//! statement that is known costs. So no connection may keep its thread for long.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Running threads; they end when it is dropped, and what runs on them with them.
#[derive(Debug)]
pub struct Workers {
    all: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// How many connections it has.
    load: Arc<AtomicUsize>,
    /// Dropped, it ends.
    _running: oneshot::Sender<()>,
}

/// One of a worker's connections, until dropped.
#[derive(Debug)]
pub(super) struct Held(Arc<AtomicUsize>);

impl Workers {
    /// One for each processor, with that many bytes of stack each.
    ///
    /// # Errors
    /// What the system says where it has no more threads.
    pub fn start(stack: usize) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let all = (0..count).map(|number| worker(number, stack));
        Ok(Self {
            all: all.collect::<io::Result<_>>()?,
        })
    }

    /// The one with the fewest connections, for one more.
    pub(super) fn pick(&self) -> (Handle, Held) {
        let load = |worker: &&Worker| worker.load.load(Ordering::Relaxed);
        match self.all.iter().min_by_key(load) {
            Some(worker) => (worker.runtime.clone(), Held::one_more(&worker.load)),
            // There is one at the least.
            None => (Handle::current(), Held::one_more(&Arc::default())),
        }
    }
}

impl Held {
    fn one_more(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn worker(number: usize, stack: usize) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(stack)
        .build()?;
    let handle = runtime.handle().clone();
    let (running, ended) = oneshot::channel();
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .stack_size(stack)
        .spawn(move || {
            // The other end is dropped, never used.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
    Ok(Worker {
        runtime: handle,
        load: Arc::default(),
        _running: running,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_with_the_fewest() {
        let workers = Workers::start(1 << 20).unwrap();
        let count = workers.all.len();
        let mut held: Vec<Held> = (0..2 * count).map(|_| workers.pick().1).collect();
        let loads = || {
            workers
                .all
                .iter()
                .map(|one| one.load.load(Ordering::Relaxed))
        };
        assert!(loads().all(|load| load == 2));
        held.pop();
        assert_eq!(loads().sum::<usize>(), 2 * count - 1);
        let (_, last) = workers.pick();
        assert!(loads().all(|load| load == 2));
        drop((held, last));
        assert!(loads().all(|load| load == 0));
    }

    #[tokio::test]
    async fn each_connection_stays_on_its_thread() {
        let workers = Workers::start(1 << 20).unwrap();
        let (runtime, _held) = workers.pick();
        let names = runtime.spawn(async {
            let one = thread::current().name().map(str::to_owned);
            tokio::task::yield_now().await;
            (one, thread::current().name().map(str::to_owned))
        });
        let (one, other) = names.await.unwrap();
        assert!(one.as_ref().is_some_and(|name| name.starts_with("worker-")));
        assert_eq!(one, other);
    }
}
