//! Waiting for answers, and writing before it.
//!
//! Knows nothing about what is waited for beyond what the pipeline says.
//! Invariant: whatever is waited for, a client that goes ends the session.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{GATHER, Requests, violation};
use crate::session::End;
use crate::session::pipeline::Pipeline;
use crate::upstream::frame::frontend::put_flush;

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Waits until everything sent has been answered, before a message that is
    /// not a COPY's data.
    pub(in crate::session) async fn settle(&mut self) -> Result<(), End> {
        if self.session.pipeline().unsynced {
            put_flush(&mut self.out);
        }
        self.flush().await?;
        match self.wait(Pipeline::is_empty).await? {
            true => Ok(()),
            false => Err(between_data()),
        }
    }

    /// Waits until upstream has been asked to cancel, so that it does not hit
    /// what is sent next.
    pub(in crate::session) async fn gate(&mut self) -> Result<(), End> {
        let session = self.session;
        if !session.cancelling.load(Ordering::Acquire) {
            return Ok(());
        }
        self.flush().await?;
        let asked = async {
            while session.cancelling.load(Ordering::Acquire) {
                session.progress.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = asked => Ok(()),
            Err(gone) = self.from.watch() => Err(gone),
        }
    }

    /// Waits until it is so. `false`: it will not come to be, for a COPY FROM
    /// STDIN waits for data.
    pub(super) async fn wait(&mut self, until: impl Fn(&Pipeline) -> bool) -> Result<bool, End> {
        if until(&self.session.pipeline()) {
            return Ok(true);
        }
        if self.session.pipeline().unsynced {
            put_flush(&mut self.out);
        }
        self.flush().await?;
        let session = self.session;
        let answered = async {
            loop {
                {
                    let pipeline = session.pipeline();
                    match (until(&pipeline), pipeline.copying_in) {
                        (true, _) => return true,
                        (false, true) => return false,
                        (false, false) => {}
                    }
                }
                session.progress.notified().await;
            }
        };
        tokio::select! {
            biased;
            answered = answered => Ok(answered),
            Err(gone) = self.from.watch() => Err(gone),
        }
    }

    /// Writes what was gathered.
    pub(in crate::session) async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.promise().await?;
        // Who has said so waits for nothing.
        let terminated = {
            let mut pipeline = self.session.pipeline();
            // From here on some of it may be.
            pipeline.written();
            pipeline.terminated
        };
        let (to, out) = (&mut self.to, &self.out);
        let written = async {
            to.write_all(out).await?;
            to.flush().await
        };
        tokio::select! {
            biased;
            written = written => written.map_err(|error| End::Upstream(Some(error)))?,
            Err(gone) = self.from.watch(), if !terminated => return Err(gone),
        }
        self.out.clear();
        self.out.shrink_to(GATHER);
        let pipeline = self.session.pipeline();
        self.amid = pipeline.unsynced || pipeline.skipping;
        Ok(())
    }
}

pub(super) fn between_data() -> End {
    violation("a message came between COPY's data".into())
}
