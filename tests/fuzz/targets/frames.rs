//! The frame splitter, in both directions: however a stream is cut into reads, the
//! same bytes pass and the same frames are shown as by one look at the whole of it,
//! and no body makes a decoder panic.
//!
//! Input: which tags are shown, the bound on a body, the length of a read, then the
//! stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgveil::upstream::frame::frontend::{self, Bind, Execute, Named, Parse};
use pgveil::upstream::frame::{HEADER, Scanner, Step, Tags, Tally, backend, header};

/// What becomes of a stream.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// What passed unseen
    passed: Vec<u8>,
    /// Frames that were shown, and after how many bytes that passed
    shown: Vec<(usize, u8, Vec<u8>)>,
    /// Whether the stream was refused at last
    refused: bool,
    /// Of all tags: the frames that began and passed, and their bodies
    tally: Tally,
}

fuzz_target!(|data: &[u8]| {
    let [which, limit, read, stream @ ..] = data else {
        return;
    };
    let tags = match which % 4 {
        // As a session watches its upstream: all but rows and copied data.
        0 => Tags::of(b"DdHc").complement(),
        1 => Tags::ALL,
        2 => Tags::NONE,
        _ => Tags::of(b"QPBDEZTC").with(which / 4),
    };
    let limit = match limit % 4 {
        0 => 0,
        1 => 16,
        2 => usize::from(*limit) * 8,
        _ => 1 << 20,
    };
    let whole = model(tags, limit, stream);
    let cut = scanned(tags, limit, usize::from(*read).max(1), stream);
    assert_eq!(whole, cut);
    assert_eq!(whole, scanned(tags, limit, stream.len().max(1), stream));
    for (_, _, body) in &whole.shown {
        decode(body);
    }
});

/// By one look at the whole stream.
fn model(tags: Tags, limit: usize, mut rest: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let (tag, body) = match header(rest) {
            Ok(Some(header)) => header,
            Ok(None) => return outcome,
            Err(_) => {
                outcome.refused = true;
                return outcome;
            }
        };
        let whole = rest.get(..HEADER + body);
        if !tags.contains(tag) {
            outcome.tally.frames += 1;
            outcome.tally.bytes += body as u64;
            let present = whole.unwrap_or(rest);
            outcome.passed.extend_from_slice(present);
            rest = &rest[present.len()..];
        } else if body > limit {
            outcome.refused = true;
            return outcome;
        } else if let Some(frame) = whole {
            let after = outcome.passed.len();
            outcome.shown.push((after, tag, frame[HEADER..].to_vec()));
            rest = &rest[frame.len()..];
        } else {
            return outcome;
        }
    }
}

/// As it arrives, by reads of that length.
fn scanned(tags: Tags, limit: usize, read: usize, stream: &[u8]) -> Outcome {
    let mut scanner = Scanner::new(tags, limit).counting(Tags::ALL);
    let mut outcome = Outcome::default();
    let mut buffer = Vec::new();
    let mut reads = stream.chunks(read);
    while !outcome.refused {
        match scanner.next(&buffer) {
            Ok(Step::Run { len }) => {
                assert!(len > 0 && len <= buffer.len());
                outcome.passed.extend(buffer.drain(..len));
            }
            Ok(Step::Interesting { tag, len }) => {
                assert!(scanner.at_boundary());
                assert_eq!(tag, buffer[0]);
                let frame: Vec<u8> = buffer.drain(..len).collect();
                let after = outcome.passed.len();
                outcome.shown.push((after, tag, frame[HEADER..].to_vec()));
            }
            Ok(Step::Need { more }) => {
                assert!(more > 0);
                assert!(buffer.len() < HEADER + limit);
                match reads.next() {
                    Some(bytes) => buffer.extend_from_slice(bytes),
                    None => break,
                }
            }
            Err(_) => outcome.refused = true,
        }
    }
    outcome.tally = scanner.take_tally();
    outcome
}

/// Whatever its tag, a body is understood or refused.
fn decode(body: &[u8]) {
    let _ = frontend::query(body);
    let _ = Parse::of(body);
    let _ = Bind::of(body);
    let _ = Named::of(body);
    let _ = Execute::of(body);
    let _ = backend::ready(body);
    let _ = backend::command(body).map(backend::affected);
    let _ = backend::parameter(body);
    let _ = backend::key(body);
    let _ = backend::Fields::of(body).find(b'C');
    assert!(backend::Fields::of(body).count() <= body.len() + 1);
    if let Ok(shape) = backend::Shape::of(body) {
        assert!(shape.count() <= body.len() + 1);
    }
}
