//! Secrets from files and programs: as they change, fail, hang and say too much.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::*;
use crate::config::{Exec, Json, SecretRef};

/// A program of a test's own, and what it leaves.
struct Tool {
    directory: tempfile::TempDir,
}

impl Tool {
    /// It runs in its directory, and notes each run.
    fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tool = Self { directory };
        tool.becomes(script);
        tool
    }

    fn becomes(&self, script: &str) {
        let here = self.directory.path().display();
        let text = format!("#!/bin/sh\ncd {here}\necho >>runs\n{script}\n");
        // Put in its place: one that runs cannot be written.
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(new, self.path("tool")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).map_or(0, |runs| runs.lines().count())
    }

    fn exec(&self, lifetime: u64) -> Exec {
        Exec {
            command: vec![self.path("tool").display().to_string(), "$(id)".into()],
            timeout: Duration::from_secs(5),
            lifetime: Some(Duration::from_secs(lifetime)),
            json: None,
            environment: Vec::new(),
        }
    }

    fn json(&self) -> Exec {
        let json = Json {
            secret: "a.token".into(),
            expires: Some("until".into()),
        };
        Exec {
            lifetime: None,
            json: Some(json),
            ..self.exec(1)
        }
    }
}

fn source(exec: Exec) -> Arc<Source> {
    Arc::new(Source::of(&SecretRef::Exec(exec)))
}

async fn got(exec: Exec) -> String {
    let secret = source(exec).get().await.unwrap();
    secret.expose_str().unwrap().to_owned()
}

async fn fails(exec: Exec) -> String {
    let error = source(exec).get().await.unwrap_err();
    assert!(!error.to_string().contains("hunter"), "{error}");
    assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    error.to_string()
}

async fn file(path: &Path, content: &[u8]) -> Result<Secret, SecretError> {
    fs::write(path, content).unwrap();
    Source::of(&SecretRef::File(path.into())).get().await
}

#[tokio::test]
async fn secrets_are_read_from_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for (content, secret) in [
        (&b"a b \n"[..], &b"a b "[..]),
        (b"a\r\n", b"a"),
        (b"a\n\n", b"a\n"),
        (b"\xff", b"\xff"),
    ] {
        assert_eq!(file(&path, content).await.unwrap().expose(), secret);
    }
    assert_eq!(file(&path, b"\xff").await.unwrap().expose_str(), None);
    assert!(matches!(
        file(&path, b"\n").await,
        Err(SecretError::Empty(_))
    ));
    let long = file(&path, &[b'a'; 70_000]).await;
    assert!(matches!(long, Err(SecretError::File { .. })));
    let missing = SecretRef::File(folder.path().join("none"));
    let missing = Source::of(&missing).get().await;
    assert!(matches!(missing, Err(SecretError::File { .. })));
    let variable = |name: &str| Source::of(&SecretRef::Env(name.into()));
    let unset = variable("PGVEIL_TEST_NOT_SET").get().await.unwrap_err();
    assert!(unset.to_string().contains("`PGVEIL_TEST_NOT_SET`"));
    assert!(!variable("PATH").get().await.unwrap().expose().is_empty());
}

#[tokio::test]
async fn a_secret_is_shown_by_nothing() {
    let secret = Secret::new("hunter2");
    let source = Source::fixed("hunter2");
    source.took(&secret);
    let tool = Tool::new("echo hunter2");
    let program = self::source(tool.exec(60));
    program.get().await.unwrap();
    program.took(&secret);
    for shown in [
        format!("{secret:?}"),
        format!("{source:?}"),
        format!("{program:?}"),
    ] {
        assert!(shown.contains("Secret(…)"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_file_is_read_at_each_asking_and_what_was_taken_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "old").unwrap();
    let source = Source::of(&SecretRef::File(path.clone()));
    let old = source.get().await.unwrap();
    assert_eq!(source.instead(&old).await, None, "the same as before");
    source.took(&old);
    fs::write(&path, "new").unwrap();
    // Whoever was refused with the old one gets the new one, and the other way round.
    let new = source.instead(&old).await.unwrap();
    assert_eq!(new.expose(), b"new");
    assert_eq!(source.get().await.unwrap(), new);
    assert_eq!(source.instead(&new).await, Some(old.clone()));
    fs::remove_file(&path).unwrap();
    assert_eq!(source.get().await.unwrap(), old);
}

#[tokio::test]
async fn what_was_refused_is_not_shown_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "old").unwrap();
    let source = Source::of(&SecretRef::File(path.clone()));
    let old = source.get().await.unwrap();
    source.took(&old);
    // What is not right yet is tried once, and then what is,
    fs::write(&path, "new").unwrap();
    let new = source.get().await.unwrap();
    assert_eq!(source.may_try(&new), Ok(()));
    source.refused(&new);
    assert_eq!(source.get().await.unwrap(), old);
    assert!(source.may_try(&new).is_err());
    // until that is refused: then the new one may be right.
    assert_eq!(source.may_try(&old), Ok(()));
    source.refused(&old);
    assert_eq!(source.instead(&old).await, Some(new.clone()));
    assert_eq!(source.may_try(&new), Ok(()));
    source.refused(&new);
    for secret in [&old, &new] {
        assert!(source.may_try(secret).is_err(), "both are wrong");
    }
    // After a pause one may try, and the others wait for twice as long.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(source.may_try(&new), Ok(()));
    let left = source.may_try(&new).unwrap_err();
    assert!(left > Duration::from_millis(1_500), "{left:?}");
    source.took(&new);
    assert_eq!(source.may_try(&new), Ok(()));
}

#[tokio::test]
async fn a_program_runs_as_it_is_and_with_little() {
    let tool =
        Tool::new("printf '%s' \"$1|$CARGO_MANIFEST_DIR|$CARGO_PKG_NAME|${HOME:+home}\"; cat");
    let mut exec = tool.exec(60);
    exec.environment = vec!["CARGO_PKG_NAME".into()];
    let given = got(exec).await;
    // No shell has read its argument, and there is nothing to read for it.
    assert!(given.starts_with("$(id)||pgveil|"), "{given}");
}

#[tokio::test]
async fn what_a_program_prints_is_bounded_and_must_be_there() {
    for (script, expected) in [
        ("", "is empty"),
        ("echo hunter2; exit 3", "it fails (exit status: 3)"),
        ("yes hunter2", "more than 65536 bytes"),
    ] {
        let said = fails(Tool::new(script).exec(60)).await;
        let said = said.replace("it prints nothing", "is empty");
        assert!(said.contains(expected), "{said}");
    }
    let mut nowhere = Tool::new("").exec(60);
    nowhere.command = vec!["/nonexistent/tool".into()];
    let said = fails(nowhere).await;
    assert!(said.contains("`/nonexistent/tool`"), "{said}");
    // What it says besides may be any length.
    let tool = Tool::new("head -c 300000 /dev/zero >&2; echo x");
    assert_eq!(got(tool.exec(60)).await, "x");
}

#[tokio::test]
async fn fields_of_json() {
    let print = |json: &str| Tool::new(&format!("echo '{json}'"));
    let soon = Timestamp::now().as_second() + 3_600;
    for until in [
        format!("\"{}\"", Timestamp::from_second(soon).unwrap()),
        format!("\"{soon}\""),
        soon.to_string(),
    ] {
        let tool = print(&format!(r#"{{"a": {{"token": "t"}}, "until": {until}}}"#));
        assert_eq!(got(tool.json()).await, "t", "{until}");
    }
    for (json, expected) in [
        ("hunter2", "it prints no JSON"),
        (r#"{"a": "hunter2"}"#, "no text `a.token`"),
        (r#"{"a": {"token": ["hunter2"]}}"#, "no text `a.token`"),
        (r#"{"a": {"token": ""}}"#, "no text `a.token`"),
        (r#"{"a": {"token": "hunter2"}}"#, "`until` is no time"),
        (
            r#"{"a": {"token": "hunter2"}, "until": "hunter"}"#,
            "is no time",
        ),
        (
            r#"{"a": {"token": "hunter2"}, "until": -1e99}"#,
            "is no time",
        ),
        (
            r#"{"a": {"token": "hunter2"}, "until": 1}"#,
            "has expired at 1970",
        ),
    ] {
        let said = fails(print(json).json()).await;
        assert!(said.contains(expected), "{json}: {said}");
    }
}

/// Whether a process is there, and no zombie.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

async fn ends(pid: &Path) {
    let pid = fs::read_to_string(pid).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while lives(&pid) {
        assert!(Instant::now() < end, "{pid} lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_all_that_it_started() {
    let endless = "sleep 1000 & echo $! >child; echo $$ >own; wait";
    let tool = Tool::new(endless);
    let mut exec = tool.exec(60);
    exec.timeout = Duration::from_millis(500);
    let said = fails(exec.clone()).await;
    assert!(said.contains("does not end within 500ms"), "{said}");
    ends(&tool.path("child")).await;
    ends(&tool.path("own")).await;

    // The same where nobody waits for it any more.
    let tool = Tool::new(endless);
    let exec = tool.exec(60);
    {
        let mut run = std::pin::pin!(super::exec::run(&exec));
        while !fs::metadata(tool.path("own")).is_ok_and(|file| file.len() > 0) {
            let some = tokio::time::timeout(Duration::from_millis(20), &mut run).await;
            assert!(some.is_err());
        }
    }
    ends(&tool.path("child")).await;
    ends(&tool.path("own")).await;
}

/// Also where it ends well and leaves something that runs on.
#[tokio::test]
async fn what_a_program_leaves_behind_is_killed() {
    let tool = Tool::new("sleep 1000 >/dev/null 2>&1 & echo $! >child; echo x");
    assert_eq!(got(tool.exec(60)).await, "x");
    ends(&tool.path("child")).await;
}

#[tokio::test]
async fn it_runs_once_for_all_who_ask_and_again_when_it_is_time() {
    let tool = Tool::new("sleep 0.2; wc -l <runs");
    let source = source(tool.exec(2));
    let asking: Vec<_> = (0..8)
        .map(|_| tokio::spawn(async_get(source.clone())))
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), "1");
    }
    assert_eq!(tool.runs(), 1);
    // What is refused is asked for again, but not for each who is refused.
    let one = source.get().await.unwrap();
    let two = source.instead(&one).await.unwrap();
    assert_eq!(source.instead(&one).await, Some(two.clone()));
    assert_eq!(source.instead(&two).await, None);
    assert_eq!(tool.runs(), 2);

    // Before it ends, and without anybody asking or waiting.
    let keeping = tokio::spawn(source.clone().keep());
    let end = Instant::now() + Duration::from_millis(1_900);
    while async_get(source.clone()).await == "2" {
        assert!(Instant::now() < end, "not renewed in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(async_get(source.clone()).await, "3");
    keeping.abort();
}

async fn async_get(source: Arc<Source>) -> String {
    let secret = source.get().await.unwrap();
    secret.expose_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_failure_keeps_the_old_one_until_its_end_and_is_not_repeated_at_once() {
    let tool = Tool::new("echo old");
    let source = source(tool.exec(2));
    let keeping = tokio::spawn(source.clone().keep());
    while tool.runs() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(async_get(source.clone()).await, "old");
    let ends = Instant::now() + Duration::from_millis(1_900);
    tool.becomes("exit 1");
    while Instant::now() < ends {
        assert_eq!(async_get(source.clone()).await, "old");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..20 {
        let error = source.get().await.unwrap_err();
        assert!(error.to_string().contains("it fails"), "{error}");
    }
    // Once when it was due, once more after a second's pause.
    assert!((2..=3).contains(&tool.runs()), "{}", tool.runs());
    tool.becomes("echo new");
    let end = Instant::now() + Duration::from_secs(5);
    while source.get().await.is_err() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(async_get(source.clone()).await, "new");
    keeping.abort();
}

#[test]
fn what_a_program_says_is_logged_without_what_it_printed() {
    let shown = |said: &str, printed: &str| exec::without(said, printed).to_string();
    assert_eq!(shown("token is hunter2!\n", "hunter2\n"), "token is …!");
    let json = r#"{"token": "hunter2", "until": 1}"#;
    assert_eq!(shown("got 'hunter2'\tok", json), "got '…' ok");
    assert_eq!(shown("two words here", "two words\n"), "… here");
    assert_eq!(shown("bad \x1b[31mred", ""), "bad  [31mred");
    assert_eq!(shown("pw", "pw\n"), "…");
    // Nor is there a part of it where what is said is cut.
    let long = format!("{}hunter2", "x".repeat(4_090));
    assert_eq!(shown(&long, "hunter2").chars().count(), 4_091);
}
