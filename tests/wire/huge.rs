//! Values as large as Postgres takes, up and down and quoted by errors, in constant
//! memory; and texts of statements, in bounded memory.
//!
//! `PGVEIL_TEST_HUGE=1000000000 cargo test --test wire huge` makes them that large;
//! Postgres takes some four times as much for each.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use super::support::client::{By, Client, frame, refusal};
use super::support::proxy::{Proxy, Setup};
use super::{BOTH, POLICY, proxy, server, short};

/// What the proxy may take for it, in MiB: far less than the value, and no more
/// whatever its size.
const GROWTH: u64 = 24;

fn size() -> usize {
    std::env::var("PGVEIL_TEST_HUGE").map_or(64_000_000, |size| size.parse().unwrap())
}

/// The most memory the proxy has had resident, in MiB.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process)).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kib >> 10
}

/// Reads up to ReadyForQuery and throws it away; says how much it was.
fn drained(stream: &mut TcpStream) -> (usize, Vec<u8>) {
    let (mut total, mut last) = (0, Vec::new());
    let mut buffer = vec![0; 1 << 18];
    while !last.ends_with(b"Z\0\0\0\x05I") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", last.escape_ascii());
        total += read;
        last.extend_from_slice(&buffer[read.saturating_sub(200)..read]);
        last.drain(..last.len().saturating_sub(200));
    }
    (total, last)
}

/// A message of that many bytes, `head` and `tail` beside.
fn sent(stream: &mut TcpStream, tag: u8, head: &[u8], len: usize, tail: &[u8]) {
    let whole = (head.len() + len + tail.len() + 4) as u32;
    let start = [&[tag][..], &whole.to_be_bytes(), head].concat();
    stream.write_all(&start).unwrap();
    let piece = vec![b'x'; 1 << 18];
    let mut left = len;
    while left > 0 {
        let part = left.min(piece.len());
        stream.write_all(&piece[..part]).unwrap();
        left -= part;
    }
    stream.write_all(tail).unwrap();
}

/// An error quotes the value; so does a notice.
#[test]
fn an_error_of_any_length_is_cut_and_not_held() {
    let size = size();
    let proxy = proxy();
    let mut clerk = proxy.client("clerk");
    clerk.run("SELECT 1", By::Extended);
    let before = peak(proxy.pid());
    for by in BOTH {
        for (quoted, kept) in [("x", 8192), ("€", 8190)] {
            let length = size / quoted.len();
            let raises = format!("SELECT repeat('{quoted}', {length})::integer");
            let answer = clerk.run(&raises, by);
            assert_eq!(refusal(&answer).as_deref(), Some("22P02"), "{by:?}");
            let (_, error) = answer.iter().find(|(tag, _)| *tag == b'E').unwrap();
            let text = std::str::from_utf8(error).unwrap();
            let said = text.split('\0').find_map(|field| field.strip_prefix('M'));
            let said = said.unwrap().strip_suffix(" [...]").unwrap();
            let begins = format!("invalid input syntax for type integer: \"{quoted}{quoted}");
            assert!(said.starts_with(&begins), "{}", &said[..100]);
            assert!(
                said.len() <= 8192 && said.len() > kept - 3,
                "{}",
                said.len()
            );
            assert!(error.len() < 9000, "{}", error.len());
        }
        assert_eq!(short(&clerk.run("SELECT 1", By::Simple)), "T D SELECT 1 Z");
    }
    let after = peak(proxy.pid());
    println!("{size} bytes: {before} MiB before, {after} after");
    assert!(after - before < GROWTH, "grew from {before} to {after} MiB");
}

#[test]
fn a_value_passes_up_and_down_in_constant_memory() {
    let size = size();
    let proxy = proxy();
    let mut clerk = proxy.client("clerk");
    clerk.run("SELECT 1", By::Extended);
    let mut stream = clerk.into_stream();
    let before = peak(proxy.pid());

    // Down: one row.
    let select = format!("SELECT repeat('x', {size})\0");
    stream
        .write_all(&frame(b'Q', &[select.as_bytes()]))
        .unwrap();
    let (total, _) = drained(&mut stream);
    assert!(total > size);
    let down = peak(proxy.pid());

    // Up: one parameter.
    let parse = frame(b'P', &[b"\0SELECT length($1::text)\0\0\0"]);
    stream.write_all(&parse).unwrap();
    let head = [b"\0\0\0\0\0\x01".as_slice(), &(size as u32).to_be_bytes()].concat();
    sent(&mut stream, b'B', &head, size, b"\0\0");
    let rest = [frame(b'E', &[b"\0\0\0\0\0"]), frame(b'S', &[])].concat();
    stream.write_all(&rest).unwrap();
    let (_, last) = drained(&mut stream);
    let length = size.to_string();
    let says = |last: &[u8], what: &str| last.windows(what.len()).any(|it| it == what.as_bytes());
    assert!(says(&last, &length), "{}", last.escape_ascii());
    let bound = peak(proxy.pid());

    // Up: one piece of a COPY.
    let copy = frame(b'Q', &[b"COPY parcels (id, label) FROM STDIN\0"]);
    stream.write_all(&copy).unwrap();
    sent(&mut stream, b'd', b"401\t", size, b"\n");
    stream.write_all(&frame(b'c', &[])).unwrap();
    let (_, last) = drained(&mut stream);
    assert!(says(&last, "COPY 1"), "{}", last.escape_ascii());
    let copied = peak(proxy.pid());
    let found = "SELECT length(label) FROM parcels WHERE id = 401";
    assert_eq!(server().psql(found), length);
    server().psql("DELETE FROM parcels WHERE id = 401");

    println!("{size} bytes: {before} MiB before, {down} down, {bound} bound, {copied} copied");
    assert!(
        copied - before < GROWTH,
        "grew from {before} to {copied} MiB"
    );
}

/// Planning takes some hundred times the text, so not all of them plan at a time.
#[test]
fn long_texts_are_planned_in_bounded_memory() {
    const AT_ONCE: usize = 8;
    let setup = Setup {
        more: "limits: { statement_size: 200kB }".into(),
        ..Setup::default()
    };
    let proxy = Proxy::with(server(), "proxy", Path::new(POLICY), &setup);
    let text = |number: usize| format!("VALUES ({number}){}", ",(1)".repeat(48_000));
    let run = |client: &mut Client, number: usize, by: By| {
        let answer = client.run(&text(number), by);
        let told = answer
            .iter()
            .find(|(tag, _)| *tag == b'C')
            .map(|(_, body)| &body[..]);
        assert_eq!(told, Some(&b"SELECT 48001\0"[..]), "{:?}", refusal(&answer));
    };
    let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| proxy.client("clerk")).collect();
    let before = peak(proxy.pid());
    run(&mut clients[0], 0, By::Simple);
    let one = peak(proxy.pid()) - before;
    std::thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let by = BOTH[number % 2];
            scope.spawn(move || run(client, number + 1, by));
        }
    });
    let all = peak(proxy.pid()) - before;
    println!("{one} MiB for one, {all} for {AT_ONCE}");
    assert!(one > 10, "one takes {one} MiB");
    assert!(all < 4 * one, "one takes {one} MiB, all take {all}");
}
