//! Every statement of the corpora, by what Postgres's grammar prints of its tree.

use crate::sql::survey::{Rest, survey};

/// Names in all places where the grammar takes them, beside every statement of
/// the corpora.
const PLACES: &[&str] = &[
    "SELECT 1::a, CAST(1 AS b.c[]), d '1', e.f(1, g => 2::h) FILTER (WHERE i()) OVER (ORDER BY j())",
    "SELECT * FROM f() AS x(a t, b u[]), ROWS FROM (g() AS (c v), h()) WITH ORDINALITY",
    "SELECT * FROM XMLTABLE(XMLNAMESPACES('u' AS n), '/r' PASSING p() COLUMNS a t PATH q() DEFAULT r(), n FOR ORDINALITY)",
    "SELECT * FROM JSON_TABLE(j(), '$' PASSING k() AS k COLUMNS (a t PATH '$' DEFAULT d() ON EMPTY, NESTED '$.b' COLUMNS (b u EXISTS)))",
    "SELECT JSON_VALUE(j(), '$' RETURNING t DEFAULT 1::u ON ERROR), JSON_SERIALIZE(1 RETURNING v), JSON_OBJECT('a': w() RETURNING x), XMLSERIALIZE(CONTENT a AS t)",
    "WITH RECURSIVE r AS (SELECT 1) SEARCH DEPTH FIRST BY a SET s CYCLE a SET m TO t '1' DEFAULT u '2' USING p SELECT * FROM r",
    "INSERT INTO t (a[f()]) VALUES (g()) ON CONFLICT (h(a)) WHERE i() DO UPDATE SET a = j() WHERE k() RETURNING l()::m",
    "MERGE INTO t USING u ON f() WHEN MATCHED AND g() THEN UPDATE SET a = h() WHEN NOT MATCHED THEN INSERT VALUES (i()) RETURNING j()",
    "UPDATE t SET (a, b) = (SELECT f(), g()), c[h()] = i() FROM j() WHERE k()",
    "SELECT f() FROM t TABLESAMPLE system (g()) REPEATABLE (h()) GROUP BY GROUPING SETS ((i()), j()) HAVING k() WINDOW w AS (PARTITION BY l() ORDER BY m() ROWS n() PRECEDING) LIMIT o() OFFSET p()",
    "SELECT CASE f() WHEN g() THEN h() ELSE i() END, ARRAY[j()], ROW(k()), (l()).m[n()], COALESCE(o(), p()), GREATEST(q()), r() IS DOCUMENT, s() IN (t()), (u()) COLLATE \"C\", EXISTS (SELECT v())",
    "VALUES (f()), (g()) ORDER BY h() USING <",
];

/// What Postgres's own walker leaves out is nobody's hole: the tree is printed
/// whole, and counted.
#[test]
fn nothing_in_the_tree_is_missed() {
    let mut corpus: Vec<String> = PLACES.iter().map(|&text| text.to_owned()).collect();
    for folder in ["leak", "rewrite"] {
        let folder = format!("{}/tests/{folder}", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|own| own == "test") {
                let text = std::fs::read_to_string(path).unwrap();
                let cases = text
                    .split("### ")
                    .filter_map(|case| case.split_once("\ncaller: "));
                let bodies = cases.filter_map(|(_, case)| case.split_once('\n'));
                let statements = bodies.filter_map(|(_, body)| body.split_once("\n---"));
                let all = statements.flat_map(|(body, _)| body.split("\n;\n"));
                corpus.extend(all.map(str::to_owned));
            }
        }
    }
    let (mut types, mut calls, mut surveyed) = (0, 0, 0);
    for text in &corpus {
        let Ok(tree) = pg_raw_parse::parse(text) else {
            continue;
        };
        for statement in tree.iter() {
            let Some(query) = crate::sql::canonical::query_of(statement.stmt()) else {
                continue;
            };
            let Ok(found) = survey(query, &|_| Rest::All) else {
                continue;
            };
            let printed = format!("{query:?}");
            // The source of `(a, b) = …` stands once, but is printed for each.
            if printed.contains("MultiAssignRef {") {
                continue;
            }
            let all = |node: &str| printed.matches(&format!("{node} {{")).count();
            assert_eq!(found.types.len(), all("TypeName"), "{text}");
            assert_eq!(found.functions.len(), all("FuncCall"), "{text}");
            assert_eq!(found.columns.len(), all("ColumnRef"), "{text}");
            types += found.types.len();
            calls += found.functions.len();
            surveyed += 1;
        }
    }
    assert!(
        surveyed > 300 && types > 100 && calls > 150,
        "{surveyed} {types} {calls}"
    );
}
