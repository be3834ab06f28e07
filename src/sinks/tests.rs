//! What a sink is sent, whatever becomes of it.

use std::fs;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::batch::Record;
use super::*;
use crate::audit::record::{PolicyStamp, What};
use crate::audit::tree::note::Signer;
use crate::audit::tree::{Tree, entry};
use crate::audit::{Durability, Event, Sealing};

/// A log whose checkpoints are made when they are asked for.
fn log(places: &Places) -> Log {
    let (signer, _) = Signer::generate(None).unwrap();
    let never = Duration::from_secs(3600);
    let sealing = Sealing {
        signer,
        first: true,
        every: never,
        heartbeat: never,
        segment: 1 << 30,
        copies: None,
    };
    Log::sealed(&places.live, Durability::Flush, sealing).unwrap()
}

fn open(log: &Log, places: &Places, name: &str) -> Tail {
    let progress = log.progress().unwrap();
    Tail::open(places, name, progress.name(), progress.now().signed).unwrap()
}

async fn write(log: &Log, count: u64) {
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

fn positions(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.position).collect()
}

#[tokio::test]
async fn a_reader_goes_on_where_it_stood_over_any_files() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::of(&directory.path().join("records.jsonl"));
    let log = log(&places);
    let mut tail = open(&log, &places, "one");
    // Each file begins with a record of its own.
    for count in [3, 0, 600, 1] {
        write(&log, count).await;
        log.rotate().await.unwrap();
    }
    log.seal().await.unwrap();
    let signed = log.progress().unwrap().now().signed;
    assert_eq!(signed, 1 + 604 + 4);
    assert_eq!(positions(&tail.read(2, RECORDS).unwrap()), [0, 1]);
    tail.keep().unwrap();
    // What has not arrived is read again, and by the next proxy.
    assert_eq!(positions(&tail.read(signed, RECORDS).unwrap())[0], 2);
    tail.back();
    assert_eq!(positions(&tail.read(signed, RECORDS).unwrap())[0], 2);
    let mut tail = open(&log, &places, "one");
    let mut all = Vec::new();
    while tail.at().position < signed {
        let records = tail.read(signed, RECORDS).unwrap();
        all.extend(records);
        // Files may be closed at any time.
        log.rotate().await.unwrap();
    }
    let numbers: Vec<u64> = (2..signed).collect();
    assert_eq!(positions(&all), numbers);
    let mut lines = Vec::new();
    for file in places.all().unwrap() {
        let text = fs::read_to_string(file.path).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    for record in &all {
        assert_eq!(record.line, lines[record.position as usize]);
    }
    // One that is new gets all; what is said to be signed and is not there is no end.
    assert_eq!(open(&log, &places, "two").at().position, 0);
    let beyond = tail.read(signed + 1000, RECORDS).unwrap_err().to_string();
    assert!(beyond.contains("is signed, and not in the log"), "{beyond}");
}

/// Another side that fails as long as it is told to.
struct Other(Arc<Mutex<(bool, Vec<u64>)>>);

impl Deliver for Other {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Fault> {
        let mut own = self.0.lock().unwrap();
        if own.0 {
            return Err("down".into());
        }
        own.1.extend(positions(&batch.records));
        Ok(())
    }
}

#[tokio::test]
async fn who_is_down_gets_all_of_it_later_and_who_is_required_holds_statements() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::of(&directory.path().join("records.jsonl"));
    let log = log(&places);
    let progress = log.progress().unwrap().clone();
    let other = Arc::new(Mutex::new((true, Vec::new())));
    let lag = Arc::new(Lag::new("other", 0));
    let one = One {
        deliver: Box::new(Other(other.clone())),
        format: config::Format::Native,
        tail: open(&log, &places, "other"),
        lag: lag.clone(),
        progress: progress.clone(),
        most: RECORDS,
        again: None,
        failing: None,
    };
    let thread = std::thread::spawn(|| one.run());
    let (lags, required) = (
        vec![lag.clone()],
        vec![(lag.clone(), Duration::from_millis(300))],
    );
    let (own, watched) = (log.clone(), progress.clone());
    let watching = std::thread::spawn(move || watch(&lags, &required, &watched, &own));
    write(&log, 1000).await;
    // Nothing is sent that nobody has signed.
    log.ready().await.unwrap();
    log.seal().await.unwrap();
    let refused = async |refused: bool| {
        for _ in 0..1000 {
            if log.ready().await.is_err() == refused {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within ten seconds");
    };
    refused(true).await;
    let said = log.ready().await.unwrap_err().to_string();
    assert!(said.contains("sink other is required"), "{said}");
    assert_eq!(lag.taken(), 0);
    other.lock().unwrap().0 = false;
    refused(false).await;
    write(&log, 7).await;
    log.seal().await.unwrap();
    progress.end();
    tokio::task::spawn_blocking(|| thread.join().unwrap())
        .await
        .unwrap();
    watching.join().unwrap();
    let all: Vec<u64> = (0..1008).collect();
    assert_eq!(other.lock().unwrap().1, all);
    let behind = behind(&places, "other").unwrap();
    assert_eq!(
        (behind.taken, behind.waiting, behind.oldest),
        (1008, 0, None)
    );
    let new = super::behind(&places, "new").unwrap();
    assert_eq!((new.taken, new.waiting), (0, 1008));
    assert!(new.oldest.is_some());
}

#[test]
fn each_try_comes_later_and_not_at_the_same_time() {
    let second = Duration::from_secs(1);
    let tries: Vec<Duration> = (0..100).map(|_| jittered(second)).collect();
    assert!(tries.iter().all(|it| (second / 2..=second).contains(it)));
    assert!(tries.iter().any(|it| *it != tries[0]));
}

#[tokio::test]
async fn a_sink_is_looked_at_and_put_away_where_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::of(&directory.path().join("records.jsonl"));
    let text = format!(
        "datasets: {{ shop: {{ upstream: {{ host: localhost, dbname: shop, user: pgveil }}, \
         mask_key: {{ file: mask.key }} }} }}\n\
         audit: {{ file: {}, sinks: {{ table: {{ postgres: {{ host: localhost, dbname: audit, \
         user: sink }} }} }} }}",
        places.live.display()
    );
    let config = config::Config::parse(&text, directory.path()).unwrap();
    check(&config.audit).await.unwrap();
    // Nor does one end all that cannot start.
    let log = log(&places);
    let kept = places.directory.join("sinks");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("table.json"), "{").unwrap();
    let error = Sinks::start(&config.audit, &log).await.err().unwrap();
    assert!(
        error.to_string().contains("hint: without the file"),
        "{error}"
    );
}

#[tokio::test]
async fn who_comes_from_another_log_gets_all_of_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::of(&directory.path().join("records.jsonl"));
    let log = log(&places);
    write(&log, 20).await;
    log.seal().await.unwrap();
    let (name, signed) = (log.progress().unwrap().name().clone(), 21);
    let mut tail = open(&log, &places, "one");
    tail.read(signed, RECORDS).unwrap();
    tail.keep().unwrap();
    let at = |log: &str, signed| {
        Tail::open(&places, "one", log, signed)
            .unwrap()
            .at()
            .position
    };
    assert_eq!(at(&name, signed), 21);
    // By its name, or by how far it has come.
    assert_eq!(at("another", signed), 0);
    assert_eq!(at(&name, 20), 0);
}

/// Another side that has no room for more than three at once, nor for one of them before it
/// is told of; and keeps every batch.
struct Narrow(Arc<Mutex<Vec<Vec<u64>>>>, mpsc::Receiver<()>);

impl Deliver for Narrow {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Fault> {
        let own = positions(&batch.records);
        self.0.lock().unwrap().push(own.clone());
        match own.len() {
            4.. => Err(Refused("too much".into()).into()),
            _ if own.contains(&11) && self.1.try_recv().is_err() => Err("down".into()),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn what_is_refused_keeps_only_itself_from_arriving() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::of(&directory.path().join("records.jsonl"));
    let log = log(&places);
    write(&log, 15).await;
    log.seal().await.unwrap();
    let (tell, told) = mpsc::channel();
    let seen = Arc::default();
    let mut one = One {
        deliver: Box::new(Narrow(Arc::clone(&seen), told)),
        format: config::Format::Native,
        tail: open(&log, &places, "one"),
        lag: Arc::new(Lag::new("one", 0)),
        progress: log.progress().unwrap().clone(),
        most: RECORDS,
        again: None,
        failing: None,
    };
    let reached = log.progress().unwrap().now();
    let step = |one: &mut One| match one.send(&reached) {
        Ok(()) => one.well(),
        Err(fault) => drop(one.failed(fault.as_ref(), reached.signed)),
    };
    while one.lag.taken() < 10 {
        step(&mut one);
    }
    // As it was, though more is signed meanwhile.
    seen.lock().unwrap().clear();
    (0..2).for_each(|_| step(&mut one));
    while seen.lock().unwrap().last().unwrap().len() > 3 {
        step(&mut one);
    }
    step(&mut one);
    {
        let seen = seen.lock().unwrap();
        let last = &seen[seen.len() - 2..];
        assert_eq!(last[0], last[1]);
        assert!(last[0].contains(&11), "{last:?}");
    }
    tell.send(()).unwrap();
    while one.lag.taken() < 16 {
        step(&mut one);
    }
}

#[tokio::test]
async fn what_is_not_what_was_signed_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::of(&directory.path().join("records.jsonl"));
    let log = log(&places);
    write(&log, 20).await;
    log.seal().await.unwrap();
    let text = fs::read_to_string(&places.live).unwrap();
    let changed = text.replace("\"epoch\":12", "\"epoch\":13");
    assert_ne!(changed, text);
    fs::write(&places.live, &changed).unwrap();
    let other = Arc::new(Mutex::new((false, Vec::new())));
    let mut one = One {
        deliver: Box::new(Other(other.clone())),
        format: config::Format::Native,
        tail: open(&log, &places, "one"),
        lag: Arc::new(Lag::new("one", 0)),
        progress: log.progress().unwrap().clone(),
        most: RECORDS,
        again: None,
        failing: None,
    };
    let reached = log.progress().unwrap().now();
    one.send(&reached).unwrap();
    let fault = one.send(&reached).unwrap_err().to_string();
    assert!(
        fault.contains("record 13 is not what was signed"),
        "{fault}"
    );
    // What precedes it was; and the rest, once it is put right.
    assert_eq!(other.lock().unwrap().1, (0..13).collect::<Vec<u64>>());
    // Nor is it where tiles have been made that agree with it.
    let tiles = places.directory.join("tile");
    let genuine = places.directory.join("genuine");
    fs::rename(&tiles, &genuine).unwrap();
    let mut tree = Tree::default();
    changed
        .lines()
        .for_each(|line| tree.push(entry(line.as_bytes())));
    places.tree().put(&tree.partial()).unwrap();
    let fault = one.send(&reached).unwrap_err().to_string();
    assert!(fault.contains("record 13 is not"), "{fault}");
    assert_eq!(other.lock().unwrap().1.len(), 13);
    one.failed(&Refused(fault), reached.signed);
    fs::write(&places.live, text).unwrap();
    fs::remove_dir_all(&tiles).unwrap();
    fs::rename(genuine, tiles).unwrap();
    one.send(&reached).unwrap();
    assert_eq!(other.lock().unwrap().1, (0..21).collect::<Vec<u64>>());
}
