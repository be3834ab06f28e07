//! Statements by a seeded grammar, biased to governed columns.
//!
//! Knows the schema of tests/rewrite and tests/leak and what a caller would try. What
//! answers otherwise from one moment to the next (clocks, chance, process ids), or
//! tells where a row lies (ctid), is not in the grammar.

mod expressions;
mod hostile;
mod items;
mod operations;
mod queries;
mod relations;
mod statements;

use relations::Table;

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Int,
    Num,
    Text,
    Date,
    Time,
    Json,
    Inet,
    Bool,
}

/// What of a FROM list an expression may refer to: an alias, a column, its type.
type Scope = Vec<(String, String, Of)>;

/// A common table expression: its name and its columns' types.
type Common = (String, Vec<Of>);

/// What a caller may leave for later statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Nothing,
    Temporary,
    Rows,
}

/// A source of statements: the same seed gives the same.
pub struct Generator {
    state: u64,
    tables: &'static [Table],
    leaves: Leaves,
    names: u32,
}

impl Generator {
    /// For a caller.
    pub fn new(seed: u64, caller: &str) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            tables: relations::of(caller),
            leaves: match caller {
                "modeller" => Leaves::Temporary,
                "clerk" => Leaves::Rows,
                _ => Leaves::Nothing,
            },
            names: 0,
        }
    }

    // Chance.

    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % end
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    fn kind(&mut self) -> Of {
        use Of::{Bool, Date, Inet, Int, Json, Num, Text, Time};
        [
            Int, Num, Text, Text, Text, Text, Date, Time, Json, Inet, Bool,
        ][self.below(11)]
    }

    fn kinds(&mut self) -> Vec<Of> {
        let count = 1 + self.below(3);
        (0..count).map(|_| self.kind()).collect()
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
