//! What goes by its age: a tenant has its retention run, then its rows and those of others are asked for. All of it in a
//! copy of the target in which rows are old.

use std::collections::BTreeMap;

use super::cast::{Cast, id_parameter};
use super::{Answer, Planner, Sequence, Step, Until};
use crate::ageing::Ageing;
use crate::canary::Owner;
use crate::cell::PoolState;

/// The requirement that what is due goes.
pub const RETENTION: &str = "work/retention";
/// The requirement that nothing else goes with it.
pub const RETENTION_REACH: &str = "work/retention-reach";

impl Planner {
    /// The sequences: the runs, that of the tenant that is held first, then what is read. Nothing where the target file
    /// does not speak of retention.
    ///
    /// # Errors
    /// A sentence where the target file and the document do not fit together.
    pub fn retention(&self, pool_state: PoolState) -> Result<Vec<Sequence>, String> {
        let Some(retention) = &self.plan.target.retention else { return Ok(Vec::new()) };
        let mut sequences = Vec::new();
        let mut push = |steps: Vec<Step>| {
            if !steps.is_empty() {
                sequences.push(Sequence { number: sequences.len() as u64, steps });
            }
        };
        let held = (!retention.hold.is_empty()).then_some(Ageing::HELD);
        for owner in held.into_iter().chain([Ageing::RUNS]) {
            push(self.retention_run(pool_state, owner)?);
        }
        for owner in (0..Ageing::TENANTS.min(self.plan.bounds.tenants)).map(Owner::new) {
            push(self.rows_read(pool_state, owner)?);
        }
        Ok(sequences)
    }

    /// `owner` asks for a run, and waits until it has ended.
    fn retention_run(&self, pool_state: PoolState, owner: Owner) -> Result<Vec<Step>, String> {
        let Some(retention) = &self.plan.target.retention else { return Ok(Vec::new()) };
        let cast = self.of_one(pool_state, owner, &retention.run, 0)?;
        let mut run = self.told(&cast, RETENTION, BTreeMap::new())?;
        let Some(ended) = &retention.ended else {
            run.until = Some(Until { at: None, is: Vec::new() });
            return Ok(vec![run]);
        };
        let teller = self.of_one(pool_state, owner, &ended.operation, 0)?;
        let table = cast.access.table.as_deref().unwrap_or_default();
        let parameter = id_parameter(teller.operation, teller.access, table);
        let given = parameter.map(|parameter| (parameter, "⟦made⟧".to_string())).into_iter().collect();
        let mut told = self.told(&teller, RETENTION, given)?;
        told.captures.clear();
        told.expect.adds_to = None;
        told.until = Some(Until { at: Some(ended.at.clone()), is: ended.is.clone() });
        Ok(vec![run, told])
    }

    /// `owner` asks for a row of its that was due, and for one that was not.
    fn rows_read(&self, pool_state: PoolState, owner: Owner) -> Result<Vec<Step>, String> {
        let Some(retention) = &self.plan.target.retention else { return Ok(Vec::new()) };
        let reader = self.plan.operations.iter().find(|operation| {
            let access =
                self.access(operation).filter(|a| a.table.as_ref() == Some(&retention.table) && a.list.is_none());
            operation.is_read() && access.is_some_and(|a| id_parameter(operation, a, &retention.table).is_some())
        });
        let Some(reader) = reader else { return Ok(Vec::new()) };
        let rows = [0, 1].map(|row| {
            let cast = self.of_one(pool_state, owner, &reader.id, row)?;
            let gone = owner == Ageing::RUNS && Ageing::is_due(row);
            let mut step = self.told(&cast, if gone { RETENTION } else { RETENTION_REACH }, BTreeMap::new())?;
            step.expect.answer = match (gone, retention.archived) {
                (false, _) => Answer::Success,
                (true, false) => Answer::Denied,
                // What is kept elsewhere may be shown from there.
                (true, true) => Answer::Either,
            };
            step.expect.shows = if gone { Vec::new() } else { vec![(retention.table.clone(), row)] };
            Ok(step)
        });
        rows.into_iter().collect()
    }

    fn of_one(&self, pool_state: PoolState, owner: Owner, id: &str, row: u32) -> Result<Cast<'_>, String> {
        let operation = self.operation(id).ok_or_else(|| format!("[retention]: the document has no operation {id}"))?;
        let access = self.access(operation).ok_or_else(|| format!("[retention]: no [[operation]] {id}"))?;
        Ok(Cast { operation, access, pool_state, observer: owner, other: owner, turn: row.into() })
    }
}
