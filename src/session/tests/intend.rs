//! What is on record before anything is sent.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::Value;

use super::support::*;
use crate::stage::Stage;

/// Every record of an execution, and of one to come, in order.
fn told(proxy: &Proxy) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for record in proxy.all_records() {
        match record["event"].as_str() {
            Some("intent") => all.push((
                "intent".into(),
                text(&record["query"]),
                text(&record["statement"]),
            )),
            Some("statement") => all.push((
                text(&record["outcome"]),
                text(&record["id"]),
                text(&record["statement"]),
            )),
            Some("not_run") => all.push(("not_run".into(), text(&record["id"]), String::new())),
            _ => {}
        }
    }
    all
}

#[tokio::test]
async fn every_execution_has_an_intent_before_it_and_every_intent_an_end() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.ask(&[q("SELECT 1; SELECT 1 / 0; SELECT 3")]).await;
    raw.ask(&[
        pbe("SELECT 4"),
        pbe("SELECT 5 / (count(*) - 1) FROM pg_sleep(0)"),
        pbe("SELECT 6"),
        s(),
    ])
    .await;
    raw.ask(&[q("")]).await;
    raw.send(&[pbe("SELECT 7 FROM pg_sleep(30) /* broken */"), s()])
        .await;
    assert!(running("/* broken */", "1").await);
    drop(raw);
    proxy.records_soon("disconnect", 1).await;
    let told = told(&proxy);
    let intents: Vec<_> = told.iter().filter(|it| it.0 == "intent").collect();
    assert_eq!(intents.len(), 7, "{told:#?}");
    let mut ends = Vec::new();
    for intent in intents {
        let begun = told.iter().position(|it| it == intent).unwrap();
        let end: Vec<_> = told
            .iter()
            .filter(|it| it.1 == intent.1 && it.0 != "intent")
            .collect();
        assert_eq!(end.len(), 1, "{intent:?} {told:#?}");
        let ended = told.iter().position(|it| it == end[0]).unwrap();
        assert!(begun < ended, "{told:#?}");
        ends.push(end[0].0.as_str());
    }
    assert_eq!(
        ends,
        [
            "completed",
            "failed",
            "not_run",
            "completed",
            "failed",
            "not_run",
            "broken_off"
        ]
    );
}

/// A pipe for a log that can be stopped and go on.
struct Pipe {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Pipe {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        Self {
            path,
            _directory: directory,
        }
    }

    fn reader(&self) -> std::fs::File {
        // O_NONBLOCK
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(0o4000);
        options.open(&self.path).unwrap()
    }
}

#[tokio::test]
async fn nothing_is_sent_whose_intent_is_not_on_record() {
    let pipe = Pipe::new();
    let mut reader = pipe.reader();
    let proxy = Proxy::with(pipe.path.to_str()).await;
    for ask in [
        q("SELECT 1 FROM pg_sleep(2) /* unsaid */"),
        [pbe("SELECT 1 FROM pg_sleep(2) /* unsaid */"), s()].concat(),
    ] {
        let mut raw = proxy.raw().await;
        while reader.write(&[b' '; 4096]).is_ok() {}
        while reader.write(b" ").is_ok() {}
        raw.send(&[ask]).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let sent = truly(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE query LIKE '%/* unsaid */%' AND state = 'active' AND usename = 'proxy'",
        );
        assert_eq!(sent.await, "0");
        let mut bytes = vec![0; 1 << 20];
        while reader.read(&mut bytes).is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(running("/* unsaid */", "1").await);
        assert!(raw.answer().await.ends_with("D:1 C:SELECT_1 Z:I"));
        while reader.read(&mut bytes).is_ok() {}
    }
}

#[tokio::test]
async fn what_was_never_sent_is_not_said_to_be_broken_off() {
    let pipe = Pipe::new();
    let mut reader = pipe.reader();
    let proxy = Proxy::with(pipe.path.to_str()).await;
    let mut raw = proxy.raw().await;
    while reader.write(&[b' '; 4096]).is_ok() {}
    while reader.write(b" ").is_ok() {}
    raw.send(&[q("SELECT 1 FROM pg_sleep(2) /* halted */")])
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    Stage::Ending.reach(&proxy.stage);
    // It ends before the log goes on.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let mut kept = String::new();
    for _ in 0..500 {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(len) = reader.read(&mut bytes) {
            kept.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
        if kept.contains("\"disconnect\"") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let kept = kept.trim_start();
    assert!(kept.contains("\"event\":\"intent\""), "{kept}");
    assert!(kept.contains("\"event\":\"not_run\""), "{kept}");
    assert!(!kept.contains("broken_off"), "{kept}");
    assert!(running("/* halted */", "0").await);
}

/// A session whose log could be written until now.
async fn unwritable() -> (Pipe, Proxy, Raw) {
    let pipe = Pipe::new();
    let reader = pipe.reader();
    let proxy = Proxy::with(pipe.path.to_str()).await;
    let mut raw = proxy.raw().await;
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
    leave(reader, &pipe.path).await;
    (pipe, proxy, raw)
}

#[tokio::test]
async fn what_cannot_be_put_on_record_is_refused_and_not_run() {
    let insert = |id: u32| format!("INSERT INTO sink VALUES ({id})");
    let group = |id: u32| [pbe(&insert(id)), s()].concat();
    for (ask, answer) in [
        (q(&insert(701)), "ERROR:58030 Z:I"),
        (group(702), "ERROR:58030 Z:I"),
        (
            [pbe(&insert(703)), pbe(&insert(704)), s()].concat(),
            "ERROR:58030 Z:I",
        ),
        // Which of them was refused could not be told.
        ([group(705), group(706)].concat(), "FATAL:58030 end"),
        (
            [q(&insert(707)), q(&insert(708))].concat(),
            "FATAL:58030 end",
        ),
    ] {
        let (pipe, _proxy, mut raw) = unwritable().await;
        assert_eq!(raw.ask(&[ask]).await, answer);
        if answer.starts_with("ERROR") {
            // It goes on by itself once the log can be written.
            assert_eq!(raw.ask(&[q("SELECT 2")]).await, "ERROR:58030 Z:I");
            let mut reader = pipe.reader();
            assert_eq!(raw.ask(&[q("SELECT 3")]).await, "T D:3 C:SELECT_1 Z:I");
            assert_eq!(
                raw.ask(&[pbe("SELECT 3"), s()]).await,
                "1 2 D:3 C:SELECT_1 Z:I"
            );
            let mut kept = vec![0; 1 << 16];
            let len = reader.read(&mut kept).unwrap();
            let kept = String::from_utf8(kept[..len].to_vec()).unwrap();
            assert!(kept.contains("log_resumed"), "{kept}");
        }
    }
    assert_eq!(
        truly("SELECT count(*) FROM sink WHERE id BETWEEN 701 AND 709").await,
        "0"
    );
}

/// What goes out as it arrives has lost its header where what was gathered is not sent:
/// the rest of it would be read as messages of its own.
#[tokio::test]
async fn the_rest_of_a_message_is_not_sent_without_its_beginning() {
    let smuggled = |id: u32| q(&format!("INSERT INTO sink VALUES ({id})"));
    let begun = |tag: u8, body: &[u8], rest: usize| {
        let len = (4 + body.len() + rest) as u32;
        [&[tag], &len.to_be_bytes()[..], body].concat()
    };
    let (one, other) = (smuggled(711), smuggled(712));
    for (ahead, rest, answer) in [
        (
            [q("SELECT 1"), begun(b'd', b"abc", one.len())].concat(),
            one,
            "FATAL:58030 end",
        ),
        // What was gathered is written before the Bind is waited for, and it is skipped.
        (
            [pbe("SELECT 1"), begun(b'B', b"\0\0\0\0", other.len())].concat(),
            [other, s()].concat(),
            "ERROR:58030 Z:I",
        ),
    ] {
        let (_pipe, _proxy, mut raw) = unwritable().await;
        raw.send(&[ahead]).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        raw.send(&[rest]).await;
        assert_eq!(raw.answer().await, answer);
    }
    assert_eq!(
        truly("SELECT count(*) FROM sink WHERE id IN (711, 712)").await,
        "0"
    );
}

#[tokio::test]
async fn a_refusal_of_the_log_s_fails_an_open_transaction() {
    let pipe = Pipe::new();
    let reader = pipe.reader();
    let proxy = Proxy::with(pipe.path.to_str()).await;
    let mut raw = proxy.raw().await;
    assert_eq!(raw.ask(&[q("BEGIN")]).await, "C:BEGIN Z:T");
    leave(reader, &pipe.path).await;
    assert_eq!(raw.ask(&[pbe("SELECT 1"), s()]).await, "ERROR:58030 Z:E");
    let _reader = pipe.reader();
    assert_eq!(raw.ask(&[q("ROLLBACK")]).await, "C:ROLLBACK Z:I");
}
