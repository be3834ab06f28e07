//! The relations of tests/rewrite and tests/leak, as each caller sees them.

use super::Of::{self, Bool, Date, Inet, Int, Json, Num, Text, Time};
use super::{Generator, Scope};

/// A relation: how it can be written, what it has, and how often it is taken.
pub(super) struct Table {
    pub(super) spellings: &'static [&'static str],
    pub(super) columns: &'static [(&'static str, Of)],
    /// How many columns can be renamed by position: what stands there is in `columns`.
    leading: usize,
    weight: usize,
}

const CUSTOMERS: &[&str] = &[
    "customers",
    "public.customers",
    "ONLY customers",
    "\"customers\"",
    "PUBLIC.Customers",
    "customers *",
    "ONLY (public.customers)",
    "U&\"custo\\006Ders\"",
];
const ORDERS: Table = Table {
    spellings: &["orders", "public.orders", "ONLY orders"],
    columns: &[
        ("id", Int),
        ("customer_id", Int),
        ("amount", Num),
        ("status", Text),
    ],
    leading: 4,
    weight: 2,
};

const ANALYST: &[Table] = &[
    Table {
        spellings: CUSTOMERS,
        columns: &[
            ("id", Int),
            ("full_name", Text),
            ("email", Text),
            ("phone", Text),
            ("birth_date", Date),
            ("salary", Num),
            ("notes", Text),
            ("profile", Json),
            ("region", Text),
            ("created_at", Time),
        ],
        leading: 3,
        weight: 9,
    },
    ORDERS,
    Table {
        spellings: &["events", "public.events"],
        columns: &[
            ("id", Int),
            ("customer_id", Int),
            ("kind", Text),
            ("ip", Inet),
            ("occurred_at", Time),
        ],
        leading: 3,
        weight: 2,
    },
    Table {
        spellings: &["vips", "public.vips"],
        columns: &[
            ("id", Int),
            ("full_name", Text),
            ("email", Text),
            ("phone", Text),
            ("birth_date", Date),
            ("salary", Num),
            ("notes", Text),
            ("region", Text),
            ("note", Text),
        ],
        leading: 3,
        weight: 2,
    },
    Table {
        spellings: &["customer_contacts", "public.customer_contacts"],
        columns: &[
            ("id", Int),
            ("full_name", Text),
            ("email", Text),
            ("phone", Text),
        ],
        leading: 4,
        weight: 2,
    },
    Table {
        spellings: &["archive.customers"],
        columns: &[("id", Int), ("email", Text)],
        leading: 2,
        weight: 1,
    },
    Table {
        spellings: &["contacts_of_buyers", "public.contacts_of_buyers"],
        columns: &[
            ("id", Int),
            ("full_name", Text),
            ("email", Text),
            ("phone", Text),
            ("total", Num),
        ],
        leading: 4,
        weight: 1,
    },
    Table {
        spellings: &["regions"],
        columns: &[("n", Int), ("region", Text)],
        leading: 0,
        weight: 1,
    },
];

const TRAINER: &[Table] = &[
    Table {
        spellings: CUSTOMERS,
        columns: &[
            ("id", Int),
            ("email", Text),
            ("phone", Text),
            ("notes", Text),
            ("profile", Json),
            ("region", Text),
            ("created_at", Time),
        ],
        leading: 4,
        weight: 9,
    },
    ORDERS,
    Table {
        spellings: &["events", "public.events"],
        columns: &[
            ("id", Int),
            ("customer_id", Int),
            ("kind", Text),
            ("occurred_at", Time),
        ],
        leading: 3,
        weight: 2,
    },
    Table {
        spellings: &["vips", "public.vips"],
        columns: &[
            ("id", Int),
            ("email", Text),
            ("phone", Text),
            ("notes", Text),
            ("region", Text),
            ("note", Text),
        ],
        leading: 3,
        weight: 2,
    },
    Table {
        spellings: &["customer_contacts"],
        columns: &[("id", Int), ("email", Text), ("phone", Text)],
        leading: 3,
        weight: 1,
    },
    Table {
        spellings: &["accounts", "public.accounts"],
        columns: &[
            ("id", Int),
            ("holder", Text),
            ("code", Text),
            ("country", Text),
            ("balance", Num),
            ("active", Bool),
            ("opened", Date),
            ("region", Text),
        ],
        leading: 4,
        weight: 4,
    },
];

const PEOPLE: &[&str] = &[
    "people",
    "public.people",
    "ONLY people",
    "\"public\".people",
];

/// Who sees every kind of mask.
const SURVEYOR: &[Table] = &[
    Table {
        spellings: PEOPLE,
        columns: &[
            ("id", Int),
            ("region", Text),
            ("level", Int),
            ("label", Text),
            ("score", Int),
            ("code", Text),
            ("mail", Text),
            ("account", Text),
            ("serial", Int),
            ("born", Date),
            ("seen", Time),
            ("income", Num),
            ("visits", Int),
            ("address", Inet),
            ("prose", Text),
            ("report", Json),
            ("nick", Text),
            ("amount", Int),
            ("active", Bool),
        ],
        leading: 6,
        weight: 8,
    },
    ORDERS,
];

/// Who sees what is not hidden in clear.
const STEWARD: &[Table] = &[
    Table {
        spellings: PEOPLE,
        columns: &[
            ("id", Int),
            ("region", Text),
            ("level", Int),
            ("label", Text),
            ("score", Int),
            ("code", Text),
            ("mail", Text),
            ("account", Text),
            ("serial", Int),
            ("born", Date),
            ("seen", Time),
            ("income", Num),
            ("visits", Int),
            ("address", Inet),
            ("prose", Text),
            ("report", Json),
            ("nick", Text),
            ("amount", Int),
            ("active", Bool),
            ("pin", Text),
            ("secret", Text),
        ],
        leading: 6,
        weight: 8,
    },
    ORDERS,
];

/// For whom all but what stands here is blocked.
const MODELLER: &[Table] = &[
    Table {
        spellings: CUSTOMERS,
        columns: &[
            ("id", Int),
            ("email", Text),
            ("region", Text),
            ("created_at", Time),
        ],
        leading: 0,
        weight: 5,
    },
    ORDERS,
];
const CLERK: &[Table] = &[
    Table {
        spellings: CUSTOMERS,
        columns: &[("id", Int), ("region", Text), ("created_at", Time)],
        leading: 0,
        weight: 4,
    },
    ORDERS,
];

pub(super) fn of(caller: &str) -> &'static [Table] {
    match caller {
        "trainer" => TRAINER,
        "surveyor" => SURVEYOR,
        "steward" => STEWARD,
        "modeller" => MODELLER,
        "clerk" => CLERK,
        _ => ANALYST,
    }
}

impl Generator {
    pub(super) fn table(&mut self) -> (&'static str, &'static Table) {
        let all: usize = self.tables.iter().map(|table| table.weight).sum();
        let mut at = self.below(all);
        for table in self.tables {
            match at.checked_sub(table.weight) {
                Some(rest) => at = rest,
                None => return (self.of(table.spellings), table),
            }
        }
        unreachable!("chance is below the sum of the weights")
    }

    /// The table that matters most, by its bare name.
    pub(super) fn main(&self) -> &'static str {
        match self.tables[0].spellings {
            PEOPLE => "people",
            _ => "customers",
        }
    }

    /// A column of that table, of a type.
    pub(super) fn column(&mut self, of: Of) -> &'static str {
        let columns = self.tables[0].columns;
        let found: Vec<&str> = columns
            .iter()
            .filter(|(_, own)| *own == of)
            .map(|(name, _)| *name)
            .collect();
        match found.is_empty() {
            true => columns[0].0,
            false => self.of(&found),
        }
    }

    /// A text column of that table that is masked, or hidden in part of its rows.
    pub(super) fn governed(&mut self) -> &'static str {
        let found: &[&str] = match self.main() {
            "people" => &["mail", "code", "prose", "nick", "label", "account"],
            _ => &["email", "phone", "notes", "email"],
        };
        let column = self.of(found);
        match self.tables[0].columns.iter().any(|(own, _)| *own == column) {
            true => column,
            false => self.column(Of::Text),
        }
    }

    /// A table with an alias, perhaps with other names for its columns, or with none:
    /// then its own name is what columns are referred to by.
    pub(super) fn aliased(&mut self) -> (String, Scope) {
        let (spelling, table) = self.table();
        let alias = self.name("t");
        let scope = |alias: &str, columns: &[(&str, Of)]| -> Scope {
            let owned = |(name, of): &(&str, Of)| (alias.to_owned(), (*name).to_owned(), *of);
            columns.iter().map(owned).collect()
        };
        if self.chance(6) {
            let own = spelling.trim_end_matches(" *").trim_start_matches("ONLY ");
            let own = own.trim_matches(['(', ')']);
            return (spelling.to_owned(), scope(own, table.columns));
        }
        let contained = spelling.contains("contacts") || table.leading == 0;
        let sample = match self.chance(4) && !contained && !spelling.contains("regions") {
            true => self.of(&[
                " TABLESAMPLE bernoulli (60) REPEATABLE (7)",
                " TABLESAMPLE system (100) REPEATABLE (1)",
                " TABLESAMPLE bernoulli (100)",
            ]),
            false => "",
        };
        if table.leading > 0 && self.chance(20) {
            let count = 1 + self.below(table.leading);
            let names = ["k", "l", "m", "n", "o", "p"];
            let renamed: Vec<(&str, Of)> = table
                .columns
                .iter()
                .enumerate()
                .map(|(at, (name, of))| match at < count {
                    true => (names[at], *of),
                    false => (*name, *of),
                })
                .collect();
            let listed = names[..count].join(", ");
            let text = format!("{spelling} AS {alias}({listed}){sample}");
            return (text, scope(&alias, &renamed));
        }
        (
            format!("{spelling} {alias}{sample}"),
            scope(&alias, table.columns),
        )
    }
}
