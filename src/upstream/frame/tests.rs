//! The scanner against whole streams, cut at every place, and against noise.

use super::*;

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Feeds `stream` in pieces of `piece` bytes; gives what was forwarded, and the
/// frames that were shown.
fn drive(scanner: &mut Scanner, stream: &[u8], piece: usize) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let (mut buf, mut forwarded, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for part in stream.chunks(piece) {
        buf.extend_from_slice(part);
        loop {
            match scanner.next(&buf).unwrap() {
                Step::Run { len } => {
                    assert!(len > 0);
                    forwarded.extend(buf.drain(..len));
                }
                Step::Interesting { tag, len } => {
                    let whole: Vec<u8> = buf.drain(..len).collect();
                    assert_eq!(whole[0], tag);
                    forwarded.extend_from_slice(&whole);
                    shown.push((tag, whole[HEADER..].to_vec()));
                }
                Step::Need { more } => {
                    assert!(more > 0);
                    break;
                }
            }
        }
    }
    assert!(buf.is_empty() && scanner.at_boundary());
    (forwarded, shown)
}

#[test]
fn a_stream_passes_unchanged_however_it_is_cut() {
    let mut stream = Vec::new();
    for (tag, body) in [
        (b'T', &b"shape"[..]),
        (b'D', b"row one"),
        (b'D', b""),
        (b'D', &[7; 300]),
        (b'C', b"SELECT 3\0"),
        (b'Z', b"I"),
    ] {
        stream.extend(frame(tag, body));
    }
    for piece in 1..=stream.len() {
        let mut scanner = Scanner::new(Tags::of(b"TCZ"), 64).counting(Tags::of(b"D"));
        let (forwarded, shown) = drive(&mut scanner, &stream, piece);
        assert_eq!(forwarded, stream);
        assert_eq!(
            shown,
            [
                (b'T', b"shape".to_vec()),
                (b'C', b"SELECT 3\0".to_vec()),
                (b'Z', b"I".to_vec()),
            ]
        );
        let rows = Tally {
            frames: 3,
            bytes: 307,
        };
        assert_eq!(scanner.take_tally(), rows);
        assert_eq!(scanner.take_tally(), Tally::default());
    }
}

#[test]
fn frames_nobody_wants_are_one_run() {
    let stream = [frame(b'D', b"a"), frame(b'D', b"b"), frame(b'Z', b"I")].concat();
    let mut scanner = Scanner::new(Tags::of(b"Z"), 16);
    assert_eq!(scanner.next(&stream), Ok(Step::Run { len: 12 }));
    let rest = &stream[12..];
    assert_eq!(
        scanner.next(rest),
        Ok(Step::Interesting { tag: b'Z', len: 6 })
    );
}

#[test]
fn a_huge_row_streams_without_being_held() {
    let size = (1usize << 30) - 8;
    let mut scanner = Scanner::new(Tags::of(b"Z"), 16).counting(Tags::of(b"D"));
    let mut head = vec![b'D'];
    head.extend_from_slice(&(size as u32 + 4).to_be_bytes());
    assert_eq!(scanner.next(&head), Ok(Step::Run { len: HEADER }));
    let piece = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        assert!(!scanner.at_boundary());
        let part = &piece[..left.min(piece.len())];
        assert_eq!(scanner.next(part), Ok(Step::Run { len: part.len() }));
        left -= part.len();
    }
    assert!(scanner.at_boundary());
    assert_eq!(
        scanner.next(&frame(b'Z', b"I")),
        Ok(Step::Interesting { tag: b'Z', len: 6 })
    );
    assert_eq!(scanner.take_tally().bytes, size as u64);
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for len in [0u32, 1, 3, 0x8000_0000, u32::MAX] {
        let mut bytes = vec![b'D'];
        bytes.extend_from_slice(&len.to_be_bytes());
        let mut scanner = Scanner::new(Tags::NONE, 16);
        assert_eq!(
            scanner.next(&bytes),
            Err(FrameError::Length { tag: b'D', len })
        );
    }
}

/// Found by tests/fuzz: what had arrived together with the fault was lost.
#[test]
fn what_comes_before_a_fault_passes() {
    let row = frame(b'D', b"row");
    let stream = [&row[..], b"D\0\0\0\0"].concat();
    let mut scanner = Scanner::new(Tags::NONE, 64);
    assert_eq!(scanner.next(&stream), Ok(Step::Run { len: row.len() }));
    let fault = FrameError::Length { tag: b'D', len: 0 };
    assert_eq!(scanner.next(&stream[row.len()..]), Err(fault));
}

#[test]
fn an_interesting_frame_is_bounded_before_it_is_read() {
    let mut scanner = Scanner::new(Tags::ALL, 16);
    assert_eq!(
        scanner.next(&frame(b'Q', &[0; 17])[..HEADER]),
        Err(FrameError::TooLong {
            tag: b'Q',
            len: 17,
            limit: 16
        })
    );
    assert_eq!(
        scanner.next(&frame(b'Q', &[0; 16])[..HEADER + 1]),
        Ok(Step::Need { more: 15 })
    );
}

#[test]
fn a_set_holds_what_was_put_in() {
    let set = Tags::of(&[0, b'D', 127, 128, 255]);
    for tag in 0..=255 {
        let there = [0, b'D', 127, 128, 255].contains(&tag);
        assert_eq!(set.contains(tag), there, "{tag}");
        assert_eq!(set.complement().contains(tag), !there, "{tag}");
        assert!(Tags::ALL.contains(tag) && !Tags::NONE.contains(tag));
    }
}

#[test]
fn noise_never_panics_and_never_asks_for_more_than_is_there() {
    let mut noise = crate::upstream::noise::Noise::new(11);
    for _ in 0..20_000 {
        let mut scanner =
            Scanner::new(Tags::of(&noise.bytes(4)), noise.below(64)).counting(Tags::ALL);
        let mut bytes = noise.bytes(80);
        // Small lengths, so that some headers make sense.
        for at in (1..bytes.len().saturating_sub(4)).step_by(9) {
            bytes[at..at + 3].fill(0);
        }
        let mut rest = &bytes[..];
        while let Ok(step) = scanner.next(rest) {
            match step {
                Step::Run { len } | Step::Interesting { len, .. } => {
                    assert!(len > 0 && len <= rest.len());
                    rest = &rest[len..];
                }
                Step::Need { more } => {
                    assert!(more > 0);
                    break;
                }
            }
        }
    }
}
