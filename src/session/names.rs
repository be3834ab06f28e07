//! Prepared statements and portals by name: SQL `PREPARE` and protocol `Parse`
//! share one namespace, cursors and protocol portals another.
//!
//! Knows nothing about sockets. A name may stay here longer than upstream (its
//! use then fails there), but it never stands for another statement than the
//! one upstream has under it: changes are applied when upstream confirms them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::authority::Basis;
use super::requests::Step;

/// The longest name that stays as it is (NAMEDATALEN - 1): Postgres cuts longer
/// ones, so that two of them could mean the same.
pub(crate) const NAME: usize = 63;

/// A prepared statement: what was decided, and from what.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What was sent for it, and what for.
    pub(crate) step: Step,
    /// On what the decision rests.
    pub(crate) basis: Mutex<Basis>,
    /// The parameter types that Parse declared; `None`: SQL made it.
    pub(crate) types: Option<Vec<u32>>,
    /// Its result's description has been asked for, and so put to the tripwire.
    pub(crate) described: AtomicBool,
    /// What it takes.
    pub(crate) _held: Held,
}

/// Bytes that a session holds for its names, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// So many more in a total.
    pub(crate) fn new(total: &Arc<AtomicUsize>, bytes: usize) -> Self {
        total.fetch_add(bytes, Ordering::Relaxed);
        Self {
            total: total.clone(),
            bytes,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A bound portal, or a cursor.
#[derive(Debug)]
pub(crate) struct Portal {
    /// What it executes.
    pub(crate) prepared: Arc<Prepared>,
    /// Rows it has returned so far, over all fetches.
    pub(crate) rows: AtomicU64,
    /// It may outlive its transaction (WITH HOLD).
    pub(crate) hold: bool,
}

/// What a message does to the names once upstream confirms it.
#[derive(Clone, Debug, Default)]
pub(crate) enum Change {
    /// Nothing.
    #[default]
    None,
    /// Parse, PREPARE
    Prepare(Arc<str>, Arc<Prepared>),
    /// Close 'S', DEALLOCATE
    Forget(Arc<str>),
    /// DEALLOCATE ALL
    ForgetAll,
    /// Bind, DECLARE
    Open(Arc<str>, Arc<Portal>),
    /// Close 'P', CLOSE
    Close(Arc<str>),
    /// CLOSE ALL
    CloseAll,
    /// DISCARD ALL
    Discard,
}

impl Change {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether it changes what a statement's name means.
    pub(crate) fn concerns_statement(&self, name: &str) -> bool {
        match self {
            Self::Prepare(own, _) | Self::Forget(own) => **own == *name,
            Self::ForgetAll | Self::Discard => true,
            Self::None | Self::Open(..) | Self::Close(_) | Self::CloseAll => false,
        }
    }

    /// Whether it changes what a portal's name means.
    pub(crate) fn concerns_portal(&self, name: &str) -> bool {
        match self {
            Self::Open(own, _) | Self::Close(own) => **own == *name,
            Self::CloseAll | Self::Discard => true,
            Self::None | Self::Prepare(..) | Self::Forget(_) | Self::ForgetAll => false,
        }
    }
}

/// The names of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    statements: HashMap<Arc<str>, Arc<Prepared>>,
    portals: HashMap<Arc<str>, Arc<Portal>>,
}

impl Names {
    pub(crate) fn statement(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.statements.get(name)
    }

    pub(crate) fn portal(&self, name: &str) -> Option<&Arc<Portal>> {
        self.portals.get(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.statements.len() + self.portals.len()
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::None => {}
            Change::Prepare(name, prepared) => {
                self.statements.insert(name.clone(), prepared.clone());
            }
            Change::Forget(name) => {
                self.statements.remove(name);
            }
            Change::ForgetAll => self.statements.clear(),
            Change::Open(name, portal) => {
                self.portals.insert(name.clone(), portal.clone());
            }
            Change::Close(name) => {
                self.portals.remove(name);
            }
            Change::CloseAll => self.portals.clear(),
            Change::Discard => {
                self.statements.clear();
                self.portals.clear();
            }
        }
    }

    /// Portals end with their transaction.
    pub(crate) fn end_transaction(&mut self) {
        if !self.portals.is_empty() {
            self.portals.retain(|_, portal| portal.hold);
        }
    }
}
