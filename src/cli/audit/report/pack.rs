//! A report as evidence: a page, the records that it is made of, a proof of each, and a
//! manifest of it all.
//!
//! Invariant: nothing that a client wrote is more than text on the page, which runs no
//! script and fetches nothing.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ring::digest::{SHA256, digest};

use super::super::show::{plain, touched};
use crate::audit::proof::{self, ProofError};
use crate::audit::read::Entry;
use crate::audit::report::Report;
use crate::audit::segments::{Held, Places};
use crate::audit::tree::note::Verifier;
use crate::audit::verify::{Whole, verify};

/// So many records can be told one by one.
const RECORDS: usize = 20_000;

/// A record that it is made of.
struct Record {
    id: String,
    entry: Entry,
    /// Whether there is a proof of it
    proved: bool,
}

/// Makes that directory; says what is in it.
pub(super) fn make(
    directory: &Path,
    places: &Places,
    log: &Held,
    verifier: &Verifier,
    answer: &Report,
) -> Result<String, Box<dyn Error>> {
    if answer.ids().len() > RECORDS {
        let many = answer.ids().len();
        return Err(format!(
            "a pack of {many} statements is more than {RECORDS} (hint: --since, --until)"
        )
        .into());
    }
    // A proof of each says nothing of those that are missing.
    let whole = verify(places, verifier, &[])?;
    let mut builder = DirBuilder::new();
    builder.mode(0o700).create(directory)?;
    fill(directory, places, log, verifier, answer, &whole).inspect_err(|_| {
        // Half of one is none.
        let _ = fs::remove_dir_all(directory);
    })
}

fn fill(
    directory: &Path,
    places: &Places,
    log: &Held,
    verifier: &Verifier,
    answer: &Report,
    whole: &Whole,
) -> Result<String, Box<dyn Error>> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700).create(directory.join("proofs"))?;
    let mut files = Vec::new();
    let mut put = |name: String, bytes: &[u8]| -> std::io::Result<()> {
        fs::write(directory.join(&name), bytes)?;
        let hash = digest(&SHA256, bytes);
        let mut hex = String::new();
        for byte in hash.as_ref() {
            // Writing to a String does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        files.push((name, hex));
        Ok(())
    };
    let (mut all, mut records) = (Vec::new(), Vec::new());
    for segment in log.files() {
        for (index, line) in (segment.first..).zip(log.lines(&segment.path)?) {
            let line = line?;
            let Ok(fields) = serde_json::from_slice(&line) else {
                continue;
            };
            let entry = Entry(fields);
            let id = entry.text("id").to_owned();
            // What was about to be, and what became of it.
            let is_of = |key: &str| {
                let id = entry.text(key);
                !id.is_empty() && answer.ids().contains(id)
            };
            if !is_of("id") && !is_of("query") {
                continue;
            }
            let proved = match proof::of(places, verifier, index, &line) {
                // An intent has an id of its own.
                Ok(proof) => {
                    put(format!("proofs/{index}.tlog-proof"), proof.as_bytes())?;
                    true
                }
                Err(ProofError::Unsigned(_)) => false,
                Err(error) => return Err(error.into()),
            };
            all.extend_from_slice(&line);
            all.push(b'\n');
            records.push((index, Record { id, entry, proved }));
        }
    }
    let unsigned = records.iter().filter(|(_, it)| !it.proved).count();
    put("records.jsonl".into(), &all)?;
    put("report.csv".into(), super::csv(answer).as_bytes())?;
    put("report.txt".into(), super::text(answer).as_bytes())?;
    put("key.pub".into(), verifier.text().as_bytes())?;
    if let Some(note) = places.tree().checkpoint()? {
        put("checkpoint".into(), note.as_bytes())?;
    }
    let page = page(answer, verifier, whole, &records);
    put("report.html".into(), page.as_bytes())?;
    let manifest: String = files
        .iter()
        .map(|(name, hash)| format!("{hash}  {name}\n"))
        .collect();
    fs::write(directory.join("MANIFEST.sha256"), manifest)?;
    Ok(format!(
        "{} records, {} proofs, {unsigned} not signed yet",
        records.len(),
        records.len() - unsigned
    ))
}

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}\
    table{border-collapse:collapse;margin:1rem 0}\
    th,td{border:1px solid #8888;padding:.25rem .5rem;text-align:left;vertical-align:top}\
    code{white-space:pre-wrap;overflow-wrap:anywhere}";

fn page(answer: &Report, verifier: &Verifier, whole: &Whole, records: &[(u64, Record)]) -> String {
    let title = text(&answer.title());
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n\
         <p>Made at {}. Each record below has a proof that it is in the log that <code>{}</code> \
         signed: <code>pgveil audit verify --key key.pub proofs/0.tlog-proof</code>. Take the key \
         from where it was kept, not from here. <code>sha256sum -c MANIFEST.sha256</code> says \
         whether the files are those that were put together.</p>\n<p>{}</p>\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC"),
        text(verifier.name()),
        text(&extent(whole)),
    );
    let head: Vec<String> = answer.head().iter().map(|it| text(it)).collect();
    table(
        &mut out,
        &head,
        answer
            .rows()
            .iter()
            .map(|row| row.iter().map(|value| text(value)).collect()),
    );
    out.push_str("<h2>Records</h2>\n");
    let head = [
        "record",
        "time",
        "event",
        "who",
        "decision",
        "statement",
        "columns",
    ];
    let head = head.map(str::to_owned);
    table(
        &mut out,
        &head,
        records.iter().map(|(index, record)| {
            let Record { id, entry, proved } = record;
            let number = match proved {
                true => format!("<a href=\"proofs/{index}.tlog-proof\">{index}</a>"),
                false => format!("{index}, not signed yet"),
            };
            let columns: Vec<String> = entry.relations().map(touched).collect();
            let who = match entry.on_behalf_of() {
                "" => entry.principal("name").to_owned(),
                human => format!("{} for {human}", entry.principal("name")),
            };
            let said = match entry.text("statement") {
                "" => entry.text("message"),
                statement => statement,
            };
            vec![
                format!("{number}<br><code>{}</code>", text(id)),
                text(entry.text("time")),
                text(entry.text("event")),
                text(&who),
                text(entry.decision()),
                format!("<code>{}</code>", text(said)),
                text(&columns.join("; ")),
            ]
        }),
    );
    out.push_str("</body></html>\n");
    out
}

/// Of what it is made, in words: what is removed is not in it.
fn extent(whole: &Whole) -> String {
    let removed = match &whole.said {
        Some(said) if whole.pruned > 0 => format!(
            ", of which the first {} were removed by retention ({} of {})",
            whole.pruned, said.id, said.time
        ),
        _ => String::new(),
    };
    format!(
        "Made of a log of {} signed records{removed}, which was verified; the oldest that is \
         left is of {}.",
        whole.size,
        whole.since.as_deref().unwrap_or("no known time"),
    )
}

/// Of cells that are HTML already.
fn table(out: &mut String, head: &[String], rows: impl Iterator<Item = Vec<String>>) {
    out.push_str("<table><thead><tr>");
    for cell in head {
        out.push_str(&format!("<th scope=\"col\">{cell}</th>"));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            out.push_str(&format!("<td>{cell}</td>"));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

/// A text as nothing but text.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::record::What;
    use crate::audit::report::About;
    use crate::audit::tree::note::Signer;
    use crate::audit::{Durability, Event, Log, Sealing};

    #[tokio::test]
    async fn of_a_log_that_is_not_whole_there_is_no_pack() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::of(&directory.path().join("records.jsonl"));
        let (signer, _) = Signer::generate(None).unwrap();
        let verifier = signer.verifier().clone();
        let never = Duration::from_secs(3600);
        let sealing = Sealing {
            signer,
            first: true,
            every: never,
            heartbeat: never,
            segment: 1 << 30,
            copies: None,
        };
        let log = Log::sealed(&places.live, Durability::Flush, sealing).unwrap();
        for _ in 0..3 {
            let event = Event::now(None, What::Heartbeat);
            log.append(&event).await.unwrap();
            log.rotate().await.unwrap();
        }
        log.seal().await.unwrap();
        let answer = Report::new(About::Kinds, None, None);
        let pack = directory.path().join("pack");
        let made = |places: &Places| {
            let held = places.hold().unwrap();
            make(&pack, places, &held, &verifier, &answer).map_err(|error| error.to_string())
        };
        made(&places).unwrap();
        let page = fs::read_to_string(pack.join("report.html")).unwrap();
        assert!(
            page.contains("a log of 7 signed records, which was verified"),
            "{page}"
        );
        fs::remove_dir_all(&pack).unwrap();

        fs::remove_file(places.closing(2)).unwrap();
        let error = made(&places).unwrap_err();
        assert!(error.contains("deleted: record 2"), "{error}");
        assert!(!pack.exists());
    }
}
