//! Queries: SELECT with all that can follow it, set operations, WITH.

use super::Of::{self, Bool, Int, Num, Text};
use super::{Common, Generator, Scope};

impl Generator {
    pub(super) fn query(&mut self, depth: usize) -> String {
        let columns = self.kinds();
        let (with, common) = match self.chance(20) {
            true => self.with(),
            false => (String::new(), Vec::new()),
        };
        let body = match self.below(24) {
            0..=1 => {
                let operator = self.of(&[
                    "UNION",
                    "UNION ALL",
                    "INTERSECT",
                    "INTERSECT ALL",
                    "EXCEPT",
                    "EXCEPT ALL",
                ]);
                let left = self.select(depth, &columns, &Vec::new(), &common);
                let right = self.select(1, &columns, &Vec::new(), &common);
                let order = self.of(&["ORDER BY 1", "ORDER BY 1 DESC NULLS FIRST LIMIT 4"]);
                format!("({left}) {operator} ({right}) {order}")
            }
            2 => {
                let value = self.subquery(Text, 1, &Vec::new());
                let other = self.expression(Text, 1, &Vec::new());
                format!("VALUES ({value}), ({other})")
            }
            3 => {
                let (table, _) = self.table();
                match self.below(4) {
                    0 => format!("TABLE {}", table.replace("ONLY ", "").replace(" *", "")),
                    1 => format!("TABLE {table}"),
                    2 => format!("SELECT * FROM {table} ORDER BY 1 LIMIT 5"),
                    _ => format!("SELECT * FROM {table}"),
                }
            }
            4 => self.rows(),
            5 => {
                let (table, _) = self.table();
                let other = self.select(1, &columns, &Vec::new(), &common);
                format!("SELECT * FROM {table} t0 WHERE EXISTS ({other})")
            }
            _ => self.select(depth, &columns, &Vec::new(), &common),
        };
        format!("{with}{body}")
    }

    /// A WITH clause, and what it names.
    fn with(&mut self) -> (String, Vec<Common>) {
        let own = self.kinds();
        let names: Vec<String> = (0..own.len()).map(|at| format!("c{at}")).collect();
        let listed = names.join(", ");
        let name = self.of(&["w", "customers", "orders", "people", "public", "\"W 1\""]);
        let kept = self.of(&["", " MATERIALIZED", " NOT MATERIALIZED"]);
        match self.below(8) {
            0 => {
                let start = self.select(0, &own, &Vec::new(), &[]);
                let text = format!(
                    "WITH RECURSIVE {name}({listed}) AS{kept} (({start}) UNION SELECT {listed} FROM {name} WHERE false) "
                );
                (text, vec![(name.into(), own)])
            }
            // The first says the second's name, which is also a table's.
            1 => {
                let inner = self.select(0, &own, &Vec::new(), &[]);
                let main = self.main();
                let text = format!(
                    "WITH RECURSIVE first({listed}) AS (SELECT * FROM {main}), {main}({listed}) AS{kept} ({inner}) "
                );
                (text, vec![(main.into(), own)])
            }
            2 => {
                let (column, main) = (self.governed(), self.main());
                let order = self.of(&[
                    " SEARCH DEPTH FIRST BY c1 SET path",
                    " SEARCH BREADTH FIRST BY c1, c0 SET path",
                    " CYCLE c1 SET looped USING path",
                    " CYCLE c1 SET looped TO 'y' DEFAULT 'n' USING path",
                    "",
                ]);
                let text = format!(
                    "WITH RECURSIVE {name}(c0, c1) AS (SELECT 1, {column}::text FROM {main} WHERE id < 6 UNION ALL SELECT c0 + 1, left(c1, 9) FROM {name} WHERE c0 < 3){order} "
                );
                (text, vec![(name.into(), vec![Int, Text])])
            }
            3 => {
                let (first, second) = (
                    self.select(1, &own, &Vec::new(), &[]),
                    self.select(0, &own, &Vec::new(), &[]),
                );
                let text = format!(
                    "WITH {name}({listed}) AS{kept} ({first}), second({listed}) AS (({second}) EXCEPT SELECT * FROM {name}) "
                );
                let common = vec![(name.into(), own.clone()), ("second".into(), own)];
                (text, common)
            }
            _ => {
                let body = self.select(1, &own, &Vec::new(), &[]);
                let recursive = self.of(&["", "", "RECURSIVE "]);
                let text = format!("WITH {recursive}{name}({listed}) AS{kept} ({body}) ");
                (text, vec![(name.into(), own)])
            }
        }
    }

    /// Whole rows of one table, in some way.
    fn rows(&mut self) -> String {
        let (main, column) = (self.main(), self.governed());
        let (spelling, _) = self.table();
        match self.below(20) {
            0 => format!("SELECT t FROM {spelling} t"),
            1 => format!("SELECT (t).{column} FROM {main} t"),
            2 => format!("SELECT {column}(t) FROM {main} t"),
            3 => format!("SELECT (x.t).{column} FROM (SELECT t FROM {main} t) x"),
            4 => format!("SELECT (t).* FROM {spelling} t"),
            5 => format!("SELECT t.*, t FROM {spelling} t ORDER BY t"),
            6 => format!(
                "SELECT (json_populate_record(NULL::{main}, row_to_json(t))).{column} FROM {main} t"
            ),
            7 => {
                format!("SELECT (jsonb_populate_record(t, '{{\"id\": 1}}')).{column} FROM {main} t")
            }
            8 => format!("SELECT (ROW(t.*)::{main}).{column} FROM {main} t"),
            9 => format!("SELECT count(t), count(DISTINCT t) FROM {spelling} t"),
            10 => format!("SELECT a.id FROM {main} a JOIN {main} b ON a = b"),
            11 => format!("SELECT a.id FROM {main} a WHERE a IN (SELECT b FROM {main} b)"),
            12 => format!(
                "SELECT (u).{column} FROM (SELECT unnest(array_agg(t ORDER BY id)) AS u FROM {main} t) x"
            ),
            13 => format!("SELECT max(t::text), min(ROW(t.id, t.{column})::text) FROM {main} t"),
            14 => format!(
                "SELECT t IS NULL, t IS NOT NULL, t IS DISTINCT FROM NULL FROM {spelling} t"
            ),
            15 => {
                format!("SELECT DISTINCT ON (t.{column}) t FROM {main} t ORDER BY t.{column}, t.id")
            }
            16 => format!("SELECT lag(t) OVER (ORDER BY t.id) FROM {main} t"),
            17 => format!("SELECT jsonb_agg(t ORDER BY t.id) FROM {spelling} t"),
            18 => format!(
                "SELECT to_jsonb(t) - 'id', jsonb_object_keys(to_jsonb(t)) FROM {main} t LIMIT 30"
            ),
            _ => format!("SELECT public.{main}.* FROM public.{main} WHERE {main}.{column} > 'm'"),
        }
    }

    pub(super) fn select(
        &mut self,
        depth: usize,
        columns: &[Of],
        outer: &Scope,
        common: &[Common],
    ) -> String {
        let (from, inner) = self.from(depth, outer, common);
        let mut scope = inner;
        // The outer query's, where there are any, now and then.
        if self.chance(50) {
            scope.extend(outer.iter().cloned());
        }
        let filter = match self.chance(45) {
            true => format!(" WHERE {}", self.expression(Bool, depth, &scope)),
            false => String::new(),
        };
        let limit = self.limit();
        match self.below(10) {
            0..=1 => {
                let all: Vec<String> = columns
                    .iter()
                    .map(|of| self.aggregate(*of, &scope))
                    .collect();
                format!("SELECT {} FROM {from}{filter}", all.join(", "))
            }
            2 => {
                let key = self.expression(columns[0], 0, &scope);
                let mut all = vec![key.clone()];
                for of in &columns[1..] {
                    all.push(self.aggregate(*of, &scope));
                }
                let other = self.expression(Text, 0, &scope);
                let grouping = match self.below(7) {
                    0 => format!("GROUPING SETS (({key}), ())"),
                    1 => format!("ROLLUP ({key})"),
                    2 => format!("CUBE ({key})"),
                    3 => format!("DISTINCT ROLLUP ({key}), CUBE ({key})"),
                    4 => format!("GROUPING SETS (ROLLUP ({key}, {other}), ({other}))"),
                    5 => "1".into(),
                    _ => key,
                };
                let having = match self.chance(30) {
                    true => format!(" HAVING {} > 0", self.aggregate(Int, &scope)),
                    false => String::new(),
                };
                format!(
                    "SELECT {} FROM {from}{filter} GROUP BY {grouping}{having}",
                    all.join(", ")
                )
            }
            3 => {
                let all: Vec<String> = columns.iter().map(|of| self.window(*of, &scope)).collect();
                let order = self.expression(Text, 0, &scope);
                let named = match all.iter().any(|one| one.contains("OVER w")) {
                    true => format!(" WINDOW w AS (ORDER BY {order})"),
                    false => String::new(),
                };
                format!(
                    "SELECT {} FROM {from}{filter}{named}{limit}",
                    all.join(", ")
                )
            }
            4 => {
                let all = self.outputs(columns, depth, &scope);
                let key = self.expression(Text, 0, &scope);
                format!("SELECT DISTINCT ON ({key}) {all} FROM {from}{filter} ORDER BY {key}")
            }
            5 => {
                let all = self.outputs(columns, depth, &scope);
                format!("SELECT DISTINCT {all} FROM {from}{filter}{limit}")
            }
            6 => {
                let all = self.outputs(columns, depth, &scope);
                let kind = self.kind();
                let key = self.expression(kind, 1, &scope);
                let order = self.of(&["", " DESC", " NULLS FIRST", " USING <", " DESC NULLS LAST"]);
                format!("SELECT {all} FROM {from}{filter} ORDER BY {key}{order}")
            }
            _ => {
                let all = self.outputs(columns, depth, &scope);
                format!("SELECT {all} FROM {from}{filter}{limit}")
            }
        }
    }

    fn limit(&mut self) -> String {
        match self.below(12) {
            0..=2 => " LIMIT 3".to_owned(),
            3 => " OFFSET 1".to_owned(),
            4 => " ORDER BY 1 FETCH FIRST 2 ROWS WITH TIES".to_owned(),
            5 => format!(
                " LIMIT (SELECT {} % 5 FROM {} l)",
                self.aggregate(Int, &Vec::new()),
                self.main()
            ),
            6 => {
                let (main, column) = (self.main(), self.governed());
                format!(" ORDER BY 1 LIMIT (SELECT length(max(l.{column})) FROM {main} l) OFFSET 1")
            }
            7 => " LIMIT ALL OFFSET 2 ROWS".to_owned(),
            _ => String::new(),
        }
    }

    fn outputs(&mut self, columns: &[Of], depth: usize, scope: &Scope) -> String {
        let all: Vec<String> = columns
            .iter()
            .map(|of| self.expression(*of, depth, scope))
            .collect();
        all.join(", ")
    }

    fn aggregate(&mut self, of: Of, scope: &Scope) -> String {
        let text = self.expression(Text, 0, scope);
        let number = self.expression(Num, 0, scope);
        let own = self.expression(of, 0, scope);
        let condition = self.expression(Bool, 0, scope);
        let call = match of {
            Int => match self.below(6) {
                0 => "count(*)".to_owned(),
                1 => format!("count(DISTINCT {text})"),
                2 => format!("sum({number})::int"),
                3 => format!("bit_xor(hashtext({text}))"),
                4 => format!("regr_count(({number})::float8, length({text}))::int"),
                _ => format!("count({text})"),
            },
            Num => match self.below(6) {
                0 => format!("avg({number})"),
                1 => format!("sum({number})"),
                2 => format!("stddev({number})"),
                3 => format!("var_pop(length({text}))"),
                4 => format!("min({number})"),
                _ => format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {number})"),
            },
            Text => match self.below(6) {
                0 => format!("string_agg({text}, ',' ORDER BY {text})"),
                1 => format!("max({text})"),
                2 => format!("array_agg({text})::text"),
                3 => format!("json_object_agg(coalesce({text}, '-'), {number})::text"),
                4 => format!("xmlagg(xmlelement(name x, {text}))::text"),
                _ => format!("mode() WITHIN GROUP (ORDER BY {text})"),
            },
            Of::Json => format!("jsonb_agg({own})"),
            Bool => match self.below(2) {
                0 => format!("bool_or({condition})"),
                _ => format!("every({condition})"),
            },
            Of::Date | Of::Time | Of::Inet => format!("max({own})"),
        };
        match self.chance(25) && !call.contains("WITHIN") && !call.contains("::") {
            true => format!("{call} FILTER (WHERE {condition})"),
            false => call,
        }
    }

    fn window(&mut self, of: Of, scope: &Scope) -> String {
        let own = self.expression(of, 0, scope);
        let order = self.expression(Text, 0, scope);
        let part = self.expression(Int, 0, scope);
        let except = self.of(&[
            "",
            " EXCLUDE CURRENT ROW",
            " EXCLUDE GROUP",
            " EXCLUDE TIES",
            " EXCLUDE NO OTHERS",
        ]);
        let over = match self.below(6) {
            0 => format!("(ORDER BY {order})"),
            1 => format!("(PARTITION BY {part} ORDER BY {order})"),
            2 => format!("(ORDER BY {order} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW{except})"),
            3 => format!("(ORDER BY {order} GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING{except})"),
            4 => format!(
                "(ORDER BY {part} RANGE BETWEEN 3 PRECEDING AND UNBOUNDED FOLLOWING{except})"
            ),
            _ => "w".to_owned(),
        };
        match of {
            Int => format!(
                "{}() OVER {over}",
                self.of(&["rank", "row_number", "dense_rank"])
            ),
            Num => format!("sum({own}) OVER {over}"),
            _ => format!(
                "{}({own}) OVER {over}",
                self.of(&["lag", "first_value", "lead", "last_value", "max"])
            ),
        }
    }

    pub(super) fn subquery(&mut self, of: Of, depth: usize, scope: &Scope) -> String {
        let query = self.select(depth.saturating_sub(1), &[of], scope, &[]);
        format!("(SELECT * FROM ({query}) q LIMIT 1)")
    }
}
