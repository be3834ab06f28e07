//! Receives typed events and makes records of them.
//!
//! Knows nothing about sockets or SQL. Invariant: a record holds no literal of
//! a statement and no value of a row.

mod line;
pub mod log;
pub mod record;

pub use line::Fields;
pub use log::{Log, LogError};
pub use record::{Event, Id, Who};
