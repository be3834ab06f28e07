//! The survey against an independent reading of Postgres's own regression suite, by
//! another binding to the grammar and a walk that knows no node: tests/referee.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::process::{Command, Stdio};

use pg_raw_parse::parse;
use serde::Deserialize;

use crate::sql::canonical::query_of;
use crate::sql::survey::{Rest, Role, Survey, Unknown, survey};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/referee/list.sh");

/// What the other reading says of a statement.
#[derive(Deserialize)]
struct Line {
    file: String,
    sql: String,
    /// Why there is nothing more.
    error: Option<String>,
    #[serde(flatten)]
    listed: Option<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    relations: Vec<Relation>,
    functions: Vec<(String, Option<i64>)>,
    columns: Vec<(String, Option<i64>)>,
    types: BTreeSet<String>,
    operators: BTreeSet<String>,
    fields: Vec<String>,
    locks: bool,
    into: bool,
    current_of: bool,
}

/// Database, schema, name, whether it is a common table expression, whether it is
/// written, and its byte.
type Relation = (
    Option<String>,
    Option<String>,
    String,
    bool,
    bool,
    Option<i64>,
);

/// Operators that the survey adds for syntax that stands for them.
const IMPLIED: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

#[derive(Debug, Default)]
struct Tally {
    read: usize,
    refused: usize,
    unparsed: usize,
    relations: usize,
    functions: usize,
    columns: usize,
    types: usize,
    differences: Vec<String>,
}

#[test]
#[ignore = "fetches Postgres's regression suite and pglast; half a minute"]
fn the_suite_is_seen_as_others_see_it() {
    let listing = Command::new("sh")
        .arg(SCRIPT)
        .stderr(Stdio::inherit())
        .output()
        .expect("sh runs");
    assert!(listing.status.success(), "{SCRIPT}: {}", listing.status);
    let mut tally = Tally::default();
    for line in String::from_utf8(listing.stdout).unwrap().lines() {
        compare(serde_json::from_str(line).unwrap(), &mut tally);
    }
    println!(
        "{} queries that the survey reads hold {} relations, {} calls, {} columns and {} types; \
         {} more it refuses, {} are none",
        tally.read,
        tally.relations,
        tally.functions,
        tally.columns,
        tally.types,
        tally.refused,
        tally.unparsed
    );
    assert!(
        tally.differences.is_empty(),
        "{} differences:\n{}",
        tally.differences.len(),
        tally.differences.join("\n")
    );
    assert!(tally.read > 15_000, "too few to mean much: {tally:?}");
    assert!(tally.refused * 100 < tally.read, "too many are refused");
}

fn compare(line: Line, tally: &mut Tally) {
    let mut differ = |what: String| {
        let sql = line.sql.trim();
        tally
            .differences
            .push(format!("{}: {what}\n  {sql}", line.file));
    };
    let tree = parse(&line.sql);
    let (tree, listed) = match (tree, line.listed, line.error) {
        (Ok(tree), Some(listed), None) => (tree, listed),
        (Err(_), _, Some(_)) => {
            tally.unparsed += 1;
            return;
        }
        (Ok(_), _, error) => return differ(format!("only the other does not read it: {error:?}")),
        (Err(error), ..) => return differ(format!("only the other reads it: {error}")),
    };
    let (Some(statement), 1) = (tree.iter().next(), tree.len()) else {
        return differ("it is not one statement".into());
    };
    let Some(query) = query_of(statement.stmt()) else {
        return differ("only the other finds a query".into());
    };
    let found = match survey(query, &|_| Rest::All) {
        Ok(found) => found,
        Err(Unknown::Construct(_) | Unknown::TooDeep | Unknown::TooMany(..)) => {
            tally.refused += 1;
            return;
        }
    };
    tally.read += 1;
    tally.relations += listed.relations.len();
    tally.functions += listed.functions.len();
    tally.columns += listed.columns.len();
    tally.types += listed.types.len();
    for what in differences(found, listed) {
        differ(what);
    }
}

fn differences(found: Survey, listed: Listed) -> Vec<String> {
    let mut all = Vec::new();
    let place = |at: usize| i64::try_from(at).ok();
    let dotted = |schema: Option<String>, name: String| match schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name,
    };
    let relations = found.relations.into_iter().map(|one| {
        let written = one.role == Role::Target;
        (
            one.catalog,
            one.schema,
            one.name,
            one.cte,
            written,
            place(one.start),
        )
    });
    lists(&mut all, "relations", relations, listed.relations);
    let functions = found.functions.into_iter();
    let functions = functions.map(|one| (dotted(one.schema, one.name), place(one.start)));
    lists(&mut all, "functions", functions, listed.functions);
    let columns = found.columns.into_iter();
    let columns = columns.map(|one| (one.parts.join("."), place(one.start)));
    lists(&mut all, "columns", columns, listed.columns);
    lists(&mut all, "fields", found.fields, listed.fields);
    let types: BTreeSet<String> = found.types.into_iter().map(|one| one.name).collect();
    lists(&mut all, "types", types, listed.types);
    let implied = |name: &String| IMPLIED.contains(&name.as_str());
    let named = found.operators.into_iter().map(|one| one.name);
    let named: Vec<String> = named
        .filter(|name| listed.operators.contains(name) || !implied(name))
        .collect();
    lists(&mut all, "operators", named, listed.operators);
    let flags = [found.locks, found.into, found.current_of];
    lists(
        &mut all,
        "flags",
        flags,
        [listed.locks, listed.into, listed.current_of],
    );
    all
}

/// Notes where two lists differ, in whatever order they are.
fn lists<T: Debug + Ord>(
    all: &mut Vec<String>,
    what: &str,
    found: impl IntoIterator<Item = T>,
    listed: impl IntoIterator<Item = T>,
) {
    let (mut found, mut listed) = (Vec::from_iter(found), Vec::from_iter(listed));
    // `SET (a, b) = (SELECT …)` holds the query once for each target.
    for list in [&mut found, &mut listed] {
        list.sort();
        list.dedup();
    }
    if found != listed {
        all.push(format!("{what}: {found:?} here, {listed:?} there"));
    }
}
