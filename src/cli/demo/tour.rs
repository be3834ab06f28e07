//! The tour: the same query three ways, what is refused, what evades nothing,
//! the tag as Postgres saw it, and the record.
//!
//! Invariant: it ends in an error if the proxy does not hold what the tour says.
//! Every statement goes over the wire; what raw values there are to look for is
//! asked of Postgres itself.

use std::collections::HashSet;

use serde_json::Value;
use tokio::net::TcpStream;

use super::PERSONAS;
use super::client::{Answer, Client, ClientError, Login};
use super::postgres::{DATABASE, ROLE, Server};
use super::proxy::{ASSISTANT, Proxy};
use super::screen::{Ink, Screen, say};
use crate::audit::segments::Places;
use crate::audit::tree::note::Verifier;
use crate::audit::verify::verify;

/// Why the tour did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum TourError {
    /// A statement that should have an answer has none.
    #[error("the tour failed at `{0}`: {1}")]
    Statement(String, #[source] ClientError),
    /// Nobody there.
    #[error("the tour could not connect: {0}")]
    Connect(#[from] ClientError),
    /// The proxy did not hold its promise.
    #[error("the tour found what must not be: {0}")]
    Broken(String),
    /// The record cannot be read.
    #[error("the record could not be read: {0}")]
    Record(#[source] std::io::Error),
}

const THREE_WAYS: &str = "select id, email, phone, notes from customers order by id limit 2";
const BLOCKED: &str = "select id, ssn from customers";
const JOIN: &str = "\
select c.region, count(*) as orders, count(distinct c.email) as people
from customers c join orders o on o.customer_email = c.email
where o.id <= 2000 group by c.region";

const DELEGATED: &str = "select id, email, birth_date from customers order by id limit 2";
/// Of which each of the two has a mask that cannot be had from the other's.
const DIFFERENT: &str = "select id, phone from customers";

/// What has been tried on proxies that mask results by their column's name.
const EVASIONS: [&str; 6] = [
    "select upper(ssn) as product from customers",
    "select c from customers c",
    "select id from customers where ssn like '5%'",
    "copy customers (id, ssn) to stdout",
    "select customer_card(1)",
    r"select '\'', ssn from public.customers --'",
];

/// Shows it all.
pub(super) async fn run(screen: &Screen, server: &Server, proxy: &Proxy) -> Result<(), TourError> {
    let secrets = secrets(server).await?;
    let mut analyst = connect(proxy, "analyst").await?;

    screen.chapter(1, "One query, three callers");
    screen.pairs(PERSONAS.iter().map(|it| (it.name, it.about.to_owned())));
    screen.statement(None, THREE_WAYS);
    let mut answers = Vec::new();
    for persona in PERSONAS {
        let answer = ask(&mut connect(proxy, persona.name).await?, THREE_WAYS).await?;
        let clear = leaks(&answer, &secrets);
        if clear != (persona.name == "auditor") {
            return Err(broken(persona.name, THREE_WAYS));
        }
        answers.push((persona.name, answer));
    }
    screen.compare(&answers);

    screen.chapter(2, "A column that the analyst may not see");
    screen.statement(Some("analyst"), BLOCKED);
    match analyst.query(BLOCKED).await {
        Err(ClientError::Refused {
            state,
            message,
            hint,
        }) if state == "42501" && message.contains("ssn") => {
            screen.line(Ink::Bad, &format!("ERROR:  {message}"));
            if let Some(hint) = hint {
                screen.line(Ink::Faint, &format!("HINT:  {hint}"));
            }
        }
        Err(error) => return Err(TourError::Statement(BLOCKED.into(), error)),
        Ok(_) => return Err(broken("analyst", BLOCKED)),
    }

    screen.chapter(3, "Ways around it that are none");
    for sql in EVASIONS {
        screen.statement(Some("analyst"), sql);
        match analyst.query(sql).await {
            Ok(answer) if leaks(&answer, &secrets) => return Err(broken("analyst", sql)),
            Ok(answer) => screen.line(Ink::Good, &format!("  answered: {}", inline(&answer))),
            Err(ClientError::Refused { message, .. }) => {
                // The rule has been shown above; here it is about the way.
                let what = message.split(": ").next().unwrap_or_default();
                screen.line(Ink::Bad, &format!("  refused: {what}"));
            }
            Err(error) => return Err(TourError::Statement(sql.into(), error)),
        }
    }

    screen.chapter(4, "Pseudonyms that join, and a row filter");
    screen.statement(Some("trainer"), JOIN);
    let mut trainer = connect(proxy, "trainer").await?;
    let answer = ask(&mut trainer, JOIN).await?;
    screen.compare(&[("", answer)]);

    screen.chapter(5, "An agent on behalf of the analyst: the stricter of both");
    let assistant = delegation(screen, proxy).await?;

    screen.chapter(6, "The tag, as Postgres saw it");
    tag(screen, server).await?;
    drop(assistant);

    screen.chapter(7, "The record");
    record(screen, proxy)?;
    whole(screen, proxy).await
}

/// Has the log verified, as `pgveil audit verify` does.
async fn whole(screen: &Screen, proxy: &Proxy) -> Result<(), TourError> {
    let broken = |error: &dyn std::error::Error| TourError::Broken(error.to_string());
    proxy.seal().await.map_err(|error| broken(&error))?;
    let key = std::fs::read_to_string(proxy.records().with_extension("pub"));
    let key = Verifier::read(&key.map_err(TourError::Record)?).map_err(|error| broken(&error))?;
    verify(&Places::of(proxy.records()), &key, &[]).map_err(|error| broken(&error))?;
    screen.line(
        Ink::Faint,
        "pgveil audit verify: ok, every record is one that its checkpoint signed",
    );
    Ok(())
}

/// What an agent sees by itself, and what on behalf of the analyst, whose session it
/// leaves open.
async fn delegation(screen: &Screen, proxy: &Proxy) -> Result<Client, TourError> {
    screen.statement(None, DELEGATED);
    let mut alone = log_in(proxy, ASSISTANT, &proxy.token(None)).await?;
    let mut both = log_in(proxy, ASSISTANT, &proxy.token(Some("analyst"))).await?;
    let own = ask(&mut alone, DELEGATED).await?;
    let stricter = ask(&mut both, DELEGATED).await?;
    let emails = |answer: &Answer| -> Vec<Option<String>> {
        let cell = |row: &Vec<Option<String>>| row.get(1).cloned().flatten();
        answer.rows.iter().map(cell).collect()
    };
    let starred = |email: &Option<String>| email.as_ref().is_some_and(|it| it.contains("***"));
    let (clear, masked) = (emails(&own), emails(&stricter));
    if clear.is_empty() || clear.iter().any(starred) || !masked.iter().all(starred) {
        return Err(broken("assistant", DELEGATED));
    }
    screen.compare(&[("assistant", own), ("  for analyst", stricter)]);
    screen.statement(Some("assistant for analyst"), DIFFERENT);
    match both.query(DIFFERENT).await {
        Err(ClientError::Refused { state, message, .. }) if state == "42501" => {
            screen.line(Ink::Bad, &format!("ERROR:  {message}"));
        }
        Err(error) => return Err(TourError::Statement(DIFFERENT.into(), error)),
        Ok(_) => return Err(broken("assistant", DIFFERENT)),
    }
    Ok(both)
}

fn broken(who: &str, sql: &str) -> TourError {
    TourError::Broken(format!(
        "{who} was shown raw values, or too little, by `{sql}`"
    ))
}

async fn connect(proxy: &Proxy, name: &str) -> Result<Client, TourError> {
    log_in(proxy, name, proxy.password(name)).await
}

async fn log_in(proxy: &Proxy, name: &str, password: &str) -> Result<Client, TourError> {
    let login = Login {
        user: name,
        password,
        database: DATABASE,
        application: "tour",
    };
    let stream = TcpStream::connect(proxy.address())
        .await
        .map_err(ClientError::Io)?;
    Ok(Client::start(stream, &login).await?)
}

async fn ask(client: &mut Client, sql: &str) -> Result<Answer, TourError> {
    client
        .query(sql)
        .await
        .map_err(|error| TourError::Statement(sql.into(), error))
}

/// Raw values of all columns that identify somebody.
async fn secrets(server: &Server) -> Result<HashSet<String>, TourError> {
    let sql = "select unnest(array[email, ssn, phone]) from customers";
    let answer = ask(&mut server.admin(DATABASE).await?, sql).await?;
    Ok(answer.rows.into_iter().flatten().flatten().collect())
}

/// Whether a raw value is in the answer, as a cell or a word of one.
fn leaks(answer: &Answer, secrets: &HashSet<String>) -> bool {
    answer.rows.iter().flatten().flatten().any(|cell| {
        secrets.contains(cell)
            || cell
                .split(|c: char| c.is_whitespace() || "(),;<>\"\t".contains(c))
                .any(|word| secrets.contains(&word.to_lowercase()) || secrets.contains(word))
    })
}

/// An answer in one line.
fn inline(answer: &Answer) -> String {
    let rows = answer.rows.len();
    let Some(row) = answer.rows.first() else {
        return "no rows".into();
    };
    let cells: Vec<&str> = row
        .iter()
        .map(|cell| cell.as_deref().unwrap_or("NULL"))
        .collect();
    let rows = if rows == 1 {
        "1 row".into()
    } else {
        format!("{rows} rows")
    };
    format!("{} ({rows})", cells.join(" | "))
}

/// Looks into pg_stat_activity as the superuser.
async fn tag(screen: &Screen, server: &Server) -> Result<(), TourError> {
    let sql = format!(
        "select application_name, \
                substring(query from '/\\*pgveil.*') as comment \
         from pg_stat_activity \
         where usename = '{ROLE}' and query like '%customers%' \
         order by query_start desc limit 1"
    );
    let answer = ask(&mut server.admin(DATABASE).await?, &sql).await?;
    let row = answer.rows.into_iter().next().unwrap_or_default();
    let mut cells = row.into_iter().flatten();
    let (Some(application), Some(comment)) = (cells.next(), cells.next()) else {
        return Err(TourError::Broken("a statement without a tag".into()));
    };
    screen.pairs([
        ("application_name", application),
        (
            "statement ends in",
            comment.replace(",pgveil", ",\n  pgveil"),
        ),
    ]);
    Ok(())
}

/// What was recorded of them.
fn record(screen: &Screen, proxy: &Proxy) -> Result<(), TourError> {
    let text = std::fs::read_to_string(proxy.records()).map_err(TourError::Record)?;
    let records: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|record: &Value| record.get("decision").is_some())
        .collect();
    screen.line(
        Ink::Faint,
        &format!(
            "{} decisions, one JSON line each; four of them:",
            records.len()
        ),
    );
    for (name, decision) in [
        ("analyst", "allow"),
        ("analyst", "deny"),
        ("trainer", "allow"),
        ("assistant", "deny"),
    ] {
        let Some(record) = records.iter().find(|record| {
            text_at(record, "/principal/name") == name && text_at(record, "/decision") == decision
        }) else {
            return Err(TourError::Broken(format!(
                "no record of {name}: {decision}"
            )));
        };
        summary(screen, record);
    }
    Ok(())
}

fn text_at<'a>(record: &'a Value, pointer: &str) -> &'a str {
    record
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A record in three lines.
fn summary(screen: &Screen, record: &Value) {
    let decision = text_at(record, "/decision");
    let ink = if decision == "allow" {
        Ink::Good
    } else {
        Ink::Bad
    };
    let time = text_at(record, "/time");
    let who = format!(
        "{}:{}",
        text_at(record, "/principal/kind"),
        text_at(record, "/principal/name")
    );
    let who = match text_at(record, "/principal/on_behalf_of/name") {
        "" => who,
        human => format!("{who} for {human}"),
    };
    let outcome = match record.get("rows").and_then(Value::as_u64) {
        Some(rows) => format!("{rows} rows"),
        None => text_at(record, "/sqlstate").to_owned(),
    };
    say!(
        "   {} {} {} {}",
        time.get(11..19).unwrap_or(time),
        screen.paint(Ink::Name, &who),
        screen.paint(ink, decision),
        screen.paint(Ink::Faint, &outcome),
    );
    screen.line(Ink::Plain, &format!("  {}", text_at(record, "/statement")));
    let relations = record.get("relations").and_then(Value::as_array);
    for relation in relations.into_iter().flatten() {
        let columns = relation.get("columns").and_then(Value::as_array);
        let columns: Vec<String> = columns
            .into_iter()
            .flatten()
            .map(|it| format!("{} {}", text_at(it, "/column"), text_at(it, "/treatment")))
            .collect();
        let filter = match text_at(relation, "/row_filter") {
            "" => String::new(),
            rule => format!("; rows by {rule}"),
        };
        let text = format!(
            "  {}: {}{filter}",
            text_at(relation, "/relation"),
            columns.join(", ")
        );
        screen.line(Ink::Faint, &text);
    }
}
