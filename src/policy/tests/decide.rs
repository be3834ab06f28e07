//! Who may see what: each case is a policy, a question and its answer.

use super::policy;
use crate::catalog::{Catalog, Column, Relation, RelationKind, TypeClass};
use crate::identity::{Kind, Method, Principal};
use crate::policy::{Action, Policy, RelationAccess, Treatment};

pub(super) const NOW: &str = "2026-06-01T00:00:00Z";

fn column(attnum: i16, name: &str) -> Column {
    let (class, type_sql) = match name {
        "id" | "customer_id" => (TypeClass::Int4, "integer"),
        "ip" => (TypeClass::Inet, "inet"),
        "at" => (TypeClass::Timestamptz, "timestamp with time zone"),
        _ => (TypeClass::Text, "text"),
    };
    Column {
        name: name.into(),
        attnum,
        type_oid: 25,
        typmod: -1,
        type_sql: type_sql.into(),
        class,
        base: class,
        collation: None,
        generated: false,
        made_of: Vec::new(),
        computed: false,
    }
}

fn relation(oid: u32, name: &str, kind: RelationKind, columns: &str, parents: &[u32]) -> Relation {
    let (schema, name) = name.split_once('.').unwrap();
    Relation {
        oid,
        schema: schema.into(),
        name: name.into(),
        kind,
        columns: (1..)
            .zip(columns.split(' '))
            .map(|(at, name)| column(at, name))
            .collect(),
        parents: parents.to_vec(),
        has_children: false,
        definition: None,
    }
}

fn catalog() -> Catalog {
    use RelationKind as K;
    let mut catalog = Catalog::default();
    for one in [
        relation(1, "public.customers", K::Table, "id email ssn region", &[]),
        relation(2, "public.orders", K::Table, "id customer_id status", &[]),
        relation(3, "public.events", K::PartitionedTable, "id ip at", &[]),
        relation(4, "parts.events_1", K::Table, "id ip at", &[3]),
        relation(5, "parts.events_1a", K::Table, "id ip at", &[4]),
        relation(6, "public.contacts", K::View, "id email", &[]),
        relation(7, "public.totals", K::MaterializedView, "region id", &[]),
        relation(8, "public.remote", K::ForeignTable, "id email", &[]),
        relation(9, "public.customers_id_seq", K::Sequence, "id", &[]),
        relation(10, "parts.orphan", K::Table, "id ip", &[99]),
        relation(11, "secret.plans", K::Table, "id", &[]),
    ] {
        catalog.insert(one);
    }
    catalog
}

const SHOP: &str = "datasets:
  shop:
    unclassified: clear
    tables:
      public.customers: { email: email, ssn: ssn }
      public.events: { ip: ip }
    functions: [public.safe, 'open.*']
identities:
  a: { kind: human, roles: [one, two] }
roles:
";

/// Two roles of identity `a`, from the lines of their grants.
fn two(one: &str, other: &str) -> Policy {
    let role = |name: &str, grants: &str| {
        let grants = if grants.is_empty() { "[]" } else { grants };
        format!("  {name}: {{ grants: {grants} }}\n")
    };
    policy(&format!("{SHOP}{}{}", role("one", one), role("two", other)))
}

fn who(policy: &Policy) -> Principal {
    policy.principal("a", Method::Scram).unwrap()
}

pub(super) fn ask(policy: &Policy, principal: &Principal, name: &str, at: &str) -> RelationAccess {
    let catalog = catalog();
    let (schema, name) = name.split_once('.').unwrap();
    let relation = catalog.relation(schema, name).unwrap().clone();
    policy
        .rights(principal, "shop", at.parse().unwrap())
        .access(&relation, &catalog)
}

/// `read write: email=clear … where …`, or `none: why`.
pub(super) fn shown(relation: &str, access: &RelationAccess) -> String {
    let catalog = catalog();
    let (schema, name) = relation.split_once('.').unwrap();
    let relation = catalog.relation(schema, name).unwrap();
    assert_eq!(relation.columns.len(), access.columns.len());
    let actions: Vec<_> = access
        .actions
        .iter()
        .map(|action| action.as_str())
        .collect();
    if actions.is_empty() {
        assert!(
            access
                .columns
                .iter()
                .all(|one| matches!(one.treatment, Treatment::Block))
        );
        return format!("none: {}", access.rule);
    }
    let columns: Vec<String> = relation
        .columns
        .iter()
        .zip(&access.columns)
        .map(|(column, access)| format!("{}={}", column.name, access.treatment.label()))
        .collect();
    let filter = access.filter.as_ref().map(|filter| {
        format!(
            " where {}",
            filter.sql.replace("OPERATOR(pg_catalog.=)", "=")
        )
    });
    format!(
        "{}: {}{}",
        actions.join(" "),
        columns.join(" "),
        filter.unwrap_or_default()
    )
}

fn check(one: &str, other: &str, relation: &str, expected: &str) {
    let policy = two(one, other);
    let access = ask(&policy, &who(&policy), relation, NOW);
    assert_eq!(shown(relation, &access), expected, "{one}\n{other}");
}

pub(super) const CUSTOMERS: &str = "public.customers";

#[test]
fn grants_add_up_and_denials_win() {
    let clear = "[{ dataset: shop, tables: [public.customers], tags: { '*': clear } }]";
    let masks = "[{ dataset: shop, tables: ['*'], tags: { email: { mask: email }, ssn: block } }]";
    let hashes =
        "[{ dataset: shop, tables: ['*'], tags: { email: { mask: hash }, ssn: { mask: hash } } }]";
    let silent = "[{ dataset: shop, tables: ['*'] }]";
    let hides = "[{ dataset: shop, tables: ['public.c*'], tags: { ssn: hide } }]";
    let writes =
        "[{ dataset: shop, tables: ['*'], actions: [write], tags: { email: clear, ssn: hide } }]";
    for (one, other, expected) in [
        (
            clear,
            "",
            "read: id=clear email=clear ssn=clear region=clear",
        ),
        (
            masks,
            "",
            "read: id=clear email=mask:email ssn=block region=clear",
        ),
        (
            silent,
            "",
            "read: id=clear email=block ssn=block region=clear",
        ),
        (
            silent,
            clear,
            "read: id=clear email=clear ssn=clear region=clear",
        ),
        (
            masks,
            clear,
            "read: id=clear email=clear ssn=block region=clear",
        ),
        (
            masks,
            hashes,
            "read: id=clear email=mask:email ssn=block region=clear",
        ),
        (
            hashes,
            masks,
            "read: id=clear email=mask:hash ssn=block region=clear",
        ),
        (
            clear,
            hides,
            "read: id=clear email=clear ssn=hide region=clear",
        ),
        (
            masks,
            hides,
            "read: id=clear email=mask:email ssn=hide region=clear",
        ),
        // A grant of write shows nothing, but what it hides is hidden.
        (
            masks,
            writes,
            "read write: id=clear email=mask:email ssn=hide region=clear",
        ),
        (
            writes,
            "",
            "write: id=block email=block ssn=block region=block",
        ),
        (
            "",
            "",
            "none: no grant of roles one, two names public.customers",
        ),
    ] {
        check(one, other, CUSTOMERS, expected);
    }
}

#[test]
fn rows_of_one_grant_do_not_show_in_another_ones_treatment() {
    let eu = |tags: &str| {
        format!(
            "[{{ dataset: shop, tables: [public.customers], tags: {tags}, rows: {{ public.customers: \"region = 'EU'\" }} }}]"
        )
    };
    let us = |tags: &str| {
        format!(
            "[{{ dataset: shop, tables: [public.customers], tags: {tags}, rows: {{ 'public.*': \"region = 'US'\" }} }}]"
        )
    };
    let all = |tags: &str| format!("[{{ dataset: shop, tables: ['*'], tags: {tags} }}]");
    let where_eu = "where (\"region\" = 'EU')";
    let either = "where ((\"region\" = 'EU') OR (\"region\" = 'US'))";
    for (one, other, expected) in [
        (
            eu("{ '*': clear }"),
            String::new(),
            format!("email=clear ssn=clear region=clear {where_eu}"),
        ),
        // Equal filters are one: the grants add up.
        (
            eu("{ email: { mask: hash } }"),
            eu("{ email: clear, ssn: { mask: hash } }"),
            format!("email=clear ssn=mask:hash region=clear {where_eu}"),
        ),
        // Different ones: the stricter.
        (
            eu("{ '*': clear }"),
            us("{ '*': { mask: hash } }"),
            format!("email=mask:hash ssn=mask:hash region=clear {either}"),
        ),
        (
            eu("{ email: clear }"),
            us("{ ssn: clear }"),
            format!("email=block ssn=block region=clear {either}"),
        ),
        (
            eu("{ '*': { mask: email } }"),
            us("{ '*': { mask: hash } }"),
            format!("email=block ssn=block region=clear {either}"),
        ),
        (
            eu("{ '*': { mask: hash } }"),
            us("{ '*': { mask: null } }"),
            format!("email=mask:null ssn=mask:null region=clear {either}"),
        ),
        // One without a filter grants every row, and decides alone.
        (
            eu("{ '*': clear }"),
            all("{ email: { mask: hash } }"),
            "email=mask:hash ssn=block region=clear".into(),
        ),
        (
            all("{ '*': clear }"),
            eu("{ email: { mask: hash } }"),
            "email=clear ssn=clear region=clear".into(),
        ),
        (
            all("{ '*': clear }"),
            eu("{ ssn: hide }"),
            "email=clear ssn=hide region=clear".into(),
        ),
    ] {
        check(
            &one,
            &other,
            CUSTOMERS,
            &format!("read: id=clear {expected}"),
        );
    }
}

#[test]
fn a_filter_that_does_not_fit_grants_nothing() {
    let wide = "[{ dataset: shop, tables: ['*'], tags: { '*': clear }, rows: { '*': \"region = 'EU'\" } }]";
    let access = {
        let policy = two(wide, "");
        ask(&policy, &who(&policy), "public.orders", NOW)
    };
    assert_eq!(
        shown("public.orders", &access),
        "none: the row filter of role one (p.yaml:11) does not fit public.orders: there is no column `region`"
    );
}

#[test]
fn other_actions_reach_no_rows_that_are_not_read() {
    let read_all = "[{ dataset: shop, tables: ['*'], tags: { '*': clear } }]";
    let read_eu = "[{ dataset: shop, tables: ['*'], tags: { '*': clear }, rows: { public.customers: \"region = 'EU'\" } }]";
    let write_eu = "[{ dataset: shop, tables: ['*'], actions: [write], rows: { public.customers: \"region = 'EU'\" } }]";
    let write_us = "[{ dataset: shop, tables: ['*'], actions: [write], rows: { public.customers: \"region = 'US'\" } }]";
    let clear = "id=clear email=clear ssn=clear region=clear";
    check(
        read_eu,
        write_eu,
        CUSTOMERS,
        &format!("read write: {clear} where (\"region\" = 'EU')"),
    );
    check(
        read_eu,
        write_us,
        CUSTOMERS,
        &format!("read: {clear} where (\"region\" = 'EU')"),
    );
    check(read_all, write_eu, CUSTOMERS, &format!("read: {clear}"));
    check(
        "",
        write_eu,
        CUSTOMERS,
        "none: no grant of roles one, two names public.customers",
    );
    check(
        "",
        write_eu,
        "public.orders",
        "write: id=block customer_id=block status=block",
    );
}

#[test]
fn relations_by_kind_and_lineage() {
    let events = "[{ dataset: shop, tables: [public.events], tags: { ip: { mask: ip } } }]";
    let all = "[{ dataset: shop, tables: ['*'], tags: { ip: { mask: ip } } }]";
    let at = "[{ dataset: shop, tables: [public.events], tags: { '*': clear }, rows: { public.events: \"at >= '2024-01-01T00:00:00Z'\" } }]";
    check(
        events,
        "",
        "parts.events_1a",
        "read: id=clear ip=mask:ip at=clear",
    );
    check(
        at,
        "",
        "parts.events_1a",
        "read: id=clear ip=clear at=clear where (\"at\" OPERATOR(pg_catalog.>=) '2024-01-01T00:00:00Z')",
    );
    check(
        events,
        "",
        "public.orders",
        "none: no grant of roles one, two names public.orders",
    );
    check(
        all,
        "",
        "parts.orphan",
        "none: a parent of parts.orphan is not in the catalog",
    );
    check(all, "", "public.contacts", "read: id=clear email=clear");
    check(
        all,
        "",
        "public.totals",
        "none: materialized view public.totals stores rows of its own; classify it under `tables` of p.yaml:2",
    );
    check(
        all,
        "",
        "public.remote",
        "none: foreign table public.remote stores rows of its own; classify it under `tables` of p.yaml:2",
    );
    check(
        all,
        "",
        "public.customers_id_seq",
        "none: sequences are not served",
    );
    let everything = "[{ dataset: shop, tables: ['*'], tags: { '*': clear } }]";
    check(
        everything,
        "",
        "public.totals",
        "read: region=clear id=clear",
    );
    let prefix = "[{ dataset: shop, tables: ['public.cust*'], tags: { '*': clear } }]";
    check(
        prefix,
        "",
        CUSTOMERS,
        "read: id=clear email=clear ssn=clear region=clear",
    );
    check(
        prefix,
        "",
        "secret.plans",
        "none: no grant of roles one, two names secret.plans",
    );
}

#[test]
fn a_mask_that_does_not_serve_the_type_is_block() {
    let date = "[{ dataset: shop, tables: ['*'], tags: { email: { mask: date, to: year } } }]";
    let policy = two(date, "");
    let access = ask(&policy, &who(&policy), CUSTOMERS, NOW);
    assert_eq!(
        &*access.columns[1].rule,
        "mask date cannot serve type text: role one, tag email (p.yaml:11)"
    );
    assert_eq!(access.columns[1].treatment.label(), "block");
}

#[test]
fn rules_say_where_they_stand() {
    let masks = "[{ dataset: shop, tables: ['*'], tags: { ssn: block } }]";
    let policy = two(masks, "");
    let access = ask(&policy, &who(&policy), CUSTOMERS, NOW);
    let rules: Vec<&str> = access.columns.iter().map(|one| &*one.rule).collect();
    assert_eq!(
        rules,
        [
            "unclassified: clear (p.yaml:2)",
            "role one does not speak of tag email (p.yaml:11)",
            "role one, tag ssn (p.yaml:11)",
            "unclassified: clear (p.yaml:2)",
        ]
    );
    assert_eq!(access.columns[2].tag.as_deref(), Some("ssn"));
    assert_eq!(&*access.rule, "role one (p.yaml:11)");
}

#[test]
fn what_is_renamed_is_not_shown() {
    let base = "datasets: { shop: { unclassified: UNCLASSIFIED, tables: { public.customers: { mail: email, ssn: ssn }, public.gone: { status: note } } } }
identities: { a: { kind: human, roles: [one] } }
roles: { one: { grants: [{ dataset: shop, tables: ['*'], tags: TAGS }] } }";
    let answer = |unclassified: &str, tags: &str, relation: &str| {
        let policy = policy(
            &base
                .replace("UNCLASSIFIED", unclassified)
                .replace("TAGS", tags),
        );
        let access = ask(&policy, &who(&policy), relation, NOW);
        (shown(relation, &access), access)
    };
    // `mail` is gone from customers: `email` may be it, and so may any other.
    let (shown, access) = answer("clear", "{ email: block, ssn: clear }", CUSTOMERS);
    assert_eq!(shown, "read: id=block email=block ssn=clear region=block");
    assert_eq!(
        &*access.columns[0].rule,
        "public.customers.mail is classified (p.yaml:1) but not there: this may be it, renamed"
    );
    // Whoever may see it in clear loses nothing.
    let (shown, _) = answer("clear", "{ '*': clear }", CUSTOMERS);
    assert_eq!(shown, "read: id=clear email=clear ssn=clear region=clear");
    let (shown, _) = answer("hide", "{ email: block, ssn: clear }", CUSTOMERS);
    assert_eq!(shown, "read: id=hide email=hide ssn=clear region=hide");
    // `public.gone` is gone: orders has its column.
    let (shown, _) = answer("clear", "{ note: { mask: hash } }", "public.orders");
    assert_eq!(shown, "read: id=clear customer_id=clear status=mask:hash");
    let (shown, _) = answer("clear", "{ note: { mask: hash } }", "secret.plans");
    assert_eq!(shown, "read: id=clear");
    let (shown, _) = answer("block", "{ '*': clear }", "secret.plans");
    assert_eq!(shown, "read: id=block");
}

#[test]
fn times_and_second_factors() {
    let timed = "[{ dataset: shop, tables: ['*'], tags: { '*': clear }, from: 2026-01-01T00:00:00Z, until: 2027-01-01T00:00:00Z }]";
    let policy = two(
        timed,
        "[{ dataset: shop, tables: ['*'], from: 2026-09-01T00:00:00Z }]",
    );
    let a = who(&policy);
    let until = |at: &str| {
        let rights = policy.rights(&a, "shop", at.parse().unwrap());
        rights.valid_until().map(|time| time.to_string())
    };
    assert_eq!(
        until("2025-06-01T00:00:00Z").unwrap(),
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(until(NOW).unwrap(), "2026-09-01T00:00:00Z");
    assert_eq!(
        until("2026-12-01T00:00:00Z").unwrap(),
        "2027-01-01T00:00:00Z"
    );
    assert_eq!(until("2027-01-01T00:00:00Z"), None);
    let policy = two(timed, "");
    let shown_at = |at: &str| shown(CUSTOMERS, &ask(&policy, &who(&policy), CUSTOMERS, at));
    assert_eq!(
        shown_at(NOW),
        "read: id=clear email=clear ssn=clear region=clear"
    );
    assert_eq!(
        shown_at("2027-01-01T00:00:00Z"),
        "none: the grant of role one (p.yaml:11) on public.customers is not in force (until 2027-01-01T00:00:00Z)"
    );

    let locked = "[{ dataset: shop, tables: ['*'], tags: { email: clear, ssn: hide }, require: { mfa: true } }]";
    let plain = "[{ dataset: shop, tables: ['*'], tags: { '*': { mask: hash } } }]";
    check(
        locked,
        "",
        CUSTOMERS,
        "none: role one (p.yaml:11) grants public.customers only with a second factor",
    );
    // Without the factor its `clear` is not there; its `hide` is.
    check(
        locked,
        plain,
        CUSTOMERS,
        "read: id=clear email=mask:hash ssn=hide region=clear",
    );
    let policy = two(locked, plain);
    let proved = Principal {
        mfa: Some(NOW.parse().unwrap()),
        ..who(&policy)
    };
    assert_eq!(
        shown(CUSTOMERS, &ask(&policy, &proved, CUSTOMERS, NOW)),
        "read: id=clear email=clear ssn=hide region=clear"
    );
}

/// By rule 3 a grant can take something from what another shows: without its factor it does
/// so as with it.
#[test]
fn nothing_is_more_without_a_factor_than_with_it() {
    let masks = "[{ dataset: shop, tables: ['*'], tags: { email: { mask: email }, ssn: clear }, require: { mfa: true, max_age: 15min } }]";
    let some = "[{ dataset: shop, tables: ['*'], tags: { '*': clear }, rows: { public.customers: \"region = 'EU'\" }, actions: [read, write] }]";
    let others = "[{ dataset: shop, tables: ['*'], tags: { '*': { mask: hash } }, rows: { public.customers: \"region = 'US'\" }, require: { mfa: true } }]";
    let seen = |policy: &Policy, minutes: Option<i64>| {
        let now: jiff::Timestamp = NOW.parse().unwrap();
        let principal = Principal {
            mfa: minutes.map(|minutes| now - jiff::SignedDuration::from_mins(minutes)),
            ..who(policy)
        };
        shown(CUSTOMERS, &ask(policy, &principal, CUSTOMERS, NOW))
    };
    let masked = "read: id=clear email=mask:email ssn=clear region=clear";
    let hashed = "read: id=clear email=mask:hash ssn=mask:hash region=clear";
    for (locked, expected) in [(masks, masked), (others, hashed)] {
        let policy = two(locked, some);
        for minutes in [Some(1), Some(20), None] {
            let seen = seen(&policy, minutes);
            let (columns, _) = seen.split_once(" where ").unwrap_or((&seen, ""));
            assert_eq!(columns, expected, "{locked} {minutes:?}");
        }
    }
}

/// A factor that was proved too long ago is none; what its grants forbid stays forbidden.
#[test]
fn a_second_factor_ages() {
    let recent = "[{ dataset: shop, tables: ['*'], tags: { email: clear, ssn: hide }, limits: { rows_per_query: 7 }, require: { mfa: true, max_age: 15min } }]";
    let plain = "[{ dataset: shop, tables: ['*'], tags: { '*': { mask: hash } } }]";
    let policy = two(recent, plain);
    let now: jiff::Timestamp = NOW.parse().unwrap();
    let proved = |minutes: i64| Principal {
        mfa: Some(now - jiff::SignedDuration::from_mins(minutes)),
        ..who(&policy)
    };
    let seen = |minutes: i64| {
        let rights = policy.rights(&proved(minutes), "shop", now);
        let customers = shown(CUSTOMERS, &ask(&policy, &proved(minutes), CUSTOMERS, NOW));
        assert_eq!(rights.limits().rows_per_query, Some(7));
        (customers, rights.valid_until(), rights.wants_factor(None))
    };
    let all = "read: id=clear email=clear ssn=hide region=clear";
    let less = "read: id=clear email=mask:hash ssn=hide region=clear";
    let end = now + jiff::SignedDuration::from_mins(1);
    assert_eq!(seen(14), (all.into(), Some(end), false));
    assert_eq!(seen(15), (less.into(), None, true));
    // It opens what nothing else blocks.
    let opens = |grant: &str, minutes: i64| {
        let policy = two(recent, grant);
        let rights = policy.rights(&proved(minutes), "shop", now);
        let catalog = catalog();
        let customers = catalog.relation("public", "customers").unwrap();
        [1, 2].map(|column| rights.factor_opens(customers, &catalog, column))
    };
    let nothing = "[{ dataset: shop, tables: ['*'], tags: { } }]";
    let forbids = "[{ dataset: shop, tables: ['*'], tags: { email: block } }]";
    assert_eq!(opens(nothing, 15), [true, false]);
    assert_eq!(opens(nothing, 14), [false, false]);
    assert_eq!(opens(forbids, 15), [false, false]);
    let alone = two(recent, "");
    let stale = Principal {
        mfa: proved(15).mfa,
        ..who(&alone)
    };
    assert_eq!(
        shown(CUSTOMERS, &ask(&alone, &stale, CUSTOMERS, NOW)),
        "none: role one (p.yaml:11) grants public.customers only with a second factor proved more recently"
    );
}

#[test]
fn hours_of_the_week_and_environments() {
    let at =
        |policy: &Policy, at: &str| shown(CUSTOMERS, &ask(policy, &who(policy), CUSTOMERS, at));
    let seen = "read: id=clear email=clear ssn=clear region=clear";
    let policy = two(
        "[{ dataset: shop, tables: ['*'], tags: { '*': clear }, until: 2026-06-03T00:00:00Z,
            hours: [{ days: [mon, tue], from: '08:00', until: '18:00' }, { days: [sun], from: '22:00', until: '01:00', zone: Europe/Berlin }] }]",
        "",
    );
    // A Monday, and the Sunday before it in Berlin.
    assert_eq!(at(&policy, "2026-06-01T08:00:00Z"), seen);
    assert_eq!(at(&policy, "2026-05-31T20:00:00Z"), seen);
    assert_eq!(
        at(&policy, NOW),
        "none: the grant of role one (p.yaml:11) on public.customers is not in force now \
         (in force mon tue 08:00-18:00 UTC, sun 22:00-01:00 Europe/Berlin)"
    );
    let until = |at: &str| {
        let rights = policy.rights(&who(&policy), "shop", at.parse().unwrap());
        rights.valid_until().unwrap().to_string()
    };
    assert_eq!(until("2026-05-31T20:00:00Z"), "2026-05-31T23:00:00Z");
    assert_eq!(until(NOW), "2026-06-01T08:00:00Z");
    assert_eq!(until("2026-06-02T18:00:00Z"), "2026-06-03T00:00:00Z");

    let staging = || {
        two(
            "[{ dataset: shop, environments: [staging, test], tables: ['*'], tags: { '*': clear } }]",
            "",
        )
    };
    let within = |environment: &str| {
        let all = [("shop".into(), environment.into())];
        staging().within(all.into_iter().collect())
    };
    assert_eq!(at(&within("staging"), NOW), seen);
    let refused = "none: the grant of role one (p.yaml:11) on public.customers is in force in \
                   staging, test alone";
    assert_eq!(at(&within("production"), NOW), refused);
    // Nobody knows what it is.
    assert_eq!(at(&staging(), NOW), refused);
}

#[test]
fn every_dataset_is_those_that_are_not_isolated() {
    let text = "datasets:
  shop: { unclassified: clear }
  vault: { unclassified: clear, isolated: true }
identities:
  a: { kind: human, roles: [wide] }
  b: { kind: human, roles: [named] }
roles:
  wide: { grants: [{ dataset: '*', tables: ['*'] }] }
  named: { grants: [{ dataset: vault, tables: ['*'] }] }";
    let reached = |policy: &Policy, name: &str| {
        let principal = policy.principal(name, Method::Scram).unwrap();
        ["shop", "vault", "other"].map(|dataset| {
            let rights = policy.rights(&principal, dataset, NOW.parse().unwrap());
            !rights.is_empty()
        })
    };
    let isolated = policy(text);
    assert_eq!(reached(&isolated, "a"), [true, false, false]);
    assert_eq!(reached(&isolated, "b"), [false, true, false]);
    let open = policy(&text.replace("isolated: true", "isolated: false"));
    assert_eq!(reached(&open, "a"), [true, true, false]);
}

/// What is forbidden everywhere is forbidden in an isolated dataset too.
#[test]
fn what_every_dataset_forbids_an_isolated_one_does() {
    let text = "datasets:
  shop: { unclassified: clear, isolated: true, tables: { public.customers: { email: email, ssn: ssn, region: region } } }
identities:
  both: { kind: human, roles: [wide, named] }
  named: { kind: human, roles: [named] }
  wide: { kind: human, roles: [wide] }
roles:
  wide: { grants: [{ dataset: '*', tables: ['*'], actions: [read, write], tags: { ssn: block, region: hide, '*': clear }, limits: { rows_per_query: 5 } }] }
  named: { grants: [{ dataset: shop, tables: ['*'], tags: { email: { mask: email }, '*': clear } }] }";
    let isolated = policy(text);
    let of = |policy: &Policy, name: &str| {
        let principal = policy.principal(name, Method::Scram).unwrap();
        shown(CUSTOMERS, &ask(policy, &principal, CUSTOMERS, NOW))
    };
    let named = of(&isolated, "named");
    assert!(
        named.contains("ssn=clear") && named.contains("email=mask:email"),
        "{named}"
    );
    // It gives no more: neither what is in clear by it, nor an action.
    let both = of(&isolated, "both");
    assert!(
        both.contains("ssn=block") && both.contains("region=hide"),
        "{both}"
    );
    assert!(both.contains("email=mask:email"), "{both}");
    let principal = isolated.principal("both", Method::Scram).unwrap();
    let rights = isolated.rights(&principal, "shop", NOW.parse().unwrap());
    assert!(rights.allows(Action::Write).is_none() && !rights.all_clear());
    assert_eq!(rights.limits().rows_per_query, Some(5));
    let wide = of(&isolated, "wide");
    assert!(
        wide.contains("this one is isolated: a grant must name it"),
        "{wide}"
    );
}

#[test]
fn an_environment_that_is_nearly_another_is_warned_of() {
    let policy = || {
        two(
            "[{ dataset: shop, environments: [stagin], tables: ['*'] }]",
            "[{ dataset: shop, environments: [staging, production], tables: ['*'] }]",
        )
    };
    let nearly = |policy: &Policy| {
        let all = policy.warnings.iter();
        all.filter(|warning| warning.contains("is nearly")).count()
    };
    let [_, first, second] = &policy().warnings[..] else {
        panic!("{:?}", policy().warnings)
    };
    assert!(
        first.contains("p.yaml:11: the environment `stagin` is nearly `staging`"),
        "{first}"
    );
    assert!(second.contains("`staging` is nearly `stagin`"), "{second}");
    let far = two(
        "[{ dataset: shop, environments: [staging-eu, test1, eu, dev], tables: ['*'] }]",
        "[{ dataset: shop, environments: [staging-us, test2, us, def], tables: ['*'] }]",
    );
    assert_eq!(nearly(&far), 0, "{:?}", far.warnings);
    // As the configuration has them: one that is far from all may be another proxy's.
    let within = |name: &str| policy().within([("shop".into(), name.into())].into());
    assert_eq!(nearly(&within("producton")), 3);
    assert_eq!(nearly(&within("elsewhere")), 2);
}

#[test]
fn on_behalf_of_gets_the_stricter_of_both() {
    let text = "datasets: { shop: { unclassified: clear, tables: { public.customers: { email: email, ssn: ssn, region: region } } } }
identities:
  human: { kind: human, roles: [h] }
  agent: { kind: agent, roles: [g], owner: human }
roles:
  h: { grants: [{ dataset: shop, tables: [public.customers, public.orders], actions: [read, write], tags: { email: HUMAN, ssn: block, region: clear }, rows: { public.customers: \"region = 'EU'\" }, limits: { rows_per_query: 10, statement_timeout: 1h } }] }
  g: { grants: [{ dataset: shop, tables: [public.customers], actions: [read, temp], tags: { email: AGENT, ssn: clear, region: hide }, rows: { public.customers: \"id = 1\" }, limits: { rows_per_query: 99, statement_timeout: 1s } }] }";
    let rights = |human: &str, agent: &str| {
        let policy = policy(&text.replace("HUMAN", human).replace("AGENT", agent));
        let owner = policy.principal("human", Method::Scram).unwrap();
        let principal = Principal {
            on_behalf_of: Some(Box::new(owner)),
            ..policy.principal("agent", Method::Scram).unwrap()
        };
        policy.rights(&principal, "shop", NOW.parse().unwrap())
    };
    let catalog = catalog();
    let customers = catalog.relation("public", "customers").unwrap();
    for (human, agent, email) in [
        ("clear", "{ mask: hash }", "mask:hash"),
        ("{ mask: hash }", "clear", "mask:hash"),
        ("{ mask: email }", "{ mask: hash }", "block"),
        ("{ mask: null }", "{ mask: hash }", "mask:null"),
        ("hide", "{ mask: hash }", "hide"),
    ] {
        let access = rights(human, agent).access(customers, &catalog);
        assert_eq!(
            shown(CUSTOMERS, &access),
            format!(
                "read: id=clear email={email} ssn=block region=hide where ((\"id\" = 1) AND (\"region\" = 'EU'))"
            )
        );
    }
    let both = rights("clear", "clear");
    assert_eq!(both.limits().rows_per_query, Some(10));
    assert_eq!(both.limits().statement_timeout_ms, Some(1000));
    assert!(both.allows(Action::Temp).is_none());
    assert!(both.allows(Action::Read).is_some());
    assert!(!both.is_empty());
    let orders = catalog.relation("public", "orders").unwrap();
    assert_eq!(
        shown("public.orders", &both.access(orders, &catalog)),
        "none: no grant of role g names public.orders"
    );
}

#[test]
fn digests_are_of_what_decides() {
    let grant = "[{ dataset: shop, tables: ['*'], tags: { '*': clear } }]";
    let text = format!(
        "{SHOP}  one: {{ grants: {grant} }}\n  two: {{ grants: [] }}\n  three: {{ grants: [] }}\n"
    )
    .replace(
        "  a: { kind: human, roles: [one, two] }",
        "  a: { kind: human, roles: [one] }\n  b: { kind: agent, roles: [one] }\n  c: { kind: human, roles: [three, one] }",
    );
    let policy = policy(&text);
    let digest = |name: &str| {
        let principal = policy.principal(name, Method::Scram).unwrap();
        policy
            .rights(&principal, "shop", NOW.parse().unwrap())
            .digest()
    };
    assert_eq!(digest("a"), digest("b"));
    assert_ne!(digest("a"), digest("c"));
    let a = policy.principal("a", Method::Scram).unwrap();
    assert!(
        policy
            .rights(&a, "elsewhere", NOW.parse().unwrap())
            .is_empty()
    );
}

#[test]
fn roles_are_those_of_this_policy() {
    let all = "[{ dataset: shop, tables: ['*'], tags: { '*': clear } }]";
    let policy = two(all, "");
    let principal = |name: &str, roles: &[&str]| Principal {
        name: name.into(),
        kind: Kind::Human,
        roles: roles.iter().map(|role| (*role).into()).collect(),
        owner: None,
        on_behalf_of: None,
        method: Method::Scram,
        mfa: None,
        verifier: None,
        token: None,
        certificate: None,
    };
    let empty = |principal| {
        policy
            .rights(&principal, "shop", NOW.parse().unwrap())
            .is_empty()
    };
    // Of a name that policy knows, what policy says now.
    assert!(!empty(principal("a", &[])));
    assert!(!empty(principal("other", &["one"])));
    assert!(empty(principal("other", &["two"])));
    // A role that is gone may have blocked something.
    assert!(empty(principal("other", &["one", "gone"])));
}

#[test]
fn all_clear_is_all() {
    let everything =
        "[{ dataset: shop, tables: ['*'], actions: [read, ddl], tags: { '*': clear } }]";
    let clear = |one: &str, other: &str| {
        let policy = two(one, other);
        let rights = policy.rights(&who(&policy), "shop", NOW.parse().unwrap());
        assert!(
            rights.trusts_function("public", "safe") && !rights.trusts_function("public", "other")
        );
        assert!(rights.trusts_function("open", "any") && !rights.trusts_function("opened", "any"));
        rights.all_clear()
    };
    assert!(clear(everything, ""));
    assert!(!clear(
        everything,
        "[{ dataset: shop, tables: [public.x], tags: { ssn: hide } }]"
    ));
    assert!(!clear(
        "[{ dataset: shop, tables: ['public.*'], tags: { '*': clear } }]",
        ""
    ));
    assert!(!clear(
        "[{ dataset: shop, tables: ['*'], tags: { email: clear } }]",
        ""
    ));
    assert!(!clear(
        "[{ dataset: shop, tables: ['*'], tags: { '*': clear }, rows: { '*': 'true' } }]",
        ""
    ));
    assert!(clear(
        "[{ dataset: shop, tables: ['*'], tags: { email: clear, ssn: clear, ip: clear } }]",
        ""
    ));
}
