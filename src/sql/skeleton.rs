//! The skeleton of a query: a text that names the same relations and columns in
//! the same scopes, and holds nothing else. It is the normal form for what
//! sqlparser cannot read, and is never sent.
//!
//! Written from Postgres's tree: SELECT, FROM, JOIN, WITH and their kin keep their
//! places, every expression shrinks to a call of the columns and subqueries in it,
//! and all names are quoted. So sqlparser reads what it reads best, whatever syntax
//! the expressions were in.
//!
//! Knows nothing about policy or the catalog. Invariants: each reference of the
//! tree is written once, and its place in the statement kept; a node whose names
//! and scopes are not known here is refused by its name.

mod expression;
mod figure;
mod from;
mod write;

use pg_raw_parse::Node;

use super::survey::Unknown;
use write::Writer;

/// Among the columns of USING: an alias for the join's own columns.
pub(super) const USING_ALIAS: &str = "\u{1}using ";
/// Last in a list of columns: there may be more, of names that are not known.
pub(super) const MORE: &str = "\u{1}more";
/// First in the list of a common table expression's columns: its query's own.
pub(super) const OWN: &str = "\u{1}own";
/// The one column of a SELECT without any.
const NOTHING: &str = "\u{1}nothing";

/// A query's skeleton.
#[derive(Debug)]
pub(super) struct Skeleton {
    /// For sqlparser.
    pub(super) text: String,
    /// The byte of each name in `text`, ascending, and in the statement.
    places: Vec<(usize, usize)>,
}

impl Skeleton {
    /// Of a SELECT, VALUES, INSERT, UPDATE, DELETE or MERGE.
    pub(super) fn of(query: Node<'_>) -> Result<Self, Unknown> {
        let mut writer = Writer::default();
        writer.statement(query)?;
        Ok(Self {
            text: writer.text,
            places: writer.places,
        })
    }

    /// Where in the statement the name stands that is at this byte of the skeleton.
    pub(super) fn place(&self, at: usize) -> Option<usize> {
        let found = self.places.binary_search_by_key(&at, |(here, _)| *here);
        found
            .ok()
            .and_then(|found| self.places.get(found))
            .map(|(_, there)| *there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::canonical::Canonical;

    fn skeleton(text: &str) -> String {
        let canonical = Canonical::one(text).unwrap();
        let skeleton = Skeleton::of(canonical.node()).unwrap();
        for (here, there) in &skeleton.places {
            let name = |text: &str, at: usize| text[at..].trim_start_matches('"').chars().next();
            let (here, there) = (name(&skeleton.text, *here), name(&canonical.text, *there));
            assert_eq!(here, there, "{text}");
        }
        skeleton.text.replace('\u{1}', "!")
    }

    #[test]
    fn expressions_shrink_to_what_they_refer_to() {
        let cases = [
            ("select a", r#"SELECT "a" AS "a""#),
            ("select 1", r#"SELECT NULL AS "?column?""#),
            ("select", r#"SELECT NULL AS "!nothing""#),
            (
                "select *, t.*, (t).* from t",
                r#"SELECT *, "t".*, NOT f("t") FROM "t""#,
            ),
            (
                "select a + b * (select max(c) from u) is normalized from t",
                r#"SELECT f("a", "b", (SELECT f("c") AS "max" FROM "u")) AS "is_normalized" FROM "t""#,
            ),
            (
                "select sum(a) filter (where b) over (partition by c order by d groups 2 preceding exclude ties)",
                r#"SELECT f("a", "b", "c", "d") AS "sum""#,
            ),
            (
                "select distinct on (a, upper(b)) 1 as x from s.t where c between symmetric d and 3 group by distinct rollup (e), 1 having f > 1 window w as (order by g) order by x, h + 1 limit (select i)",
                r#"SELECT DISTINCT ON ("a", f("b")) NULL AS "x" FROM "s"."t" WHERE f("c", "d", "f", "g") GROUP BY f("e"), NULL ORDER BY "x", f("h") LIMIT f((SELECT "i" AS "i"))"#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(skeleton(text), expected, "{text}");
        }
    }

    #[test]
    fn from_keeps_its_shape() {
        let cases = [
            (
                "select 1 from a x(p, q) join (b natural join c) using (i, j) as u, only d",
                r#"SELECT NULL AS "?column?" FROM "a" AS "x" ("p", "q") JOIN ("b" NATURAL JOIN "c") USING ("i", "j", "!using u"), "!only "."d""#,
            ),
            (
                "select 1 from (a cross join b) as j(x), lateral (values (a.x)) v",
                r#"SELECT NULL AS "?column?" FROM ("a" CROSS JOIN "b") AS "j" ("x"), LATERAL (VALUES ("a"."x")) AS "v""#,
            ),
            (
                "select 1 from rows from (f(a), g() as (x int)) with ordinality t, h(b) as (y int, z int), k(c) i",
                r#"SELECT NULL AS "?column?" FROM f("a") AS "t" ("!more"), f("b") AS "h" ("y", "z"), f("c") AS "i" ("i", "!more")"#,
            ),
            (
                "select 1 from xmltable('/r' passing a columns x int path b, n for ordinality) t",
                r#"SELECT NULL AS "?column?" FROM f("a", "b") AS "t" ("x", "n")"#,
            ),
            (
                "select 1 from json_table(a, '$' columns (x int, nested path '$' columns (y int))) as t(p)",
                r#"SELECT NULL AS "?column?" FROM f("a") AS "t" ("p", "y")"#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(skeleton(text), expected, "{text}");
        }
    }

    #[test]
    fn with_and_sets() {
        let cases = [
            (
                "with recursive r(n) as (select 1 union all select n from r) search depth first by n set s cycle n set m using p table r",
                r#"WITH RECURSIVE "r" ("n", "s", "m", "p") AS (SELECT NULL AS "?column?" UNION ALL SELECT "n" AS "n" FROM "r") SELECT * FROM "r""#,
            ),
            (
                "with r as (select 1) search depth first by n set s table r",
                r#"WITH "r" ("!own", "s") AS (SELECT NULL AS "?column?") SELECT * FROM "r""#,
            ),
            (
                "(select a order by b) intersect select c except all (select d union values (e)) order by 1",
                r#"(SELECT "a" AS "a" ORDER BY "b") UNION ALL SELECT "c" AS "c" UNION ALL (SELECT "d" AS "d" UNION ALL (VALUES ("e"))) ORDER BY NULL"#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(skeleton(text), expected, "{text}");
        }
    }

    #[test]
    fn writes() {
        let cases = [
            (
                "insert into t as x (a, b) select c, d from u on conflict (a) where e do update set b = excluded.b returning a as z, *",
                r#"INSERT INTO "t" AS "x" SELECT "c" AS "c", "d" AS "d" FROM "u" ON CONFLICT DO UPDATE SET "x" = f("e", "excluded"."b") RETURNING "a" AS "z", *"#,
            ),
            (
                "insert into t default values",
                r#"INSERT INTO "t" DEFAULT VALUES"#,
            ),
            (
                "update t set (a, b) = (select c, d from u), e = default from v where g = 1",
                r#"UPDATE "t" SET "x" = f((SELECT "c" AS "c", "d" AS "d" FROM "u")) FROM "v" WHERE f("g")"#,
            ),
            (
                "delete from t using u where a = b returning c",
                r#"DELETE FROM "t" USING "u" WHERE f("a", "b") RETURNING "c" AS "c""#,
            ),
            (
                "merge into t as x using u on a = b when matched and c then update set d = e when not matched then insert (d) values (g) returning merge_action(), d",
                r#"MERGE INTO "t" AS "x" USING "u" ON f("a", "b") WHEN MATCHED THEN UPDATE SET "x" = f("c", "e", "g") RETURNING NULL AS "merge_action", "d" AS "d""#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(skeleton(text), expected, "{text}");
        }
    }

    #[test]
    fn sqlparser_reads_skeletons() {
        use sqlparser::{dialect::PostgreSqlDialect, parser::Parser};
        let texts = [
            "select *, t.*, (t).* from t where a group by b order by c",
            "select 1 from a x(p, q) join (b natural join c) using (i, j) as u, only d",
            "select 1 from (a cross join b) as j(x), lateral (values (a.x)) v",
            "select 1 from rows from (f(a), g() as (x int)) with ordinality t, h(b) as (y int), k(c) i",
            "with r as (select 1) search depth first by n set s table r",
            "(select a order by b) intersect select c except all (select d union values (e)) order by 1",
            "select distinct on (a) b limit (select 1) offset (select 2)",
            "insert into t as x (a) select c from u on conflict (a) do update set b = excluded.b returning a",
            "insert into t as x (a) values (1) on conflict (a) do nothing",
            "update t as x set (a, b) = (select c, d from u) from v where g = 1 returning *",
            "delete from t as x using u, w where a = b returning c",
            "merge into t as x using (select 1) u on a = b when matched then delete returning d",
            "with w as (delete from t returning *) insert into v table w",
        ];
        for text in texts {
            let skeleton = Skeleton::of(Canonical::one(text).unwrap().node()).unwrap();
            let read = Parser::parse_sql(&PostgreSqlDialect {}, &skeleton.text);
            assert!(read.is_ok(), "{}: {read:?}", skeleton.text);
        }
    }
}
