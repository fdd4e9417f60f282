//! Sequences among which those are that did something, where no answer tells which.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cell::Relation;
use crate::error::Result;
use crate::finding::Finding;
use crate::placeholder::{self, SINK};
use crate::plan::{Plan, Planner, Sequence, Step};

/// Which sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bundle {
    /// That in which it was seen.
    Seen,
    /// The first of each operation that writes to the table of the one that was seen: that one is a guess.
    Kin,
    /// The first of each operation that writes.
    Writes,
    /// The first of each operation, as one's own.
    Own,
    /// The first of each operation, as another's.
    Foreign,
    /// The first in which the target is told where to send news.
    News,
}

/// The sequences of `bundle` for `finding`, in the plan's order.
///
/// # Errors
/// The target file and the document do not fit together.
pub(super) fn of(bundle: Bundle, plan: &Arc<Plan>, finding: &Finding) -> Result<Vec<Sequence>> {
    let state = finding.seen.pool_state;
    let planner = Planner::new(plan.clone());
    if bundle == Bundle::Seen {
        return Ok(planner.sequence(state, finding.seen.sequence)?.into_iter().collect());
    }
    let table = |operation: &str| plan.target.access(operation).and_then(|access| access.table.as_deref());
    let generated = planner.generated_from(state);
    let mut met = BTreeSet::new();
    let mut taken = Vec::new();
    for sequence in planner.into_sequences(state) {
        let sequence = sequence?;
        if sequence.number >= generated {
            break;
        }
        let writes = |step: &Step| !matches!(step.request.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        let fits = |step: &Step| match bundle {
            Bundle::Kin => {
                step.is_control() && writes(step) && table(&step.cell.operation) == table(&finding.operation)
            }
            Bundle::Writes => step.is_control() && writes(step),
            Bundle::Own => step.is_control(),
            Bundle::Foreign => step.cell.relation == Relation::Foreign,
            Bundle::News => told_where(step),
            Bundle::Seen => false,
        };
        // Of a sequence the last one that fits is what it is about; what comes before only makes it possible.
        let about = sequence.steps.iter().rev().find(|step| fits(step)).map(|step| match bundle {
            Bundle::News => String::new(),
            _ => step.cell.operation.clone(),
        });
        if about.is_some_and(|about| met.insert(about)) {
            taken.push(sequence);
        }
    }
    Ok(taken)
}

fn told_where(step: &Step) -> bool {
    step.request.body.as_ref().is_some_and(|(_, body)| placeholder::names(body).any(|name| name == SINK))
}
