//! What a result's columns are said to be: names, tables and numbers there, types
//! and modifiers, in text and binary, are what they are without the proxy; so are
//! the types of parameters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use support::client::{By, Client, Message, frame, refusal, show};
use support::postgres::Postgres;
use support::proxy::Proxy;

const REWRITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");

/// Over masked columns, and views of them.
const ANALYST: &[&str] = &[
    "SELECT id, full_name, email, phone, birth_date, salary, notes, profile, region, created_at FROM customers",
    "SELECT c.email AS e, upper(c.email), c.email || 'x' AS more, c.phone AS p FROM public.customers c",
    "SELECT customers.email, public.customers.phone FROM public.customers",
    "SELECT email FROM ONLY customers WHERE id = $1",
    "SELECT phone AS b, a FROM customers AS c(a, full_name)",
    "SELECT email::text, phone::text, id::int4, email COLLATE \"C\" FROM customers",
    "SELECT id, ctid, email FROM customers",
    "SELECT * FROM events",
    "SELECT e.*, e.ip AS again FROM events e",
    "SELECT ip, e.kind FROM events_2025_01 e ORDER BY ip LIMIT 2",
    "SELECT ip FROM events TABLESAMPLE SYSTEM (50)",
    "TABLE customer_contacts",
    "SELECT v.email, id, v.phone FROM customer_contacts v",
    "SELECT * FROM contacts_of_buyers",
    "SELECT email FROM (SELECT * FROM customer_contacts) s",
    "SELECT s.a, s.phone FROM (SELECT email, phone FROM customers) AS s(a)",
    "SELECT x.*, y.* FROM (SELECT email AS one FROM customers) x, (SELECT phone FROM customers) y",
    "WITH t AS (SELECT email, id FROM customers) SELECT * FROM t",
    "WITH t(a) AS MATERIALIZED (SELECT phone, email FROM customers), u AS (SELECT * FROM t) SELECT u.a, email FROM u",
    "WITH RECURSIVE t AS (SELECT id, email FROM customers UNION SELECT id, email FROM t WHERE false) SELECT * FROM t",
    "WITH RECURSIVE t AS (SELECT id, email FROM customers) SELECT * FROM t",
    "WITH customers AS (SELECT id, amount AS email FROM orders) SELECT email FROM customers",
    "SELECT email FROM customers UNION ALL SELECT phone FROM customers",
    "SELECT s.email FROM (SELECT email FROM customers UNION SELECT email FROM customers) s",
    "SELECT * FROM customer_contacts JOIN orders USING (id)",
    "SELECT id, email FROM customer_contacts LEFT JOIN orders USING (id)",
    "SELECT id, c.id, o.id, status FROM customer_contacts c RIGHT JOIN orders o USING (id)",
    "SELECT * FROM customer_contacts FULL JOIN orders USING (id)",
    "SELECT * FROM customer_contacts NATURAL JOIN orders",
    "SELECT email, phone FROM customer_contacts JOIN (SELECT email, id FROM customers) s USING (email)",
    "SELECT * FROM customer_contacts a JOIN customer_contacts b USING (id, email) JOIN orders o USING (id)",
    "SELECT j.* FROM (customer_contacts c JOIN orders o ON c.id = o.customer_id) AS j",
    "SELECT j.id, c.email FROM customer_contacts c JOIN orders o USING (id) AS j",
    "SELECT a.email, b.email FROM customers a JOIN customers b ON a.id = b.id, orders o",
    "SELECT l.e FROM customers c, LATERAL (SELECT o.id AS e FROM orders o) l",
    "SELECT (SELECT email FROM customers LIMIT 1), (SELECT email FROM customers LIMIT 1) AS email",
    "SELECT email FROM customers GROUP BY email",
    "SELECT DISTINCT email, phone FROM customers",
    "SELECT email, count(*), max(phone) FROM customers GROUP BY ROLLUP (email)",
    "SELECT email, row_number() OVER (ORDER BY id) FROM customers",
    "SELECT v.x, c.email FROM customers c, (VALUES (1, 'a')) AS v(x, y)",
    "SELECT g, c.email FROM customers c, generate_series(1, 2) g",
    "SELECT c.id, o.* FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id IN ($1, 2)",
    "SELECT o FROM orders o",
    "VALUES ((SELECT email FROM customers LIMIT 1))",
    "SELECT c.region, r.n FROM customers c JOIN (SELECT region, count(*) AS n FROM customers GROUP BY 1) r ON true",
    "SELECT attname, a.attnum FROM pg_attribute a WHERE attrelid = 'customers'::regclass",
    "SELECT oid, relname, reltuples FROM pg_class LIMIT 1",
    "PREPARE p AS SELECT email, id FROM customers",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN",
    "DECLARE c SCROLL CURSOR FOR SELECT id, phone, email || '' AS e FROM customers",
    "FETCH 2 FROM c",
    "FETCH BACKWARD ALL FROM c",
    "COMMIT",
    "DECLARE d CURSOR WITH HOLD FOR SELECT * FROM customer_contacts",
    "FETCH ALL d",
    "CLOSE d",
    "COPY (SELECT email FROM customers) TO STDOUT",
    "COPY customers (email) TO STDOUT WITH (FORMAT binary)",
];

/// Behind a row filter, among hidden columns.
const TRAINER: &[&str] = &[
    "SELECT id, email, phone, notes, profile, region, created_at FROM customers",
    "SELECT c.region AS r, c.id FROM customers c WHERE c.id = $1",
    "SELECT id, holder, code, country, kind, balance, rate, active, opened, seen_at, token FROM accounts WHERE id > 0",
    "SELECT * FROM accounts WHERE opened BETWEEN $1 AND $2 AND code = $3",
    "SELECT a.*, o.id FROM accounts a LEFT JOIN orders o USING (id) WHERE a.id = ANY ($1) OR a.code = $2",
    "SELECT * FROM accounts a JOIN orders o USING (id)",
    "SELECT id, a.id FROM orders o JOIN accounts a USING (id)",
    "SELECT id FROM orders o LEFT JOIN accounts a USING (id)",
    "SELECT id FROM accounts a LEFT JOIN orders o USING (id)",
    "SELECT * FROM accounts a WHERE holder IN ($1, $2) AND code IN ($3, $4) AND country = $5 AND kind = $6",
    "SELECT id FROM accounts WHERE balance > $1 AND rate <= $2 AND active = $3 AND seen_at = $4 AND token = $5",
    "SELECT id FROM accounts WHERE id = $1::int OR code = $2::text",
    "SELECT $1::text, id FROM accounts WHERE id = $2 LIMIT $3",
    "SELECT s.id FROM (SELECT id, region FROM accounts) s",
];

/// What is not known: a whole row's type, which the scan's rows do not have; a cast
/// that is none but for its modifier; what `*` stands for beside a function.
const OTHERWISE: &[&str] = &[
    "SELECT v FROM customer_contacts v",
    "SELECT salary::numeric(10, 2) FROM customers",
    "SELECT * FROM customer_contacts, generate_series(1, 2) g",
];

struct Pair {
    direct: Client,
    proxied: Client,
}

impl Pair {
    /// Both descriptions of a statement's parameters and result.
    fn described(&mut self, statement: &str, by: By) -> (Vec<Message>, Vec<Message>) {
        [&mut self.direct, &mut self.proxied]
            .map(|client| {
                match statement.contains('$') {
                    // Nothing is executed, so no value is needed.
                    true => client.send(
                        &[
                            frame(b'P', &[b"\0", statement.as_bytes(), b"\0\0\0"]),
                            frame(b'D', &[b"S\0"]),
                            frame(b'S', &[]),
                        ]
                        .concat(),
                    ),
                    false => client.ask(statement, by),
                }
                let mut answer = client.answer();
                assert_eq!(refusal(&answer), None, "{statement}: {}", show(&answer));
                answer.retain(|(tag, _)| matches!(tag, b'T' | b't' | b'n' | b'H'));
                answer
            })
            .into()
    }
}

#[test]
fn columns_are_said_to_be_what_they_are_without_the_proxy() {
    let postgres = Postgres::start();
    postgres.psql(&std::fs::read_to_string(format!("{REWRITE}/schema.sql")).unwrap());
    postgres.psql("CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy");
    let proxy = Proxy::start(&postgres, "proxy", &Path::new(REWRITE).join("policy"));
    let mut wrong = String::new();
    let (mut columns, mut stored) = (0, 0);
    for (caller, statements) in [("analyst", ANALYST), ("trainer", TRAINER)] {
        for by in [By::Simple, By::Extended, By::Binary] {
            let mut pair = Pair {
                direct: Client::connect(
                    ([127, 0, 0, 1], postgres.port).into(),
                    "proxy",
                    "",
                    "postgres",
                ),
                proxied: proxy.client(caller),
            };
            // By the simple protocol, there are no parameters.
            let all = statements
                .iter()
                .filter(|statement| by != By::Simple || !statement.contains('$'));
            for statement in all {
                let (direct, proxied) = pair.described(statement, by);
                if direct != proxied {
                    let all = |answer: &[Message]| {
                        let described = answer.iter().filter(|(tag, _)| *tag == b'T');
                        described.map(|(_, body)| fields(body)).collect::<Vec<_>>()
                    };
                    let (one, other) = (all(&direct), all(&proxied));
                    writeln!(wrong, "{caller}, {by:?}: {statement}\n{one:?}\n{other:?}").unwrap();
                }
                for (_, body) in proxied.iter().filter(|(tag, _)| *tag == b'T') {
                    let described = fields(body);
                    columns += described.len();
                    stored += described.iter().filter(|(table, _)| *table > 0).count();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(
        columns > 400 && 2 * stored > columns,
        "{stored} of {columns}"
    );

    let mut pair = Pair {
        direct: Client::connect(
            ([127, 0, 0, 1], postgres.port).into(),
            "proxy",
            "",
            "postgres",
        ),
        proxied: proxy.client("analyst"),
    };
    for statement in OTHERWISE {
        let (direct, proxied) = pair.described(statement, By::Simple);
        assert_ne!(direct, proxied, "{statement}");
    }
}

/// Table and column of each field of a RowDescription.
fn fields(body: &[u8]) -> Vec<(u32, i16)> {
    let mut at = 2;
    let mut all = Vec::new();
    while at < body.len() {
        at += body[at..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let number = |from: usize, len: usize| {
            let bytes = &body[at + from..at + from + len];
            bytes
                .iter()
                .fold(0u32, |all, byte| all << 8 | u32::from(*byte))
        };
        all.push((number(0, 4), number(4, 2) as i16));
        at += 18;
    }
    all
}
