//! Statements, and a few one after the other.

use super::Of::Text;
use super::{Generator, Leaves};

impl Generator {
    /// The next statements, to be run one after the other. Where there are several,
    /// the session is no longer as it was.
    pub fn next(&mut self) -> Vec<String> {
        self.names = 0;
        if self.leaves != Leaves::Nothing && self.chance(35) {
            return match self.leaves {
                Leaves::Temporary => self.temporary(),
                _ => self.write(),
            };
        }
        match self.below(100) {
            0..=69 => vec![self.query(2)],
            70..=75 => vec![self.copy()],
            76..=79 => self.cursor(),
            80..=82 => self.prepared(),
            83..=86 => vec![self.catalog()],
            87..=89 => vec![self.lexed()],
            90..=91 => self.setting(),
            92 => self.temporary(),
            93..=95 => self.write(),
            _ => vec![self.hostile()],
        }
    }

    fn copy(&mut self) -> String {
        let options = self.of(&[
            "",
            " WITH (FORMAT csv, HEADER)",
            " (FORMAT binary)",
            " CSV HEADER QUOTE '!' DELIMITER ';'",
            " WITH (FORMAT csv, FORCE_QUOTE *, NULL 'none')",
            " WITH (DELIMITER '|', ENCODING 'LATIN1')",
            " (FORMAT text, HEADER true)",
        ]);
        if self.chance(70) {
            let query = self.query(2);
            return format!("COPY ({query}) TO STDOUT{options}");
        }
        let (table, relation) = self.table();
        let column = relation.columns[self.below(relation.columns.len())].0;
        let listed = match self.chance(50) {
            true => format!(" ({column})"),
            false => String::new(),
        };
        let table = match self.chance(90) {
            true => table.trim_start_matches("ONLY ").trim_end_matches(" *"),
            false => table,
        };
        let table = table.trim_matches(['(', ')']);
        format!("COPY {table}{listed} TO STDOUT{options}")
    }

    fn cursor(&mut self) -> Vec<String> {
        let query = self.query(2);
        let declare = self.of(&[
            "DECLARE c CURSOR FOR",
            "DECLARE c CURSOR WITH HOLD FOR",
            "DECLARE c SCROLL CURSOR FOR",
            "DECLARE c NO SCROLL CURSOR FOR",
            "DECLARE c BINARY INSENSITIVE SCROLL CURSOR WITH HOLD FOR",
        ]);
        let mut move_ = || {
            self.of(&[
                "FETCH 2 c",
                "FETCH ALL c",
                "MOVE 1 c",
                "FETCH LAST c",
                "FETCH BACKWARD 2 FROM c",
                "FETCH ABSOLUTE -1 IN c",
                "FETCH RELATIVE 2 c",
                "FETCH PRIOR c",
                "MOVE FORWARD ALL c",
                "COMMIT",
                "CLOSE c",
            ])
            .to_owned()
        };
        let (first, second) = (move_(), move_());
        vec![
            "BEGIN".into(),
            format!("{declare} {query}"),
            first,
            second,
            "FETCH ALL FROM c".into(),
        ]
    }

    fn prepared(&mut self) -> Vec<String> {
        let query = self.query(1);
        let given = self.text_literal();
        let (main, field) = (self.main(), self.governed());
        let execute = format!("EXECUTE p({given})");
        match self.below(3) {
            0 => vec![
                format!(
                    "PREPARE p(text) AS SELECT count(*), max({field}) FROM {main} WHERE {field} > $1 OR EXISTS ({query})"
                ),
                execute,
            ],
            1 => vec![
                format!(
                    "PREPARE p(text, int) AS SELECT {field} FROM {main} WHERE {field} LIKE $1 || '%' ORDER BY id LIMIT $2"
                ),
                format!("EXECUTE p({given}, 3)"),
                "SELECT name, statement, parameter_types::text FROM pg_prepared_statements".into(),
                "DEALLOCATE p".into(),
            ],
            // By then, Postgres may have made a plan for any value.
            _ => {
                let mut all = vec![format!(
                    "PREPARE p AS SELECT count(*), min({field}) FROM {main} WHERE {field} <> $1 AND region = $2"
                )];
                for region in ["EU", "US", "EU", "EU", "US", "EU", "US"] {
                    all.push(format!("EXECUTE p({given}, '{region}')"));
                }
                all
            }
        }
    }

    fn setting(&mut self) -> Vec<String> {
        let setting = self.of(&[
            "SET search_path TO archive, public",
            "SET search_path TO public, pg_catalog",
            "SET LOCAL search_path TO pg_temp, archive",
            "SET client_min_messages TO notice",
            "SET client_min_messages TO debug5",
            "SET datestyle TO 'German'",
            "SET bytea_output TO 'escape'",
            "SET quote_all_identifiers TO on",
            "SET enable_hashjoin TO off",
            "SET enable_nestloop TO off",
            "SET enable_seqscan TO off",
            "SET enable_sort TO off; SET enable_hashagg TO off",
            "SET plan_cache_mode TO force_generic_plan",
            "SET from_collapse_limit TO 1",
            "SET intervalstyle TO 'iso_8601'",
            "SET extra_float_digits TO 0",
            "SET transform_null_equals TO on",
            "SET row_security TO off",
            "SET timezone TO 'Asia/Kolkata'",
            "SET lc_messages TO 'C'",
            "SET client_encoding TO 'LATIN1'",
            "SET standard_conforming_strings TO off",
            "SET debug_print_plan TO on",
            "SET session_replication_role TO replica",
            "SET ROLE postgres",
            "SET SESSION AUTHORIZATION postgres",
            "SET xmlbinary TO hex; SET xmloption TO document",
            "SELECT set_config('xmlbinary', 'hex', false)",
            "SELECT set_config('search_path', 'archive', false)",
            "UPDATE pg_settings SET setting = 'off' WHERE name = 'row_security'",
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE",
            "SET default_transaction_read_only TO off",
        ]);
        let (one, two) = (self.query(1), self.query(1));
        vec![setting.into(), one, two]
    }

    /// Names that stand for something else from here on; most may not.
    fn temporary(&mut self) -> Vec<String> {
        let (main, field) = (self.main(), self.governed());
        let query = self.query(1);
        let create = match self.below(7) {
            0 => format!("CREATE TEMP TABLE {main} AS SELECT id, {field} FROM public.{main}"),
            1 => format!("CREATE TEMP TABLE kept AS {query}"),
            2 => format!("CREATE TEMP TABLE kept (LIKE {main} INCLUDING ALL)"),
            3 => format!("CREATE TEMP VIEW {main} AS SELECT * FROM public.{main}"),
            4 => format!("CREATE TEMP TABLE kept () INHERITS ({main})"),
            5 => format!("SELECT * INTO TEMP kept FROM {main}"),
            _ => format!("CREATE TEMP TABLE kept (id int, {field} text DEFAULT 'x')"),
        };
        let fill = match self.below(3) {
            0 => format!("INSERT INTO kept SELECT id, {field} FROM {main} RETURNING *"),
            1 => format!("SELECT * FROM {main} ORDER BY 1 LIMIT 3"),
            _ => "ANALYZE kept".into(),
        };
        vec![create, fill, "SELECT * FROM kept ORDER BY 1".into(), query]
    }

    /// Writes, most of which are refused, and none of which stays.
    fn write(&mut self) -> Vec<String> {
        let (main, field) = (self.main(), self.governed());
        let query = self.query(1);
        let text = self.expression(Text, 1, &Vec::new());
        let statement = match self.below(22) {
            0 => format!(
                "INSERT INTO orders (id, status) SELECT id + 900, {field} FROM {main} RETURNING *"
            ),
            1 => {
                format!("INSERT INTO orders (id, status) VALUES (901, {text}) RETURNING id, status")
            }
            2 => "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO NOTHING".into(),
            3 => format!(
                "INSERT INTO orders (id, status) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET status = {text} RETURNING *"
            ),
            4 => format!(
                "INSERT INTO {main} (id, region) VALUES (1, 'EU') ON CONFLICT DO NOTHING RETURNING *"
            ),
            5 => {
                "INSERT INTO customers (id, full_name, ssn) VALUES (990, 'x', '123-45-6001')".into()
            }
            6 => format!("UPDATE {main} SET region = {field}"),
            7 => format!("UPDATE {main} SET region = 'EU' WHERE {field} LIKE 'p%' RETURNING *"),
            8 => format!("UPDATE orders SET status = {text} WHERE id < 4 RETURNING status"),
            9 => format!(
                "UPDATE orders o SET status = c.{field} FROM {main} c WHERE c.id = o.customer_id RETURNING o.status"
            ),
            10 => {
                format!("UPDATE orders SET status = (SELECT max({field}) FROM {main}) RETURNING *")
            }
            11 => format!("DELETE FROM {main} WHERE {field} ~ '^p' RETURNING {field}"),
            12 => format!(
                "DELETE FROM orders USING {main} c WHERE c.id = customer_id AND c.{field} > 'm'"
            ),
            13 => format!(
                "MERGE INTO orders o USING {main} c ON c.id = o.customer_id AND c.{field} LIKE 'p%' WHEN MATCHED THEN UPDATE SET status = 'x' WHEN NOT MATCHED THEN DO NOTHING"
            ),
            14 => format!(
                "WITH w AS (DELETE FROM orders WHERE id < 5 RETURNING *) SELECT count(*) FROM w, {main}"
            ),
            15 => format!(
                "WITH w AS (UPDATE {main} SET region = 'x' RETURNING {field}) SELECT * FROM w"
            ),
            16 => format!("SELECT id FROM {main} ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED"),
            17 => format!(
                "SELECT o.id FROM orders o JOIN {main} c ON true LIMIT 1 FOR NO KEY UPDATE OF o NOWAIT"
            ),
            18 => format!("LOCK TABLE {main} IN SHARE MODE"),
            19 => format!("TRUNCATE {main}"),
            20 => format!("COPY {main} FROM STDIN"),
            _ => "INSERT INTO orders (id, amount) VALUES (1, 2), (1, 3)".into(),
        };
        match self.chance(20) {
            true => vec![
                "BEGIN".into(),
                format!("DECLARE c CURSOR FOR SELECT id FROM {main} FOR UPDATE"),
                "FETCH 1 c".into(),
                format!("UPDATE {main} SET region = 'x' WHERE CURRENT OF c RETURNING {field}"),
                "ROLLBACK".into(),
            ],
            false => vec![
                "BEGIN".into(),
                "SAVEPOINT s".into(),
                statement,
                "ROLLBACK TO s".into(),
                query,
                "ROLLBACK".into(),
            ],
        }
    }

    fn lexed(&mut self) -> String {
        let query = self.query(1);
        let field = self.governed();
        match self.below(16) {
            0 => format!("/* a /* nested */ comment */ {query} -- end"),
            1 => format!("{query}\r\n;"),
            2 => query
                .replace("email", "\"email\"")
                .replace("phone", "U&\"ph\\006fne\"")
                .replace(".mail", ".\"mail\""),
            3 => query.replace("phone", "u&\"!0070hone\" UESCAPE '!'"),
            4 => query
                .replace("customers", "U&\"custo\\006Ders\"")
                .replace("people", "u&\"\\0070eople\""),
            5 => query.to_uppercase(),
            6 => format!("SELECT '\\'', email FROM public.customers --' , ({query})"),
            7 => "SELECT E'\\'', email, $x$--$x$ FROM customers --'".into(),
            8 => query.replace(' ', "\n\t"),
            9 => query.replace(' ', " /**/ "),
            10 => query.replace(", ", " --,\n, ").replace("= ", "=-- \r\n"),
            11 => query.replace("'x'", "E'\\x78'").replace("'EU'", "$q$EU$q$"),
            12 => format!(
                "SELECT 1 != -1, {field} AS \"--\" FROM {} /* ; */;",
                self.main()
            ),
            13 => format!(";;{query};"),
            14 => format!("SELECT 'a'\r'b', {field} ISNULL FROM {}", self.main()),
            _ => format!("SELECT 1 AS \"x\\\"\", email FROM customers --\" {query}"),
        }
    }
}
