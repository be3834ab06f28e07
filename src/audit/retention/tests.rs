//! What is removed, what is not, and what is found where more is missing.

use std::time::Duration;

use super::*;
use crate::audit::tree::note::{Signer, Verifier};
use crate::audit::verify::{How, VerifyError, Whole, verify};
use crate::audit::{Durability, Sealing};

struct Trial {
    directory: tempfile::TempDir,
    verifier: Verifier,
    log: Log,
}

impl Trial {
    /// Of five files of a hundred records each, and one that is appended to.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (signer, _) = Signer::generate(None).unwrap();
        let verifier = signer.verifier().clone();
        let never = Duration::from_secs(3600);
        let sealing = Sealing {
            signer,
            first: true,
            every: never,
            heartbeat: never,
            segment: 1 << 30,
            copies: None,
        };
        let live = directory.path().join("records.jsonl");
        let log = Log::sealed(&live, Durability::Flush, sealing).unwrap();
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
            log,
        }
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
    let forged = "{\"event\":\"log_pruned\",\"files\":1,\"first\":100,\"from\":0}\n";
    let live = trial.places().live;
    let text = fs::read_to_string(&live).unwrap();
    fs::write(&live, text.clone() + forged).unwrap();
    assert_eq!(trial.broken(), (How::Deleted, 0));
    fs::write(&live, forged).unwrap();
    trial.verify().unwrap_err();
    // And whatever its file is called.
    fs::write(&live, text + forged).unwrap();
    let (from, to) = (trial.places().closing(100), trial.places().closing(90));
    fs::rename(from, to).unwrap();
    trial.verify().unwrap_err();

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
