//! What a caller may not see cannot be told: two databases with other raw values
//! and hidden rows, and the same image for the caller, answer every statement of a
//! generator with the same bytes.
//!
//! `PGVEIL_LEAK_COUNT` says how many statements (20,000 by default, each run twice),
//! `PGVEIL_LEAK_SEED` which ones. A difference is looked for again while nobody else
//! is at work; if it shows, it is cut down to the smallest statements that still show
//! it, and printed as a case of tests/leak.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use support::client::{By, Message, refusal, show};
use support::differing::{difference, minimize, reset, versus};
use support::generate::Generator;
use support::world::{Pair, Worlds};

/// Callers who read, and how many of a hundred statements are theirs.
const READERS: [(&str, u64); 4] = [
    ("analyst", 32),
    ("trainer", 30),
    ("surveyor", 18),
    ("steward", 14),
];
/// Callers who leave something for others to see, if only for a while: one after the
/// other, for two databases are not changed at the same moment.
const WRITERS: [(&str, u64); 2] = [("modeller", 3), ("clerk", 3)];
/// Statements that one pair of sessions runs, at most, before another takes over.
const TURN: u64 = 500;
/// Pairs of sessions at a time.
const AT_ONCE: usize = 4;
/// Of a hundred statements, as many return rows at least.
const FLOOR: usize = 25;
/// So many differences are enough.
const MANY: usize = 6;
/// How often a difference is looked for again.
const AGAIN: usize = 5;

#[derive(Default)]
struct Tally {
    all: usize,
    rows: usize,
    refusals: BTreeMap<String, usize>,
    differences: Vec<String>,
    /// Differences that did not show again.
    passing: Vec<String>,
    slowest: (Duration, String),
}

/// What one pair of sessions runs.
struct Turn {
    caller: &'static str,
    seed: u64,
    count: u64,
}

fn turns(callers: &[(&'static str, u64)], count: u64, seed: u64) -> Vec<Turn> {
    let mut turns = Vec::new();
    for (caller, percent) in callers {
        let mut left = count * percent / 100;
        while left > 0 {
            let count = left.min(TURN);
            let seed = seed * 1_000_003 + turns.len() as u64;
            turns.push(Turn {
                caller,
                seed,
                count,
            });
            left -= count;
        }
    }
    turns
}

/// What all sessions share.
struct Run {
    worlds: Worlds,
    tally: Mutex<Tally>,
    stop: AtomicBool,
    /// Held for reading by whoever runs statements, for writing by whoever has found a
    /// difference.
    quiet: RwLock<()>,
}

#[test]
fn equal_images_are_indistinguishable() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count: u64 = number("PGVEIL_LEAK_COUNT").unwrap_or(20_000);
    let seed: u64 = number("PGVEIL_LEAK_SEED").unwrap_or(1);
    let run = Run {
        worlds: Worlds::start(),
        tally: Mutex::default(),
        stop: AtomicBool::new(false),
        quiet: RwLock::default(),
    };
    let next = AtomicUsize::new(0);
    let readers = turns(&READERS, count, seed);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(turn) = readers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run.session(turn);
                }
            });
        }
    });
    for turn in turns(&WRITERS, count, seed) {
        run.session(&turn);
    }
    let tally = run.tally.into_inner().unwrap();
    println!(
        "{} statements, {} returned rows; refusals: {:?}",
        tally.all, tally.rows, tally.refusals
    );
    println!("slowest, {:?}: {}", tally.slowest.0, tally.slowest.1);
    let passing = tally.passing.join("\n");
    println!("{} did not show again\n{passing}", tally.passing.len());
    assert!(
        tally.differences.is_empty(),
        "seed {seed}:\n{}",
        tally.differences.join("\n")
    );
    assert!(
        tally.passing.len() <= 1 + tally.all / 20_000,
        "seed {seed}: too many differences that did not show again\n{passing}"
    );
    assert!(
        tally.rows * 100 >= tally.all * FLOOR,
        "only {} of {} statements returned rows",
        tally.rows,
        tally.all
    );
}

impl Run {
    fn session(&self, turn: &Turn) {
        let mut pair = self.worlds.pair(turn.caller);
        let mut generator = Generator::new(turn.seed, turn.caller);
        let mut done = 0;
        while done < turn.count && !self.stop.load(Ordering::Relaxed) {
            let statements = generator.next();
            let by = match done % 3 {
                0 => By::Simple,
                1 => By::Extended,
                _ => By::Binary,
            };
            done += statements.len() as u64;
            let shared = self.quiet.read().unwrap();
            let found = statements.iter().enumerate().find_map(|(at, statement)| {
                let answers = self.ask(&mut pair, turn, statement, by)?;
                Some((at, answers))
            });
            if statements.len() > 1 {
                reset(&mut pair);
            }
            drop(shared);
            if let Some((at, answers)) = found {
                self.found(&mut pair, turn, &statements[..=at], by, &answers);
            }
        }
    }

    /// Both answers to a statement, if they differ.
    fn ask(&self, pair: &mut Pair, turn: &Turn, statement: &str, by: By) -> Option<String> {
        let asked = Asked(turn, statement, by);
        let began = Instant::now();
        let (one, other) = pair.run(statement, by);
        let took = began.elapsed();
        let fatal = |(tag, body): &Message| *tag == b'E' && body.starts_with(b"SFATAL");
        assert!(!one.iter().chain(&other).any(fatal), "{}", show(&one));
        drop(asked);
        let mut tally = self.tally.lock().unwrap();
        tally.all += 1;
        if one.iter().any(|(tag, _)| matches!(tag, b'D' | b'd')) {
            tally.rows += 1;
        }
        if let Some(state) = refusal(&one) {
            *tally.refusals.entry(state).or_default() += 1;
        }
        if took > tally.slowest.0 {
            tally.slowest = (took, statement.to_owned());
        }
        (one != other).then(|| versus(&one, &other))
    }

    /// A difference. It counts where it shows again while nobody else is at work.
    fn found(&self, pair: &mut Pair, turn: &Turn, statements: &[String], by: By, answers: &str) {
        let given = format!("{}\n{answers}", statements.join("\n;\n"));
        // Said at once, for what a smaller statement does is not known.
        println!("{}, {by:?}: {given}", turn.caller);
        let alone = self.quiet.write().unwrap();
        let again = (0..AGAIN).any(|_| difference(pair, statements, by).is_some());
        let case = match again {
            true => minimize(pair, statements, by),
            false => given,
        };
        reset(pair);
        drop(alone);
        let case = format!(
            "### found by the generator, seed {}, {by:?}\ncaller: {}\n{case}",
            turn.seed, turn.caller
        );
        let mut tally = self.tally.lock().unwrap();
        match again {
            true => tally.differences.push(case),
            false => tally.passing.push(case),
        }
        if tally.differences.len() >= MANY {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// What was asked when a session ended that should not have.
struct Asked<'a>(&'a Turn, &'a str, By);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(turn, statement, by) = self;
            println!("{}, seed {}, {by:?}: {statement}", turn.caller, turn.seed);
        }
    }
}
