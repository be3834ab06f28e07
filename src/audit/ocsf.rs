//! An entry as an OCSF 1.8.0 Datastore Activity (class 6005, profile security_control).
//!
//! Knows nothing about where it goes. What OCSF has no place for, relations and columns
//! with their treatments, and for whom an agent acted, is under `unmapped`.
//!
//! Source: <https://schema.ocsf.io/1.8.0/classes/datastore_activity>

use serde_json::{Map, Value, json};

use super::read::Entry;

const CLASS: u64 = 6005;
const CATEGORY: u64 = 6;
const VERSION: &str = "1.8.0";

/// `activity_id`
#[derive(Clone, Copy)]
enum Activity {
    Update = 2,
    Connect = 3,
    Query = 4,
    Write = 5,
    Create = 6,
    Delete = 7,
    Other = 99,
}

/// `action_id`, `disposition_id`
const ALLOWED: (u64, u64) = (1, 1);
const DENIED: (u64, u64) = (2, 2);
const MODIFIED: (u64, u64) = (4, 1);

/// `severity_id`
const INFORMATIONAL: u64 = 1;
const LOW: u64 = 2;
const HIGH: u64 = 4;

/// `status_id`
const UNKNOWN: u64 = 0;
const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;

/// Makes one; `None` of what is no activity of anybody on data.
pub fn of(entry: &Entry) -> Option<Value> {
    let event = entry.text("event");
    let activity = match event {
        "statement" | "denial" | "intent" | "outcome_unknown" | "tripwire" => activity(entry),
        "connect" | "authentication_failure" => Activity::Connect,
        _ => return None,
    };
    let (address, port) = endpoint(entry.text("client"))?;
    let (action, disposition) = match entry.decision() {
        "deny" => DENIED,
        _ if is_modified(entry) => MODIFIED,
        _ => ALLOWED,
    };
    let status = match (event, entry.text("outcome")) {
        ("intent" | "outcome_unknown", _) | (_, "broken_off") => UNKNOWN,
        ("denial" | "tripwire" | "authentication_failure", _) | (_, "failed" | "cancelled") => {
            FAILURE
        }
        _ => SUCCESS,
    };
    let severity = match event {
        "tripwire" => HIGH,
        "denial" | "authentication_failure" => LOW,
        _ => INFORMATIONAL,
    };
    let activity = activity as u64;
    let mut all = json!({
        "activity_id": activity,
        "category_uid": CATEGORY,
        "class_uid": CLASS,
        "type_uid": CLASS * 100 + activity,
        "severity_id": severity,
        "status_id": status,
        "action_id": action,
        "disposition_id": disposition,
        "is_alert": event == "tripwire",
        "time": milliseconds(entry),
        "message": message(entry),
        "metadata": metadata(entry),
        "actor": actor(entry),
        "src_endpoint": { "ip": address, "port": port },
        "database": { "name": database(entry), "type_id": 1 },
        "type_id": 1,
        "unmapped": unmapped(entry),
    });
    let fields = all.as_object_mut()?;
    if activity == Activity::Other as u64 {
        fields.insert("activity_name".into(), entry.text("kind").into());
    }
    if !entry.text("sqlstate").is_empty() {
        fields.insert("status_code".into(), entry.text("sqlstate").into());
    }
    if !entry.text("statement").is_empty() {
        // What an intent becomes has another record, of that id.
        let uid = match entry.text("query") {
            "" => entry.text("id"),
            query => query,
        };
        let query = json!({ "query_string": entry.text("statement"), "uid": uid });
        fields.insert("query_info".into(), query);
    }
    if let Some(policy) = entry.0.get("policy") {
        let (uid, version) = (policy.get("digest"), policy.get("epoch"));
        let version = version.map(Value::to_string);
        fields.insert("policy".into(), json!({ "uid": uid, "version": version }));
    }
    let mut relations = entry.relations();
    if let (Some(one), None) = (relations.next(), relations.next()) {
        fields.insert("table".into(), json!({ "name": one.get("relation") }));
        fields.insert("type_id".into(), 3.into());
    }
    Some(all)
}

fn activity(entry: &Entry) -> Activity {
    let kind = entry.text("kind");
    match kind.split(' ').next().unwrap_or_default() {
        "SELECT" | "FETCH" | "EXECUTE" | "DECLARE" => Activity::Query,
        "INSERT" | "MERGE" => Activity::Write,
        "UPDATE" => Activity::Update,
        "DELETE" | "TRUNCATE" | "DROP" => Activity::Delete,
        "CREATE" => Activity::Create,
        // Whatever is not a statement of a kind that is served.
        "" => Activity::Query,
        _ => Activity::Other,
    }
}

/// Whether what came back was not as it is stored: masked, hidden, or rows left out.
fn is_modified(entry: &Entry) -> bool {
    entry.relations().any(|relation| {
        let columns = relation.get("columns").and_then(Value::as_array);
        let treated = |column: &Value| {
            let treatment = column.get("treatment").and_then(Value::as_str);
            treatment.is_some_and(|treatment| treatment != "clear")
        };
        relation.get("row_filter").is_some() || columns.into_iter().flatten().any(treated)
    })
}

fn endpoint(client: &str) -> Option<(String, u16)> {
    let address: std::net::SocketAddr = client.parse().ok()?;
    Some((address.ip().to_canonical().to_string(), address.port()))
}

fn milliseconds(entry: &Entry) -> i64 {
    let time: Option<jiff::Timestamp> = entry.text("time").parse().ok();
    time.map_or(0, jiff::Timestamp::as_millisecond)
}

/// Postgres's own default is the user's name.
fn database(entry: &Entry) -> &str {
    match entry.text("dataset") {
        "" => entry.principal("name"),
        dataset => dataset,
    }
}

fn message(entry: &Entry) -> String {
    let (name, what) = (entry.principal("name"), entry.text("message"));
    let what = match (entry.text("event"), entry.text("kind")) {
        _ if !what.is_empty() => what,
        ("statement", kind) => kind,
        ("intent" | "outcome_unknown", _) => "what became of a statement is not known",
        ("tripwire", _) => "a result held a column that its caller may not see",
        ("authentication_failure", _) => entry.text("reason"),
        (event, _) => event,
    };
    format!("{name}: {what}")
}

fn metadata(entry: &Entry) -> Value {
    json!({
        "version": VERSION,
        "profiles": ["security_control"],
        "uid": entry.text("id"),
        "original_time": entry.text("time"),
        "log_name": "audit",
        "product": {
            "name": "pgveil",
            "vendor_name": "pgveil",
            "version": env!("CARGO_PKG_VERSION"),
        },
    })
}

fn actor(entry: &Entry) -> Value {
    let (id, kind) = match entry.principal("kind") {
        "human" => (1, "Human"),
        "service" => (4, "Service"),
        "agent" => (99, "Agent"),
        _ => (0, "Unknown"),
    };
    let roles = entry
        .0
        .get("principal")
        .and_then(|principal| principal.get("roles")?.as_array());
    let groups: Vec<Value> = roles
        .into_iter()
        .flatten()
        .map(|role| json!({ "name": role }))
        .collect();
    let user = json!({
        "name": entry.principal("name"), "type_id": id, "type": kind, "groups": groups,
    });
    let mut actor = Map::from_iter([("user".to_owned(), user)]);
    if !entry.text("session").is_empty() {
        actor.insert("session".into(), json!({ "uid": entry.text("session") }));
    }
    if !entry.text("application").is_empty() {
        actor.insert("app_name".into(), entry.text("application").into());
    }
    actor.into()
}

/// What has no place elsewhere.
fn unmapped(entry: &Entry) -> Value {
    let mut rest = Map::new();
    for key in [
        "event",
        "decision",
        "outcome",
        "relations",
        "fingerprint",
        "rows",
        "bytes",
        "duration_us",
        "environment",
        "tls",
        "reason",
        "table",
        "attribute",
    ] {
        if let Some(value) = entry.0.get(key) {
            rest.insert(key.into(), value.clone());
        }
    }
    let delegation = entry
        .0
        .get("principal")
        .and_then(|principal| principal.get("on_behalf_of"));
    if let Some(human) = delegation {
        rest.insert("on_behalf_of".into(), human.clone());
    }
    rest.into()
}

#[cfg(test)]
mod tests;
