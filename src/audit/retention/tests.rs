//! What is removed, what is not, and what is found where more is missing.

use std::time::Duration;

use super::*;
use crate::audit::record::What;
use crate::audit::tree::note::{Signer, Verifier};
use crate::audit::verify::{How, VerifyError, Whole, verify};
use crate::audit::{Durability, Event, Sealing};

struct Trial {
    directory: tempfile::TempDir,
    verifier: Verifier,
    key: String,
    log: Log,
}

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Option<Duration> = Some(Duration::from_nanos(1));

fn sealing(signer: Signer, first: bool) -> Sealing {
    Sealing {
        signer,
        first,
        every: NEVER,
        heartbeat: NEVER,
        segment: 1 << 30,
        copies: None,
    }
}

impl Trial {
    /// Of five files of a hundred records each, and one that is appended to.
    async fn new() -> Self {
        let (_, key) = Signer::generate(None).unwrap();
        Self::by(key, Durability::Flush).await
    }

    async fn by(key: String, durability: Durability) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::read(&key).unwrap();
        let verifier = signer.verifier().clone();
        let live = directory.path().join("records.jsonl");
        let log = Log::sealed(&live, durability, sealing(signer, true)).unwrap();
        for _ in 0..5 {
            for _ in 0..99 {
                log.append(&Event::now(None, What::Heartbeat))
                    .await
                    .unwrap();
            }
            log.rotate().await.unwrap();
        }
        log.seal().await.unwrap();
        Self {
            directory,
            verifier,
            key,
            log,
        }
    }

    /// Stops, has that done to the file that is appended to, and starts again.
    async fn restarted(self, meanwhile: impl FnOnce(&Places)) -> Self {
        let places = self.places();
        self.log.close().await.unwrap();
        let Self {
            directory,
            verifier,
            key,
            log,
        } = self;
        drop(log);
        meanwhile(&places);
        // Its threads end soon after.
        let end = std::time::Instant::now() + Duration::from_secs(10);
        let log = loop {
            let sealing = sealing(Signer::read(&key).unwrap(), false);
            match Log::sealed(&places.live, Durability::Flush, sealing) {
                Ok(log) => break log,
                Err(error) if std::time::Instant::now() > end => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        log.seal().await.unwrap();
        Self {
            directory,
            verifier,
            key,
            log,
        }
    }

    /// The notes in the file that is appended to.
    fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.places().live).unwrap();
        let told = text.lines().filter(|line| line.contains("log_pruned"));
        told.map(str::to_owned).collect()
    }

    fn places(&self) -> Places {
        Places::of(&self.directory.path().join("records.jsonl"))
    }

    async fn prune(&self, age: Option<Duration>, size: Option<usize>, may: u64) -> usize {
        let spare = Spare {
            taken: may,
            copied: u64::MAX,
        };
        let rule = Retention { age, size };
        prune(&self.places(), &self.log, &rule, spare)
            .await
            .unwrap()
    }

    fn verify(&self) -> Result<Whole, VerifyError> {
        verify(&self.places(), &self.verifier, &[])
    }

    fn broken(&self) -> (How, u64) {
        match self.verify() {
            Err(VerifyError::Broken(broken)) => (broken.how, broken.index),
            other => panic!("{other:?}"),
        }
    }

    fn remove(&self, first: u64) {
        fs::remove_file(self.places().closing(first)).unwrap();
    }
}

#[tokio::test]
async fn what_may_be_missed_goes_and_the_rest_is_verified() {
    let trial = Trial::new().await;
    let soon = Some(Duration::from_nanos(1));
    assert_eq!(trial.prune(None, Some(1 << 20), u64::MAX).await, 0);
    assert_eq!(
        trial
            .prune(Some(Duration::from_secs(60)), None, u64::MAX)
            .await,
        0
    );
    // No file of which somebody has not taken everything.
    assert_eq!(trial.prune(soon, None, 99).await, 0);
    assert_eq!(trial.prune(soon, None, 299).await, 2);
    let whole = trial.verify().unwrap();
    assert_eq!((whole.pruned, whole.files, whole.unsigned), (200, 4, 0));
    // By size: what is left fits.
    let all = trial.places().all().unwrap();
    let size = |at: usize| all[at].path.metadata().unwrap().len() as usize;
    let fits = size(1) + size(2) + size(3) + 10;
    assert_eq!(trial.prune(None, Some(fits), u64::MAX).await, 1);
    let whole = trial.verify().unwrap();
    assert_eq!((whole.pruned, whole.files), (300, 3));
    // The file that is appended to stays; its beginning tells which one it is.
    assert_eq!(trial.prune(soon, None, u64::MAX).await, 2);
    let whole = trial.verify().unwrap();
    assert_eq!((whole.pruned, whole.files), (500, 1));
    assert_eq!(whole.size, 501 + 3);
    // It goes on, over further files.
    trial.log.rotate().await.unwrap();
    trial.log.close().await.unwrap();
    assert_eq!(trial.verify().unwrap().size, 506);
}

#[tokio::test]
async fn what_no_signed_record_tells_of_is_missing() {
    let trial = Trial::new().await;
    trial.prune(Some(Duration::from_nanos(1)), None, 299).await;
    trial.verify().unwrap();
    // One more than was said.
    trial.remove(200);
    assert_eq!(trial.broken(), (How::Deleted, 200));

    // Nothing said at all.
    let trial = Trial::new().await;
    trial.remove(0);
    assert_eq!(trial.broken(), (How::Deleted, 0));

    // Said by somebody who cannot sign: behind the latest checkpoint, or in a record's place.
    let live = trial.places().live;
    let text = fs::read_to_string(&live).unwrap();
    fs::write(&live, text + &forged(100)).unwrap();
    assert_eq!(trial.broken(), (How::Deleted, 0));
    fs::write(&live, forged(100)).unwrap();
    assert_eq!(trial.broken(), (How::Deleted, 0));

    // What a file is called is nobody's word.
    let trial = Trial::new().await;
    trial.prune(SOON, None, 299).await;
    let of = |first| trial.places().closing(first);
    fs::rename(of(200), of(210)).unwrap();
    assert_eq!(trial.verify().unwrap().pruned, 200);
    fs::rename(of(210), of(190)).unwrap();
    assert_eq!(trial.broken(), (How::Deleted, 190));

    // What is in the middle is never removed, nor what a tile has lost.
    let trial = Trial::new().await;
    trial.prune(Some(Duration::from_nanos(1)), None, 299).await;
    trial.remove(300);
    assert_eq!(trial.broken(), (How::Deleted, 300));
    let trial = Trial::new().await;
    trial.prune(Some(Duration::from_nanos(1)), None, 299).await;
    let tile = trial.places().directory.join("tile/entries/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[40] ^= 1;
    fs::write(&tile, bytes).unwrap();
    trial.verify().unwrap_err();
    fs::remove_file(&tile).unwrap();
    trial.verify().unwrap_err();
}

fn forged(first: u64) -> String {
    let id = "019ac3a1-0000-7000-8000-000000000000";
    let time = "2026-11-25T10:00:00.000000Z";
    format!(
        "{{\"event\":\"log_pruned\",\"files\":1,\"first\":{first},\"from\":0,\"id\":\"{id}\",\"note\":\"\",\
         \"time\":\"{time}\"}}\n"
    )
}

fn append(places: &Places, line: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(&places.live);
    std::io::Write::write_all(file.as_mut().unwrap(), line.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_line_that_the_next_proxy_signs_allows_nothing() {
    // Appended to a log that is stopped: the proxy signs it with what it finds there.
    let trial = Trial::new().await;
    let trial = trial.restarted(|places| append(places, &forged(300))).await;
    let whole = trial.verify().unwrap();
    assert_eq!((whole.unsigned, whole.pruned), (0, 0));
    (0..3).for_each(|at| trial.remove(at * 100));
    assert_eq!(trial.broken(), (How::Deleted, 0));

    // With a note that allowed less.
    let trial = Trial::new().await;
    trial.prune(SOON, None, 199).await;
    let said = trial.told().remove(0);
    let more = said.replace("\"first\":100", "\"first\":300") + "\n";
    assert_ne!(more.trim(), said);
    let trial = trial.restarted(|places| append(places, &more)).await;
    assert_eq!(trial.verify().unwrap().pruned, 100);
    trial.remove(100);
    assert_eq!(trial.broken(), (How::Deleted, 100));

    // With one that allowed it in another log, which the same key signed.
    let other = Trial::new().await;
    other.prune(SOON, None, 299).await;
    let said = other.told().remove(0) + "\n";
    let trial = Trial::by(other.key.clone(), Durability::Flush).await;
    let trial = trial.restarted(|places| append(places, &said)).await;
    assert_eq!(trial.verify().unwrap().pruned, 0);
    (0..2).for_each(|at| trial.remove(at * 100));
    assert_eq!(trial.broken(), (How::Deleted, 0));
    // And the one beside it that is of this log counts.
    let trial = Trial::by(other.key, Durability::Flush).await;
    let trial = trial.restarted(|places| append(places, &said)).await;
    trial.prune(SOON, None, 199).await;
    assert_eq!(trial.verify().unwrap().pruned, 100);
}

#[tokio::test]
async fn what_said_so_is_there_first_however_durable_records_are() {
    let (_, key) = Signer::generate(None).unwrap();
    let trial = Trial::by(key, Durability::Async).await;
    // How many that are depends on when they were written.
    assert_ne!(trial.prune(SOON, None, u64::MAX).await, 0);
    let whole = trial.verify().unwrap();
    let said = whole.said.unwrap();
    assert_eq!(whole.pruned, said.removal.first);
    assert!(trial.told()[0].contains(&said.id), "{said:?}");
}

#[tokio::test]
async fn what_cannot_be_removed_is_told_of_once() {
    let trial = Trial::new().await;
    for _ in 0..3 {
        trial.log.prune(0, 200, 2).await.unwrap();
    }
    assert_eq!(trial.told().len(), 1);
    assert_eq!(trial.prune(SOON, None, 299).await, 2);
    assert_eq!(trial.told().len(), 1);
    assert_eq!(trial.verify().unwrap().pruned, 200);
}

#[tokio::test]
async fn nothing_goes_that_cannot_be_told_of() {
    let trial = Trial::new().await;
    let soon = Retention {
        age: Some(Duration::from_nanos(1)),
        size: None,
    };
    let spare = |copied| Spare {
        taken: u64::MAX,
        copied,
    };
    let places = trial.places();
    // Under no checkpoint that is held elsewhere.
    assert_eq!(
        prune(&places, &trial.log, &soon, spare(50)).await.unwrap(),
        0
    );
    // The record of it cannot be signed: where its checkpoint goes there is no room.
    fs::create_dir(places.directory.join("checkpoint.new")).unwrap();
    let files = places.all().unwrap().len();
    prune(&places, &trial.log, &soon, spare(u64::MAX))
        .await
        .unwrap_err();
    assert_eq!(places.all().unwrap().len(), files);
    fs::remove_dir(places.directory.join("checkpoint.new")).unwrap();
    assert_eq!(
        prune(&places, &trial.log, &soon, spare(u64::MAX))
            .await
            .unwrap(),
        5
    );
    trial.verify().unwrap();
}

#[tokio::test]
async fn nothing_goes_on_the_word_of_who_may_write_there() {
    let trial = Trial::new().await;
    let places = trial.places();
    let refused = async |size| {
        let rule = Retention {
            age: size_or_soon(size),
            size,
        };
        let spare = Spare {
            taken: u64::MAX,
            copied: u64::MAX,
        };
        let said = prune(&places, &trial.log, &rule, spare).await;
        let said = said.unwrap_err().to_string();
        assert!(said.contains("not what was signed"), "{said}");
        assert!(trial.told().is_empty());
        assert_eq!(places.all().unwrap().first().unwrap().first, 0);
    };
    // A file that makes the whole too large, and stands before none that is signed.
    let large = places.closing(450);
    File::create(&large).unwrap().set_len(1 << 32).unwrap();
    refused(Some(1 << 30)).await;
    fs::remove_file(large).unwrap();
    // Nor what is behind the end of the one that is appended to.
    let live = fs::OpenOptions::new()
        .write(true)
        .open(&places.live)
        .unwrap();
    let end = live.metadata().unwrap().len();
    live.set_len(1 << 32).unwrap();
    assert_eq!(trial.prune(None, Some(1 << 30), u64::MAX).await, 0);
    live.set_len(end).unwrap();
    // Records that look old, in what stays and in what goes.
    for (first, line) in [(100, 0), (0, 7)] {
        let file = places.closing(first);
        let text = fs::read_to_string(&file).unwrap();
        let mut lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
        lines[line] = lines[line].replace("\"time\":\"20", "\"time\":\"19");
        assert_ne!(lines.concat(), text);
        fs::write(&file, lines.concat()).unwrap();
        refused(None).await;
        fs::write(&file, text).unwrap();
    }
    // One that says to begin elsewhere.
    fs::rename(places.closing(100), places.closing(199)).unwrap();
    refused(None).await;
    fs::rename(places.closing(199), places.closing(100)).unwrap();
    assert_eq!(trial.prune(SOON, None, 299).await, 2);
    assert_eq!(trial.verify().unwrap().pruned, 200);
}

fn size_or_soon(size: Option<usize>) -> Option<Duration> {
    SOON.filter(|_| size.is_none())
}
