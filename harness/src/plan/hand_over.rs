//! Hand-overs: what one connection serves to one tenant, then to another, then to nobody.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::{Answer, Expect, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{Lanes, PoolState, Relation};
use crate::principal::{NOBODY, Principal};
use crate::target::file::{Access, ListShape};

impl Planner {
    /// Lists of tenants' own tables that need no object to be named.
    pub(super) fn complete_lists(&self) -> Vec<&Access> {
        let fits = |access: &&Access| {
            let operation = self.operation(&access.id);
            let rows = |o| self.plan.target.rows_in_path(o, access).next();
            complete_list(access) && operation.is_some_and(|o| rows(o).is_none())
        };
        self.plan.target.operation.iter().filter(fits).collect()
    }

    /// How many hand-over sequences each pool state has.
    pub(super) fn hand_overs(&self) -> u64 {
        self.complete_lists().len() as u64 * u64::from(self.plan.bounds.tenants.min(24)) * 2
    }

    /// One connection serves the owner, then another tenant, nobody, and the owner again; in every second sequence a
    /// client goes away in between.
    pub(super) fn hand_over(&self, pool_state: PoolState, turn: u64) -> Result<Vec<Step>, String> {
        let lists = self.complete_lists();
        let cancels = turn % 2 == 1;
        let access = lists[(turn / 2) as usize % lists.len()];
        let Some(operation) = self.operation(&access.id) else { return Ok(Vec::new()) };
        let round = turn / 2 / lists.len() as u64;
        let tenants = u64::from(self.plan.bounds.tenants);
        let observer = Owner::new((round % tenants) as u32);
        let other = Owner::new(((round + 1 + turn % (tenants - 1)) % tenants) as u32);
        let cast = Cast { operation, access, pool_state, observer, other, turn };
        let back = Cast { observer: other, other: observer, ..cast };
        let table = access.table.clone().unwrap_or_default();
        let roles: Vec<&str> = access
            .allow
            .iter()
            .map(String::as_str)
            .filter(|r| self.plan.target.role(r).is_some_and(|role| !role.platform))
            .collect();
        let Some(role) = roles.get(round as usize % roles.len().max(1)) else { return Ok(Vec::new()) };
        let requirement = if cancels { "pool/after-cancel" } else { "pool/hand-over" };
        let list = |cast: &Cast<'_>| -> Result<Step, String> {
            let mut step = self.step(cast, role, Relation::Own, Vector::HandOver, BTreeMap::new())?;
            step.walk = access.list.as_ref().is_some_and(ListShape::has_pages);
            step.requirement = requirement.into();
            step.expect =
                Expect { answer: Answer::Success, lists: Some(self.listing(role, &table, true)), ..Expect::default() };
            Ok(step)
        };
        let mut steps = vec![list(&cast)?, list(&back)?];
        if cancels {
            let mut gone = list(&cast)?;
            gone.walk = false;
            gone.expect = Expect::default();
            gone.abandon_after = Some([15, 30, 45, 60, 75, 90, 105][(turn / 2 % 7) as usize]);
            steps.insert(1, gone);
        } else {
            let mut nobody = list(&cast)?;
            nobody.actor = Principal::without_tenant(NOBODY);
            nobody.walk = false;
            nobody.cell.role = NOBODY.into();
            nobody.expect = Expect { answer: Answer::Refused, ..Expect::default() };
            steps.push(nobody);
            steps.push(list(&cast)?);
        }
        if pool_state.lanes == Lanes::Many {
            steps.truncate(3);
        }
        Ok(steps)
    }
}

/// A list of a planted table that needs no object to be named.
fn complete_list(access: &Access) -> bool {
    access.table.is_some() && !access.allow.is_empty() && access.list.as_ref().is_some_and(|list| list.complete)
}
