//! The cases of the rewriter's corpus (tests/rewrite).

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::servers::servers;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");

/// A case of the corpus.
pub struct Case {
    /// Everything up to the `---`, as it stands in the file.
    pub head: String,
    /// What it is about
    pub title: String,
    /// Who asks
    pub caller: String,
    /// Of which versions of Postgres the case is
    pub servers: RangeInclusive<u32>,
    /// What
    pub statement: String,
    /// SQL, or a denial
    pub expected: String,
}

/// A file is a comment, then cases: `### title`, `caller: name`, where it is of some
/// versions of Postgres only `servers: 15-17`, a statement, `---`, what is expected, an
/// empty line.
pub fn cases(text: &str) -> (String, Vec<Case>) {
    let mut parts = text.split("### ");
    let comment = parts.next().unwrap_or_default().to_owned();
    let all = parts
        .map(|part| {
            let (head, expected) = part
                .split_once("\n---\n")
                .unwrap_or((part.trim_end_matches("\n---"), ""));
            let mut lines = head.splitn(3, '\n');
            let title = lines.next().unwrap_or_default().to_owned();
            let caller = lines
                .next()
                .unwrap_or_default()
                .strip_prefix("caller: ")
                .expect("a caller")
                .to_owned();
            let (servers, statement) = servers(lines.next().unwrap_or_default());
            Case {
                head: head.to_owned(),
                title,
                caller,
                servers,
                statement: statement.to_owned(),
                expected: expected.trim_end().to_owned(),
            }
        })
        .collect();
    (comment, all)
}

/// The files, in order.
pub fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(HERE)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "test")
        })
        .collect();
    files.sort();
    files
}
