//! What policy's own SQL may hold, and what becomes of it.

use crate::catalog::TypeClass as C;
use crate::policy::expression::{Expression, Kind};

const COLUMNS: &[(&str, C)] = &[
    ("region", C::Text),
    ("n", C::Int4),
    ("amount", C::Numeric),
    ("ratio", C::Float8),
    ("active", C::Bool),
    ("born", C::Date),
    ("at", C::Timestamptz),
    ("seen", C::Timestamp),
    ("ip", C::Inet),
    ("id", C::Uuid),
    ("mood", C::Enum),
    ("span", C::Other),
    ("doc", C::Jsonb),
    ("Odd\"Name", C::Text),
];

fn class(name: &str) -> Option<C> {
    let found = COLUMNS.iter().find(|(known, _)| *known == name);
    found.map(|(_, class)| *class)
}

#[test]
fn conditions_become_canonical() {
    let cases = [
        ("region = 'EU'", "(\"region\" OPERATOR(pg_catalog.=) 'EU')"),
        (
            "region != 'EU' -- all but one",
            "(\"region\" OPERATOR(pg_catalog.<>) 'EU')",
        ),
        (
            "Region IN ('a', 'b')",
            "((\"region\" OPERATOR(pg_catalog.=) 'a') OR (\"region\" OPERATOR(pg_catalog.=) 'b'))",
        ),
        (
            "n NOT IN (1, -2)",
            "(NOT ((\"n\" OPERATOR(pg_catalog.=) 1) OR (\"n\" OPERATOR(pg_catalog.=) (-2))))",
        ),
        (
            "n BETWEEN 1 AND 2",
            "((\"n\" OPERATOR(pg_catalog.>=) 1) AND (\"n\" OPERATOR(pg_catalog.<=) 2))",
        ),
        ("active", "\"active\""),
        ("active IS NOT TRUE", "(\"active\" IS NOT TRUE)"),
        ("region IS NULL", "(\"region\" IS NULL)"),
        (
            "at >= '2024-01-31T00:00:00Z'",
            "(\"at\" OPERATOR(pg_catalog.>=) '2024-01-31T00:00:00Z')",
        ),
        (
            "born < DATE '2024-01-31'",
            "(\"born\" OPERATOR(pg_catalog.<) CAST('2024-01-31' AS pg_catalog.date))",
        ),
        (
            "\"Odd\"\"Name\" = 'it''s \\'",
            "(\"Odd\"\"Name\" OPERATOR(pg_catalog.=) E'it''s \\\\')",
        ),
        ("mood = 'ok'", "(\"mood\" OPERATOR(pg_catalog.=) 'ok')"),
        (
            "ip = '10.0.0.1'",
            "(\"ip\" OPERATOR(pg_catalog.=) '10.0.0.1')",
        ),
        ("true", "true"),
    ];
    for (text, sql) in cases {
        let expression =
            Expression::condition(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expression.canonical(), sql, "{text}");
        assert_eq!(expression.kind(&class), Ok(Kind::Bool), "{text}");
        // What is printed is read again as the same.
        Expression::condition(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn functions_and_operators_keep_their_schema() {
    for text in [
        "lower(region) LIKE 'e%'",
        "region || 'x' = 'EUx'",
        "n::text ~ '^[0-9]+$'",
        "region IS DISTINCT FROM 'EU'",
        "NULLIF(region, '') = 'EU'",
        "CASE region WHEN 'EU' THEN true ELSE false END",
        "substring(region FROM 1 FOR 2) = 'EU'",
        "trim(region) = 'EU'",
        "position('E' IN region) > 0",
        "coalesce(region, 'EU') = 'EU'",
        "region::varchar(2) = 'EU'",
    ] {
        let expression =
            Expression::condition(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expression.kind(&class), Ok(Kind::Bool), "{text}");
        let sql = expression.canonical();
        let bare = sql
            .replace("OPERATOR(pg_catalog.", "")
            .replace("pg_catalog.\"", "");
        for name in ["NULLIF", "DISTINCT", "LIKE", "IN (", "WHEN 'EU'"] {
            assert!(!bare.contains(name), "{sql}");
        }
        for operator in [" = ", " ~ ", " || ", " > "] {
            assert!(!sql.contains(operator), "{sql}");
        }
    }
}

#[test]
fn what_could_fail_or_reach_further_is_refused() {
    for text in [
        "",
        "1",
        "'x'",
        "region = 'EU'; DROP TABLE x",
        "1) FROM x; --",
        "true) , (true",
        "true) AS x --",
        "true FROM customers",
        "region = 'EU') WHERE (true",
        "(SELECT true)",
        "EXISTS (SELECT 1)",
        "region IN (SELECT 'EU')",
        "n / 2 = 1",
        "n + 1 = 2",
        "n % 2 = 0",
        "-n = 1",
        "@ n = 1",
        "n::int2 = 1",
        "region::int = 1",
        "region::date < now()",
        "now() > at",
        "current_user = 'x'",
        "current_date > born",
        "pg_sleep(1) IS NULL",
        "pg_catalog.pg_sleep(1) IS NULL",
        "public.lower(region) = 'x'",
        "region OPERATOR(public.=) 'x'",
        "customers.region = 'x'",
        "region COLLATE \"C\" = 'x'",
        "region = $1",
        "region = ANY (ARRAY['x'])",
        "region LIKE region",
        "region LIKE 'x\\'",
        "region LIKE 'x' ESCAPE 'y'",
        "region SIMILAR TO 'x'",
        "region ~ '('",
        "region ~ '(a)\\1'",
        "region ~ '***=x'",
        "region ~ 'a{2}{3}'",
        "region ~ '[z-a]'",
        "region ~ '(?=x)'",
        "region ~ region",
        "left(region, n) = 'x'",
        "substr(region, 1, -1) = 'x'",
        "split_part(region, 'x', 0) = 'x'",
        "replace(region, 'a', 'aaaa') = 'x'",
        "repeat(region, 1000000000) = 'x'",
        "lpad(region, 2000000000) = 'x'",
        "regexp_replace(region, 'a', 'aaaaaaaaaaaaaaa') = 'x'",
        "to_char(at, 'x') = 'x'",
        "doc ->> 'a' = 'x'",
        "row(region) = row('x')",
        "(region).x = 'y'",
        "ARRAY[region] IS NULL",
        "count(*) > 1",
        "sum(n) OVER () > 1",
        "lower(DISTINCT region) = 'x'",
        "lower(VARIADIC region) = 'x'",
        "lower(region) FILTER (WHERE true) = 'x'",
        "generate_series(1, 2) = 1",
        "xmlparse(document region) IS NOT NULL",
        "region = 'EU' AND",
        "born < DATE 'today'",
        "at < TIMESTAMPTZ '2024-01-31 00:00:00'",
        "n = 1e400",
        "INTERVAL '1 day' IS NULL",
        "n BETWEEN SYMMETRIC 2 AND 1",
        "region = U&'\\0000'",
        "GREATEST(n, 1) = 1",
        "(true, true) IS NULL",
        "*",
        "region = :x",
        "CAST(region AS public.secret) IS NULL",
        "region IS DOCUMENT",
    ] {
        let answer = Expression::condition(text);
        assert!(answer.is_err(), "{text}: {answer:?}");
        assert!(!answer.unwrap_err().0.contains('\n'), "{text}");
    }
    let deep = format!("{}true{}", "(NOT ".repeat(200), ")".repeat(200));
    assert!(Expression::condition(&deep).is_err());
    let long = format!("region = '{}'", "x".repeat(5000));
    assert!(Expression::condition(&long).is_err());
    let wide = "region || ".repeat(40) + "region = 'x'";
    assert!(Expression::condition(&wide).is_err());
    // No depth of nesting ends the process.
    let deepest = "(".repeat(1900) + "true" + &")".repeat(1900);
    let _ = Expression::condition(&deepest);
}

#[test]
fn what_does_not_fit_its_columns_is_refused() {
    for text in [
        "region",
        "missing = 'x'",
        "region = 1",
        "n = 'x'",
        "active = 'x'",
        "at > '2024-01-31'",
        "at > '2024-01-31 00:00:00'",
        "born > '31.01.2024'",
        "born > 'today'",
        "seen > '2024-01-31T00:00:00Z'",
        "at > seen",
        "born = seen",
        "at::text LIKE '2024%'",
        "born::text = 'x'",
        "ratio::text = '1'",
        "mood::text = 'ok'",
        "mood = mood",
        // Read by IntervalStyle, TimeZone, lc_monetary, array_nulls …
        "span = '[1,2]'",
        "span < '1 day'",
        "doc::text LIKE '%x%'",
        "n LIKE '1%'",
        "lower(n) = '1'",
        "n || 'x' = '1x'",
        "n AND true",
        "NOT region",
        "coalesce(region, n::text, active) = 'x'",
        "CASE WHEN active THEN region ELSE n END = 'x'",
        "ip = '300.1.1.1'",
        "id = 'x'",
    ] {
        let kind = Expression::condition(text).map(|expression| expression.kind(&class));
        assert!(!matches!(kind, Ok(Ok(Kind::Bool))), "{text}: {kind:?}");
    }
}

#[test]
fn a_mask_is_over_its_column_alone() {
    for text in [
        "left({column}, 2) || '…'",
        "CASE WHEN {column} > 10 THEN 10 ELSE {column} END",
        "'x'",
        "NULL",
        "md5({column})",
    ] {
        Expression::mask(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for text in [
        "email",
        "{column} || email",
        "'{column}'",
        "\"{column}\"",
        "{columns}",
        "{column}.x",
        "{column}{column}",
        "lower({column}",
        "column",
        "{column}::{column}",
        "replace({column}, '{column}', '')",
    ] {
        assert!(Expression::mask(text).is_err(), "{text}");
    }
}
