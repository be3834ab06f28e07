//! What is made holds by the published rules: every attribute is one of its class or
//! object, of its type, an enum's value is one of it, and what is required is there.

use super::*;

fn rules() -> Value {
    serde_json::from_str(include_str!("rules.json")).unwrap()
}

/// What is wrong with a value that is to be of a class or object.
fn faults(rules: &Value, of: &str, value: &Value, found: &mut Vec<String>) {
    let rule = &rules[of];
    let Some(fields) = value.as_object() else {
        return found.push(format!("{of}: not an object"));
    };
    let attributes = rule["attributes"].as_object().expect(of);
    if let Some(some) = rule["at_least_one"].as_array() {
        let has = some
            .iter()
            .any(|key| fields.contains_key(key.as_str().unwrap()));
        if !has {
            found.push(format!("{of}: none of {some:?}"));
        }
    }
    for (name, attribute) in attributes {
        if attribute["required"] == true && !fields.contains_key(name) {
            found.push(format!("{of}: no {name}"));
        }
    }
    for (name, value) in fields {
        let Some(attribute) = attributes.get(name) else {
            found.push(format!("{of}: {name} is not of it"));
            continue;
        };
        let one = [value.clone()];
        let values = match attribute["array"] == true {
            true => value.as_array().map_or(&one[..], Vec::as_slice),
            false => &one[..],
        };
        for value in values {
            let kind = attribute["type"].as_str().unwrap();
            let fits = match kind {
                "integer_t" | "long_t" => value.is_i64(),
                "port_t" => value.as_u64().is_some_and(|port| port <= 65_535),
                "timestamp_t" => value.as_i64().is_some_and(|time| time > 1_700_000_000_000),
                "boolean_t" => value.is_boolean(),
                "ip_t" => value
                    .as_str()
                    .is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
                kind if kind.ends_with("_t") => value.as_str().is_some_and(|text| !text.is_empty()),
                "object" => value.is_object(),
                object => {
                    faults(rules, object, value, found);
                    true
                }
            };
            if !fits {
                found.push(format!("{of}: {name} is {value}, not {kind}"));
            }
            if let Some(all) = attribute["enum"].as_array()
                && !all.contains(value)
            {
                found.push(format!("{of}: {name} is {value}, none of {all:?}"));
            }
        }
    }
}

fn entry(changes: Value) -> Entry {
    let mut record = json!({
        "event": "statement", "id": "01a21090-e53f-7000-baa9-f4b07fedaf87",
        "time": "2026-11-25T10:00:00.123456Z", "client": "[::ffff:127.0.0.1]:5432",
        "principal": {
            "name": "trainer", "kind": "agent", "roles": ["training"],
            "on_behalf_of": { "name": "analyst", "kind": "human", "roles": ["analyst"] },
        },
        "dataset": "shop", "session": "01a21090-e4c9-7000-9371-7ef955ed8a01", "decision": "allow",
        "application": "tour", "kind": "SELECT", "statement": "SELECT id FROM customers",
        "sqlstate": "00000", "outcome": "completed", "rows": 2, "bytes": 90, "duration_us": 400,
        "policy": { "digest": "ab", "epoch": 1 },
        "relations": [{ "relation": "public.customers", "columns": [
            { "column": "id", "treatment": "clear", "rule": "none" },
        ] }],
    });
    for (key, value) in changes.as_object().unwrap() {
        record[key] = value.clone();
    }
    Entry(record.as_object().unwrap().clone())
}

#[test]
fn it_holds_by_the_published_rules() {
    let rules = rules();
    let masked = json!([{ "relation": "public.customers", "columns": [
        { "column": "email", "treatment": "mask:hash", "tag": "email", "rule": "role x" },
    ] }]);
    let filtered = json!([
        { "relation": "public.a", "columns": [], "row_filter": "role x" },
        { "relation": "public.b", "columns": [] },
    ]);
    for (changes, activity, action, disposition, status) in [
        (json!({}), 4, 1, 1, 1),
        (json!({ "relations": masked }), 4, 4, 1, 1),
        (json!({ "relations": filtered }), 4, 4, 1, 1),
        (json!({ "kind": "INSERT" }), 5, 1, 1, 1),
        (json!({ "kind": "UPDATE", "outcome": "failed" }), 2, 1, 1, 2),
        (json!({ "kind": "DELETE" }), 7, 1, 1, 1),
        (json!({ "kind": "CREATE TABLE" }), 6, 1, 1, 1),
        (
            json!({ "kind": "COPY", "outcome": "cancelled" }),
            99,
            1,
            1,
            2,
        ),
        (json!({ "outcome": "broken_off" }), 4, 1, 1, 0),
        (
            json!({ "event": "denial", "decision": "deny", "relations": masked, "message": "no" }),
            4,
            2,
            2,
            2,
        ),
        (
            json!({ "event": "outcome_unknown", "decision": null }),
            4,
            1,
            1,
            0,
        ),
        (json!({ "event": "intent", "decision": null }), 4, 1, 1, 0),
        (
            json!({ "event": "tripwire", "table": 7, "attribute": 2 }),
            4,
            2,
            2,
            2,
        ),
        (
            json!({ "event": "connect", "statement": "", "sqlstate": "" }),
            3,
            1,
            1,
            1,
        ),
        (
            json!({
                "event": "authentication_failure", "principal": null, "user": "nobody",
                "dataset": "", "statement": "", "sqlstate": "", "reason": "wrong password",
                "relations": [], "session": "",
            }),
            3,
            2,
            2,
            2,
        ),
    ] {
        let made = of(&entry(changes)).unwrap();
        let mut found = Vec::new();
        faults(&rules, "class", &made, &mut found);
        assert!(found.is_empty(), "{found:#?}\n{made:#}");
        assert_eq!(made["class_uid"], 6005);
        assert_eq!(made["type_uid"], 600_500 + activity);
        assert_eq!(made["activity_id"], activity);
        assert_eq!(made["action_id"], action, "{made:#}");
        assert_eq!(made["disposition_id"], disposition);
        assert_eq!(made["status_id"], status, "{made:#}");
    }
}

#[test]
fn what_has_no_place_is_not_lost() {
    let made = of(&entry(json!({}))).unwrap();
    assert_eq!(
        made["unmapped"]["relations"][0]["relation"],
        "public.customers"
    );
    assert_eq!(made["unmapped"]["on_behalf_of"]["name"], "analyst");
    assert_eq!(made["time"], 1_795_600_800_123_i64);
    assert_eq!(made["src_endpoint"]["ip"], "127.0.0.1");
    assert_eq!(made["table"]["name"], "public.customers");
    // What is no activity of anybody on data.
    for event in ["heartbeat", "policy_load", "log_opened", "disconnect"] {
        assert_eq!(of(&entry(json!({ "event": event }))), None, "{event}");
    }
}

#[test]
fn the_rules_find_what_is_wrong() {
    let rules = rules();
    let right = of(&entry(json!({}))).unwrap();
    for (pointer, value) in [
        ("/action_id", json!(7)),
        ("/class_uid", json!(6006)),
        ("/time", json!("2026")),
        ("/src_endpoint/ip", json!("here")),
        ("/src_endpoint", json!({ "port": 5 })),
        ("/metadata", json!({ "version": "1.8.0" })),
        ("/database", json!({ "name": "shop" })),
        ("/actor/user/nickname", json!("x")),
    ] {
        let mut wrong = right.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[key] = value;
        let mut found = Vec::new();
        faults(&rules, "class", &wrong, &mut found);
        assert_eq!(found.len(), 1, "{pointer}: {found:?}");
    }
}
