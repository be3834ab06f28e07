//! The first messages of a connection: each is refused, or understood without a byte
//! read beyond its end; and what was understood, said again, is understood the same.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use pgveil::listener::fuzzing::{Opened, opening};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Some(Ok(opened)) = read(&mut rest) {
        let Opened::Start {
            version,
            negotiation,
            user,
            dataset,
            parameters,
        } = opened
        else {
            continue;
        };
        assert!(!user.is_empty() && !dataset.is_empty());
        assert!(
            parameters
                .keys()
                .all(|name| *name == name.to_ascii_lowercase())
        );
        for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
            assert!(!text.contains('\0'));
        }
        if let Some(message) = negotiation {
            assert_eq!(message[0], b'v');
            let length = u32::from_be_bytes(message[1..5].try_into().unwrap());
            assert_eq!(length as usize + 1, message.len());
        }
        // What `options` sets under such a name cannot be said by name: it would be
        // something else.
        let other = |name: &String| {
            matches!(&**name, "user" | "database" | "options" | "replication")
                || name.starts_with("_pq_.")
        };
        if parameters.keys().any(other) {
            continue;
        }
        let said = message(version, &user, &dataset, &parameters);
        let again = Opened::Start {
            version,
            negotiation: None,
            user,
            dataset,
            parameters,
        };
        // `options` may hold more settings than a message has room for by name.
        if said.len() <= 10_000 {
            assert_eq!(read(&mut &*said).unwrap().unwrap(), again);
        }
    }
});

fn read(rest: &mut &[u8]) -> Option<Result<Opened, String>> {
    let before = *rest;
    let opened = opening(rest).expect("what has ended is not waited for");
    let used = before.len() - rest.len();
    match (&opened, before.first_chunk()) {
        (Ok(_), Some(length)) => assert_eq!(used, u32::from_be_bytes(*length) as usize),
        (Ok(_), None) => panic!("understood without a length"),
        (Err(_), Some(length)) => assert!(used <= 4.max(u32::from_be_bytes(*length) as usize)),
        (Err(_), None) => {}
    }
    (used > 0).then_some(opened.map_err(|refused| {
        let told = refused.to_string();
        assert!(!told.contains('\n'), "{told}");
        told
    }))
}

fn message(
    version: u32,
    user: &str,
    dataset: &str,
    parameters: &BTreeMap<String, String>,
) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    let named = parameters.iter().map(|(name, value)| (&**name, &**value));
    for (name, value) in [("user", user), ("database", dataset)]
        .into_iter()
        .chain(named)
    {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &body].concat()
}
