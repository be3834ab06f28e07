//! Whose turn it is to plan a long text.
//!
//! Knows nothing about SQL. Parsing and planning take some five hundred bytes of
//! memory for each byte of text, so what is planned at the same time is bounded over
//! all sessions. Invariant: of texts longer than [`LONG`], no more bytes than the
//! budget are planned at a time, or one text alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A text this long can take a while to plan, and memory that counts.
pub(super) const LONG: usize = 8 << 10;

/// Threads that plan are given this much stack: a deeply nested statement is walked
/// recursively. Only what is used is ever resident.
pub const STACK: usize = 64 << 20;

/// Bytes of text that may be planned at a time.
pub struct Planning {
    free: Arc<Semaphore>,
    budget: u32,
}

/// Holds its text's part of the budget until dropped.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

impl Planning {
    /// For two texts of the longest that is decided on.
    pub fn new(longest: usize) -> Self {
        let budget = u32::try_from(longest.saturating_mul(2)).unwrap_or(u32::MAX);
        // At least what a text takes that is just too long to pass by.
        let budget = budget.max(2 * LONG as u32);
        Self {
            free: Arc::new(Semaphore::new(budget as usize)),
            budget,
        }
    }

    /// What a text of that length takes; one beyond the budget takes all of it.
    fn share(&self, length: usize) -> u32 {
        u32::try_from(length).map_or(self.budget, |length| length.min(self.budget))
    }

    /// A turn, where none has to be waited for.
    pub(super) fn now(&self, length: usize) -> Option<Turn> {
        if length <= LONG {
            return Some(None);
        }
        let free = self.free.clone();
        free.try_acquire_many_owned(self.share(length))
            .ok()
            .map(Some)
    }

    /// A turn, in the order in which they are asked for. Safe to cancel.
    pub(super) async fn turn(&self, length: usize) -> Turn {
        match length <= LONG {
            true => None,
            // It is never closed.
            false => {
                let free = self.free.clone();
                free.acquire_many_owned(self.share(length)).await.ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_of_the_largest_at_a_time() {
        let planning = Planning::new(1 << 20);
        let one = planning.now(1 << 20).unwrap();
        let two = planning.now(1 << 20).unwrap();
        assert!(one.is_some() && two.is_some());
        assert!(planning.now(LONG + 1).is_none());
        // The short ones wait for nobody.
        assert!(planning.now(LONG).unwrap().is_none());
        drop(one);
        let three = planning.turn(LONG + 1).await;
        assert!(three.is_some());
        assert!(planning.now(1 << 20).is_none());
    }

    #[tokio::test]
    async fn one_beyond_the_budget_takes_all_of_it() {
        let planning = Planning::new(0);
        let all = planning.turn(usize::MAX).await;
        assert!(all.is_some());
        assert!(planning.now(LONG + 1).is_none());
        drop(all);
        assert!(planning.now(LONG + 1).is_some());
    }
}
