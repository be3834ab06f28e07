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
            // Without a front it is a notification, which is nobody's answer.
            pipeline
                .run()
                .map_or(run.len(), |front| let_pass(front, run, open, rows))
        };
        self.keep(answers).await;
        answers.pass(run.get(..passes).unwrap_or_default()).await?;
        if passes < run.len() {
            let limit = {
                let mut pipeline = self.pipeline();
                pipeline.discard();
                pipeline
                    .run()
                    .and_then(|run| run.sight.standing.limits.rows_per_query)
            };
            too_many_rows(limit.unwrap_or_default()).encode(&mut answers.out);
            self.stop_upstream();
        }
        Ok(())
    }
}

/// Counts a run of bytes for whom it answers; gives how much of it may pass.
fn let_pass(front: &mut Run, run: &[u8], open: usize, rows: u64) -> usize {
    let passes = match front.allowance() {
        Some(allowed) if rows > allowed => {
            front.ended = Some(SqlState::PROGRAM_LIMIT_EXCEEDED.0);
            front.count(allowed);
            cut(run, open, allowed)
        }
        _ => {
            front.count(rows);
            run.len()
        }
    };
    front.bytes += passes as u64;
    passes
}

/// How much of a run holds no more than so many rows: `open` bytes at its front
/// belong to a frame that was counted before.
fn cut(run: &[u8], open: usize, allowed: u64) -> usize {
    let mut at = open;
    let mut rows = 0;
    while let Ok(Some((tag, body))) = frame::header(run.get(at..).unwrap_or_default()) {
        if ROWS.contains(tag) {
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
        assert_eq!(cut(&run, 2, 0), 2);
        assert_eq!(cut(&run, 2, 1), 9);
        assert_eq!(cut(&run, 2, 2), 21);
        assert_eq!(cut(&run, 2, 3), run.len());
        assert_eq!(cut(&run[..run.len() - 1], 2, 3), run.len() - 1);
    }
}
