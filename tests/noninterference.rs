//! What a caller may not see cannot be told: two databases with other raw values
//! and hidden rows, and the same image for the caller, answer every statement of a
//! generator with the same bytes.
//!
//! `PGVEIL_LEAK_COUNT` says how many statements (10,000 by default, each run twice),
//! `PGVEIL_LEAK_SEED` which ones. A difference is cut down to the smallest
//! statement that still shows it: make it a case of tests/leak.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use support::client::{By, Message, refusal, show};
use support::generate::Generator;
use support::world::{Pair, Worlds};

/// Callers, each on two sessions at a time.
const CALLERS: [&str; 4] = ["analyst", "trainer", "analyst", "trainer"];
/// Of a hundred statements, as many return rows at least.
const FLOOR: usize = 30;
/// So many differences are enough.
const MANY: usize = 6;

#[derive(Default)]
struct Tally {
    all: usize,
    rows: usize,
    refusals: BTreeMap<String, usize>,
    differences: Vec<String>,
}

#[test]
fn equal_images_are_indistinguishable() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count: u64 = number("PGVEIL_LEAK_COUNT").unwrap_or(10_000);
    let seed: u64 = number("PGVEIL_LEAK_SEED").unwrap_or(1);
    let worlds = Worlds::start();
    let tally = Mutex::new(Tally::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (at, caller) in CALLERS.into_iter().enumerate() {
            let (worlds, tally, stop) = (&worlds, &tally, &stop);
            let own = count / CALLERS.len() as u64;
            scope.spawn(move || {
                let mut generator = Generator::new(seed * 1_000 + at as u64, caller);
                session(worlds, caller, &mut generator, own, tally, stop);
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!(
        "{} statements, {} returned rows; refusals: {:?}",
        tally.all, tally.rows, tally.refusals
    );
    assert!(
        tally.differences.is_empty(),
        "seed {seed}:\n{}",
        tally.differences.join("\n")
    );
    assert!(
        tally.rows * 100 >= tally.all * FLOOR,
        "only {} of {} statements returned rows",
        tally.rows,
        tally.all
    );
}

fn session(
    worlds: &Worlds,
    caller: &str,
    generator: &mut Generator,
    count: u64,
    tally: &Mutex<Tally>,
    stop: &AtomicBool,
) {
    let mut pair = worlds.pair(caller);
    let mut done = 0;
    while done < count && !stop.load(Ordering::Relaxed) {
        let statements = generator.next();
        let by = match done % 3 {
            0 => By::Simple,
            1 => By::Extended,
            _ => By::Binary,
        };
        for (at, statement) in statements.iter().enumerate() {
            done += 1;
            let (one, other) = pair.run(statement, by);
            let mut counts = tally.lock().unwrap();
            counts.all += 1;
            if one.iter().any(|(tag, _)| matches!(tag, b'D' | b'd')) {
                counts.rows += 1;
            }
            if let Some(state) = refusal(&one) {
                *counts.refusals.entry(state).or_default() += 1;
            }
            drop(counts);
            if one != other {
                let found = minimize(&mut pair, &statements[..=at], by);
                let mut tally = tally.lock().unwrap();
                tally
                    .differences
                    .push(format!("{caller}, {by:?}: {found}\n"));
                if tally.differences.len() >= MANY {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
        if statements.len() > 1 {
            reset(&mut pair);
        }
    }
}

fn reset(pair: &mut Pair) {
    pair.run("ROLLBACK", By::Simple);
    pair.run("DISCARD ALL", By::Simple);
}

/// Both answers to the last of some statements, if they differ.
fn difference(pair: &mut Pair, statements: &[String], by: By) -> Option<String> {
    reset(pair);
    let mut last = None;
    for statement in statements {
        last = Some(pair.run(statement, by));
    }
    let (one, other) = last?;
    (one != other).then(|| {
        let differing = one.iter().zip(&other).position(|(one, other)| one != other);
        let from = differing.unwrap_or(one.len().min(other.len()));
        let shown = |answer: &[Message]| show(&answer[from..answer.len().min(from + 3)]);
        format!("{}or\n{}", shown(&one), shown(&other))
    })
}

/// Drops what is not needed from the last statement, piece by piece.
fn minimize(pair: &mut Pair, statements: &[String], by: By) -> String {
    let (last, before) = statements.split_last().unwrap();
    let mut pieces: Vec<String> = words(last);
    let mut size = pieces.len() / 2;
    let with = |pieces: &[String]| [before, &[pieces.concat()]].concat();
    while size > 0 {
        let mut at = 0;
        while at + size <= pieces.len() {
            let rest = [&pieces[..at], &pieces[at + size..]].concat();
            match difference(pair, &with(&rest), by) {
                Some(_) => pieces = rest,
                None => at += size.div_ceil(2),
            }
        }
        size /= 2;
    }
    let smallest = with(&pieces);
    let answers = difference(pair, &smallest, by)
        .or_else(|| difference(pair, statements, by))
        .unwrap_or_else(|| "  (it does not show again)\n".into());
    format!("{}\nof {last}\n{answers}", smallest.join("\n;\n"))
}

/// Words, with the space before them, and single brackets and commas.
fn words(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut joins = false;
    for letter in text.chars() {
        let wordy = letter.is_alphanumeric() || letter == '_';
        match all.last_mut() {
            Some(last) if joins && wordy => last.push(letter),
            Some(last) if last == " " && wordy => last.push(letter),
            _ => all.push(letter.into()),
        }
        joins = wordy;
    }
    all
}
