//! Files, checkpoints and their copies where things go wrong between them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::audit::log::tests::intent;
use crate::audit::tree::note::Verifier;
use crate::audit::verify::{VerifyError, Whole, verify};
use crate::audit::{Durability, Id, Log};

const NEVER: Duration = Duration::from_secs(3600);

struct Trial {
    directory: tempfile::TempDir,
    key: String,
    verifier: Verifier,
}

impl Trial {
    fn new() -> Self {
        let (signer, key) = Signer::generate(None).unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            verifier: signer.verifier().clone(),
            key,
        }
    }

    fn places(&self) -> Places {
        Places::of(&self.directory.path().join("records.jsonl"))
    }

    fn try_open(&self, copies: Option<PathBuf>) -> Result<Log, LogError> {
        let sealing = Sealing {
            signer: Signer::read(&self.key).unwrap(),
            first: false,
            every: NEVER,
            heartbeat: NEVER,
            segment: 1 << 30,
            copies,
        };
        Log::sealed(&self.places().live, Durability::Flush, sealing)
    }

    /// As soon as nobody else has it.
    async fn open(&self) -> Log {
        for _ in 0..500 {
            match self.try_open(None) {
                Err(error) if error.to_string().contains("another proxy") => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                opened => return opened.unwrap(),
            }
        }
        panic!("somebody has it")
    }

    fn verify(&self) -> Result<Whole, VerifyError> {
        verify(&self.places(), &self.verifier, &[])
    }

    fn lines(&self, path: &Path) -> Vec<serde_json::Value> {
        let lines = lines(path).unwrap();
        lines
            .map(|line| serde_json::from_slice(&line.unwrap()).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn what_was_begun_before_many_files_were_closed_has_an_end() {
    let trial = Trial::new();
    let (ended, begun) = (Id::next(), Id::next());
    let log = trial.open().await;
    log.append_all(&[intent(ended), intent(begun)])
        .await
        .unwrap();
    for _ in 0..3 {
        log.rotate().await.unwrap();
    }
    let end = Event {
        id: ended,
        ..Event::now(None, What::NotRun)
    };
    log.append(&end).await.unwrap();
    drop(log);
    drop(trial.open().await);
    let told = trial.lines(&trial.places().live);
    let opened = told
        .iter()
        .position(|it| it["event"] == "log_opened")
        .unwrap();
    assert_eq!(told[opened]["unknown"], 1);
    assert_eq!(told[opened + 1]["id"], begun.to_string());
    // Once said, it is not looked for again, whatever is closed in between.
    let log = trial.open().await;
    log.rotate().await.unwrap();
    assert_eq!(trial.places().closed().unwrap().len(), 4);
    assert_eq!(
        crate::audit::open::before(&trial.places()).unwrap().len(),
        1
    );
    drop(log);
    drop(trial.open().await);
    let told = trial.lines(&trial.places().live);
    let last = told.iter().rfind(|it| it["event"] == "log_opened");
    assert_eq!(last.unwrap()["unknown"], 0);
}

#[tokio::test]
async fn a_file_that_was_closed_and_not_signed_yet_is_gone_on_from() {
    let trial = Trial::new();
    let log = trial.open().await;
    log.rotate().await.unwrap();
    log.append_all(&[intent(Id::next()), intent(Id::next())])
        .await
        .unwrap();
    drop(log);
    let log = trial.open().await;
    // As it is when the proxy is killed after another file began, and before it is signed.
    let size = log.progress().unwrap().now().signed;
    drop(log);
    let live = trial.places().live;
    let count = loop {
        let file = fs::File::open(&live).unwrap();
        if file.try_lock().is_ok() {
            break trial.lines(&live).len() as u64;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let first = trial.places().all().unwrap().last().unwrap().first;
    // What its sealer has signed in going is unsigned again.
    let store = trial.places().tree();
    let history = store.history().unwrap();
    let note = history
        .iter()
        .rfind(|note| trial.verifier.open(note).unwrap().size <= size);
    store.put_checkpoint(note.unwrap()).unwrap();
    fs::rename(&live, trial.places().closing(first)).unwrap();
    fs::write(
        &live,
        format!(
            "{{\"event\":\"log_rotated\",\"first\":{}}}\n",
            first + count
        ),
    )
    .unwrap();
    assert!(size < first + count);
    let log = trial.open().await;
    log.close().await.unwrap();
    let whole = trial.verify().unwrap();
    assert_eq!((whole.files, whole.unsigned), (3, 0));
    drop(log);
    // One of them missing is no such thing.
    fs::remove_file(trial.places().closing(first)).unwrap();
    trial.verify().unwrap_err();
}

#[tokio::test]
async fn a_place_for_copies_that_does_not_answer_keeps_nobody_from_signing() {
    let trial = Trial::new();
    // Opening a pipe that nobody reads takes for ever.
    let pipe = trial.directory.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let log = trial.try_open(Some(pipe.clone())).unwrap();
    log.append(&intent(Id::next())).await.unwrap();
    log.seal().await.unwrap();
    let now = log.progress().unwrap().now();
    assert_eq!((now.signed, now.copied), (2, 0));
    assert_eq!(trial.verify().unwrap().size, 2);
    // The thread that waits there can end.
    let mut options = fs::OpenOptions::new();
    drop(options.read(true).write(true).open(&pipe).unwrap());
}

#[tokio::test]
async fn there_is_one_writer_between_one_file_and_the_next_as_well() {
    let trial = Trial::new();
    let log = trial.open().await;
    let aside = trial.directory.path().join("aside");
    fs::rename(trial.places().live, &aside).unwrap();
    let other = trial.try_open(None).unwrap_err().to_string();
    assert!(other.contains("another proxy"), "{other}");
    assert!(!trial.places().live.exists());
    fs::rename(&aside, trial.places().live).unwrap();
    drop(log);
    trial.open().await;
}
