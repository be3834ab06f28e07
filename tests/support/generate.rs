//! Statements by a seeded grammar, biased to governed columns.
//!
//! Knows the schema of tests/rewrite and what a caller would try. What answers
//! otherwise from one moment to the next (clocks, chance, process ids) is not in
//! the grammar.

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Int,
    Num,
    Text,
    Date,
    Time,
    Json,
    Inet,
    Bool,
}

use Of::{Bool, Date, Inet, Int, Json, Num, Text, Time};

const CUSTOMERS: &[(&str, Of)] = &[
    ("id", Int),
    ("email", Text),
    ("phone", Text),
    ("notes", Text),
    ("profile", Json),
    ("region", Text),
    ("created_at", Time),
];
/// The analyst's beyond that.
const MASKED: &[(&str, Of)] = &[("full_name", Text), ("birth_date", Date), ("salary", Num)];
const ORDERS: &[(&str, Of)] = &[
    ("id", Int),
    ("customer_id", Int),
    ("amount", Num),
    ("status", Text),
];
const EVENTS: &[(&str, Of)] = &[
    ("id", Int),
    ("customer_id", Int),
    ("kind", Text),
    ("occurred_at", Time),
];

/// What of a FROM list an expression may refer to.
type Scope = Vec<(String, String, Of)>;

/// A source of statements: the same seed gives the same.
pub struct Generator {
    state: u64,
    analyst: bool,
    names: u32,
}

impl Generator {
    /// For a caller.
    pub fn new(seed: u64, caller: &str) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            analyst: caller == "analyst",
            names: 0,
        }
    }

    /// The next statements, to be run one after the other. Where there are several,
    /// the session is no longer as it was.
    pub fn next(&mut self) -> Vec<String> {
        self.names = 0;
        let one = |text: String| vec![text];
        match self.below(100) {
            0..=69 => one(self.query(2)),
            70..=74 => {
                let query = self.query(2);
                let options = self.of(&["", " WITH (FORMAT csv, HEADER)", " (FORMAT binary)"]);
                one(format!("COPY ({query}) TO STDOUT{options}"))
            }
            75..=76 => {
                let (table, columns) = self.table();
                let column = columns[self.below(columns.len())].0.clone();
                let listed = match self.chance(50) {
                    true => format!(" ({column})"),
                    false => String::new(),
                };
                one(format!("COPY {table}{listed} TO STDOUT"))
            }
            77..=79 => {
                let query = self.query(2);
                let hold = self.of(&["", " WITH HOLD", " SCROLL"]);
                let (cursor, hold) = match hold {
                    " SCROLL" => (" SCROLL", ""),
                    other => ("", other),
                };
                let first = self.of(&["FETCH 2 c", "FETCH ALL c", "MOVE 1 c", "FETCH LAST c"]);
                vec![
                    "BEGIN".into(),
                    format!("DECLARE c{cursor} CURSOR{hold} FOR {query}"),
                    first.into(),
                    "FETCH ALL FROM c".into(),
                ]
            }
            80..=82 => {
                let query = self.query(1);
                let given = self.text_literal();
                let field = self.of(&["email", "phone", "notes", "region"]);
                vec![
                    format!(
                        "PREPARE p(text) AS SELECT count(*), max({field}) FROM customers WHERE {field} > $1 OR EXISTS ({query})"
                    ),
                    format!("EXECUTE p({given})"),
                ]
            }
            83..=87 => one(self.catalog()),
            88..=91 => one(self.lexed()),
            92..=93 => {
                let setting = self.of(&[
                    "SET search_path TO archive, public",
                    "SET client_min_messages TO notice",
                    "SET datestyle TO 'German'",
                    "SET bytea_output TO 'escape'",
                    "SET quote_all_identifiers TO on",
                    "SET enable_hashjoin TO off",
                    "SET intervalstyle TO 'iso_8601'",
                    "SET extra_float_digits TO 0",
                    "SET transform_null_equals TO on",
                    "SELECT set_config('xmlbinary', 'hex', false)",
                ]);
                let (one, two) = (self.query(1), self.query(1));
                vec![setting.into(), one, two]
            }
            _ => one(self.hostile()),
        }
    }

    // Chance.

    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % end
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    fn kind(&mut self) -> Of {
        [
            Int, Num, Text, Text, Text, Text, Date, Time, Json, Inet, Bool,
        ][self.below(11)]
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    // Relations.

    fn customers(&self) -> Vec<(String, Of)> {
        let own = if self.analyst { MASKED } else { &[] };
        owned(&[CUSTOMERS, own].concat())
    }

    fn table(&mut self) -> (String, Vec<(String, Of)>) {
        let (spellings, columns): (&[&'static str], _) =
            match self.below(if self.analyst { 11 } else { 9 }) {
                0..=4 => (
                    &[
                        "customers",
                        "public.customers",
                        "ONLY customers",
                        "\"customers\"",
                        "PUBLIC.Customers",
                        "customers *",
                        "ONLY (public.customers)",
                    ],
                    self.customers(),
                ),
                5 => (&["orders", "public.orders"], owned(ORDERS)),
                6 => {
                    let mut columns = owned(EVENTS);
                    if self.analyst {
                        columns.push(("ip".into(), Inet));
                    }
                    (&["events", "public.events"], columns)
                }
                7 => {
                    let mut columns = self.customers();
                    columns.push(("note".into(), Text));
                    (&["vips", "public.vips"], columns)
                }
                8 => {
                    let mut columns = owned(&[("id", Int), ("email", Text), ("phone", Text)]);
                    if self.analyst {
                        columns.push(("full_name".into(), Text));
                    }
                    (&["customer_contacts", "public.customer_contacts"], columns)
                }
                9 => (
                    &["archive.customers"],
                    owned(&[("id", Int), ("email", Text)]),
                ),
                _ => (
                    &["contacts_of_buyers"],
                    owned(&[
                        ("id", Int),
                        ("full_name", Text),
                        ("email", Text),
                        ("phone", Text),
                        ("total", Num),
                    ]),
                ),
            };
        (self.of(spellings).into(), columns)
    }

    /// An item of FROM, and what it adds to the scope.
    fn item(&mut self, depth: usize, scope: &Scope, ctes: &[(String, Vec<Of>)]) -> (String, Scope) {
        let alias = self.name("t");
        let renamed = |columns: &[Of]| -> (String, Scope) {
            let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
            let scope = names
                .iter()
                .zip(columns)
                .map(|(name, of)| (alias.clone(), name.clone(), *of))
                .collect();
            (format!(" AS {alias}({})", names.join(", ")), scope)
        };
        match self.below(if depth == 0 { 60 } else { 100 }) {
            46..=51 if !ctes.is_empty() => {
                let (name, columns) = ctes[self.below(ctes.len())].clone();
                let (renaming, scope) = renamed(&columns);
                (format!("{name}{renaming}"), scope)
            }
            0..=51 => {
                let (table, columns) = self.table();
                let sample = match self.analyst && self.chance(4) && !table.contains("cont") {
                    true => " TABLESAMPLE bernoulli (60) REPEATABLE (7)",
                    false => "",
                };
                match self.chance(20) && !table.contains("vips") {
                    true => {
                        // Renamed by position: what stands there is the schema's to say.
                        let names = ["k", "l", "m", "n"];
                        let count = 1 + self.below(if table.contains("archive") { 2 } else { 3 });
                        let listed = names[..count].join(", ");
                        let kept = columns
                            .iter()
                            .filter(|(name, _)| {
                                matches!(name.as_str(), "region" | "status" | "kind")
                            })
                            .map(|(name, of)| (alias.clone(), name.clone(), *of));
                        let scope = std::iter::once((alias.clone(), "k".to_owned(), Int))
                            .chain(kept)
                            .collect();
                        (format!("{table} AS {alias}({listed}){sample}"), scope)
                    }
                    false => {
                        let scope = columns
                            .into_iter()
                            .map(|(name, of)| (alias.clone(), name, of))
                            .collect();
                        (format!("{table} {alias}{sample}"), scope)
                    }
                }
            }
            52..=53 => {
                let (renaming, scope) = renamed(&[Int]);
                (format!("generate_series(1, 3){renaming}"), scope)
            }
            54..=55 => {
                let (renaming, scope) = renamed(&[Int, Text]);
                (format!("(VALUES (1, 'p'), (2, NULL)){renaming}"), scope)
            }
            56..=57 => {
                let text = self.expression(Text, depth.min(1), scope);
                let (renaming, scope) = renamed(&[Text]);
                (
                    format!("LATERAL unnest(ARRAY[{text}, 'z']){renaming}"),
                    scope,
                )
            }
            58..=59 => {
                let json = self.expression(Json, depth.min(1), scope);
                let (renaming, scope) = renamed(&[Text, Json]);
                let call = format!(
                    "jsonb_each(CASE jsonb_typeof({json}) WHEN 'object' THEN {json} ELSE '{{}}' END)"
                );
                (format!("LATERAL {call}{renaming}"), scope)
            }
            60..=84 => {
                let columns = self.kinds();
                let query = self.select(depth - 1, &columns, &Vec::new(), ctes);
                let (renaming, scope) = renamed(&columns);
                (format!("({query}){renaming}"), scope)
            }
            _ => {
                let columns = self.kinds();
                let query = self.select(depth - 1, &columns, scope, ctes);
                let (renaming, scope) = renamed(&columns);
                (format!("LATERAL ({query}){renaming}"), scope)
            }
        }
    }

    fn from(&mut self, depth: usize, outer: &Scope, ctes: &[(String, Vec<Of>)]) -> (String, Scope) {
        let (mut text, mut scope) = self.item(depth, outer, ctes);
        let more = [0, 0, 0, 1, 1][self.below(5)];
        for _ in 0..more {
            let (item, added) = self.item(depth.min(1), outer, ctes);
            let all: Scope = scope.iter().chain(&added).cloned().collect();
            let condition = self.expression(Bool, 1, &all);
            text = match self.below(8) {
                0 => format!("{text}, {item}"),
                1 => format!("{text} LEFT JOIN {item} ON {condition}"),
                2 => format!("{text} FULL JOIN {item} ON true"),
                3 => format!("{text} JOIN {item} USING (id)"),
                4 => format!("{text} NATURAL JOIN {item}"),
                5 => format!("{text} RIGHT JOIN {item} ON {condition}"),
                6 => format!("{text} CROSS JOIN {item}"),
                _ => format!("{text} JOIN {item} ON {condition}"),
            };
            scope = all;
        }
        (text, scope)
    }

    // Queries.

    fn kinds(&mut self) -> Vec<Of> {
        let count = 1 + self.below(3);
        (0..count).map(|_| self.kind()).collect()
    }

    fn query(&mut self, depth: usize) -> String {
        let columns = self.kinds();
        let mut ctes: Vec<(String, Vec<Of>)> = Vec::new();
        let mut with = String::new();
        if self.chance(18) {
            let recursive = self.chance(40);
            let own = self.kinds();
            let name = self.of(&["w", "customers", "orders", "public", "\"W 1\""]);
            let kept = self.of(&["", " MATERIALIZED", " NOT MATERIALIZED"]);
            let names: Vec<String> = (0..own.len()).map(|at| format!("c{at}")).collect();
            let body = match recursive && self.chance(60) {
                true => {
                    let start = self.select(0, &own, &Vec::new(), &[]);
                    format!(
                        "({start}) UNION SELECT {} FROM {name} WHERE false",
                        names.join(", ")
                    )
                }
                false => self.select(1, &own, &Vec::new(), &[]),
            };
            with = format!(
                "WITH {}{name}({}) AS{kept} ({body}) ",
                if recursive { "RECURSIVE " } else { "" },
                names.join(", ")
            );
            ctes.push((name.into(), own));
        }
        let body = match self.below(20) {
            0..=1 => {
                let operator =
                    self.of(&["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL"]);
                let left = self.select(depth, &columns, &Vec::new(), &ctes);
                let right = self.select(1, &columns, &Vec::new(), &ctes);
                format!("({left}) {operator} ({right}) ORDER BY 1")
            }
            2 => {
                let value = self.subquery(Text, 1, &Vec::new());
                let other = self.expression(Text, 1, &Vec::new());
                format!("VALUES ({value}), ({other})")
            }
            3 => {
                let (table, _) = self.table();
                match self.chance(50) {
                    true => format!("TABLE {}", table.replace("ONLY ", "").replace(" *", "")),
                    false => format!("SELECT * FROM {table}"),
                }
            }
            _ => self.select(depth, &columns, &Vec::new(), &ctes),
        };
        format!("{with}{body}")
    }

    fn select(
        &mut self,
        depth: usize,
        columns: &[Of],
        outer: &Scope,
        ctes: &[(String, Vec<Of>)],
    ) -> String {
        let (from, inner) = self.from(depth, outer, ctes);
        let mut scope = inner;
        // The outer query's, where there are any, now and then.
        if self.chance(50) {
            scope.extend(outer.iter().cloned());
        }
        let filter = match self.chance(45) {
            true => format!(" WHERE {}", self.expression(Bool, depth, &scope)),
            false => String::new(),
        };
        let limit = match self.below(10) {
            0..=2 => " LIMIT 3".to_owned(),
            3 => " OFFSET 1".to_owned(),
            4 => " ORDER BY 1 FETCH FIRST 2 ROWS WITH TIES".to_owned(),
            5 => format!(" LIMIT (SELECT {} % 5)", self.aggregate(Int, &scope)),
            _ => String::new(),
        };
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
                let grouping = match self.below(4) {
                    0 => format!("GROUPING SETS (({key}), ())"),
                    1 => format!("ROLLUP ({key})"),
                    2 => format!("CUBE ({key})"),
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
                format!("SELECT {} FROM {from}{filter}{limit}", all.join(", "))
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
            _ => {
                let all = self.outputs(columns, depth, &scope);
                format!("SELECT {all} FROM {from}{filter}{limit}")
            }
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
            Int => match self.below(4) {
                0 => "count(*)".to_owned(),
                1 => format!("count(DISTINCT {text})"),
                2 => format!("sum({number})::int"),
                _ => format!("count({text})"),
            },
            Num => match self.below(4) {
                0 => format!("avg({number})"),
                1 => format!("sum({number})"),
                2 => format!("stddev({number})"),
                _ => format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {number})"),
            },
            Text => match self.below(4) {
                0 => format!("string_agg({text}, ',' ORDER BY {text})"),
                1 => format!("max({text})"),
                2 => format!("array_agg({text})::text"),
                _ => format!("mode() WITHIN GROUP (ORDER BY {text})"),
            },
            Json => format!("jsonb_agg({own})"),
            Bool => format!("bool_or({condition})"),
            Date | Time | Inet => format!("max({own})"),
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
        let over = match self.below(3) {
            0 => format!("(ORDER BY {order})"),
            1 => format!("(PARTITION BY {part} ORDER BY {order})"),
            _ => format!("(ORDER BY {order} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)"),
        };
        match of {
            Int => format!(
                "{}() OVER {over}",
                self.of(&["rank", "row_number", "dense_rank"])
            ),
            _ => format!(
                "{}({own}) OVER {over}",
                self.of(&["lag", "first_value", "lead"])
            ),
        }
    }

    fn subquery(&mut self, of: Of, depth: usize, scope: &Scope) -> String {
        let query = self.select(depth.saturating_sub(1), &[of], scope, &[]);
        format!("(SELECT * FROM ({query}) q LIMIT 1)")
    }

    // Expressions.

    fn expression(&mut self, of: Of, depth: usize, scope: &Scope) -> String {
        if self.below(400) == 0 {
            // Refused, or unknown: the same for everybody.
            return self
                .of(&[
                    "ssn",
                    "customers.ssn",
                    "(SELECT max(ssn) FROM customers)",
                    "salary",
                    "ip",
                    "full_name",
                ])
                .into();
        }
        let columns: Vec<String> = scope
            .iter()
            .filter(|(_, _, own)| *own == of)
            .map(|(alias, name, _)| format!("{alias}.{name}"))
            .collect();
        let plain = match columns.is_empty() {
            false => columns[self.below(columns.len())].clone(),
            true => self.literal(of),
        };
        if depth == 0 {
            return match self.chance(85) {
                true => plain,
                false => self.cast(of, plain, scope),
            };
        }
        match self.below(20) {
            0..=6 => plain,
            7 => self.literal(of),
            8 => self.subquery(of, depth, scope),
            9 => {
                let condition = self.expression(Bool, depth - 1, scope);
                let other = self.expression(of, depth - 1, scope);
                format!("CASE WHEN {condition} THEN {plain} ELSE {other} END")
            }
            10 => {
                let other = self.expression(of, depth - 1, scope);
                format!("COALESCE({plain}, {other})")
            }
            11 => {
                let other = self.expression(of, depth - 1, scope);
                format!("NULLIF({plain}, {other})")
            }
            _ => self.operation(of, depth - 1, scope),
        }
    }

    /// A conversion that fails on what it finds.
    fn cast(&mut self, of: Of, plain: String, scope: &Scope) -> String {
        let text = self.expression_of(Text, scope);
        let json = self.expression_of(Json, scope);
        match of {
            Int => match self.below(4) {
                0 => format!("CAST(right({text}, 4) AS int)"),
                1 => format!("length({text})"),
                2 => format!("({json} ->> 'n')::int"),
                _ => format!("(1 / (ascii({text}) - 112))"),
            },
            Num => format!("CAST({text} AS numeric)"),
            Date => format!("CAST({text} AS date)"),
            Json => format!("to_jsonb({text})"),
            Inet => format!("CAST({text} AS inet)"),
            Text => format!("{plain}::varchar(6)"),
            Bool => format!("({text} IS NOT NULL)"),
            Time => plain,
        }
    }

    fn expression_of(&mut self, of: Of, scope: &Scope) -> String {
        let columns: Vec<String> = scope
            .iter()
            .filter(|(_, _, own)| *own == of)
            .map(|(alias, name, _)| format!("{alias}.{name}"))
            .collect();
        match columns.is_empty() {
            true => self.literal(of),
            false => columns[self.below(columns.len())].clone(),
        }
    }

    fn operation(&mut self, of: Of, depth: usize, scope: &Scope) -> String {
        let mut any = |of| self.expression(of, depth, scope);
        let (text, other, number, whole) = (any(Text), any(Text), any(Num), any(Int));
        let (date, time, json, inet, truth) =
            (any(Date), any(Time), any(Json), any(Inet), any(Bool));
        let aliases: Vec<&String> = scope.iter().map(|(alias, _, _)| alias).collect();
        let row = match aliases.is_empty() || self.chance(50) {
            true => "ROW(1, 'x')".to_owned(),
            false => aliases[self.below(aliases.len())].clone(),
        };
        match of {
            Int => match self.below(13) {
                0 => format!("length({text})"),
                1 => format!("({whole} + 1)"),
                2 => format!("(100 / {whole})"),
                3 => format!("ascii({text})"),
                4 => format!("strpos({text}, '@')"),
                5 => format!("hashtext({text})"),
                6 => format!("date_part('day', {date})::int"),
                7 => format!("CAST(right({text}, 4) AS int)"),
                8 => format!("masklen({inet})"),
                9 => format!("(SELECT count(*)::int FROM customers z WHERE z.email = {text})"),
                10 => format!("pg_column_size({text})"),
                11 => format!("width_bucket({number}, 0, 100000, 9)"),
                _ => format!("(1 / ({whole} - length({text})))"),
            },
            Num => match self.below(8) {
                0 => format!("({number} * 1.5)"),
                1 => format!("({number} / {whole})"),
                2 => format!("sqrt(({number})::numeric)"),
                3 => format!("CAST({text} AS numeric)"),
                4 => format!("ln(({number})::numeric)"),
                5 => format!("round(({number})::numeric, {whole})"),
                6 => format!("public.cents({number})::numeric"),
                _ => format!("({number} - ({number} % 7))"),
            },
            Text => match self.below(30) {
                0 => format!("upper({text})"),
                1 => format!("({text} || {other})"),
                2 => format!("substr({text}, 1, {whole})"),
                3 => format!("md5({text})"),
                4 => format!("reverse({text})"),
                5 => format!("({row})::text"),
                6 => format!("to_jsonb({row})::text"),
                7 => format!("row_to_json({row})::text"),
                8 => format!("format('%s %L', {text}, {row})"),
                9 => format!("encode(convert_to({text}, 'UTF8'), 'hex')"),
                10 => format!("regexp_replace({text}, '[a-m]', '#', 'g')"),
                11 => format!("split_part({text}, '@', 2)"),
                12 => format!("to_char({number}, '999990.99')"),
                13 => format!("to_char({date}, 'YYYY-MM-DD')"),
                14 => format!("host({inet})"),
                15 => format!("({json} ->> 'mail')"),
                16 => format!("{json}::text"),
                17 => format!("xmlelement(name a, xmlattributes({text} AS b), {other})::text"),
                18 => format!("(xpath('/a/text()', xmlelement(name a, {text})))[1]::text"),
                19 => format!("ARRAY[{text}, {other}]::text"),
                20 => format!(
                    "array_to_string(ARRAY(SELECT y.email FROM customers y ORDER BY y.id), {text})"
                ),
                21 => format!("ts_headline({text}, to_tsquery('simple', 'call'))"),
                22 => format!("to_tsvector('simple', {text})::text"),
                23 => format!("translate({text}, '0123456789', '')"),
                24 => format!("repeat({text}, {whole} % 4)"),
                25 => format!("{text} COLLATE \"C\""),
                26 => format!("quote_nullable({text})"),
                27 => format!("{time}::text"),
                28 => format!("concat_ws('-', {text}, {number}, {row})"),
                _ => format!("greatest({text}, {other})"),
            },
            Date => match self.below(4) {
                0 => format!("({date} + {whole})"),
                1 => format!("CAST({text} AS date)"),
                2 => format!("date_trunc('month', {date})::date"),
                _ => format!("to_date({text}, 'YYYY-MM-DD')"),
            },
            Time => match self.below(3) {
                0 => format!("({time} + interval '1 day')"),
                1 => format!("CAST({text} AS timestamptz)"),
                _ => format!("date_trunc('day', {time})"),
            },
            Json => match self.below(7) {
                0 => format!("to_jsonb({text})"),
                1 => format!("to_jsonb({row})"),
                2 => format!("({json} -> 'mail')"),
                3 => format!("jsonb_build_object('k', {text}, 'r', {row})"),
                4 => format!("jsonb_path_query_array({json}, '$.**')"),
                5 => format!("CAST({text} AS jsonb)"),
                _ => format!("({json} || jsonb_build_array({number}))"),
            },
            Inet => match self.below(3) {
                0 => format!("CAST({text} AS inet)"),
                1 => format!("broadcast({inet})"),
                _ => format!("({inet} + {whole})"),
            },
            Bool => match self.below(16) {
                0 => format!("({text} = {other})"),
                1 => format!("({text} LIKE 'p%')"),
                2 => format!("({text} ~ '[0-9]{{4}}$')"),
                3 => format!("({text} IN (SELECT v.email FROM customers v))"),
                4 => format!("({number} BETWEEN 40000 AND 40100)"),
                5 => format!("({whole} > 2)"),
                6 => format!("({text} IS NOT DISTINCT FROM {other})"),
                7 => format!("EXISTS (SELECT 1 FROM customers u WHERE u.phone > {text})"),
                8 => format!("({truth} AND {whole} < 30)"),
                9 => format!("(NOT {truth})"),
                10 => format!("({date} > DATE '1970-02-01')"),
                11 => format!("({inet} << inet '10.1.0.0/16')"),
                12 => format!("({json} @> '{{\"n\": 3}}')"),
                13 => format!("({text} SIMILAR TO 'person[0-9]+@%')"),
                14 => format!(
                    "({whole} < ALL (SELECT length(s.notes) FROM customers s WHERE s.notes IS NOT NULL))"
                ),
                _ => format!("(({text}, {whole}) IN (SELECT r.email, r.id FROM customers r))"),
            },
        }
    }

    fn literal(&mut self, of: Of) -> String {
        match of {
            Int => self
                .of(&["0", "1", "2", "7", "NULL::int", "-3", "33"])
                .into(),
            Num => self
                .of(&["40013.37", "0.0", "1e3", "NULL::numeric", "'NaN'::numeric"])
                .into(),
            Text => self.text_literal(),
            Date => self
                .of(&["DATE '1970-01-06'", "NULL::date", "'infinity'::date"])
                .into(),
            Time => self
                .of(&["TIMESTAMPTZ '2025-01-01 05:00Z'", "NULL::timestamptz"])
                .into(),
            Json => self
                .of(&[
                    "'{\"mail\": \"person1@example.com\"}'::jsonb",
                    "'null'::jsonb",
                    "NULL::jsonb",
                ])
                .into(),
            Inet => self
                .of(&["inet '10.1.3.7'", "inet '10.1.3.0/24'", "NULL::inet"])
                .into(),
            Bool => self.of(&["true", "false", "NULL::boolean"]).into(),
        }
    }

    fn text_literal(&mut self) -> String {
        self.of(&[
            "'person1@example.com'",
            "'p***@example.com'",
            "'123-45-6001'",
            "'Person 2'",
            "'EU'",
            "'US'",
            "'x'",
            "''",
            "E'a\\'b'",
            "$$d$$",
            "NULL::text",
            "U&'\\0070'",
        ])
        .into()
    }

    // The rest.

    fn catalog(&mut self) -> String {
        self.of(&[
            "SELECT relname, reltuples, relpages FROM pg_class WHERE relnamespace = 2200 ORDER BY 1",
            "SELECT * FROM pg_attribute WHERE attrelid = 'customers'::regclass ORDER BY attnum",
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'customers' ORDER BY ordinal_position",
            "SELECT * FROM pg_stats",
            "SELECT * FROM pg_statistic",
            "SELECT stxname, stxkeys FROM pg_statistic_ext",
            "SELECT * FROM pg_statistic_ext_data",
            "SELECT relname, n_live_tup FROM pg_stat_user_tables",
            "SELECT query FROM pg_stat_activity",
            "SELECT * FROM pg_sequences",
            "SELECT last_value FROM tickets",
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
            "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
            "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 2200 ORDER BY 1",
            "SELECT * FROM pg_matviews",
            "SELECT * FROM pg_prepared_statements",
            "SELECT name, statement FROM pg_cursors",
            "SELECT attname, attmissingval FROM pg_attribute WHERE attrelid = 'public.customers'::regclass",
            "SELECT oid::regclass, relkind FROM pg_class WHERE relname ~ 'cust' ORDER BY 1",
            "SELECT nspname FROM pg_namespace ORDER BY 1",
            "SELECT datname FROM pg_database",
            "SELECT table_name, is_insertable_into FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
            "SELECT pg_relation_size('customers')",
            "SELECT pg_get_viewdef('customer_ids'::regclass)",
            "SELECT rolname FROM pg_roles ORDER BY 1",
            "SELECT count(*) FROM pg_locks",
        ])
        .into()
    }

    fn lexed(&mut self) -> String {
        let query = self.query(1);
        match self.below(10) {
            0 => format!("/* a /* nested */ comment */ {query} -- end"),
            1 => format!("{query}\r\n;"),
            2 => query
                .replace("email", "\"email\"")
                .replace("phone", "U&\"ph\\006fne\""),
            3 => query.replace("phone", "u&\"!0070hone\" UESCAPE '!'"),
            4 => query.replace("customers", "U&\"custo\\006Ders\""),
            5 => query.to_uppercase(),
            6 => format!("SELECT '\\'', email FROM public.customers --' , ({query})"),
            7 => "SELECT E'\\'', email, $x$--$x$ FROM customers --'".into(),
            8 => query.replace(' ', "\n\t"),
            _ => format!("SELECT 1 AS \"x\\\"\", email FROM customers --\" {query}"),
        }
    }

    fn hostile(&mut self) -> String {
        let query = self.query(1);
        match self.below(24) {
            0 => "SELECT customer_card(1)".into(),
            1 => "SELECT o.leak FROM orders o".into(),
            2 => "SELECT 'a' @@@ 1".into(),
            3 => "SELECT * FROM customer_ids".into(),
            4 => "SELECT * FROM region_totals".into(),
            5 => "SELECT word FROM secrets".into(),
            6 => format!("SELECT query_to_xml({}, true, false, '')", quoted(&query)),
            7 => format!("SELECT * FROM ts_stat({})", quoted(&query)),
            8 => format!("EXPLAIN {query}"),
            9 => format!("CREATE TEMP TABLE x AS {query}"),
            10 => format!("SELECT * INTO x FROM ({query}) q"),
            11 => format!("INSERT INTO orders (id) {query}"),
            12 => "UPDATE customers SET notes = ssn".into(),
            13 => "DELETE FROM customers WHERE ssn LIKE '1%'".into(),
            14 => "SELECT xmin, ssn FROM customers".into(),
            15 => "SELECT tableoid::regclass, count(*) FROM customers GROUP BY 1".into(),
            16 => "SELECT * FROM events_2025_01".into(),
            17 => "SELECT email FROM customers FOR UPDATE".into(),
            18 => format!("DO {}", quoted(&query)),
            19 => "SELECT database_to_xml(true, false, '')".into(),
            20 => "SELECT pg_read_file('PG_VERSION')".into(),
            21 => "SELECT 1::telling".into(),
            22 => "SELECT o::text FROM orders o".into(),
            _ => "SELECT ssns(id) FROM orders".into(),
        }
    }
}

fn owned(columns: &[(&str, Of)]) -> Vec<(String, Of)> {
    columns
        .iter()
        .map(|(name, of)| ((*name).to_owned(), *of))
        .collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
