//! What integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test binary uses a part of it, and fails by panicking"
)]

pub mod client;
pub mod corpus;
pub mod differing;
pub mod forwarder;
pub mod generate;
pub mod issue;
pub mod planner;
pub mod postgres;
pub mod proxy;
pub mod servers;
pub mod world;
