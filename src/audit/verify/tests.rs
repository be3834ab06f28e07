//! Each way of changing a log is found, and where it begins is said.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::audit::proof::{ProofError, check, prove};
use crate::audit::record::{PolicyStamp, What};
use crate::audit::tree::note::Signer;
use crate::audit::tree::store::kept;
use crate::audit::{Durability, Event, Log as Audit, LogError, Sealing};

/// A log in a directory of its own, and what verifies it.
struct Trial {
    directory: tempfile::TempDir,
    key: String,
    verifier: Verifier,
}

const RECORDS: u64 = 700;

impl Trial {
    fn empty() -> Self {
        let (signer, key) = Signer::generate(None).unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            verifier: signer.verifier().clone(),
            key,
        }
    }

    /// Of 700 records in three files, under three checkpoints.
    async fn new() -> Self {
        let trial = Self::empty();
        let log = trial.open().await.unwrap();
        for part in 0..3 {
            // What opened it, and each file, is a record.
            let count = if part == 0 { 300 - 1 } else { 200 - 1 };
            trial.write(&log, count).await;
            if part < 2 {
                log.rotate().await.unwrap();
            }
        }
        log.seal().await.unwrap();
        drop(log);
        trial.idle().await;
        trial
    }

    fn places(&self) -> Places {
        Places::of(&self.directory.path().join("records.jsonl"))
    }

    /// Waits until nobody writes to it.
    async fn idle(&self) {
        for path in [self.places().live, self.places().directory.join("lock")] {
            let file = fs::File::open(path).unwrap();
            while file.try_lock().is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn open(&self) -> Result<Audit, LogError> {
        let never = Duration::from_secs(3600);
        self.open_with(never, never, 1 << 30).await
    }

    async fn open_with(
        &self,
        every: Duration,
        heartbeat: Duration,
        segment: u64,
    ) -> Result<Audit, LogError> {
        if self.places().live.exists() {
            self.idle().await;
        }
        let sealing = Sealing {
            signer: Signer::read(&self.key).unwrap(),
            first: false,
            every,
            heartbeat,
            segment,
            copies: Some(self.directory.path().join("copies")),
        };
        Audit::sealed(&self.places().live, Durability::Flush, sealing)
    }

    async fn write(&self, log: &Audit, count: u64) {
        for epoch in 0..count {
            let policy = PolicyStamp {
                epoch,
                digest: "".into(),
            };
            let what = What::PolicyLoad {
                policy,
                error: None,
            };
            log.append(&Event::now(None, what)).await.unwrap();
        }
    }

    fn verify(&self) -> Result<Whole, VerifyError> {
        verify(&self.places(), &self.verifier, &[])
    }

    fn beside(&self, known: &[String]) -> Result<Whole, VerifyError> {
        verify(&self.places(), &self.verifier, known)
    }

    fn broken(&self) -> (How, u64) {
        broken(self.verify())
    }

    fn note(&self) -> String {
        self.places().tree().checkpoint().unwrap().unwrap()
    }

    /// Changes the lines of the file that holds a record; says which line that is.
    fn edit(&self, record: u64, change: impl FnOnce(&mut Vec<String>, usize)) {
        let files = self.places().all().unwrap();
        let file = files.iter().rev().find(|it| it.first <= record).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut all, (record - file.first) as usize);
        fs::write(&file.path, all.join("\n") + "\n").unwrap();
    }

    /// A copy of everything.
    fn copy(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy(self.directory.path(), directory.path());
        Self {
            directory,
            key: self.key.clone(),
            verifier: self.verifier.clone(),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn broken(verified: Result<Whole, VerifyError>) -> (How, u64) {
    match verified {
        Err(VerifyError::Broken(broken)) => (broken.how, broken.index),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_log_is_whole_whatever_restarts_it_has_seen() {
    let trial = Trial::new().await;
    let whole = trial.verify().unwrap();
    assert_eq!((whole.size, whole.unsigned, whole.files), (RECORDS, 0, 3));
    for _ in 0..3 {
        let log = trial.open().await.unwrap();
        trial.write(&log, 100).await;
        log.close().await.unwrap();
        drop(log);
        trial.verify().unwrap();
    }
    let whole = trial.verify().unwrap();
    assert_eq!(whole.size, RECORDS + 3 * 102);
    // Each of the checkpoints was kept elsewhere, too.
    let copies = kept(&fs::read_to_string(trial.directory.path().join("copies")).unwrap()).unwrap();
    assert!(copies.len() >= 6);
    trial.beside(&copies).unwrap();
    // What nobody has signed yet is said.
    let log = trial.open().await.unwrap();
    let unsigned = trial.verify().unwrap().unsigned;
    assert_eq!(unsigned, 1);
    drop(log);
    let mode = |path: &str| {
        let path = trial.directory.path().join(path);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        (mode("records.jsonl"), mode("records.tlog")),
        (0o600, 0o700)
    );
    assert_eq!(mode("records.tlog/checkpoint"), 0o600);
}

#[tokio::test]
async fn checkpoints_heartbeats_and_files_come_by_themselves() {
    let trial = Trial::empty();
    let (soon, later) = (Duration::from_millis(50), Duration::from_millis(300));
    let log = trial.open_with(soon, later, 20_000).await.unwrap();
    let mut seen = 0;
    for _ in 0..20 {
        trial.write(&log, 20).await;
        tokio::time::sleep(soon).await;
        // Whenever somebody looks, it is whole.
        let verified = trial.verify();
        if let Err(VerifyError::NoCheckpoint(_)) = verified {
            assert_eq!(seen, 0);
            continue;
        }
        let size = verified.unwrap().size;
        assert!(size >= seen);
        seen = size;
    }
    assert!(seen > 300, "{seen}");
    let beats = || {
        let text = fs::read_to_string(trial.places().live).unwrap();
        text.matches("\"event\":\"heartbeat\"").count()
    };
    let before = beats();
    tokio::time::sleep(later * 5).await;
    let beats = beats() - before;
    assert!((2..=5).contains(&beats), "{beats}");
    let whole = trial.verify().unwrap();
    assert!(whole.size > seen && whole.files > 2, "{whole:?}");
}

#[tokio::test]
async fn every_mutation_is_found_and_named() {
    let trial = Trial::new().await;
    for at in [0, 1, 255, 256, 299, 300, 417, 698, 699] {
        let mutated = trial.copy();
        mutated.edit(at, |lines, line| {
            lines[line] = lines[line].replacen("\"time\":\"2", "\"time\":\"1", 1);
        });
        assert_eq!(mutated.broken(), (How::Edited, at));

        let mutated = trial.copy();
        mutated.edit(at, |lines, line| drop(lines.remove(line)));
        let how = if at == 699 {
            How::Truncated
        } else {
            How::Deleted
        };
        assert_eq!(mutated.broken(), (how, at));

        let mutated = trial.copy();
        mutated.edit(at, |lines, line| {
            lines.insert(line, "{\"event\":\"heartbeat\"}".into());
        });
        assert_eq!(mutated.broken(), (How::Inserted, at));
    }
    for (at, other) in [(5, 6), (10, 290), (300, 301), (350, 499), (600, 699)] {
        let mutated = trial.copy();
        mutated.edit(at, |lines, line| {
            lines.swap(line, line + (other - at) as usize)
        });
        assert_eq!(mutated.broken(), (How::Reordered, at));
    }
    // A record that was, once more.
    let mutated = trial.copy();
    mutated.edit(450, |lines, line| {
        lines.insert(line, lines[line - 20].clone())
    });
    assert_eq!(mutated.broken(), (How::Inserted, 450));
    // The end, at whatever length.
    for left in [1, 100, 199] {
        let mutated = trial.copy();
        mutated.edit(500, |lines, _| lines.truncate(left));
        assert_eq!(mutated.broken(), (How::Truncated, 500 + left as u64));
    }
    // Half a record.
    let mutated = trial.copy();
    let live = mutated.places().live;
    let text = fs::read(&live).unwrap();
    fs::write(&live, &text[..text.len() - 10]).unwrap();
    assert_eq!(mutated.broken(), (How::Truncated, 699));
    // Whole files.
    for (file, how, at) in [
        (0, How::Deleted, 0),
        (1, How::Deleted, 300),
        (2, How::Truncated, 500),
    ] {
        let mutated = trial.copy();
        let files = mutated.places().all().unwrap();
        fs::remove_file(&files[file].path).unwrap();
        assert_eq!(mutated.broken(), (how, at));
    }
}

#[tokio::test]
async fn whoever_rewrites_the_tiles_as_well_is_found() {
    let trial = Trial::new().await;
    let mutated = trial.copy();
    mutated.edit(417, |lines, line| lines[line] = "{}".into());
    // All of the tree, as it would be.
    let mut tree = Tree::default();
    for file in mutated.places().all().unwrap() {
        for line in lines(&file.path).unwrap() {
            tree.push(entry(&line.unwrap()));
        }
    }
    let store = mutated.places().tree();
    store
        .put(tree.take_full().iter().chain(&tree.partial()))
        .unwrap();
    let Err(VerifyError::Broken(broken)) = mutated.verify() else {
        panic!("it passes")
    };
    // Checkpoints say between which; nothing that is left says more.
    assert_eq!(
        (broken.how, broken.index, broken.last),
        (How::Rewritten, 300, 499)
    );
    // Without the key, a checkpoint of it is none.
    let other = Signer::generate(Some(mutated.verifier.name())).unwrap().0;
    store
        .put_checkpoint(&other.sign(tree.size(), &tree.root()))
        .unwrap();
    let error = mutated.verify().unwrap_err();
    assert!(matches!(error, VerifyError::Checkpoint(..)), "{error}");
    // A tile by itself.
    let mutated = trial.copy();
    let path = mutated.places().directory.join("tile/entries/001");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(mutated.broken(), (How::Tile, 256));
}

#[tokio::test]
async fn what_is_cut_off_with_its_checkpoints_shows_beside_one_that_is_known() {
    let trial = Trial::new().await;
    let old = trial.copy();
    let log = trial.open().await.unwrap();
    trial.write(&log, 50).await;
    log.close().await.unwrap();
    drop(log);
    let known = vec![trial.note()];
    trial.beside(&known).unwrap();
    // The old copy is whole by itself.
    old.verify().unwrap();
    assert_eq!(broken(old.beside(&known)), (How::RolledBack, RECORDS));
    // One that goes on from it has another history.
    let log = old.open().await.unwrap();
    old.write(&log, 80).await;
    log.close().await.unwrap();
    old.verify().unwrap();
    assert_eq!(broken(old.beside(&known)), (How::Forked, 0));
    let both = [vec![trial.note()], trial_history(&trial)].concat();
    assert_eq!(broken(old.beside(&both)), (How::Forked, RECORDS));
    // An old checkpoint, put back beside the later ones.
    let mutated = trial.copy();
    let first = trial_history(&trial)[0].clone();
    fs::write(mutated.places().directory.join("checkpoint"), first).unwrap();
    assert_eq!(mutated.broken().0, How::RolledBack);
}

fn trial_history(trial: &Trial) -> Vec<String> {
    trial.places().tree().history().unwrap()
}

#[tokio::test]
async fn a_log_that_was_changed_is_not_appended_to() {
    let trial = Trial::new().await;
    for (at, change) in [(600, "edit"), (699, "cut"), (500, "cut")] {
        let mutated = trial.copy();
        mutated.edit(at, |lines, line| match change {
            "edit" => lines[line] = "{}".into(),
            _ => lines.truncate(line),
        });
        let error = mutated.open().await.unwrap_err().to_string();
        assert!(error.contains("not what its checkpoint says"), "{error}");
    }
    let mutated = trial.copy();
    let other = Signer::generate(None).unwrap().1;
    let mutated = Trial {
        key: other,
        ..mutated
    };
    let error = mutated.open().await.unwrap_err().to_string();
    assert!(error.contains("not signed by"), "{error}");
}

#[tokio::test]
async fn a_log_that_lost_its_checkpoint_is_not_signed_anew() {
    let trial = Trial::empty();
    let log = trial.open().await.unwrap();
    trial.write(&log, 10).await;
    let whole = trial.verify().unwrap();
    assert_eq!((whole.size, whole.unsigned), (0, 11));
    // As who is killed before one is due leaves it.
    let killed = trial.copy();
    drop(killed.open().await.unwrap());
    killed.idle().await;
    assert_eq!(killed.verify().unwrap().size, 12);
    drop(log);
    trial.idle().await;
    fs::remove_file(trial.places().directory.join("checkpoint")).unwrap();
    let error = trial.open().await.unwrap_err().to_string();
    assert!(error.contains("its checkpoint is missing"), "{error}");
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_put_elsewhere_is_put_there_later() {
    let trial = Trial::empty();
    let copies = trial.directory.path().join("copies");
    fs::create_dir(&copies).unwrap();
    let log = trial.open().await.unwrap();
    for _ in 0..3 {
        trial.write(&log, 3).await;
        log.rotate().await.unwrap();
    }
    fs::remove_dir(&copies).unwrap();
    log.close().await.unwrap();
    // Behind its end no other file begins.
    let files = trial.places().all().unwrap().len();
    log.rotate().await.unwrap();
    assert_eq!(trial.places().all().unwrap().len(), files);
    let all = kept(&fs::read_to_string(&copies).unwrap()).unwrap();
    assert_eq!(all, trial_history(&trial));
    assert!(all.len() > 3);
    trial.beside(&all).unwrap();
}

#[test]
fn a_log_that_is_broken_is_not_read_for_ever() {
    let broken = || {
        Err(VerifyError::Read(
            PathBuf::new(),
            io::Error::other("broken"),
        ))
    };
    let (moved, tries) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let once = || {
        tries.set(tries.get() + 1);
        broken()
    };
    let always = || moved.replace(moved.get() + 1);
    again(always, once).unwrap_err();
    assert_eq!(tries.take(), TRIES);
    again(|| 0, once).unwrap_err();
    assert_eq!(tries.take(), 1);
}

#[tokio::test]
async fn a_proof_is_verified_alone() {
    let trial = Trial::new().await;
    for at in [0, 256, 699] {
        let mut id = String::new();
        trial.edit(at, |lines, line| {
            let record: serde_json::Value = serde_json::from_str(&lines[line]).unwrap();
            id = record["id"].as_str().unwrap().to_owned();
        });
        let proof = prove(&trial.places(), &trial.verifier, &id).unwrap();
        let proved = check(&proof, &trial.verifier).unwrap();
        assert_eq!((proved.index, proved.size), (at, RECORDS));
        assert!(proved.record.contains(&id));
        let other = Signer::generate(None).unwrap().0;
        check(&proof, other.verifier()).unwrap_err();
        // Each line of it matters.
        for (number, line) in proof.lines().enumerate() {
            let Some(at) = line.rfind(|c: char| c.is_ascii_alphanumeric()) else {
                continue;
            };
            let mut lines: Vec<String> = proof.lines().map(str::to_owned).collect();
            let last = &line[at..=at];
            let other = if last == "A" { "Q" } else { "A" };
            lines[number].replace_range(at..=at, other);
            let changed = lines.join("\n") + "\n";
            assert!(
                check(&changed, &trial.verifier).is_err(),
                "{number}: {line}"
            );
        }
    }
    let unknown = prove(&trial.places(), &trial.verifier, "nobody").unwrap_err();
    assert!(matches!(unknown, ProofError::Unknown(_)));
}
