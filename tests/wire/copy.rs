//! COPY in all formats, both ways and by both protocols, and writes: as a role that
//! may, and as one that may not.

use super::support::client::{By, Client, frame};
use super::{BOTH, proxy, server, short};

/// Sends a COPY … FROM STDIN and its data; says what is answered.
fn copy_in(client: &mut Client, statement: &str, by: By, data: &[&[u8]]) -> String {
    client.ask(statement, by);
    let mut begun = Vec::new();
    loop {
        let message = client.receive();
        let tag = message.0;
        begun.push(message);
        match tag {
            b'G' => break,
            b'Z' => return short(&begun),
            _ => {}
        }
    }
    for piece in data {
        client.send(&frame(b'd', &[piece]));
    }
    client.send(&frame(b'c', &[]));
    if by != By::Simple {
        client.send(&frame(b'S', &[]));
    }
    short(&client.answer())
}

/// The pieces of a COPY … TO STDOUT.
fn copy_out(client: &mut Client, statement: &str, by: By) -> Vec<Vec<u8>> {
    let answer = client.run(statement, by);
    assert!(short(&answer).contains(" c COPY "), "{}", short(&answer));
    let data = answer.into_iter().filter(|(tag, _)| *tag == b'd');
    data.map(|(_, body)| body).collect()
}

#[test]
fn copies_go_both_ways_in_all_formats() {
    let proxy = proxy();
    let mut clerk = proxy.client("clerk");
    let found = "SELECT string_agg(concat_ws('/', id, label, weight), ' ' ORDER BY id) \
                 FROM parcels WHERE id BETWEEN 101 AND 199";
    let clear = "DELETE FROM parcels WHERE id BETWEEN 101 AND 199";
    for by in BOTH {
        let text = "COPY parcels FROM STDIN";
        let pieces: [&[u8]; 3] = [b"101\ta\\tb\t1.50\n10", b"2\tsecond\t\\N\n", b""];
        assert_eq!(copy_in(&mut clerk, text, by, &pieces), "COPY 2 Z");
        assert_eq!(server().psql(found), "101/a\tb/1.50 102/second");

        let csv = "COPY parcels (id, label) FROM STDIN WITH (FORMAT csv, HEADER)";
        let pieces: [&[u8]; 1] = [b"id,label\n103,\"a, \"\"b\"\"\"\n"];
        assert_eq!(copy_in(&mut clerk, csv, by, &pieces), "COPY 1 Z");
        let csv = "COPY (SELECT id, label FROM parcels WHERE id = 103) TO STDOUT (FORMAT csv)";
        assert_eq!(copy_out(&mut clerk, csv, by), [b"103,\"a, \"\"b\"\"\"\n"]);

        // What comes out in binary goes in.
        let before = server().psql(found);
        let table = copy_out(&mut clerk, "COPY parcels TO STDOUT (FORMAT binary)", by);
        assert!(table[0].starts_with(b"PGCOPY\n\xff\r\n\0"), "{table:?}");
        assert_eq!(table.last().unwrap(), &[0xff, 0xff]);
        let copy = "COPY (SELECT * FROM parcels WHERE id BETWEEN 101 AND 199) TO STDOUT BINARY";
        let all = copy_out(&mut clerk, copy, by);
        assert_eq!(short(&clerk.run(clear, By::Simple)), "DELETE 3 Z");
        let pieces: Vec<_> = all.iter().map(Vec::as_slice).collect();
        let binary = "COPY parcels FROM STDIN WITH (FORMAT binary)";
        assert_eq!(copy_in(&mut clerk, binary, by, &pieces), "COPY 3 Z");
        assert_eq!(server().psql(found), before);
        clerk.run(clear, By::Simple);

        // One that fails leaves nothing, and the session goes on.
        let pieces: [&[u8]; 1] = [b"104\tx\t1\nnonsense\n"];
        assert_eq!(copy_in(&mut clerk, text, by, &pieces), "22P02 Z");
        assert_eq!(server().psql(found), "");
    }
}

#[test]
fn masks_hold_in_copies() {
    let proxy = proxy();
    let mut clerk = proxy.client("clerk");
    for by in BOTH {
        let copy = "COPY customers (id, email) TO STDOUT";
        assert_eq!(
            copy_out(&mut clerk, copy, by),
            [b"1\to***@example.com\n".to_vec()]
        );
        let copy = "COPY customers (id, email) TO STDOUT (FORMAT binary)";
        let all = copy_out(&mut clerk, copy, by).concat();
        assert!(all.windows(15).any(|text| text == b"o***@example.co"));
        let answer = clerk.run("COPY customers TO STDOUT", by);
        assert!(short(&answer).contains("42501"), "{}", short(&answer));
    }
}

#[test]
fn rows_are_written_changed_and_deleted() {
    let proxy = proxy();
    let mut clerk = proxy.client("clerk");
    let found = "SELECT string_agg(concat_ws('/', id, label), ' ' ORDER BY id) \
                 FROM parcels WHERE id BETWEEN 201 AND 299";
    for by in BOTH {
        for (statement, said, then) in [
            (
                "INSERT INTO parcels (id, label) VALUES (201, 'a'), (202, 'b') RETURNING id",
                "INSERT 0 2",
                "201/a 202/b",
            ),
            (
                "INSERT INTO parcels (id, label) SELECT 203, email FROM customers",
                "INSERT 0 1",
                "201/a 202/b 203/o***@example.com",
            ),
            (
                "UPDATE parcels SET label = 'c' WHERE id = 202",
                "UPDATE 1",
                "201/a 202/c 203/o***@example.com",
            ),
            (
                "DELETE FROM parcels WHERE id BETWEEN 201 AND 299",
                "DELETE 3",
                "",
            ),
        ] {
            let answer = short(&clerk.run(statement, by));
            assert!(answer.ends_with(&format!("{said} Z")), "{answer}");
            assert_eq!(server().psql(found), then, "{statement}");
        }
    }
}

#[test]
fn who_may_not_write_does_not() {
    let proxy = proxy();
    let mut auditor = proxy.client("auditor");
    for by in BOTH {
        for statement in [
            "COPY parcels FROM STDIN",
            "INSERT INTO parcels VALUES (301)",
            "UPDATE parcels SET label = 'x'",
            "DELETE FROM parcels",
        ] {
            let answer = short(&auditor.run(statement, by));
            assert_eq!(answer, "42501 Z", "{statement}");
        }
    }
}
