//! Records of what was executed, and what a client hears last.
//!
//! Knows nothing about where records go.

use tokio::io::AsyncWrite;

use super::Answers;
use crate::audit::record::{Execution, Outcome, What};
use crate::audit::{Event, Id};
use crate::error::{Severity, SqlState, Tell, Told};
use crate::session::pipeline::{Entry, Run};
use crate::session::{End, Session};
use crate::sql::Effect;

/// Records kept back until the next ReadyForQuery at most.
const RECORDS: usize = 64;
/// `query_canceled`
const CANCELLED: &str = "57014";

impl Session {
    /// Makes a record of an execution that is over.
    pub(super) async fn record<W>(
        &self,
        run: Run,
        rows: u64,
        state: Option<&str>,
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        if run.effect == Effect::Empty {
            return Ok(());
        }
        let outcome = match run.ended.or(state) {
            None | Some("00000") => Outcome::Completed,
            Some(CANCELLED) => Outcome::Cancelled,
            Some(_) => Outcome::Failed,
        };
        answers.records.push(execution(run, rows, state, outcome));
        match answers.records.len() < RECORDS {
            true => Ok(()),
            false => self.keep(answers).await,
        }
    }

    /// Hands over the records made. Where that fails, the client does not hear the
    /// end of what they are about: only the end of the session is true whether it
    /// took effect or not.
    pub(super) async fn keep<W>(&self, answers: &mut Answers<W>) -> Result<(), End> {
        if !answers.records.is_empty() {
            let kept = self.shared.log.append_all(&answers.records).await;
            answers.records.clear();
            if let Err(error) = kept {
                if let Some(at) = answers.unrecorded.take() {
                    answers.out.truncate(at);
                    answers.open = false;
                }
                return Err(End::Told(unrecorded(error.tell())));
            }
        }
        answers.unrecorded = None;
        Ok(())
    }

    /// What the client hears last.
    pub(in crate::session) async fn last_words<W: AsyncWrite + Unpin>(
        &self,
        end: &End,
        answers: &mut Answers<W>,
    ) {
        // Within a message, it would be taken for a part of that.
        if self.pipeline().terminated || answers.writing || answers.open {
            return;
        }
        match end {
            End::Told(told) => told.encode(&mut answers.out),
            // Where upstream said why, that has been passed on.
            End::Upstream(_) if !answers.fatal => upstream_gone().encode(&mut answers.out),
            End::Upstream(_) => {}
            End::Client(_) | End::Terminated => return,
        }
        // The client may be gone as well.
        let _ = answers.flush().await;
    }

    /// Records what was sent and never answered, and what was gathered and never sent.
    pub(in crate::session) async fn leftovers<W>(&self, end: &End, answers: &mut Answers<W>) {
        let state = match end {
            End::Upstream(_) => SqlState::CONNECTION_FAILURE.0,
            // What a cancelled statement fails with, whether it heard or not.
            _ => CANCELLED,
        };
        let (unsent, unanswered) = {
            let mut pipeline = self.pipeline();
            (pipeline.retract(), pipeline.unanswered())
        };
        let unsent = unsent.into_iter().flat_map(Entry::into_runs);
        answers
            .records
            .extend(unsent.filter_map(|run| run.not_run()));
        for run in unanswered {
            let rows = run.rows;
            if run.effect != Effect::Empty {
                let record = execution(run, rows, Some(state), Outcome::BrokenOff);
                answers.records.push(record);
            }
        }
        // There is nobody left to be refused anything.
        let _ = self.keep(answers).await;
    }
}

fn execution(run: Run, rows: u64, state: Option<&str>, outcome: Outcome) -> Event {
    let state = run.ended.or(state).unwrap_or("00000");
    Event {
        id: run.id.unwrap_or_else(Id::next),
        time: run.time,
        who: Some(run.sight.who.clone()),
        what: What::Statement(Box::new(Execution {
            statement: run.statement,
            decision: "allow",
            outcome,
            policy: run.sight.standing.policy.clone(),
            sqlstate: state.to_owned(),
            rows,
            bytes: run.bytes,
            duration: run.began.elapsed(),
        })),
    }
}

fn unrecorded(told: Told) -> Told {
    Told {
        severity: Severity::Fatal,
        ..told
    }
    .hint("whether the last statement took effect is not known; connect again and check")
}

fn upstream_gone() -> Told {
    Told::fatal(
        SqlState::CONNECTION_FAILURE,
        "the connection to the upstream database was lost",
    )
    .hint("whether the last statement took effect is not known; connect again and check")
}
