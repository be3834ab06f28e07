//! Writes records to tables, of one log or of many.
//!
//! Knows nothing about the log. Invariant: a record is in the tables once, however often it
//! is sent, under its log's name and its number there; another in its place is refused. All
//! SQL is text that stands in this program, records are the data of a COPY.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::batch::Batch;
use super::{Deliver, Fault, PATIENCE};
use crate::config;
use crate::secret::{SecretError, Source};
use crate::upstream::connect::{Target, connect};
use crate::upstream::inquiry::{Inquiry, InquiryError};

/// The tables.
pub const SCHEMA: &str = include_str!("table/schema.sql");

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What waits there for longer than this side does is given up there, too.
const SETUP: &str = "SET search_path = pg_catalog, pg_temp; SET timezone = 'UTC';
    SET statement_timeout = '15s';
    CREATE TEMP TABLE incoming (log text, position bigint, line text, record jsonb)
        ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE checkpoint (log text, size bigint, note text) ON COMMIT DELETE ROWS";
const COPY_RECORDS: &str = "COPY pg_temp.incoming FROM STDIN";
const COPY_CHECKPOINT: &str = "COPY pg_temp.checkpoint FROM STDIN";
const OTHERS: &str = "SELECT i.position FROM pg_temp.incoming i
    JOIN public.records r ON r.log = i.log AND r.position = i.position
    WHERE r.line <> i.line ORDER BY 1 LIMIT 1";
const TAKE: &str = include_str!("table/take.sql");

pub(super) struct Table {
    target: Target,
    /// Made by the thread that delivers: one that is made in another may not be dropped there
    runtime: Option<Runtime>,
    session: Option<Inquiry>,
}

impl Table {
    pub(super) async fn new(config: &config::Upstream) -> Result<Self, Fault> {
        Ok(Self {
            target: target(config).await?,
            runtime: None,
            session: None,
        })
    }
}

impl Deliver for Table {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Fault> {
        let Self {
            target,
            runtime,
            session,
        } = self;
        let runtime = match runtime {
            Some(runtime) => runtime,
            None => runtime.insert(Builder::new_current_thread().enable_all().build()?),
        };
        runtime.block_on(async {
            let put = async {
                let mut own = match session.take() {
                    Some(own) => own,
                    None => open(target).await?,
                };
                put(&mut own, batch).await?;
                // After a fault it is given up, and with it what it had not committed.
                *session = Some(own);
                Ok(())
            };
            match tokio::time::timeout(PATIENCE, put).await {
                Ok(done) => done,
                Err(_) => Err(format!("no end within {PATIENCE:?}").into()),
            }
        })
    }
}

/// Without its password it does not start; with one that changes it goes on.
async fn target(config: &config::Upstream) -> Result<Target, SecretError> {
    let password = match &config.password {
        Some(reference) => {
            let source = Source::of(reference);
            let text = source.get().await?.expose_str().is_some();
            text.then_some(())
                .ok_or_else(|| SecretError::NotText(reference.to_string()))?;
            Some(Arc::new(source))
        }
        None => None,
    };
    Ok(Target {
        dataset: "audit sink".into(),
        host: config.host.clone(),
        port: config.port,
        dbname: config.dbname.clone(),
        user: config.user.clone(),
        password,
        tls: config.tls_mode(),
        ca: config.tls.as_ref().and_then(|tls| tls.ca.clone()),
        allow_superuser: false,
        timeout: CONNECT,
    })
}

async fn open(target: &Target) -> Result<Inquiry, Fault> {
    let settings = [
        ("client_encoding", "UTF8"),
        ("application_name", "pgveil audit sink"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut session = Inquiry::over(connect(target, &settings).await?);
    session.fetch(SETUP).await?;
    Ok(session)
}

async fn put(session: &mut Inquiry, batch: &Batch<'_>) -> Result<(), Fault> {
    let (mut records, mut checkpoint) = (Vec::new(), Vec::new());
    for record in &batch.records {
        let (position, parsed) = (record.position.to_string(), storable(&record.line));
        row(
            &mut records,
            [batch.log, position.as_str(), &record.line, &parsed],
        );
    }
    let size = batch.signed.to_string();
    row(
        &mut checkpoint,
        [batch.log, size.as_str(), batch.checkpoint],
    );
    session.fetch("BEGIN").await?;
    session.load(COPY_RECORDS, &records).await?;
    session.load(COPY_CHECKPOINT, &checkpoint).await?;
    session.fetch(TAKE).await.map_err(told)?;
    // Behind it: what another sends at the same time is there by then.
    let others = session.fetch(OTHERS).await?;
    if let Some(Some(position)) = others.first().and_then(|row| row.first()) {
        return Err(format!(
            "the table has another record {position} of {}: one of the two is not what was \
             signed (hint: `pgveil audit verify`)",
            batch.log
        )
        .into());
    }
    Ok(session.fetch("COMMIT").await.map(drop)?)
}

/// What it takes to put that right, where that is known.
fn told(error: InquiryError) -> Fault {
    match error {
        InquiryError::Refused { state, message } if state == "42P01" || state == "3F000" => {
            format!("{message} (hint: `pgveil audit sql-schema` prints the tables)").into()
        }
        error => error.into(),
    }
}

/// A row as COPY reads it.
fn row<const N: usize>(out: &mut Vec<u8>, values: [&str; N]) {
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        for byte in value.bytes() {
            match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                other => out.push(other),
            }
        }
    }
    out.push(b'\n');
}

/// A record as `jsonb` can hold it: Postgres's text has no character 0.
fn storable(line: &str) -> std::borrow::Cow<'_, str> {
    if !line.contains("\\u0000") {
        return line.into();
    }
    let mut value: Value = serde_json::from_str(line).unwrap_or_default();
    replace(&mut value);
    value.to_string().into()
}

fn replace(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(values) => values.iter_mut().for_each(replace),
        Value::Object(fields) => fields.values_mut().for_each(replace),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_whatever_is_in_it() {
        let mut out = Vec::new();
        row(&mut out, ["a\\.", "b\tc\nd\re", ""]);
        assert_eq!(out, b"a\\\\.\tb\\tc\\nd\\re\t\n");
        assert_eq!(storable(r#"{"a":"b\\u00"}"#), r#"{"a":"b\\u00"}"#);
        assert_eq!(
            storable(r#"{"a":["x\u0000y","\\u0000"]}"#),
            "{\"a\":[\"x\u{fffd}y\",\"\\\\u0000\"]}"
        );
    }
}
