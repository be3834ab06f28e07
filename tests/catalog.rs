//! The catalog as it is read from a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod support;

use std::sync::OnceLock;
use std::time::Instant;

use pgveil::catalog::load::{LoadError, load};
use pgveil::catalog::{Catalog, OnChange, Relation, RelationKind, Runs, TypeClass, Volatility};
use support::postgres::Postgres;

const SCHEMA: &str = r#"
CREATE ROLE proxy LOGIN;
CREATE SCHEMA sealed;
CREATE TABLE sealed.vault (secret text);
CREATE SCHEMA "Odd ""Names""";
CREATE DOMAIN "Odd ""Names"""."E-mail" AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gone text,
    phone varchar(20),
    initials char(2),
    email "Odd ""Names"""."E-mail",
    surname text COLLATE "C",
    salary numeric(10, 2),
    double_salary numeric GENERATED ALWAYS AS (salary * 2) STORED,
    profile jsonb,
    moods mood[],
    mood mood,
    born date,
    seen timestamp(3) with time zone
);
ALTER TABLE customers DROP COLUMN gone;
CREATE TABLE "Odd ""Names"""."Über größe" ("A b" int, "select" inet);
CREATE TABLE events (id int, at date, ip inet) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    PARTITION BY RANGE (at);
CREATE TABLE events_2026_01 PARTITION OF events_2026
    FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE INDEX ON events (id);
CREATE TABLE base (a int);
CREATE TABLE other (b int);
CREATE TABLE derived (c int) INHERITS (base, other);
CREATE VIEW contacts AS SELECT id, email AS address FROM customers WHERE phone IS NOT NULL;
ALTER VIEW contacts RENAME COLUMN address TO "Address";
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM customers;
CREATE FUNCTION leak(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT phone FROM public.customers';
CREATE FUNCTION leak(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION same(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_catalog.int4eq);
CREATE TABLE referred (gone int, y int, x int, UNIQUE (x, y));
ALTER TABLE referred DROP COLUMN gone;
CREATE TABLE referring (id serial, a int DEFAULT 1, b int, FOREIGN KEY (b, a) REFERENCES referred (x, y) ON DELETE CASCADE);
CREATE FUNCTION says(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT true';
CREATE DOMAIN telling AS int CHECK (says(VALUE));
CREATE DOMAIN retelling AS telling;
CREATE TYPE tale AS (n int, teller telling);
CREATE TYPE span AS RANGE (subtype = telling, multirange_type_name = spans);
CREATE TABLE told (all_of_it tale[]);
CREATE DOMAIN by_default AS text DEFAULT leak(4);
CREATE TYPE plain AS ENUM ('one');
CREATE TYPE tint AS ENUM ('red');
CREATE FUNCTION tint_text(tint) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''x''';
CREATE CAST (tint AS text) WITH FUNCTION tint_text(tint);
CREATE FUNCTION mood_cmp(mood, mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
CREATE FUNCTION mood_lt(mood, mood) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR <% (FUNCTION = mood_lt, LEFTARG = mood, RIGHTARG = mood);
CREATE FUNCTION leak_order(tint, tint) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
CREATE OPERATOR CLASS mood_ops DEFAULT FOR TYPE mood USING btree AS
    OPERATOR 1 <%, FUNCTION 1 mood_cmp(mood, mood);
CREATE OPERATOR CLASS hues DEFAULT FOR TYPE tint USING btree AS
    OPERATOR 3 = (anyenum, anyenum), FUNCTION 1 leak_order(tint, tint);
CREATE FUNCTION point_of(text) RETURNS point LANGUAGE sql IMMUTABLE AS 'SELECT point(1, 2)';
CREATE CAST (text AS point) WITH FUNCTION point_of(text);
CREATE FUNCTION box_of(text) RETURNS box LANGUAGE sql IMMUTABLE AS 'SELECT NULL::box';
CREATE CAST (text AS box) WITH FUNCTION box_of(text) AS IMPLICIT;
ALTER ROLE proxy SET search_path = public, sealed;
ALTER ROLE proxy SET quote_all_identifiers = on;
"#;

fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::start();
        server.psql(SCHEMA);
        server
    })
}

async fn catalog() -> Catalog {
    load(&server().target("proxy"), 7).await.unwrap()
}

#[track_caller]
fn relation<'a>(catalog: &'a Catalog, schema: &str, name: &str) -> &'a Relation {
    catalog.relation(schema, name).expect(name)
}

fn types(relation: &Relation) -> Vec<(&str, &str, TypeClass)> {
    relation
        .columns
        .iter()
        .map(|column| (&*column.name, &*column.type_sql, column.class))
        .collect()
}

#[tokio::test]
async fn columns_have_their_order_types_and_classes() {
    let catalog = catalog().await;
    let customers = relation(&catalog, "public", "customers");
    assert_eq!(customers.kind, RelationKind::Table);
    assert_eq!(
        types(customers),
        [
            ("id", "bigint", TypeClass::Int8),
            ("phone", "character varying(20)", TypeClass::Text),
            ("initials", "character(2)", TypeClass::Char),
            ("email", r#""Odd ""Names"""."E-mail""#, TypeClass::Domain),
            ("surname", "text", TypeClass::Text),
            ("salary", "numeric(10,2)", TypeClass::Numeric),
            ("double_salary", "numeric", TypeClass::Numeric),
            ("profile", "jsonb", TypeClass::Jsonb),
            ("moods", "public.mood[]", TypeClass::Other),
            ("mood", "public.mood", TypeClass::Enum),
            ("born", "date", TypeClass::Date),
            (
                "seen",
                "timestamp(3) with time zone",
                TypeClass::Timestamptz
            ),
        ]
    );
    let phone = customers.column("phone").unwrap();
    assert_eq!((phone.attnum, phone.type_oid, phone.typmod), (3, 1043, 24));
    let generated: Vec<_> = customers.columns.iter().filter(|c| c.generated).collect();
    assert_eq!(generated.len(), 1);
    assert_eq!(&*generated[0].name, "double_salary");
    let collated: Vec<_> = customers
        .columns
        .iter()
        .filter(|c| c.collation.is_some())
        .collect();
    assert_eq!(collated.len(), 1);
    assert_eq!(&*collated[0].name, "surname");
    assert_eq!(
        collated[0].collation.as_deref(),
        Some(r#""pg_catalog"."C""#)
    );
}

#[tokio::test]
async fn names_are_exact() {
    let catalog = catalog().await;
    let odd = relation(&catalog, r#"Odd "Names""#, "Über größe");
    assert_eq!(
        types(odd),
        [
            ("A b", "integer", TypeClass::Int4),
            ("select", "inet", TypeClass::Inet)
        ]
    );
    assert!(catalog.relation("public", "Customers").is_none());
    assert_eq!(&*catalog.session_user, "proxy");
    assert_eq!(catalog.epoch, 7);
    let version: u32 = server().psql("SHOW server_version_num").parse().unwrap();
    assert_eq!(catalog.version, version);
}

#[tokio::test]
async fn schemas_are_those_the_role_may_use() {
    let catalog = catalog().await;
    for usable in ["public", "pg_catalog", "information_schema"] {
        assert!(catalog.schemas.contains(usable), "{usable}");
    }
    assert!(!catalog.schemas.contains("sealed"));
    // What is in them is known all the same: a reference to it can be refused by name.
    relation(&catalog, "sealed", "vault");
}

#[tokio::test]
async fn parents_and_children() {
    let catalog = catalog().await;
    let oid = |name| relation(&catalog, "public", name).oid;
    let events = relation(&catalog, "public", "events");
    assert_eq!(events.kind, RelationKind::PartitionedTable);
    assert!(events.has_children && events.parents.is_empty());
    assert_eq!(
        relation(&catalog, "public", "events_2026").parents,
        [oid("events")]
    );
    let leaf = relation(&catalog, "public", "events_2026_01");
    assert_eq!(leaf.parents, [oid("events_2026")]);
    assert!(!leaf.has_children);
    let derived = relation(&catalog, "public", "derived");
    assert_eq!(derived.parents, [oid("base"), oid("other")]);
    let index = relation(&catalog, "public", "events_2026_id_idx");
    assert_eq!(index.kind, RelationKind::Index);
    assert!(index.parents.is_empty() && index.columns.is_empty());
}

#[tokio::test]
async fn views_have_their_definition_with_every_name_qualified() {
    let catalog = catalog().await;
    let contacts = relation(&catalog, "public", "contacts");
    assert_eq!(contacts.kind, RelationKind::View);
    let text = contacts.definition.as_deref().unwrap();
    assert!(text.contains(r#"AS "Address""#), "{text}");
    assert!(text.contains("FROM public.customers"), "{text}");
    assert_eq!(&*contacts.columns[1].name, "Address");

    let totals = relation(&catalog, "public", "totals");
    assert_eq!(totals.kind, RelationKind::MaterializedView);
    assert!(totals.definition.is_some());

    // Postgres's own views too.
    for (schema, name) in [
        ("pg_catalog", "pg_stats"),
        ("information_schema", "columns"),
    ] {
        assert!(
            relation(&catalog, schema, name).definition.is_some(),
            "{name}"
        );
    }
    let undefined = catalog
        .relations
        .values()
        .filter(|r| matches!(r.kind, RelationKind::View | RelationKind::MaterializedView))
        .find(|view| view.definition.is_none());
    assert!(undefined.is_none(), "{undefined:?}");
}

#[tokio::test]
async fn system_relations_are_there() {
    let catalog = catalog().await;
    let class = relation(&catalog, "pg_catalog", "pg_class");
    assert!(class.is_system() && class.column("relname").is_some());
    assert!(
        catalog
            .relations
            .values()
            .any(|r| r.kind == RelationKind::Toast)
    );
    assert!(
        !catalog
            .names
            .keys()
            .any(|schema| schema.starts_with("pg_temp"))
    );
    let sequence = relation(&catalog, "public", "customers_id_seq");
    assert_eq!(sequence.kind, RelationKind::Sequence);
}

#[tokio::test]
async fn functions_and_operators() {
    let catalog = catalog().await;
    let leak = &catalog.functions["leak"];
    assert_eq!(leak.len(), 2);
    assert!(
        leak.iter()
            .all(|function| !function.native && &*function.schema == "public")
    );
    assert_eq!(leak[0].volatility, Volatility::Stable);
    assert_eq!(leak[1].volatility, Volatility::Volatile);
    let upper = &catalog.functions["upper"];
    assert!(
        upper
            .iter()
            .all(|function| &*function.schema == "pg_catalog")
    );
    assert!(upper.iter().any(|function| function.native));
    assert_eq!(upper[0].volatility, Volatility::Immutable);
    let operator = |name: &str| &catalog.operators[name][..];
    let same = Runs::Function {
        schema: "public".into(),
        name: "same".into(),
    };
    assert!(matches!(operator("==="), [one] if one.runs == [same] && one.over == [23, 23, 16]));
    assert!(matches!(operator("===="), [one] if one.runs.is_empty()));
}

#[tokio::test]
async fn what_runs_behind_types() {
    let catalog = catalog().await;
    let text = |run: &Runs| match run {
        Runs::Function { schema, name } => format!("{schema}.{name}"),
        Runs::Expression(text) => text.to_string(),
    };
    let runs = |schema: &str, name: &str| {
        let one = catalog.type_named(schema, name).expect(name);
        let runs = catalog.runs.get(&one.oid);
        let mut names: Vec<String> = runs
            .into_iter()
            .flat_map(|runs| runs.iter())
            .map(text)
            .collect();
        names.sort();
        names
    };
    let none: [&str; 0] = [];
    assert_eq!(runs("pg_catalog", "int4"), none);
    assert_eq!(runs("information_schema", "cardinal_number"), none);
    assert_eq!(runs("public", "plain"), none);
    // A check, a domain over it, an array, a row, a range, a multirange.
    let check = ["public.says(VALUE)"];
    for name in [
        "telling",
        "retelling",
        "_telling",
        "tale",
        "_tale",
        "span",
        "spans",
        "told",
    ] {
        assert_eq!(runs("public", name), check, "{name}");
    }
    assert_eq!(runs("public", "by_default"), ["public.leak(4)"]);
    // A cast, and an order.
    let orders = ["public.leak_order", "public.tint_text"];
    assert_eq!(runs("public", "tint"), orders);
    assert_eq!(
        runs("public", "mood"),
        ["public.mood_cmp", "public.mood_lt"]
    );
    // Between two of Postgres's own: met by the target's name, or anywhere.
    assert_eq!(runs("pg_catalog", "point"), ["public.point_of"]);
    let mut everywhere: Vec<String> = catalog.everywhere.iter().map(text).collect();
    everywhere.sort();
    assert_eq!(everywhere, ["public.box_of", "public.leak_order"]);
}

#[tokio::test]
async fn foreign_keys_and_sequences() {
    let catalog = catalog().await;
    let oid = |name: &str| relation(&catalog, "public", name).oid;
    let (of, to) = (oid("referring"), oid("referred"));
    let [key] = catalog.keys.of(of) else {
        panic!("{:?}", catalog.keys)
    };
    assert_eq!((key.to, catalog.keys.to(to).len()), (to, 1));
    let names = |columns: &[std::sync::Arc<str>]| columns.join(" ");
    assert_eq!(names(&key.columns), "b a");
    assert_eq!(names(&key.to_columns), "x y");
    assert_eq!(key.on_delete, OnChange::Cascade);
    assert_eq!(key.on_update, OnChange::Fail);
    assert!(key.by_default);
    assert_eq!(catalog.owners[&oid("referring_id_seq")], of);
    assert_eq!(catalog.owners[&oid("customers_id_seq")], oid("customers"));
}

#[tokio::test]
async fn another_sessions_temporary_tables_are_left_out() {
    let server = server();
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(&server.directory)
        .port(server.port)
        .user("postgres")
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute("CREATE TEMP TABLE passing (t text)")
        .await
        .unwrap();
    let catalog = catalog().await;
    assert!(!catalog.relations.values().any(|r| &*r.name == "passing"));
    assert!(!catalog.schemas.iter().any(|schema| schema.contains("temp")));
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn loading_takes_well_under_a_second() {
    let target = server().target("proxy");
    load(&target, 0).await.unwrap();
    let start = Instant::now();
    let catalog = load(&target, 1).await.unwrap();
    let took = start.elapsed();
    eprintln!(
        "{} relations, {} function names, in {took:?}",
        catalog.relations.len(),
        catalog.functions.len()
    );
    assert!(took.as_secs_f32() < 2.0, "{took:?}");
}

#[tokio::test]
async fn a_catalog_that_cannot_be_read_says_why() {
    let mut target = server().target("proxy");
    target.dbname = "nowhere".into();
    let error = load(&target, 0).await.unwrap_err();
    assert!(matches!(error, LoadError::Connect(_)));
    assert!(error.to_string().contains("nowhere"), "{error}");
}
