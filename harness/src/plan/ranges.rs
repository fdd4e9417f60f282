//! Time ranges, day by day: services keep rows by time, and a wall may have a hole in one period only.

use std::collections::BTreeMap;

use super::request::Naming;
use super::{DAY_S, Expect, PLANTED_DAYS, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{Cell, PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::target::file::Access;

impl Planner {
    /// Lists that take a time range, with the names of its two parameters.
    fn ranged(&self) -> Vec<(&Operation, &Access, [&str; 2])> {
        let ranged = self.plan.operations.iter().filter_map(|operation| {
            let access =
                self.access(operation).filter(|a| a.list.is_some() && a.table.is_some() && !a.allow.is_empty())?;
            let mut instants = operation.parameters_in(Place::Query).filter(|p| p.is_instant());
            let names = [instants.next()?.name.as_str(), instants.next()?.name.as_str()];
            self.plan.target.rows_in_path(operation, access).next().is_none().then_some((operation, access, names))
        });
        ranged.collect()
    }

    /// How many range sequences each pool state has: together they visit every planted day.
    pub(super) fn ranges(&self) -> u64 {
        let states = self.plan.pool_states().count() as u64;
        (PLANTED_DAYS as u64).div_ceil(states.max(1)) * self.ranged().len() as u64
    }

    /// One tenant lists one day, in which others have rows too.
    pub(super) fn range(&self, pool_state: PoolState, turn: u64) -> Result<Vec<Step>, String> {
        let ranged = self.ranged();
        let states = self.plan.pool_states().count() as u64;
        let place = self.plan.pool_states().position(|s| s == pool_state).unwrap_or(0) as u64;
        let (operation, access, [from, to]) = ranged[turn as usize % ranged.len()];
        let day = (turn / ranged.len() as u64 * states + place) as i64 % PLANTED_DAYS;
        let start_s = self.plan.window().start_unix_s + day * DAY_S;
        let observer = Owner::new((turn % u64::from(self.plan.bounds.tenants)) as u32);
        let other = Owner::new((observer.index() + 1) % self.plan.bounds.tenants);
        let role = &access.allow[(turn / ranged.len() as u64) as usize % access.allow.len()];
        let given = BTreeMap::new();
        let naming = Naming { owner: observer, row: 0, writer: observer, write: 0, role, given, among: None };
        let mut request = self.request(operation, &naming)?;
        request.query.push((from.into(), self.instant(start_s * 1_000_000)));
        request.query.push((to.into(), self.instant((start_s + DAY_S) * 1_000_000 - 1)));
        let table = access.table.as_deref().unwrap_or_default();
        let cell =
            Cell { operation: operation.id.clone(), role: role.clone(), relation: Relation::Foreign, pool_state };
        Ok(vec![Step {
            subject: Some(other),
            requirement: "read/filter".into(),
            expect: Expect { lists: Some(self.listing(role, table, false)), ..Expect::default() },
            ..Step::new(cell, self.holdings.principal(observer, role), Vector::Filter, request)
        }])
    }
}
