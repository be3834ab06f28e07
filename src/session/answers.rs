//! Upstream to client: passes answers on, and looks into those that say where
//! the session stands.
//!
//! Knows nothing about SQL. Rows and copied data are never decoded; they pass
//! as runs of bytes out of the one buffer. Invariant: each answer is tied to the
//! front of the [`super::pipeline::Pipeline`]; one that cannot be ends the session.

mod abridge;
mod origins;
mod record;
mod rows;
mod settle;
mod shape;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::errors::sanitize;
use super::pipeline::{Expect, Failed, Ready, Run};
use super::{End, Session};
use crate::audit::Event;
use crate::error::Severity;
use crate::upstream::frame::backend::{self, tag};
use crate::upstream::frame::{HEADER, Scanner, Step, Tags};
use abridge::Abridging;
use rows::ROWS;
use settle::settle;

/// What passes unseen; everything else is looked into or refused.
const UNSEEN: Tags = Tags::of(&[
    tag::DATA_ROW,
    tag::COPY_DATA,
    tag::COPY_DONE,
    tag::PARAMETER_DESCRIPTION,
]);
/// The longest message that is looked into and not abridged: a search_path is as long
/// as a statement, 1,664 columns are described in some 140 kB.
const LOOKED_INTO: usize = 16 << 20;
/// A run this long is written as it is, without a copy.
const LARGE: usize = 16 << 10;
/// The read buffer at first, and as far as it grows for what passes unseen.
const BUFFER: (usize, usize) = (8 << 10, 64 << 10);

/// What one direction keeps for itself.
pub(super) struct Answers<W> {
    to: W,
    out: Vec<u8>,
    records: Vec<Event>,
    /// From where on `out` says what is not yet on record.
    unrecorded: Option<usize>,
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
            unrecorded: None,
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
    pub(super) async fn close(&mut self) {
        // The client may be gone already.
        let _ = self.to.shutdown().await;
    }

    /// What is said next says that something is over whose record is made next.
    fn ends(&mut self) {
        self.unrecorded.get_or_insert(self.out.len());
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
        let mut abridging: Option<Abridging> = None;
        loop {
            let more = loop {
                if let Some(long) = &mut abridging {
                    if !long.read(&mut buffer) {
                        break 1;
                    }
                    if let Some((tag, frame)) = abridging.take().map(Abridging::finish) {
                        self.answer(tag, &frame, answers).await?;
                    }
                }
                if scanner.at_boundary() {
                    self.turn_of_ours(answers)?;
                    abridging = Abridging::begin(&mut buffer);
                    if abridging.is_some() {
                        continue;
                    }
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
            self.keep(answers).await?;
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
            // Nobody's answer.
            tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => {
                answers.out.extend_from_slice(frame);
                return Ok(());
            }
            // The client has a key of ours.
            tag::BACKEND_KEY_DATA => return Ok(()),
            _ => {}
        }
        let (done, instead, said) = {
            let mut pipeline = self.pipeline();
            if !pipeline.verify() {
                return Err(End::mismatch());
            }
            let silent = pipeline.discarding || pipeline.front().is_some_and(|front| front.hidden);
            let done = settle(tag, body, &mut pipeline)?;
            let instead = done.as_ref().and_then(|_| pipeline.spoil());
            self.settled(&pipeline);
            (done, instead, !silent)
        };
        if done.is_some() {
            answers.ends();
        }
        let ends = match instead {
            Some(told) if told.severity == Severity::Fatal => Err(End::Told(told)),
            Some(told) => {
                told.encode(&mut answers.out);
                Ok(())
            }
            None => Ok(()),
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
            self.record(run, rows, None, answers).await?;
        }
        ends
    }

    async fn ready<W: AsyncWrite + Unpin>(
        &self,
        frame: &[u8],
        body: &[u8],
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        let transaction = backend::ready(body).map_err(|_| End::garbled())?;
        // Nobody goes on to the next statement before this one is on record.
        self.keep(answers).await?;
        let ready = {
            let mut pipeline = self.pipeline();
            let ready = pipeline.ready(transaction).ok_or_else(End::garbled)?;
            self.settled(&pipeline);
            if pipeline.take_change() {
                self.change();
            }
            ready
        };
        match ready {
            Ready::Told => answers.out.extend_from_slice(frame),
            Ready::Failing => self.failing.notify_one(),
            Ready::End(told) => return Err(End::Told(told)),
        }
        Ok(())
    }

    async fn error<W: AsyncWrite + Unpin>(
        &self,
        body: &[u8],
        answers: &mut Answers<W>,
    ) -> Result<(), End> {
        let (failed, mut said) = {
            let mut pipeline = self.pipeline();
            let plain = pipeline
                .run()
                .is_some_and(|run| run.sight.standing.all_clear);
            let said = sanitize(tag::ERROR_RESPONSE, body, plain);
            let failed = pipeline.fail();
            self.settled(&pipeline);
            (failed, said)
        };
        let Failed {
            run,
            skipped,
            instead,
            silent,
        } = failed;
        if run.is_some() {
            answers.ends();
        }
        answers.fatal |= said.fatal;
        match instead {
            Some(told) if !said.fatal => told.encode(&mut answers.out),
            None if silent && !said.fatal => {}
            _ => answers.out.append(&mut said.frame),
        }
        if let Some(run) = run {
            let rows = run.rows;
            self.record(run, rows, Some(&said.state), answers).await?;
        }
        let skipped = skipped.iter().filter_map(Run::not_run);
        answers.records.extend(skipped);
        Ok(())
    }
}
