//! How far the proxy is on its way to its end, as listener and sessions watch it.
//!
//! Knows nothing about what anybody does at a stage. Invariant: it only goes on,
//! never back.

use tokio::sync::watch;

/// A stage of the proxy's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Clients come and go.
    #[default]
    Serving,
    /// No new sessions; each there is ends as soon as it is idle.
    Draining,
    /// Sessions end now, whatever they are doing.
    Ending,
}

impl Stage {
    /// Goes on to a stage, unless it has come or passed.
    pub fn reach(self, stage: &watch::Sender<Self>) {
        stage.send_if_modified(|now| {
            let before = std::mem::replace(now, self.max(*now));
            before != *now
        });
    }

    /// Waits for a stage or a later one. For ever, where nobody is left to say it.
    pub async fn reached(self, stage: &mut watch::Receiver<Self>) {
        if stage.wait_for(|&now| now >= self).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_only_goes_on() {
        let (sender, mut receiver) = watch::channel(Stage::default());
        Stage::Ending.reach(&sender);
        Stage::Draining.reach(&sender);
        assert_eq!(*receiver.borrow(), Stage::Ending);
        Stage::Draining.reached(&mut receiver).await;
    }
}
