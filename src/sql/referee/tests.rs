//! The referee against a rewriter that does its steps wrong, over the corpus of
//! tests/rewrite; and against texts that no rewriter writes.

#[path = "../../../tests/support/corpus.rs"]
#[expect(dead_code, unreachable_pub, reason = "tests/ share it")]
mod corpus;
#[path = "../../../tests/support/planner.rs"]
#[expect(dead_code, unreachable_pub, reason = "tests/ share it")]
mod planner;
#[path = "../../../tests/support/servers.rs"]
#[expect(unreachable_pub, reason = "tests/ share it")]
mod servers;
mod steps;

use crate::session::tests::postgres;
