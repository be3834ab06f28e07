//! How far a sink is behind, by a clock that nobody sets.
//!
//! Knows nothing about records.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many moments are remembered; what was signed after that counts as of the last of them.
const MOMENTS: usize = 10_000;

/// Of a sink.
#[derive(Debug)]
pub(super) struct Lag {
    name: Box<str>,
    taken: AtomicU64,
    /// When it was first seen that so many are signed
    moments: Mutex<VecDeque<(Instant, u64)>>,
}

impl Lag {
    pub(super) fn new(name: &str, taken: u64) -> Self {
        Self {
            name: name.into(),
            taken: taken.into(),
            moments: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many records it has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// It has taken so many.
    pub(super) fn take(&self, taken: u64) {
        self.taken.store(taken, Ordering::Release);
    }

    /// So many are signed.
    pub(super) fn see(&self, signed: u64) {
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.taken();
        while moments.front().is_some_and(|(_, size)| *size <= taken) {
            moments.pop_front();
        }
        let full = moments.len() >= MOMENTS;
        match moments.back_mut() {
            Some((_, last)) if full => *last = signed,
            Some((_, last)) if *last >= signed => {}
            None if signed <= taken => {}
            _ => moments.push_back((Instant::now(), signed)),
        }
    }

    /// How long the oldest record that it has not taken has waited, as far as this proxy
    /// has seen.
    pub(super) fn late(&self) -> Option<Duration> {
        let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.taken();
        let mut waiting = moments.iter().filter(|(_, size)| *size > taken);
        waiting.next().map(|(since, _)| since.elapsed())
    }
}
