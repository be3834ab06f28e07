//! Ends the session of somebody who may no longer be in it, whatever it is doing.
//!
//! Knows nothing about why: that is the authority's to say. Statements are refused by
//! themselves as soon as policy says so; this is for those who send none.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Session;
use super::users::Rank;
use crate::error::Told;
use crate::identity::Principal;

/// How long what runs may go on.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether it still does.
const LOOK: Duration = Duration::from_millis(100);
/// How long at most the clock is not looked at.
const MINUTE: Duration = Duration::from_secs(60);

/// Waits until a principal may no longer be here, and until nothing of theirs runs or
/// has run for long enough. Says why.
pub(super) async fn revoked(session: &Session, principal: &Principal) -> Told {
    let authority = &session.shared.authority;
    let mut policy = authority.policy();
    let told = loop {
        policy.mark_unchanged();
        let now = jiff::Timestamp::now();
        let expires = match authority.admits(principal, &session.home.name, now) {
            Ok(expires) => expires,
            Err(told) => break told,
        };
        if session.rank != Rank::LEAST {
            let standing = authority.standing(principal, &session.home.name, now);
            if let Err(told) = standing.and_then(|standing| session.outgrown(&standing.rights)) {
                break told;
            }
        }
        tokio::select! {
            // Without a sender there is nothing to wait for.
            Ok(()) = policy.changed() => {}
            () = until(expires) => {}
        }
    };
    let end = Instant::now() + GRACE;
    while !session.pipeline().is_empty() && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    told
}

/// Waits for a moment by the clock on the wall, which may be set meanwhile.
async fn until(moment: Option<Timestamp>) {
    let Some(moment) = moment else {
        return std::future::pending().await;
    };
    // What is to be asked again at once is not asked all the time.
    tokio::time::sleep(LOOK).await;
    while let Ok(left) = Duration::try_from(Timestamp::now().duration_until(moment))
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(MINUTE)).await;
    }
}
