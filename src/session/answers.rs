//! Upstream to client: passes answers on, and looks into those that say where
//! the session stands.
//!
//! Knows nothing about SQL. Rows and copied data are never decoded; they pass
//! as runs of bytes out of the one buffer. Invariant: each answer is tied to the
//! front of the [`Pipeline`]; one that cannot be ends the session.

use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::authority::Glimpse;
use super::errors::sanitize;
use super::pipeline::{Expect, Pipeline, Run};
use super::{End, Session};
use crate::audit::record::{Execution, Tripped, What};
use crate::audit::{Event, Id};
use crate::error::{SqlState, Told};
use crate::upstream::frame::backend::{self, Shape, tag};
use crate::upstream::frame::{self, HEADER, Scanner, Step, Tags};

/// What passes unseen; everything else is looked into or refused.
const UNSEEN: Tags = Tags::of(&[
    tag::DATA_ROW,
    tag::COPY_DATA,
    tag::COPY_DONE,
    tag::COPY_OUT_RESPONSE,
    tag::NOTIFICATION_RESPONSE,
    tag::PARAMETER_DESCRIPTION,
]);
/// What counts as a row.
const ROWS: Tags = Tags::of(&[tag::DATA_ROW, tag::COPY_DATA]);
/// The longest message that is looked into: an error can quote a long value.
const LOOKED_INTO: usize = 64 << 20;
/// A run this long is written as it is, without a copy.
const LARGE: usize = 16 << 10;
/// The read buffer at first, and as far as it grows for what passes unseen.
const BUFFER: (usize, usize) = (8 << 10, 64 << 10);
/// Records kept back until the next ReadyForQuery at most.
const RECORDS: usize = 64;

/// What one direction keeps for itself.
pub(super) struct Answers<W> {
    to: W,
    out: Vec<u8>,
    records: Vec<Event>,
    /// Upstream has said why it ends the session.
    fatal: bool,
    /// A write has begun and not ended.
    writing: bool,
    /// What has passed ends within a message.
    open: bool,
}

impl<W: AsyncWrite + Unpin> Answers<W> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to,
            out: Vec::new(),
            records: Vec::new(),
            fatal: false,
            writing: false,
            open: false,
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.write_out().await?;
        self.out.shrink_to(BUFFER.1);
        self.to.flush().await.map_err(End::client)
    }

    async fn write_out(&mut self) -> Result<(), End> {
        if !self.out.is_empty() {
            self.writing = true;
            self.to.write_all(&self.out).await.map_err(End::client)?;
            self.writing = false;
            self.out.clear();
        }
        Ok(())
    }

    /// Says nothing more.
    pub(super) async fn close(mut self) {
        // The client may be gone already.
        let _ = self.to.shutdown().await;
    }

    async fn pass(&mut self, run: &[u8]) -> Result<(), End> {
        if run.len() < LARGE {
            self.out.extend_from_slice(run);
            return Ok(());
        }
        self.write_out().await?;
        self.writing = true;
        self.to.write_all(run).await.map_err(End::client)?;
        self.writing = false;
        Ok(())
    }
}

impl Session {
    /// Runs until one side ends. What is to be said last has been said.
    pub(super) async fn answers<R, W>(&self, mut from: R, answers: &mut Answers<W>) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let end = match self.relay(&mut from, answers).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.last_words(&end, answers).await;
        end
    }

    async fn relay<R, W>(
        &self,
        from: &mut R,
        answers: &mut Answers<W>,
    ) -> Result<std::convert::Infallible, End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut scanner = Scanner::new(UNSEEN.complement(), LOOKED_INTO).counting(ROWS);
        let mut buffer = BytesMut::new();
        let mut size = BUFFER.0;
        loop {
            let more = loop {
                if scanner.at_boundary() {
                    self.turn_of_ours(answers)?;
                }
                let open = scanner.passing();
                match scanner.next(&buffer).map_err(|_| End::garbled())? {
                    Step::Run { len } => {
                        let rows = scanner.take_tally().frames;
                        let run = buffer.get(..len).unwrap_or_default();
                        answers.open = !scanner.at_boundary();
                        self.run(run, open, rows, answers).await?;
                        buffer.advance(len);
                    }
                    Step::Interesting { tag, len } => {
                        let frame = buffer.split_to(len);
                        self.answer(tag, &frame, answers).await?;
                    }
                    Step::Need { more } => break more,
                }
            };
            // Nobody hears that a statement is done before it is on record.
            self.keep(answers).await;
            answers.flush().await?;
            buffer.reserve(more.max(size));
            let read = tokio::select! {
                read = from.read_buf(&mut buffer) => read,
                () = self.ours.notified() => continue,
            };
            match read {
                Ok(0) => return Err(End::Upstream(None)),
                Ok(read) if read >= size && size < BUFFER.1 => size *= 2,
                Ok(_) => {}
                Err(error) => return Err(End::Upstream(Some(error))),
            }
        }
    }

    /// Says what is the proxy's own to say, where it is its turn.
    fn turn_of_ours<W>(&self, answers: &mut Answers<W>) -> Result<(), End> {
        let mut pipeline = self.pipeline();
        loop {
            match pipeline.front().map(|entry| &mut entry.expect) {
                Some(Expect::Local(bytes)) => answers.out.append(bytes),
                Some(Expect::End(told)) => return Err(End::Told(told.clone())),
                _ => return Ok(()),
            }
            pipeline.pop();
            self.settled(&pipeline);
        }
    }

    /// Rows, copied data, and what else passes unseen.
    async fn run<W: AsyncWrite + Unpin>(
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

    /// A message that says where the session stands.
    async fn answer<W: AsyncWrite + Unpin>(
        &self,
        tag: u8,
        frame: &[u8],
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        let body = frame.get(HEADER..).unwrap_or_default();
        match tag {
            tag::READY_FOR_QUERY => return self.ready(frame, body, answers).await,
            tag::ERROR_RESPONSE => return self.error(body, answers).await,
            tag::ROW_DESCRIPTION => return self.shape(frame, body, answers).await,
            tag::NOTICE_RESPONSE => {
                let plain = self
                    .pipeline()
                    .run()
                    .is_some_and(|run| run.sight.standing.all_clear);
                answers.out.append(&mut sanitize(tag, body, plain).frame);
                return Ok(());
            }
            tag::PARAMETER_STATUS => {
                answers.out.extend_from_slice(frame);
                return Ok(());
            }
            // The client has a key of ours.
            tag::BACKEND_KEY_DATA => return Ok(()),
            _ => {}
        }
        let (done, said) = {
            let mut pipeline = self.pipeline();
            if !pipeline.verify() {
                return Err(End::mismatch());
            }
            let silent = pipeline.discarding || pipeline.front().is_some_and(|front| front.hidden);
            let done = settle(tag, body, &mut pipeline)?;
            self.settled(&pipeline);
            (done, !silent)
        };
        if said {
            answers.out.extend_from_slice(frame);
        }
        if let Some(run) = done {
            let told = backend::command(body).ok().and_then(backend::affected);
            let rows = match tag {
                tag::COMMAND_COMPLETE => told.unwrap_or(run.rows),
                _ => run.rows,
            };
            self.record(run, rows, None, answers).await;
        }
        Ok(())
    }

    async fn ready<W: AsyncWrite + Unpin>(
        &self,
        frame: &[u8],
        body: &[u8],
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        let transaction = backend::ready(body).map_err(|_| End::garbled())?;
        // Nobody goes on to the next statement before this one is on record.
        self.keep(answers).await;
        let stale = {
            let mut pipeline = self.pipeline();
            pipeline.ready(transaction).ok_or_else(End::garbled)?;
            self.settled(&pipeline);
            pipeline.stale_catalog
        };
        answers.out.extend_from_slice(frame);
        if let Some(changed) = stale {
            let (dataset, log) = (self.dataset.clone(), self.shared.log.clone());
            tokio::spawn(async move { dataset.refresh(0, Some(changed), &log).await });
        }
        Ok(())
    }

    async fn error<W: AsyncWrite + Unpin>(
        &self,
        body: &[u8],
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        let (run, instead, silent, mut said) = {
            let mut pipeline = self.pipeline();
            let plain = pipeline
                .run()
                .is_some_and(|run| run.sight.standing.all_clear);
            let said = sanitize(tag::ERROR_RESPONSE, body, plain);
            let silent = pipeline.discarding;
            let (run, instead) = pipeline.fail();
            self.settled(&pipeline);
            (run, instead, silent, said)
        };
        answers.fatal |= said.fatal;
        match instead {
            Some(told) if !said.fatal => told.encode(&mut answers.out),
            _ if silent && !said.fatal => {}
            _ => answers.out.append(&mut said.frame),
        }
        if let Some(run) = run {
            let rows = run.rows;
            self.record(run, rows, Some(&said.state), answers).await;
        }
        Ok(())
    }

    /// RowDescription: the tripwire.
    async fn shape<W: AsyncWrite + Unpin>(
        &self,
        frame: &[u8],
        body: &[u8],
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        let tripped = {
            let mut pipeline = self.pipeline();
            if !pipeline.verify() {
                return Err(End::mismatch());
            }
            let silent = pipeline.discarding;
            let run = pipeline.run().ok_or_else(End::garbled)?;
            let sight = run.sight.clone();
            // No catalog but the session's own knows its temporary tables.
            let temporary = run
                .statement
                .relations
                .iter()
                .any(|used| used.relation.starts_with("pg_temp."));
            let mut tripped = None;
            for field in Shape::of(body).map_err(|_| End::garbled())? {
                let field = field.map_err(|_| End::garbled())?;
                let glimpse = sight.glimpse(&*self.shared.authority, field.relation, field.attnum);
                if temporary && glimpse == Glimpse::Unknown {
                    continue;
                }
                if glimpse != Glimpse::Seen {
                    tripped = Some((glimpse, field.relation, field.attnum));
                    break;
                }
            }
            let tripped = tripped
                .filter(|_| !silent)
                .map(|(glimpse, table, attribute)| {
                    run.ended = Some(SqlState::INSUFFICIENT_PRIVILEGE.0);
                    let what = Tripped {
                        statement: Some(run.statement.clone()),
                        table,
                        attribute,
                        policy: sight.standing.policy.clone(),
                    };
                    (glimpse, what, sight)
                });
            if tripped.is_some() {
                pipeline.discard();
            }
            if let Some(Expect::Describe(_)) = pipeline.front().map(|front| &front.expect) {
                pipeline.pop();
            }
            self.settled(&pipeline);
            if !silent && tripped.is_none() {
                answers.out.extend_from_slice(frame);
            }
            tripped
        };
        let Some((glimpse, what, sight)) = tripped else {
            return Ok(());
        };
        self.stop_upstream();
        if glimpse == Glimpse::Unknown {
            changed_under_way().encode(&mut answers.out);
            let (dataset, log) = (self.dataset.clone(), self.shared.log.clone());
            tokio::spawn(async move { dataset.refresh(0, Some(Instant::now()), &log).await });
            return Ok(());
        }
        tracing::error!(
            session = %sight.who.session, principal = %sight.who.principal.name,
            table = what.table, attribute = what.attribute,
            "tripwire: a result holds a column that its caller may not see"
        );
        tripwire().encode(&mut answers.out);
        let event = Event::now(Some(sight.who.clone()), What::Tripwire(Box::new(what)));
        answers.records.push(event);
        Ok(())
    }

    /// Makes a record of an execution that is over.
    async fn record<W>(&self, run: Run, rows: u64, state: Option<&str>, answers: &mut Answers<W>) {
        if run.effect == crate::sql::Effect::Empty {
            return;
        }
        answers.records.push(execution(run, rows, state));
        if answers.records.len() >= RECORDS {
            self.keep(answers).await;
        }
    }

    /// Hands over the records made; while the log fails, it refuses statements
    /// by itself.
    async fn keep<W>(&self, answers: &mut Answers<W>) {
        if !answers.records.is_empty() {
            let _ = self.shared.log.append_all(&answers.records).await;
            answers.records.clear();
        }
    }

    /// What the client hears last.
    pub(super) async fn last_words<W: AsyncWrite + Unpin>(
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

    /// Records what was sent and never answered.
    pub(super) async fn leftovers<W>(&self, end: &End, answers: &mut Answers<W>) {
        let state = match end {
            End::Upstream(_) => SqlState::CONNECTION_FAILURE.0,
            // What a cancelled statement fails with, whether it heard or not.
            _ => "57014",
        };
        let unanswered = self.pipeline().unanswered();
        for run in unanswered {
            let rows = run.rows;
            answers.records.push(execution(run, rows, Some(state)));
        }
        self.keep(answers).await;
    }
}

/// Takes an answer from the front, where it answers it. Gives the run that it
/// ends, if any.
fn settle(tag: u8, body: &[u8], pipeline: &mut Pipeline) -> Result<Option<Run>, End> {
    let answers_front = |pipeline: &mut Pipeline, fits: fn(&Expect) -> bool| match pipeline.front()
    {
        Some(front) if fits(&front.expect) => Ok(()),
        _ => Err(End::garbled()),
    };
    match tag {
        tag::COMMAND_COMPLETE => {
            let tag = body.strip_suffix(&[0]).unwrap_or(body);
            return pipeline.complete(tag).map(Some).ok_or_else(End::garbled);
        }
        tag::EMPTY_QUERY_RESPONSE => {
            return pipeline.complete(b"").map(Some).ok_or_else(End::garbled);
        }
        tag::PORTAL_SUSPENDED => {
            return pipeline.suspend().map(Some).ok_or_else(End::garbled);
        }
        tag::COPY_IN_RESPONSE => {
            answers_front(pipeline, |front| {
                matches!(front, Expect::Query(_) | Expect::Execute(_))
            })?;
            if pipeline.discarding {
                // The client has been told of an error and will send no data;
                // nothing else can end this COPY.
                return Err(End::Told(too_late()));
            }
            pipeline.copy_in();
            return Ok(None);
        }
        tag::PARSE_COMPLETE => answers_front(pipeline, |front| matches!(front, Expect::Parse(_)))?,
        tag::BIND_COMPLETE => answers_front(pipeline, |front| matches!(front, Expect::Bind(_)))?,
        tag::CLOSE_COMPLETE => answers_front(pipeline, |front| matches!(front, Expect::Close))?,
        tag::NO_DATA => answers_front(pipeline, |front| matches!(front, Expect::Describe(_)))?,
        _ => return Err(End::garbled()),
    }
    pipeline.pop();
    Ok(None)
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

fn execution(run: Run, rows: u64, state: Option<&str>) -> Event {
    let state = run.ended.or(state).unwrap_or("00000");
    Event {
        id: run.id.unwrap_or_else(Id::next),
        time: run.time,
        who: Some(run.sight.who.clone()),
        what: What::Statement(Box::new(Execution {
            statement: run.statement,
            decision: "allow",
            policy: run.sight.standing.policy.clone(),
            sqlstate: state.to_owned(),
            rows,
            bytes: run.bytes,
            duration: run.began.elapsed(),
        })),
    }
}

fn too_many_rows(limit: u64) -> Told {
    Told::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("the statement returns more than {limit} rows, the limit of policy"),
    )
    .hint("aggregate, filter or add LIMIT")
}

fn tripwire() -> Told {
    Told::error(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "the result was withheld: it holds a column that policy does not show you",
    )
    .hint("this is a fault of the proxy and has been reported to its operator")
}

fn changed_under_way() -> Told {
    Told::error(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "the result was withheld: a relation has changed since it was decided on",
    )
    .hint("try again")
}

fn too_late() -> Told {
    Told::fatal(
        SqlState::ADMIN_SHUTDOWN,
        "a COPY FROM STDIN began after the message it belongs to had failed",
    )
    .hint("connect again")
}

fn upstream_gone() -> Told {
    Told::fatal(
        SqlState::CONNECTION_FAILURE,
        "the connection to the upstream database was lost",
    )
    .hint("whether the last statement took effect is not known; connect again and check")
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
