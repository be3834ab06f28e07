//! Receives typed events and makes records of them.
//!
//! Knows nothing about sockets or SQL. Invariant: a record holds no literal of
//! a statement and no value of a row.

mod commit;
mod copies;
pub mod key;
mod line;
pub mod log;
pub mod ocsf;
mod open;
pub mod progress;
pub mod proof;
pub mod read;
pub mod readers;
pub mod record;
pub mod report;
pub mod retention;
mod seal;
pub mod segments;
pub mod tree;
pub mod verify;
mod writer;

pub use line::Fields;
pub use log::{Durability, Log, LogError};
pub use record::{Event, Id, Who};
pub use seal::Sealing;
