//! Text to plan: whatever a client says, a statement is planned or refused for a
//! reason of its own.
//!
//! - Nothing panics, and the referee never finds fault with what the rewriter made.
//! - A message's pieces are planned as the message is.
//! - What is sent is one statement, in which a table with columns to keep from the
//!   caller stands alone in a SELECT that reads none of them as they are: a reading
//!   of its own, apart from the referee's.
//! - For a caller with all rights, what is sent is planned again, or refused, but
//!   never for its syntax.
//!
//! Input: who asks, as the place in `CALLERS`, then the text.

#![no_main]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pgveil::catalog::{self, Catalog};
use pgveil::identity::Method;
use pgveil::policy::{Policy, Rights};
use pgveil::sql::{self, Context, Denial, Plan, Reason, Scope};

#[path = "../../../support/generate/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod generate;
mod mutate;
mod oracle;
#[path = "../../../support/postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod postgres;

/// Callers of tests/rewrite/policy; the last has all rights.
const CALLERS: [&str; 5] = ["analyst", "trainer", "clerk", "modeller", "auditor"];
const REWRITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rewrite");
/// As much stack as `pgveil serve` plans on.
const STACK: usize = 64 << 20;

struct World {
    catalog: Catalog,
    rights: Vec<(&'static str, Rights)>,
    scope: Scope,
}

static WORLD: OnceLock<World> = OnceLock::new();

fuzz_target!(init: prepare(), |data: &[u8]| {
    let Some((first, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    // Neither gets past the protocol.
    if text.contains('\0') {
        return;
    }
    std::thread::scope(|threads| {
        let planning = std::thread::Builder::new().stack_size(STACK);
        let done = planning.spawn_scoped(threads, || check(usize::from(*first), text));
        done.unwrap().join().unwrap();
    });
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});

/// The catalog of a database that is there for no longer than it takes to read it.
fn prepare() {
    let postgres = postgres::Postgres::start();
    postgres.psql(&std::fs::read_to_string(format!("{REWRITE}/schema.sql")).unwrap());
    postgres.psql("CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let catalog = runtime.block_on(catalog::load::load(&postgres.target("proxy"), 1));
    let policy = Policy::load(&Path::new(REWRITE).join("policy"), 1).unwrap();
    let rights = CALLERS.map(|caller| {
        let principal = policy.principal(caller, Method::Scram).unwrap();
        let rights = policy.rights(&principal, "shop", jiff::Timestamp::UNIX_EPOCH);
        (caller, rights)
    });
    let world = World {
        catalog: catalog.unwrap(),
        rights: rights.into(),
        scope: Scope {
            search_path: Arc::from(["$user".into(), "public".into()]),
            temporary: Arc::from(["scratch".into()]),
        },
    };
    assert!(WORLD.set(world).is_ok());
}

impl World {
    fn plan(&self, at: usize, text: &str) -> Result<Vec<Arc<Plan>>, Denial> {
        let context = Context {
            bounds: sql::Bounds::default(),
            rights: &self.rights[at].1,
            catalog: &self.catalog,
            scope: &self.scope,
            parameters: &[],
        };
        let planned = sql::plan(text, context);
        if let Err(denial) = &planned {
            assert!(denial.reason != Reason::Referee, "{denial}\n{text}");
            // What is no SQL is said to be so in Postgres's words.
            let lines = denial.message.contains('\n') && denial.reason != Reason::Syntax;
            assert!(!lines, "{denial:?}");
        }
        planned
    }
}

fn check(first: usize, text: &str) {
    let world = WORLD.get().unwrap();
    let at = first.wrapping_sub(usize::from(b'0')) % CALLERS.len();
    let pieces = sql::statements(text, sql::Bounds::default());
    let Ok(plans) = world.plan(at, text) else {
        return;
    };
    let pieces = pieces.expect("what is planned can be split");
    assert_eq!(pieces.len(), plans.len());
    for (piece, plan) in pieces.iter().zip(&plans) {
        let alone = world.plan(at, piece).expect("a piece is planned alone");
        assert_eq!(alone.len(), 1);
        assert_eq!(alone[0].text(), plan.text());
        sent(world, at, plan);
    }
}

fn sent(world: &World, at: usize, plan: &Plan) {
    let text = plan.text();
    assert!(!text.contains('\0'));
    let statements = sql::statements(text, sql::Bounds::default()).expect("what is sent is SQL");
    assert_eq!(statements.len(), 1, "{text}");
    if CALLERS[at] != "auditor" {
        oracle::reads_no_raw_value(text);
    }
    match world.plan(CALLERS.len() - 1, text) {
        Ok(again) => assert_eq!(again.len(), 1, "{text}"),
        Err(denial) => assert!(denial.reason != Reason::Syntax, "{denial}\n{text}"),
    }
}
