//! What is compared of an answer.

use std::collections::HashMap;

use crate::support::client::Message;

/// OIDs of tables and of types, as two servers know them: each has counted its own.
#[derive(Default)]
pub struct Oids {
    theirs: HashMap<(Of, u32), u32>,
    ours: HashMap<(Of, u32), u32>,
}

/// What an OID in a description is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Table,
    Type,
}

/// OIDs below this belong to Postgres itself (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: u32 = 16_384;

impl Oids {
    /// Our answer with their OIDs, where one of ours stands for the same one of theirs
    /// wherever it is met.
    pub fn translated(&mut self, ours: Vec<Message>, theirs: &[Message]) -> Vec<Message> {
        let mut described = theirs.iter().filter(|(tag, _)| *tag == b'T');
        let translate = |(tag, body): Message| match tag {
            b'T' => match described.next() {
                Some((_, other)) => (tag, self.description(body, other)),
                None => (tag, body),
            },
            _ => (tag, body),
        };
        ours.into_iter().map(translate).collect()
    }

    fn description(&mut self, mut body: Vec<u8>, other: &[u8]) -> Vec<u8> {
        let places = places(&body);
        if body.len() != other.len() {
            return body;
        }
        for (of, at) in places {
            let read = |bytes: &[u8]| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let (own, their) = (read(&body), read(other));
            if own < FIRST_NORMAL_OID || their < FIRST_NORMAL_OID {
                continue;
            }
            let is = *self.theirs.entry((of, own)).or_insert(their) == their
                && *self.ours.entry((of, their)).or_insert(own) == own;
            if is {
                body[at..at + 4].copy_from_slice(&their.to_be_bytes());
            }
        }
        body
    }
}

/// Where a RowDescription holds OIDs.
fn places(body: &[u8]) -> Vec<(Of, usize)> {
    let mut places = Vec::new();
    let mut at = 2;
    while let Some(name) = body[at..].iter().position(|byte| *byte == 0) {
        // Table, number there, type, length, modifier, format.
        let table = at + name + 1;
        places.extend([(Of::Table, table), (Of::Type, table + 6)]);
        at = table + 18;
    }
    places
}

/// Fields of errors and notices that the proxy leaves out by design: positions in
/// the text that was sent, that text and its context, the server's source.
const DROPPED: &[u8] = b"PpqWFLR";

/// What is left of an answer when the asynchronous, and what the proxy leaves out by
/// design, is left out.
pub fn comparable(answer: &[Message]) -> Vec<Message> {
    answer
        .iter()
        .filter(|(tag, _)| !matches!(tag, b'A' | b'S' | b'K'))
        .map(|(tag, body)| match tag {
            b'E' | b'N' => (*tag, fault(body)),
            _ => (*tag, body.clone()),
        })
        .collect()
}

fn fault(body: &[u8]) -> Vec<u8> {
    let state = field(body, b'C').unwrap_or_default();
    // Failing rows and keys as stored: not shown to whom something is masked.
    let quotes_rows = state.starts_with("23") || state.starts_with("44");
    body.split(|byte| *byte == 0)
        .filter(|field| !field.is_empty())
        .filter(|field| !(DROPPED.contains(&field[0]) || quotes_rows && field[0] == b'D'))
        .flat_map(|field| [unqualified(field), b"\0".to_vec()].concat())
        .collect()
}

/// A message without the schema of a function: the proxy says which is meant, and so
/// Postgres says it in `function pg_catalog.length(integer) does not exist`.
fn unqualified(field: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(field);
    let Some((before, after)) = text.split_once("function ") else {
        return field.to_vec();
    };
    let schema = after
        .find('.')
        .filter(|at| !after[..*at].contains(['(', ' ']));
    let after = schema.map_or(after, |at| &after[at + 1..]);
    format!("{before}function {after}").into_bytes()
}

/// The kinds of an answer's parts: what two direct sessions have in common where
/// clocks, chance or process ids are in it.
pub fn shape(answer: &[Message]) -> Vec<Message> {
    let mut shape: Vec<Message> = answer
        .iter()
        .filter(|(tag, _)| !matches!(tag, b'A' | b'S' | b'K' | b'N'))
        .map(|(tag, body)| match tag {
            b'D' | b'd' => (*tag, Vec::new()),
            b'C' => (
                *tag,
                body.iter()
                    .copied()
                    .take_while(u8::is_ascii_alphabetic)
                    .collect(),
            ),
            b'E' => (*tag, field(body, b'C').unwrap_or_default().into_bytes()),
            _ => (*tag, body.clone()),
        })
        .collect();
    shape.dedup();
    shape
}

/// The first error of an answer: its SQLSTATE and message.
pub fn error(answer: &[Message]) -> Option<(String, String)> {
    let (_, body) = answer.iter().find(|(tag, _)| *tag == b'E')?;
    Some((
        field(body, b'C').unwrap_or_default(),
        field(body, b'M').unwrap_or_default(),
    ))
}

fn field(body: &[u8], code: u8) -> Option<String> {
    body.split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&code))
        .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
}
