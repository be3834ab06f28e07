//! Sessions in front of a real Postgres: what passes, what is refused and in
//! which place, and what is on record. Decisions are made by a stand-in for
//! policy, so that each case says what is decided.

#[path = "../../tests/support/postgres.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a test binary uses a part of it"
)]
pub(crate) mod postgres;

mod admits;
mod catalog;
mod copy;
mod extended;
mod faults;
mod gone;
mod intend;
mod large;
mod limits;
mod record;
mod simple;
mod support;
