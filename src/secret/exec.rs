//! Runs a program that prints a secret.
//!
//! Knows nothing about when. The invariants: no shell, no input, and of this process's
//! environment only what is named; what it prints is bounded; whatever it started, and is
//! still in its process group, is killed when it ends, when its time is over or when nobody
//! waits for it any more; what it says goes to the log at `debug` alone, without what it
//! printed: it may say what else it knows.

use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::source::LONGEST;
use super::{Given, Secret, SecretError};
use crate::config::Exec;

/// As many characters of what it says as go to the log.
const SAID: usize = 4 << 10;

/// It has ended, and stays to be waited for.
const ENDED: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOWAIT);

/// Has it run.
pub(super) async fn run(exec: &Exec) -> Result<Given, SecretError> {
    let fault = |why: String| SecretError::Refused {
        from: exec.to_string(),
        why,
    };
    let mut group = Group::start(exec).map_err(|error| fault(error.to_string()))?;
    let (mut printed, mut said) = (buffer(), buffer());
    let ran = tokio::time::timeout(exec.timeout, group.run(&mut printed, &mut said)).await;
    drop(group);
    say(exec, &printed, &said);
    match ran {
        Err(_) => return Err(fault(format!("it does not end within {:?}", exec.timeout))),
        Ok(Err(why)) => return Err(fault(why)),
        Ok(Ok(())) => {}
    }
    read(exec, printed).map_err(fault)
}

/// With room for all that is read into it: growing would leave copies.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(LONGEST + 1))
}

/// A running program and all that it started, which end with this.
struct Group {
    child: Child,
    /// Until it has been waited for, when its number may be another's.
    leader: Option<Pid>,
}

impl Group {
    fn start(exec: &Exec) -> std::io::Result<Self> {
        let (program, arguments) = exec.command.split_first().ok_or_else(|| {
            // The configuration has been checked for it.
            std::io::Error::other("no command")
        })?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let named = exec.environment.iter().map(String::as_str);
        for name in ["PATH", "HOME"].into_iter().chain(named) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let child = command.spawn()?;
        let number = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            leader: number.and_then(Pid::from_raw),
            child,
        })
    }

    /// Until it has printed all and ended.
    async fn run(
        &mut self,
        printed: &mut Zeroizing<Vec<u8>>,
        said: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), String> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let (Some(out), Some(err)) = (out, err) else {
            return Err("its output cannot be read".into());
        };
        let print = async {
            let mut out = out.take(LONGEST as u64 + 1);
            while out.read_buf(&mut **printed).await.map_err(text)? > 0 {}
            match printed.len() > LONGEST {
                true => Err(format!("it prints more than {LONGEST} bytes")),
                false => Ok(()),
            }
        };
        tokio::try_join!(print, async { drain(err, said).await.map_err(text) })?;
        if let Some(leader) = self.leader {
            // Looked at and not yet reaped: its number is no other's, nor is its group's.
            let ended = move || waitid(WaitId::Pid(leader), ENDED);
            let ended = tokio::task::spawn_blocking(ended).await;
            ended
                .map_err(|fault| fault.to_string())?
                .map_err(|error| text(error.into()))?;
            let _ = kill_process_group(leader, Signal::KILL);
        }
        let status = self.child.wait().await;
        self.leader = None;
        match status.map_err(text)? {
            status if status.success() => Ok(()),
            status => Err(format!("it fails ({status})")),
        }
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// Reads all, and keeps more of its beginning than is shown: a secret at the end of what is
/// kept would not be found.
async fn drain(mut from: impl AsyncRead + Unpin, said: &mut Vec<u8>) -> std::io::Result<()> {
    let mut some = Zeroizing::new([0; 1024]);
    loop {
        let read = from.read(&mut *some).await?;
        if read == 0 {
            return Ok(());
        }
        let room = LONGEST.saturating_sub(said.len());
        said.extend(some.iter().take(read.min(room)));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // It is there: nobody has waited for it yet.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Logs that a program said something, and what for who looks closely, without what it printed.
fn say(exec: &Exec, printed: &[u8], said: &[u8]) {
    if !said.is_empty() {
        let bytes = said.len();
        tracing::warn!(from = %exec, bytes, "what gives a secret says something (shown at debug)");
    }
    if !said.is_empty() && tracing::enabled!(tracing::Level::DEBUG) {
        let said = without(
            &String::from_utf8_lossy(said),
            &String::from_utf8_lossy(printed),
        );
        tracing::debug!(from = %exec, said = &**said, "what gives a secret says");
    }
}

/// The shortest text that is taken for a part of a secret.
const PART: usize = 4;

/// On one line, and without any word of what was printed. What it printed may be JSON, of
/// which not all is secret: better too little in the log.
pub(super) fn without(said: &str, printed: &str) -> Zeroizing<String> {
    let mut said = Zeroizing::new(said.trim().to_owned());
    let edges = |c: char| c.is_whitespace() || c.is_control() || "\"'{}[]:,".contains(c);
    let mut words: Vec<&str> = printed.split(edges).collect();
    words.retain(|word| word.len() >= PART);
    let lines = printed.lines().map(str::trim);
    words.extend(lines.filter(|line| !line.is_empty()));
    // The longest first: it may hold others.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    for word in words {
        if said.contains(word) {
            said = Zeroizing::new(said.replace(word, "…"));
        }
    }
    let control = |c: char| if c.is_control() { ' ' } else { c };
    Zeroizing::new(said.chars().take(SAID).map(control).collect())
}

/// The secret, and for how long it is good, of what was printed.
fn read(exec: &Exec, printed: Zeroizing<Vec<u8>>) -> Result<Given, String> {
    let empty = || "it prints nothing".to_owned();
    let lasts = exec.lifetime.unwrap_or_default();
    let Some(json) = &exec.json else {
        let secret = Secret::trimmed(printed).ok_or_else(empty)?;
        return Ok(Given { secret, lasts });
    };
    // An error of the parser's would quote it.
    let object: Value = serde_json::from_slice(&printed).map_err(|_| "it prints no JSON")?;
    let object = Object(object);
    let secret = object.field(&json.secret).and_then(Value::as_str);
    let secret = secret.filter(|secret| !secret.is_empty());
    let secret = secret.ok_or_else(|| format!("it prints no text `{}`", json.secret))?;
    let secret = Secret::new(secret);
    let Some(expires) = &json.expires else {
        return Ok(Given { secret, lasts });
    };
    let found = object.field(expires).and_then(moment);
    let until = found.ok_or_else(|| {
        format!("its `{expires}` is no time (such as 2026-01-31T12:00:00Z, or seconds since 1970)")
    })?;
    let lasts = Duration::try_from(Timestamp::now().duration_until(until))
        .ok()
        .filter(|lasts| !lasts.is_zero())
        .ok_or_else(|| format!("what it prints has expired at {until}"))?;
    // What it says may be anything, and is added to a clock.
    let lasts = lasts.min(Duration::from_secs(366 * 24 * 60 * 60));
    Ok(Given { secret, lasts })
}

/// Whose texts are overwritten in the end.
pub(super) struct Object(pub(super) Value);

impl Object {
    /// The one that a path of names, with points between them, leads to.
    pub(super) fn field(&self, path: &str) -> Option<&Value> {
        path.split('.')
            .try_fold(&self.0, |value, name| match value {
                Value::Array(values) => values.get(name.parse::<usize>().ok()?),
                value => value.get(name),
            })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let mut all = vec![self.0.take()];
        while let Some(value) = all.pop() {
            match value {
                Value::String(text) => drop(Zeroizing::new(text)),
                Value::Array(values) => all.extend(values),
                Value::Object(values) => all.extend(values.into_iter().map(|(_, value)| value)),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
    }
}

/// RFC 3339, or seconds since 1970 as a number or as text.
fn moment(value: &Value) -> Option<Timestamp> {
    let seconds = |seconds| Timestamp::from_second(seconds).ok();
    match value {
        Value::String(text) => text
            .parse()
            .ok()
            .or_else(|| text.parse().ok().and_then(seconds)),
        Value::Number(number) => number.as_i64().and_then(seconds),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
