//! pgveil: an access proxy for Postgres datasets.
//!
//! A client connects as if to Postgres. pgveil knows who is asking, rewrites
//! each query so that Postgres itself returns only what that identity may see,
//! tags the query with the identity, and records what was seen.
//!
//! ```text
//! client ⇄ listener ─ identity ─ session ─ sql ─ upstream ⇄ Postgres
//!                        │          │       │
//!                      policy     audit  catalog
//! ```
//!
//! Each room's first lines say what it is for, what it knows nothing about and
//! which invariant it holds. ARCHITECTURE.md maps invariants to the tests and
//! types that hold them.

#![forbid(unsafe_code)]

// What integration tests share serves tests in here as well.
#[cfg(test)]
extern crate self as pgveil;

pub mod audit;
pub mod catalog;
pub mod cli;
pub mod config;
mod der;
pub mod error;
pub mod http;
pub mod identity;
pub mod listener;
pub mod policy;
mod roots;
pub mod secret;
pub mod session;
pub mod sinks;
mod socket;
pub mod sql;
pub mod stage;
pub mod upstream;
mod wire;
