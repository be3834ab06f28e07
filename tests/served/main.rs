//! What is served as it would be without the proxy, counted.
//!
//! `sh tests/served/run.sh` runs it.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod answer;
mod backdoor;
mod regress;
mod statement;
#[path = "../support/mod.rs"]
mod support;
mod tee;

/// Of the statements that touch nothing governed, in percent.
const SERVED: f64 = 97.5;
/// Of those but COPY with files of the server, which the proxy refuses by design.
const BUT_FILES: f64 = 97.8;

#[test]
#[ignore = "takes a quarter of an hour and fetches the suite: sh tests/served/run.sh"]
fn regression_suite() {
    let entries = regress::run();
    let (table, reasons) = (regress::table(&entries), regress::reasons(&entries, 20));
    println!("{table}\nrefused most:\n{reasons}");
    let all = regress::served(&entries, true);
    let but_files = regress::served(&entries, false);
    assert!(
        entries.len() > 1000 && all > SERVED && but_files > BUT_FILES,
        "{all:.2} %, {but_files:.2} % without COPY of files"
    );
}
