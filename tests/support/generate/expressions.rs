//! Expressions: columns, constants, and what is made of both.

use super::Of::{self, Bool, Date, Inet, Int, Json, Num, Text, Time};
use super::{Generator, Scope};

impl Generator {
    pub(super) fn expression(&mut self, of: Of, depth: usize, scope: &Scope) -> String {
        if self.below(400) == 0 {
            // Refused, or unknown: the same for everybody.
            return self
                .of(&[
                    "ssn",
                    "customers.ssn",
                    "(SELECT max(ssn) FROM customers)",
                    "salary",
                    "ip",
                    "full_name",
                    "pin",
                    "secret",
                    "people.pin",
                    "(SELECT max(secret) FROM public.people)",
                    "tableoid",
                    "xmin",
                    "balance",
                ])
                .into();
        }
        let plain = self.plain(of, scope);
        if depth == 0 {
            return match self.chance(85) {
                true => plain,
                false => self.cast(of, plain, scope),
            };
        }
        match self.below(22) {
            0..=6 => plain,
            7 => self.literal(of),
            8 => self.subquery(of, depth, scope),
            9 => {
                let condition = self.expression(Bool, depth - 1, scope);
                let other = self.expression(of, depth - 1, scope);
                format!("CASE WHEN {condition} THEN {plain} ELSE {other} END")
            }
            10 => {
                let other = self.expression(of, depth - 1, scope);
                format!("COALESCE({plain}, {other})")
            }
            11 => {
                let other = self.expression(of, depth - 1, scope);
                format!("NULLIF({plain}, {other})")
            }
            12 => {
                let other = self.expression(of, depth - 1, scope);
                let third = self.expression(of, 0, scope);
                format!("CASE {plain} WHEN {other} THEN {third} ELSE {plain} END")
            }
            13 => {
                let query = self.subquery(of, 1, scope);
                format!("(ARRAY{})[1]", query.replacen("LIMIT 1", "LIMIT 3", 1))
            }
            _ => self.operation(of, depth - 1, scope),
        }
    }

    /// A column, or a constant where there is none of that type.
    pub(super) fn plain(&mut self, of: Of, scope: &Scope) -> String {
        let columns: Vec<String> = scope
            .iter()
            .filter(|(_, _, own)| *own == of)
            .map(|(alias, name, _)| format!("{alias}.{name}"))
            .collect();
        match columns.is_empty() {
            true => self.literal(of),
            false => columns[self.below(columns.len())].clone(),
        }
    }

    /// A conversion that fails on what it finds.
    fn cast(&mut self, of: Of, plain: String, scope: &Scope) -> String {
        let text = self.plain(Text, scope);
        let json = self.plain(Json, scope);
        match of {
            Int => match self.below(5) {
                0 => format!("CAST(right({text}, 4) AS int)"),
                1 => format!("length({text})"),
                2 => format!("({json} ->> 'n')::int"),
                3 => format!("left({text}, 3)::smallint::int"),
                _ => format!("(1 / (ascii({text}) - 112))"),
            },
            Num => format!("CAST({text} AS numeric)"),
            Date => format!("CAST({text} AS date)"),
            Json => format!("to_jsonb({text})"),
            Inet => format!("CAST({text} AS inet)"),
            Text => match self.below(3) {
                0 => format!("{plain}::varchar(6)"),
                1 => format!("(CAST({plain} AS text) COLLATE \"C\")"),
                _ => format!("CAST({plain} AS character(4))::text"),
            },
            Bool => match self.below(3) {
                0 => format!("({text} IS NOT NULL)"),
                1 => format!("({text} ISNULL)"),
                _ => format!("({text})::boolean"),
            },
            Time => plain,
        }
    }

    pub(super) fn literal(&mut self, of: Of) -> String {
        match of {
            Int => self
                .of(&[
                    "0",
                    "1",
                    "2",
                    "7",
                    "NULL::int",
                    "-3",
                    "33",
                    "0x10",
                    "1_000",
                    "0b11",
                    "$1::int",
                ])
                .into(),
            Num => self
                .of(&[
                    "40013.37",
                    "0.0",
                    "1e3",
                    "NULL::numeric",
                    "'NaN'::numeric",
                    "numeric '-Infinity'",
                ])
                .into(),
            Text => self.text_literal(),
            Date => self
                .of(&["DATE '1970-01-06'", "NULL::date", "'infinity'::date"])
                .into(),
            Time => self
                .of(&[
                    "TIMESTAMPTZ '2025-01-01 05:00Z'",
                    "NULL::timestamptz",
                    "TIMESTAMP WITH TIME ZONE '2024-05-27 12:00+02'",
                ])
                .into(),
            Json => self
                .of(&[
                    "'{\"mail\": \"person1@example.com\"}'::jsonb",
                    "'null'::jsonb",
                    "NULL::jsonb",
                    "jsonb '[1, {\"to\": \"x\"}]'",
                ])
                .into(),
            Inet => self
                .of(&["inet '10.1.3.7'", "inet '10.1.3.0/24'", "NULL::inet"])
                .into(),
            Bool => self.of(&["true", "false", "NULL::boolean"]).into(),
        }
    }

    pub(super) fn text_literal(&mut self) -> String {
        self.of(&[
            "'person1@example.com'",
            "'p***@example.com'",
            "'123-45-6001'",
            "'Person 2'",
            "'EU'",
            "'US'",
            "'someone'",
            "'K1***0'",
            "'m***@mail1.example'",
            "'x'",
            "''",
            "E'a\\'b'",
            "$$d$$",
            "NULL::text",
            "U&'\\0070'",
            "U&'!0070' UESCAPE '!'",
            "'p'\n'erson1'",
        ])
        .into()
    }
}
