//! A directory of YAML → [`Policy`], as one unit: all of it or none.

use std::path::Path;

use super::Rights;
use crate::identity::Principal;

/// One validated set of policy files.
#[derive(Debug, Default)]
pub struct Policy {
    /// Increases by one with every load that took effect.
    pub epoch: u64,
    /// SHA-256 of the files, in hex.
    pub digest: String,
}

/// Why a set of files does not load.
#[derive(Debug, thiserror::Error)]
#[error("todo")]
pub struct PolicyError;

impl Policy {
    /// Reads every `*.yaml` of the directory.
    ///
    /// # Errors
    /// With file, line and a suggestion, for the first fault found.
    pub fn load(_directory: &Path, _epoch: u64) -> Result<Self, PolicyError> {
        todo!()
    }

    /// The verifier (`SCRAM-SHA-256$…`) of an identity, if it has one.
    pub fn verifier(&self, _name: &str) -> Option<&str> {
        todo!()
    }

    /// The principal of a proved name, with its kind, roles and owner; `None` if
    /// policy names no such identity.
    pub fn principal(&self, _name: &str, _method: crate::identity::Method) -> Option<Principal> {
        todo!()
    }

    /// What a principal may do in a dataset at this moment.
    pub fn rights(&self, _principal: &Principal, _dataset: &str, _now: jiff::Timestamp) -> Rights {
        todo!()
    }
}
