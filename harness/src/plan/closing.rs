//! Streams that are open while their reader leaves: what is written afterwards must not come through them.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::{Answer, Expect, Planner, Step, Vector};
use crate::cell::Relation;
use crate::operation::Operation;
use crate::principal::NOBODY;
use crate::target::file::Access;

/// The requirement that a stream ends with what its reader may.
pub const CLOSED: &str = "live/closed";

/// Milliseconds until the reader leaves, so that its stream is open.
const OPEN_MS: u16 = 600;
/// Until something is written: a service may look for who has left as seldom as for news.
const WRITTEN_MS: u16 = 2_200;
/// That the streams are listened to.
const LISTENED_MS: u16 = 4_800;
/// What is written then has other values than all that was written before.
const AFTERWARDS: u64 = 1 << 17;

impl Planner {
    /// Whether it is a stream that shows what is written, for as long as one listens.
    pub(super) fn goes_on(&self, (operation, access): (&Operation, &Access)) -> bool {
        let streams = operation.answer.as_ref().is_some_and(|answer| answer.content_type.contains("event-stream"));
        streams && access.live.is_some()
    }

    /// The leaver, of the application role `leaves`, and one who stays listen to a stream; `lets_go` happens; another who
    /// stays writes. Nothing where none of `stays` may listen or write.
    ///
    /// # Errors
    /// A sentence where the target file and the document do not fit together.
    pub(super) fn closed(
        &self,
        stream: &Cast<'_>,
        leaves: &str,
        stays: &[&str],
        lets_go: &Step,
    ) -> Result<Option<Vec<Step>>, String> {
        let table = stream.access.table.as_deref();
        let one_who_may = |access: &Access| {
            let may = |role: &&&str| access.allow.iter().any(|allowed| allowed == **role);
            stays.iter().filter(may).find(|role| self.narrowing(role, table).is_none()).copied()
        };
        let writer = self.writer_to(stream).and_then(|(o, access)| Some((o, access, one_who_may(access)?)));
        let (Some((operation, access, writer)), Some(listener), None) =
            (writer, one_who_may(stream.access), self.narrowing(leaves, table))
        else {
            return Ok(None);
        };
        let listens = |role: &str, answer: Answer| -> Result<Step, String> {
            let mut step = self.step(stream, role, Relation::Own, Vector::Story, BTreeMap::new())?;
            self.goes_on_for(stream, &mut step, LISTENED_MS);
            (step.requirement, step.expect) = (CLOSED.into(), Expect { answer, ..Expect::default() });
            Ok(step)
        };
        let mut left = listens(leaves, Answer::Either)?;
        left.cell.role = NOBODY.into();
        let stayed = Step { beside_ms: Some(0), ..listens(listener, Answer::Success)? };
        let lets_go = Step { beside_ms: Some(OPEN_MS), ..lets_go.clone() };
        let cast = Cast { operation, access, turn: stream.turn + AFTERWARDS, ..*stream };
        let mut write = self.step(&cast, writer, Relation::Own, Vector::Story, BTreeMap::new())?;
        (write.requirement, write.beside_ms) = (CLOSED.into(), Some(WRITTEN_MS));
        write.expect = Expect { answer: Answer::Success, ..Expect::default() };
        Ok(Some(vec![left, stayed, lets_go, write]))
    }

    /// Has `step` listen to a stream for `ms` milliseconds.
    pub(super) fn goes_on_for(&self, stream: &Cast<'_>, step: &mut Step, ms: u16) {
        step.request.query.retain(|(name, _)| !stream.access.always.contains_key(name));
        step.request.query.extend(stream.access.live.iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        step.cut_after_ms = Some(ms);
    }
}
