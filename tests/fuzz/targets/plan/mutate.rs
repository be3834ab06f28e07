//! Changes SQL by its words: bytes changed at random are seldom SQL.

use std::cell::RefCell;

use crate::CALLERS;
use crate::generate::Generator;

thread_local! {
    /// Words seen so far, to be put elsewhere.
    static WORDS: RefCell<Vec<String>> = RefCell::new(keywords());
}

/// How many words are remembered.
const REMEMBERED: usize = 4096;

/// What the corpora have little of.
fn keywords() -> Vec<String> {
    "* ( ) , ; . :: = < -- /* */ '' \" \\ E' U&' $$ $1 [1] [:] ONLY TABLE LATERAL ROWS FROM WITH \
     ORDINALITY RECURSIVE MATERIALIZED UNION EXCEPT INTERSECT ALL DISTINCT ON USING AS NATURAL \
     FULL JOIN CROSS VALUES RETURNING FOR UPDATE SHARE SKIP LOCKED FETCH FIRST TIES OFFSET LIMIT \
     GROUPING SETS CUBE ROLLUP FILTER OVER WINDOW PARTITION EXCLUDE GROUPS RANGE UNBOUNDED VARIADIC \
     ARRAY ROW CASE WHEN THEN ELSE END CAST COLLATE AT TIME ZONE LOCAL ISNULL NOTNULL IS NOT NULL \
     JSON_TABLE XMLTABLE COLUMNS PATH SEARCH DEPTH BREADTH CYCLE SET TO DEFAULT TABLESAMPLE \
     BERNOULLI REPEATABLE CURRENT OF MERGE MATCHED INSERT UPDATE DELETE INTO CONFLICT DO NOTHING \
     COPY STDOUT PREPARE EXECUTE DECLARE CURSOR HOLD EXPLAIN ANALYZE SYMMETRIC OPERATOR \
     pg_catalog public archive customers orders events vips ssn email ctid tableoid xmin"
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Puts a changed input in the place of one.
pub(crate) fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let mut chance = Chance(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let text = data.get(1..size).map(std::str::from_utf8);
    let (Some(Ok(text)), true) = (text, chance.below(8) > 0) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max);
    };
    let mut words = words(text);
    for _ in 0..=chance.below(3) {
        change(&mut words, &mut chance);
    }
    let caller = match chance.below(10) {
        0 => b'0' + chance.below(CALLERS.len()) as u8,
        _ => data[0],
    };
    let changed = words.concat();
    let mut end = changed.len().min(max - 1);
    while !changed.is_char_boundary(end) {
        end -= 1;
    }
    data[0] = caller;
    data[1..=end].copy_from_slice(&changed.as_bytes()[..end]);
    end + 1
}

fn change(words: &mut Vec<String>, chance: &mut Chance) {
    let at = chance.below(words.len() + 1);
    let long = 1 + chance.below(6);
    let end = (at + long).min(words.len());
    let from = chance.below(words.len() + 1);
    let until = (from + 1 + chance.below(12)).min(words.len());
    match chance.below(10) {
        0 => drop(words.drain(at..end)),
        1..=2 => drop(words.splice(at..end, [" ".into(), chance.word()])),
        3 => drop(words.splice(at..at, [" ".into(), chance.word(), " ".into()])),
        4 => {
            let copied = words[from..until].to_vec();
            words.splice(at..at, copied);
        }
        5 => {
            let copied = words[from..until].to_vec();
            words.splice(at..end, copied);
        }
        6 => {
            // A bracket's content elsewhere, or in brackets of its own.
            if let (Some(one), Some(other)) = (bracket(words, at), bracket(words, from)) {
                let copied = words[other].to_vec();
                words.splice(one, copied);
            }
        }
        7 => {
            let caller = CALLERS[chance.below(2)];
            let query = Generator::new(chance.next(), caller).next().remove(0);
            match bracket(words, at) {
                Some(inside) => drop(words.splice(inside, [query])),
                None => *words = vec![query],
            }
        }
        8 => drop(words.splice(at..end, ["(".into(), words[at..end].concat(), ")".into()])),
        _ => {
            for word in words.iter().filter(|word| word.trim().len() > 1) {
                chance.remember(word);
            }
        }
    }
}

/// What stands between the first bracket from there on and its other half.
fn bracket(words: &[String], from: usize) -> Option<std::ops::Range<usize>> {
    let start = from + words.get(from..)?.iter().position(|word| word == "(")? + 1;
    let mut depth = 1;
    for (at, word) in words.iter().enumerate().skip(start) {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(start..at);
        }
    }
    None
}

/// Words, quoted text and single signs; together they are the text.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(first) = letters.next() {
        let mut word = String::from(first);
        let wordy = |letter: &char| letter.is_alphanumeric() || *letter == '_';
        match first {
            '\'' | '"' => {
                for letter in letters.by_ref() {
                    word.push(letter);
                    if letter == first {
                        break;
                    }
                }
            }
            _ if wordy(&first) => {
                while let Some(letter) = letters.next_if(wordy) {
                    word.push(letter);
                }
            }
            _ => {}
        }
        words.push(word);
    }
    words
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn word(&mut self) -> String {
        WORDS.with_borrow(|words| words[self.below(words.len())].clone())
    }

    fn remember(&mut self, word: &str) {
        WORDS.with_borrow_mut(|words| match words.len() < REMEMBERED {
            true => words.push(word.to_owned()),
            false => {
                let at = self.below(REMEMBERED);
                words[at] = word.to_owned();
            }
        });
    }
}
