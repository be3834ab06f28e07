//! Long errors and notices, cut while they are read.
//!
//! Knows nothing about sessions, nor about what the fields mean. An error quotes
//! values, so it can be as long as they are (1 GB). Invariant: of a message of any
//! length no more than [`FIELD`] and [`WHOLE`] bytes are held, and what comes out is
//! a message whose fields are those that came, each whole or cut at a character.

use bytes::{Buf, BytesMut};

use crate::upstream::frame::backend::tag;
use crate::upstream::frame::{HEADER, header};

/// What is kept of a field, in bytes; a body no longer than this passes by.
const FIELD: usize = 8 << 10;
/// What is kept of all of them together; fields beyond it are left out.
const WHOLE: usize = 64 << 10;
/// Ends a field that was cut.
const CUT: &[u8] = b" [...]";

/// One message on its way.
#[derive(Debug)]
pub(super) struct Abridging {
    /// Its tag
    tag: u8,
    /// Bytes of the body still to come
    left: usize,
    /// What is kept so far, behind a header
    frame: Vec<u8>,
    at: At,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum At {
    /// A field's code, or the end
    Code,
    /// More of a field's text, which starts there in what is kept; whether some has
    /// been left out.
    Text { start: usize, cut: bool },
    /// Nothing that means anything
    End,
}

impl Abridging {
    /// Takes the header of such a message from the front of a buffer that stands
    /// between two messages, if one is there.
    pub(super) fn begin(buffer: &mut BytesMut) -> Option<Self> {
        let (tag, left) = header(buffer).ok().flatten()?;
        if !matches!(tag, tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE) || left <= FIELD {
            return None;
        }
        buffer.advance(HEADER);
        Some(Self {
            tag,
            left,
            frame: vec![tag, 0, 0, 0, 0],
            at: At::Code,
        })
    }

    /// Takes what is its own from the front of the buffer. Says whether that was all.
    pub(super) fn read(&mut self, buffer: &mut BytesMut) -> bool {
        let part = self.left.min(buffer.len());
        self.left -= part;
        self.keep(buffer.get(..part).unwrap_or_default());
        buffer.advance(part);
        self.left == 0
    }

    fn keep(&mut self, mut rest: &[u8]) {
        while let Some((first, after)) = rest.split_first() {
            match self.at {
                At::End => return,
                At::Code if *first == 0 => self.at = At::End,
                At::Code => {
                    self.frame.push(*first);
                    let start = self.frame.len();
                    self.at = At::Text { start, cut: false };
                }
                At::Text { start, cut } => {
                    let end = rest.iter().position(|byte| *byte == 0);
                    let text = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                    let room = (start + FIELD).saturating_sub(self.frame.len());
                    let kept = text.get(..room).unwrap_or(text);
                    self.frame.extend_from_slice(kept);
                    let cut = cut || kept.len() < text.len();
                    self.at = At::Text { start, cut };
                    let Some(end) = end else {
                        return;
                    };
                    self.close(start, cut);
                    rest = rest.get(end + 1..).unwrap_or_default();
                    continue;
                }
            }
            rest = after;
        }
    }

    /// The end of a field's text.
    fn close(&mut self, start: usize, cut: bool) {
        self.at = At::Code;
        if cut {
            let text = self.frame.get(start..).unwrap_or_default();
            let whole = match std::str::from_utf8(text) {
                // A character lies across the end.
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                _ => text.len(),
            };
            self.frame.truncate(start + whole);
            self.frame.extend_from_slice(CUT);
        }
        match self.frame.len() < WHOLE {
            true => self.frame.push(0),
            // Without its code.
            false => self.frame.truncate(start - 1),
        }
    }

    /// The tag, and the whole message as it is kept, once all has been read.
    pub(super) fn finish(mut self) -> (u8, Vec<u8>) {
        if let At::Text { start, .. } = self.at {
            // It never ended.
            self.frame.truncate(start - 1);
        }
        self.frame.push(0);
        let length = u32::try_from(self.frame.len() - 1).unwrap_or(u32::MAX);
        if let Some(header) = self.frame.get_mut(1..HEADER) {
            header.copy_from_slice(&length.to_be_bytes());
        }
        (self.tag, self.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    /// What is kept of a body, however it is cut into reads.
    #[track_caller]
    fn kept(body: &[u8]) -> Vec<u8> {
        let whole = [message(b'E', body), b"Z\0\0\0\x05I".to_vec()].concat();
        let of = |piece: usize| {
            let mut pieces = whole.chunks(piece);
            let mut buffer = BytesMut::new();
            let mut abridging = loop {
                buffer.extend_from_slice(pieces.next().unwrap());
                if let Some(begun) = Abridging::begin(&mut buffer) {
                    break begun;
                }
                assert!(buffer.len() < HEADER);
            };
            while !abridging.read(&mut buffer) {
                assert!(abridging.frame.len() <= WHOLE + FIELD + CUT.len());
                buffer.extend_from_slice(pieces.next().unwrap());
            }
            buffer.extend_from_slice(&pieces.flatten().copied().collect::<Vec<_>>());
            assert_eq!(&buffer[..], b"Z\0\0\0\x05I");
            let (tag, frame) = abridging.finish();
            assert_eq!(frame, message(tag, &frame[HEADER..]));
            frame[HEADER..].to_vec()
        };
        let at_once = of(whole.len());
        for piece in [1, 2, 3, 7, 4096, 8191, 8192, 8193] {
            assert_eq!(of(piece), at_once, "{piece}");
        }
        at_once
    }

    #[test]
    fn only_what_is_long_is_cut() {
        let long = "x".repeat(FIELD + 1);
        let body = format!("SERROR\0C22P02\0M{long}\0Hshort\0\0");
        let expected = format!("SERROR\0C22P02\0M{} [...]\0Hshort\0\0", &long[1..]);
        assert_eq!(kept(body.as_bytes()), expected.as_bytes());
        let body = format!("SERROR\0M{0}\0D{0}\0\0", &long[1..]);
        assert_eq!(kept(body.as_bytes()), body.as_bytes());
    }

    #[test]
    fn a_character_is_not_cut() {
        for (before, whole) in [(1, FIELD - 1), (2, FIELD), (3, FIELD - 2)] {
            let body = format!("M{}{}\0\0", "x".repeat(before), "€".repeat(FIELD));
            let kept = String::from_utf8(kept(body.as_bytes())).unwrap();
            let text = kept.strip_prefix('M').unwrap();
            let text = text.strip_suffix(" [...]\0\0").unwrap();
            // "€" has three bytes.
            assert_eq!(text.len(), whole, "{before}");
        }
    }

    #[test]
    fn too_many_fields_are_left_out() {
        let body = format!("M{}\0", "x".repeat(FIELD)).repeat(20) + "Hshort\0\0";
        let kept = kept(body.as_bytes());
        assert!(kept.len() <= WHOLE);
        assert!(kept.starts_with(b"Mx") && kept.ends_with(b"xx\0Hshort\0\0"));
    }

    #[test]
    fn one_that_breaks_off_keeps_what_was_whole() {
        let body = format!("SFATAL\0M{}", "x".repeat(3 * FIELD));
        assert_eq!(kept(body.as_bytes()), b"SFATAL\0\0");
        let body = format!("SFATAL\0\0{}", "x".repeat(3 * FIELD));
        assert_eq!(kept(body.as_bytes()), b"SFATAL\0\0");
    }

    #[test]
    fn others_pass_by() {
        for message in [
            message(b'E', &[b'x'; FIELD]),
            message(b'D', &[b'x'; FIELD + 1]),
            b"E\0\0".to_vec(),
            b"E\0\0\0\0".to_vec(),
            Vec::new(),
        ] {
            let mut buffer = BytesMut::from(&message[..]);
            assert!(Abridging::begin(&mut buffer).is_none());
            assert_eq!(&buffer[..], &message[..]);
        }
    }
}
