//! A text that shares a plan with others gets what it would have been given alone.
//!
//! Whatever of the corpora and of the generator can share a plan is filled with other
//! literals, hostile ones among them, and held against planning the same text, byte
//! for byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use pgveil::catalog::{self, Catalog};
use pgveil::identity::Method;
use pgveil::policy::{Policy, Rights};
use pgveil::sql::fold::{Template, fold};
use pgveil::sql::{self, Bounds, Context, Scope};
use support::generate::Generator;
use support::postgres::Postgres;

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// In place of an integer.
const INTEGERS: [&str; 6] = ["0", "1", "3", "16384", "70000", "999999999"];
/// In place of a string.
const STRINGS: [&str; 8] = [
    "''",
    "'x'",
    "'customers'",
    "'pgveil.key_inner'",
    "'2024-02-30'",
    "'1'",
    "'now'",
    "'$1 :a {column} /* */ -- ;'",
];

struct World {
    policy: Policy,
    catalog: Catalog,
    scope: Scope,
}

impl World {
    fn start() -> Self {
        let postgres = Postgres::start();
        postgres.psql(&std::fs::read_to_string(format!("{TESTS}/rewrite/schema.sql")).unwrap());
        postgres.psql("CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let catalog = runtime.block_on(catalog::load::load(&postgres.target("proxy"), 1));
        Self {
            policy: Policy::load(&Path::new(TESTS).join("rewrite/policy"), 1).unwrap(),
            catalog: catalog.unwrap(),
            scope: Scope {
                search_path: Arc::from(["$user".into(), "public".into()]),
                temporary: Arc::from(["scratch".into()]),
            },
        }
    }

    fn rights(&self, caller: &str) -> Rights {
        let principal = self.policy.principal(caller, Method::Scram).unwrap();
        self.policy
            .rights(&principal, "shop", jiff::Timestamp::UNIX_EPOCH)
    }

    fn context<'a>(&'a self, rights: &'a Rights) -> Context<'a> {
        Context {
            bounds: Bounds::default(),
            rights,
            catalog: &self.catalog,
            scope: &self.scope,
            parameters: &[],
        }
    }

    /// How many fillings of a text were held against plans; none where it is not one
    /// that shares.
    fn check(&self, rights: &Rights, text: &str) -> usize {
        let context = self.context(rights);
        if fold(text).is_none() {
            return 0;
        }
        let Ok(plans) = sql::plan(text, context) else {
            return 0;
        };
        let [plan] = plans.as_slice() else { return 0 };
        let Some(template) = Template::of(text, plan, context) else {
            return 0;
        };
        let texts = fillings(text);
        for text in &texts {
            let plan = sql::plan(text, context).unwrap_or_else(|denial| panic!("{text}: {denial}"));
            let folded = fold(text).unwrap();
            let filled = template.fill(&folded);
            assert_eq!(format!("{filled:?}"), format!("{:?}", plan[0]), "{text}");
        }
        texts.len()
    }
}

/// A text with other literals of the same classes in place of those taken out.
fn fillings(text: &str) -> Vec<String> {
    let shape = fold(text).unwrap().shape;
    (0..INTEGERS.len().max(STRINGS.len()))
        .map(|turn| {
            let mut filled = String::new();
            for (number, piece) in shape.split_inclusive(['\u{0}', '\u{1}']).enumerate() {
                let turn = turn + number;
                match piece.chars().last() {
                    Some('\u{0}') => {
                        filled.push_str(&piece[..piece.len() - 1]);
                        filled.push_str(INTEGERS[turn % INTEGERS.len()]);
                    }
                    Some('\u{1}') => {
                        filled.push_str(&piece[..piece.len() - 1]);
                        filled.push_str(STRINGS[turn % STRINGS.len()]);
                    }
                    _ => filled.push_str(piece),
                }
            }
            assert_eq!(fold(&filled).unwrap().shape, shape);
            filled
        })
        .collect()
}

/// Callers and statements of a corpus's files.
fn corpus(directory: &str) -> Vec<(String, String)> {
    let files = std::fs::read_dir(format!("{TESTS}/{directory}")).unwrap();
    let mut cases = Vec::new();
    for file in files.map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "test") {
            continue;
        }
        for part in std::fs::read_to_string(&file)
            .unwrap()
            .split("### ")
            .skip(1)
        {
            let (head, _) = part.split_once("\n---").unwrap();
            let mut lines = head.splitn(3, '\n').skip(1);
            let caller = lines.next().unwrap().strip_prefix("caller: ").unwrap();
            for statement in lines.next().unwrap().split("\n;\n") {
                cases.push((caller.to_owned(), statement.to_owned()));
            }
        }
    }
    cases
}

#[test]
fn what_shares_a_plan_is_planned_alike() {
    let world = World::start();
    let (mut shared, mut filled) = (0, 0);
    let mut check = |caller: &str, statement: &str| {
        let count = world.check(&world.rights(caller), statement);
        shared += usize::from(count > 0);
        filled += count;
    };
    for (caller, statement) in corpus("rewrite").into_iter().chain(corpus("leak")) {
        check(&caller, &statement);
    }
    for caller in ["analyst", "trainer"] {
        let mut generator = Generator::new(7, caller);
        for _ in 0..1000 {
            generator.next().iter().for_each(|text| check(caller, text));
        }
    }
    for statement in [
        "select * from customers where id = 5",
        "select id, email from customers where id >= 5 and region = 'EU' order by 1 limit 3",
        "select c.id from customers c join orders o on o.customer_id = c.id where o.id = 7",
        "select count(*) from customers where email <> 'x@y.example' and id < 10",
        "update orders set total = total where id = 5",
    ] {
        check("analyst", statement);
        check("trainer", statement);
    }
    println!("{shared} texts share their plans, {filled} others of theirs");
    assert!(shared >= 100, "{shared}");
}
