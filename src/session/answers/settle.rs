//! Ties an answer that says where the session stands to the front of the queue.
//!
//! Knows nothing about sockets.

use crate::error::{SqlState, Told};
use crate::session::End;
use crate::session::pipeline::{Expect, Pipeline, Run};
use crate::upstream::frame::backend::tag;

/// Takes an answer from the front, where it answers it. Gives the run that it
/// ends, if any.
pub(super) fn settle(tag: u8, body: &[u8], pipeline: &mut Pipeline) -> Result<Option<Run>, End> {
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
        tag::COPY_OUT_RESPONSE => {
            answers_front(pipeline, |front| {
                matches!(front, Expect::Query(_) | Expect::Execute(_))
            })?;
            let run = pipeline.run().ok_or_else(End::garbled)?;
            // The format: text (csv, too) or binary.
            run.binary = body.first() == Some(&1);
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

fn too_late() -> Told {
    Told::fatal(
        SqlState::ADMIN_SHUTDOWN,
        "a COPY FROM STDIN began after the message it belongs to had failed",
    )
    .hint("connect again")
}
