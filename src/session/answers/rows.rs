//! Rows and copied data: counted against the limit of policy, never decoded.
//!
//! Knows nothing about SQL. Invariant: what passes ends between two rows.

use tokio::io::AsyncWrite;

use super::Answers;
use crate::error::{SqlState, Told};
use crate::session::pipeline::Run;
use crate::session::{End, Session};
use crate::upstream::frame::backend::tag;
use crate::upstream::frame::{self, HEADER, Tags};

/// What counts as a row.
pub(super) const ROWS: Tags = Tags::of(&[tag::DATA_ROW, tag::COPY_DATA]);

impl Session {
    /// Rows, copied data, and what else passes unseen.
    pub(super) async fn run<W: AsyncWrite + Unpin>(
        &self,
        run: &[u8],
        open: usize,
        rows: u64,
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        let passes = {
            let mut pipeline = self.pipeline();
            if !pipeline.verify() {
                return Err(End::mismatch());
            }
            if pipeline.discarding {
                return Ok(());
            }
            let front = pipeline.run().ok_or_else(End::garbled)?;
            let passes = let_pass(front, run, open, rows);
            if passes < run.len() {
                let limit = front.sight.standing.limits.rows_per_query;
                if pipeline.withhold(too_many_rows(limit.unwrap_or_default())) {
                    self.stop_upstream();
                }
            }
            passes
        };
        self.keep(answers).await?;
        // What is passed in part ends with a whole row.
        answers.open &= passes == run.len();
        answers.pass(run.get(..passes).unwrap_or_default()).await
    }
}

/// Counts a run of bytes for whom it answers; gives how much of it may pass.
fn let_pass(front: &mut Run, run: &[u8], open: usize, rows: u64) -> usize {
    let heading = u64::from(rows > 0 && std::mem::take(&mut front.heading));
    let passes = match front.allowance() {
        Some(allowed) if rows > allowed + heading => {
            front.count(allowed);
            cut(run, open, allowed + heading, front.binary)
        }
        _ => {
            front.count(rows - heading);
            run.len()
        }
    };
    front.bytes += passes as u64;
    passes
}

/// The body of the last message of a binary COPY, which is no row: the number of
/// its fields would be -1. A row of a relation that has columns is longer.
///
/// Source: <https://www.postgresql.org/docs/current/sql-copy.html>
const TRAILER: usize = 2;

/// How much of a run holds no more than so many rows: `open` bytes at its front
/// belong to a frame that was counted before.
fn cut(run: &[u8], open: usize, allowed: u64, binary: bool) -> usize {
    let mut at = open;
    let mut rows = 0;
    while let Ok(Some((tag, body))) = frame::header(run.get(at..).unwrap_or_default()) {
        let trailer = binary && body == TRAILER;
        if ROWS.contains(tag) && !trailer {
            if rows == allowed {
                return at;
            }
            rows += 1;
        }
        at += HEADER + body;
    }
    run.len()
}

fn too_many_rows(limit: u64) -> Told {
    Told::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("the statement returns more than {limit} rows, the limit of policy"),
    )
    .hint("aggregate, filter or add LIMIT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_between_rows() {
        let row = [b'D', 0, 0, 0, 6, 7, 7];
        let run = [&[9, 9][..], &row, &row, &[b'A', 0, 0, 0, 4], &row].concat();
        assert_eq!(cut(&run, 2, 0, false), 2);
        assert_eq!(cut(&run, 2, 1, false), 9);
        assert_eq!(cut(&run, 2, 2, false), 21);
        assert_eq!(cut(&run, 2, 3, false), run.len());
        assert_eq!(cut(&run[..run.len() - 1], 2, 3, false), run.len() - 1);
    }

    #[test]
    fn the_end_of_a_binary_copy_is_no_row() {
        let row = [b'd', 0, 0, 0, 8, 0, 1, 0, 0];
        let run = [&row[..], &row, &[b'd', 0, 0, 0, 6, 255, 255]].concat();
        assert_eq!(cut(&run, 0, 2, true), run.len());
        assert_eq!(cut(&run, 0, 2, false), 18);
        assert_eq!(cut(&run, 0, 1, true), 9);
    }
}
