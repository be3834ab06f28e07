//! What is compared of an answer.

use crate::support::client::Message;

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
