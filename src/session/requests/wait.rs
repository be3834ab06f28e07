//! Waiting for answers, and writing before it.
//!
//! Knows nothing about what is waited for beyond what the pipeline says.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{GATHER, Requests};
use crate::session::End;
use crate::session::pipeline::Pipeline;
use crate::upstream::frame::frontend::put_flush;

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Waits until everything sent has been answered.
    pub(in crate::session) async fn settle(&mut self) -> Result<(), End> {
        if self.session.pipeline().unsynced {
            put_flush(&mut self.out);
        }
        self.flush().await?;
        self.wait(|pipeline| pipeline.is_empty()).await
    }

    /// Waits until upstream has been asked to cancel, so that it does not hit
    /// what is sent next.
    pub(in crate::session) async fn gate(&mut self) -> Result<(), End> {
        let session = self.session;
        if session.cancelling.load(Ordering::Acquire) {
            self.flush().await?;
            while session.cancelling.load(Ordering::Acquire) {
                session.progress.notified().await;
            }
        }
        Ok(())
    }

    pub(super) async fn wait(&mut self, until: impl Fn(&Pipeline) -> bool) -> Result<(), End> {
        if until(&self.session.pipeline()) {
            return Ok(());
        }
        if self.session.pipeline().unsynced {
            put_flush(&mut self.out);
        }
        self.flush().await?;
        while !until(&self.session.pipeline()) {
            self.session.progress.notified().await;
        }
        Ok(())
    }

    pub(in crate::session) async fn flush(&mut self) -> Result<(), End> {
        let upstream = |error| End::Upstream(Some(error));
        if !self.out.is_empty() {
            self.to.write_all(&self.out).await.map_err(upstream)?;
            self.out.clear();
            self.out.shrink_to(GATHER);
            self.to.flush().await.map_err(upstream)?;
        }
        Ok(())
    }
}
