use serde_json::json;

use super::*;
use crate::audit::read::Joined;

fn entry() -> Entry {
    let record = json!({
        "event": "statement", "id": "one", "time": "2026-11-25T10:00:00.000000Z",
        "principal": {
            "name": "trainer", "kind": "agent",
            "on_behalf_of": { "name": "analyst", "kind": "human" },
        },
        "dataset": "shop", "session": "s", "decision": "allow",
        "statement": "SELECT email FROM Customers",
        "relations": [
            { "relation": "public.customers", "rule": "role training (roles.yaml:30)", "columns": [
                { "column": "email", "treatment": "mask:hash", "tag": "email", "rule": "tag email" },
                { "column": "id", "treatment": "clear", "rule": "none" },
            ] },
            { "relation": "public.orders", "columns": [
                { "column": "id", "treatment": "clear", "rule": "none" },
            ] },
        ],
    });
    Entry(record.as_object().unwrap().clone())
}

/// Whether an entry passes, by filters as they are written.
fn passes(filters: &str) -> bool {
    let mut filter = Filter::default();
    for part in filters.split(", ") {
        let (key, value) = part.split_once('=').unwrap();
        let place = match key {
            "principal" => &mut filter.principal,
            "kind" => &mut filter.kind,
            "for" => &mut filter.on_behalf_of,
            "dataset" => &mut filter.dataset,
            "relation" => &mut filter.relation,
            "column" => &mut filter.column,
            "tag" => &mut filter.tag,
            "treatment" => &mut filter.treatment,
            "decision" => &mut filter.decision,
            "event" => &mut filter.event,
            "statement" => &mut filter.statement,
            "since" => &mut filter.since,
            "until" => &mut filter.until,
            "session" => &mut filter.session,
            "rule" => &mut filter.rule,
            other => panic!("{other}"),
        };
        *place = Some(value.to_owned());
    }
    filter.takes(&entry())
}

#[test]
fn each_filter_takes_what_is_so_and_nothing_else() {
    for (taken, left) in [
        ("principal=trainer", "principal=train"),
        ("kind=agent", "kind=human"),
        ("for=analyst", "for=trainer"),
        ("dataset=shop", "dataset=sho"),
        ("relation=customers", "relation=omers"),
        ("relation=public.customers", "relation=other.customers"),
        ("column=email", "column=mail"),
        ("column=customers.email", "column=orders.email"),
        ("tag=email", "tag=phone"),
        ("treatment=mask", "treatment=block"),
        ("treatment=mask:hash", "treatment=mask:email"),
        // Of one column, and of one relation.
        ("column=email, treatment=mask", "column=id, treatment=mask"),
        (
            "relation=customers, tag=email",
            "relation=orders, tag=email",
        ),
        ("decision=allow", "decision=deny"),
        ("event=statement", "event=denial"),
        ("statement=from customers", "statement=from orders"),
        (
            "since=2026-11-25T10:00:00.000000Z",
            "since=2026-11-25T10:00:00.000001Z",
        ),
        (
            "until=2026-11-25T10:00:00.000001Z",
            "until=2026-11-25T10:00:00.000000Z",
        ),
        ("session=s", "session=t"),
        ("rule=role training", "rule=role analyst"),
        ("rule=tag email", "rule=tag phone"),
    ] {
        assert!(passes(taken), "{taken}");
        assert!(!passes(left), "{left}");
    }
}

#[test]
fn what_is_no_decision_is_left_out_unless_it_is_asked_for() {
    let of = |fields: Value| Entry(fields.as_object().unwrap().clone());
    let catalog = of(json!({
        "event": "statement",
        "relations": [{ "relation": "pg_catalog.pg_class", "columns": [] }],
    }));
    let constant = of(json!({ "event": "statement", "relations": [] }));
    let connect = of(json!({ "event": "connect" }));
    let denied = of(json!({
        "event": "denial",
        "relations": [{ "relation": "pg_catalog.pg_authid", "columns": [] }],
    }));
    let takes =
        |filter: Filter| [&catalog, &constant, &connect, &denied].map(|entry| filter.takes(entry));
    assert_eq!(takes(Filter::default()), [false, true, false, true]);
    let all = Filter {
        all: true,
        ..Filter::default()
    };
    assert_eq!(takes(all), [true; 4]);
    let connects = Filter {
        event: Some("connect".into()),
        ..Filter::default()
    };
    assert_eq!(takes(connects), [false, false, true, false]);
    let of_it = Filter {
        relation: Some("pg_class".into()),
        ..Filter::default()
    };
    assert_eq!(takes(of_it), [true, false, false, false]);
}

#[test]
fn an_intent_is_told_with_what_became_of_it() {
    let mut joined = Joined::default();
    let mut told = Vec::new();
    for line in [
        r#"{"event":"intent","id":"i1","query":"q1","statement":"A"}"#,
        r#"{"event":"intent","id":"i2","query":"q2","statement":"B"}"#,
        r#"{"event":"statement","id":"q1","decision":"allow","statement":"A"}"#,
        r#"{"event":"outcome_unknown","id":"q2"}"#,
        r#"{"event":"intent","id":"i3","query":"q3","statement":"C"}"#,
        r#"{"event":"not_run","id":"q4"}"#,
        r#"{"event":"intent","id":"i4","query":"q4","statement":"D"}"#,
        "not json",
    ] {
        told.extend(joined.line(line.as_bytes()));
    }
    told.extend(joined.rest());
    let told: Vec<_> = told
        .iter()
        .map(|it| (it.text("event"), it.text("statement"), it.decision()))
        .collect();
    assert_eq!(
        told,
        [
            ("statement", "A", "allow"),
            ("outcome_unknown", "B", "unknown"),
            ("not_run", "", "not_run"),
            ("not_a_record", "", ""),
            ("intent", "C", "unknown"),
        ]
    );
}
