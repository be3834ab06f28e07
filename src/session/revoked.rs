//! Ends the session of somebody who may no longer be in it, whatever it is doing.
//!
//! Knows nothing about why: that is the authority's to say. Statements are refused by
//! themselves as soon as policy says so; this is for those who send none.

use std::time::{Duration, Instant};

use super::Session;
use crate::error::Told;
use crate::identity::Principal;

/// How long what runs may go on.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether it still does.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until a principal may no longer be here, and until nothing of theirs runs or
/// has run for long enough. Says why.
pub(super) async fn revoked(session: &Session, principal: &Principal) -> Told {
    let authority = &session.shared.authority;
    let mut policy = authority.policy();
    let told = loop {
        policy.mark_unchanged();
        let now = jiff::Timestamp::now();
        if let Err(told) = authority.admits(principal, &session.dataset.name, now) {
            break told;
        }
        if policy.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let end = Instant::now() + GRACE;
    while !session.pipeline().is_empty() && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    told
}
