//! RowDescription: the tripwire.
//!
//! Knows nothing about SQL. Invariant: no row passes whose description names a
//! column that its caller may not see as it is stored.

use std::time::Instant;

use tokio::io::AsyncWrite;

use super::Answers;
use super::origins::restored;
use crate::audit::Event;
use crate::audit::record::{Tripped, What};
use crate::error::{Severity, SqlState, Told};
use crate::session::authority::Glimpse;
use crate::session::pipeline::Expect;
use crate::session::{End, Session};
use crate::upstream::frame::backend::Shape;

impl Session {
    /// A result is described.
    pub(super) async fn shape<W: AsyncWrite + Unpin>(
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
            let discarding = pipeline.discarding;
            let hidden = pipeline.front().is_some_and(|front| front.hidden);
            let run = pipeline.run().ok_or_else(End::garbled)?;
            let sight = run.sight.clone();
            let origins = run.origins.clone();
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
            let tripped = tripped.filter(|_| !discarding);
            if tripped.is_some() {
                run.forget_description();
            }
            let tripped = tripped.map(|(glimpse, table, attribute)| {
                let what = Tripped {
                    statement: Some(run.statement.clone()),
                    table,
                    attribute,
                    policy: sight.standing.policy.clone(),
                };
                (glimpse, what, sight.clone())
            });
            let mut told = None;
            if let Some((glimpse, ..)) = &tripped {
                let alone = pipeline.withhold(match glimpse {
                    Glimpse::Unknown => changed_under_way(),
                    Glimpse::Unseen | Glimpse::Seen => tripwire(),
                });
                if alone {
                    self.stop_upstream();
                }
            }
            if let Some(Expect::Describe(_)) = pipeline.front().map(|front| &front.expect) {
                pipeline.pop();
                // Nothing else of upstream's will end it.
                told = pipeline.spoil();
            }
            self.settled(&pipeline);
            if !discarding && !hidden && tripped.is_none() {
                let restored =
                    origins.and_then(|origins| restored(frame, body, &origins, &sight.catalog));
                let frame = restored.as_deref().unwrap_or(frame);
                answers.out.extend_from_slice(frame);
            }
            tripped.map(|(glimpse, what, sight)| (glimpse, what, sight, told))
        };
        let Some((glimpse, what, sight, told)) = tripped else {
            return Ok(());
        };
        if glimpse == Glimpse::Unknown {
            let (dataset, log) = (self.dataset.clone(), self.shared.log.clone());
            tokio::spawn(async move { dataset.refresh(Instant::now(), &log).await });
        } else {
            tracing::error!(
                session = %sight.who.session, principal = %sight.who.principal.name,
                table = what.table, attribute = what.attribute,
                "tripwire: a result holds a column that its caller may not see"
            );
            let event = Event::now(Some(sight.who.clone()), What::Tripwire(Box::new(what)));
            answers.ends();
            answers.records.push(event);
        }
        match told {
            Some(told) if told.severity == Severity::Fatal => Err(End::Told(told)),
            Some(told) => {
                told.encode(&mut answers.out);
                Ok(())
            }
            None => Ok(()),
        }
    }
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
