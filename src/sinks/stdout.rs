//! Standard output, one JSON object a line. What the proxy says of itself goes to standard
//! error.

use std::io::Write as _;

use super::batch::Batch;
use super::{Deliver, Fault};

pub(super) struct Stdout;

impl Deliver for Stdout {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Fault> {
        let mut text = String::new();
        for (_, line) in batch.texts() {
            text.push_str(&line);
            text.push('\n');
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}
