//! Generated cases: random operations, roles and relations with parameters drawn by proptest strategies.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::cast::Cast;
use super::request::Naming;
use super::requirement::requirement;
use super::{Answer, Expect, Planner, Step, Vector, body};
use crate::canary::Owner;
use crate::cell::{Cell, PoolState, Relation};
use crate::operation::{Operation, Parameter, Place};
use crate::target::file::{Access, TargetFile};

/// Lengths of generated time ranges, seconds: from one row's instant to more than the planted period.
const RANGES_S: [i64; 5] = [1, 3_600, 86_400, 20 * 86_400, 400 * 86_400];

/// Generated writes, so that what a run writes stays small beside what it reads: one case in so many.
const ONE_WRITE_IN: u64 = 40;

impl Planner {
    /// The `case`-th generated sequence of a pool state.
    pub(super) fn generated(&self, pool_state: PoolState, case: u64) -> Result<Vec<Step>, String> {
        let domain = format!("case {pool_state}");
        let mut rng = self.plan.seed.stream(&domain, case);
        let reads = |o: &&Operation| o.is_read() && self.access(o).is_some_and(|a| !a.open && !a.allow.is_empty());
        let writes = |o: &&Operation| {
            !o.is_read()
                && self.access(o).is_some_and(|a| a.prepare.is_none() && a.creates.is_none() && names_object(o, a))
        };
        let writing = case.is_multiple_of(ONE_WRITE_IN);
        let operations: Vec<&Operation> = if writing {
            self.plan.operations.iter().filter(writes).collect()
        } else {
            self.plan.operations.iter().filter(reads).collect()
        };
        let Some(operation) = operations.choose(&mut rng) else { return Ok(Vec::new()) };
        let Some(access) = self.access(operation) else { return Ok(Vec::new()) };
        let Some(role) = access.allow.choose(&mut rng) else { return Ok(Vec::new()) };
        let tenants = self.plan.bounds.tenants;
        let observer = rng.random_range(0..tenants);
        let other = Owner::new((observer + rng.random_range(1..tenants)) % tenants);
        let observer = Owner::new(observer);
        let relation = match rng.random_range(0..10) {
            _ if writing => Relation::Foreign,
            0..2 => Relation::Own,
            2..9 => Relation::Foreign,
            _ => Relation::Absent,
        };
        let owner = match relation {
            Relation::Own => observer,
            Relation::Foreign => other,
            Relation::Absent => Owner::ABSENT,
        };
        let row = rng.random_range(0..self.plan.bounds.rows);
        let actor = self.holdings.principal(observer, role);
        let naming = Naming {
            owner,
            row,
            writer: actor.tenant.unwrap_or(Owner::PLATFORM),
            write: self.write_number(pool_state, (1 << 20) + case),
            role,
            given: BTreeMap::new(),
            among: None,
        };
        // Where the path begins with the tenant, a foreign one is refused before anything else is looked at.
        let mut naming = naming;
        if relation != Relation::Own && rng.random_bool(0.9) {
            let cast = Cast { operation, access, pool_state, observer, other, turn: case };
            naming.given = self.below(&cast, observer)?;
        }
        let mut request = self.request(operation, &naming)?;
        let drawn = self.drawn(operation, access, owner, row, &domain, case)?;
        for (name, value) in drawn {
            request.query.retain(|(k, _)| *k != name);
            request.query.push((name, value));
        }
        if rng.random_bool(0.15) {
            let word = self.tenant_word(rng.random());
            request.query.push((word.into(), self.holdings.tenant_id(other).to_string()));
        }
        let tenants = !naming.given.is_empty();
        let rows = self.plan.target.rows_in_path(operation, access).next().is_some();
        let objects = if tenants { rows } else { names_object(operation, access) };
        let denied = objects && relation != Relation::Own;
        let vector = if objects { Vector::Object } else { Vector::Generated };
        let lists = match (&access.list, &access.table) {
            (Some(_), Some(table)) => Some(self.listing(role, table, false)),
            _ => None,
        };
        let cell = Cell { operation: operation.id.clone(), role: role.clone(), relation, pool_state };
        Ok(vec![Step {
            subject: (owner != Owner::ABSENT).then_some(owner),
            requirement: requirement(&self.plan.target, operation, access, None, role, relation, vector).into(),
            expect: Expect { answer: if denied { Answer::Denied } else { Answer::Either }, lists, ..Expect::default() },
            ..Step::new(cell, actor, vector, request)
        }])
    }

    /// Optional query parameters: a random subset, each from its strategy; instants come as a range.
    fn drawn(
        &self,
        operation: &Operation,
        access: &Access,
        owner: Owner,
        row: u32,
        domain: &str,
        case: u64,
    ) -> Result<Vec<(String, String)>, String> {
        let optional: Vec<&Parameter> =
            operation.parameters_in(Place::Query).filter(|p| !access.always.contains_key(&p.name)).collect();
        let instants: Vec<&Parameter> = optional.iter().copied().filter(|p| p.is_instant()).collect();
        let mut values = Vec::new();
        let seed = |part: &str| self.plan.seed.bytes(&format!("{domain} {part}"), case);
        for parameter in optional.iter().copied().filter(|p| !p.is_instant()) {
            let planted = match access.params.get(&parameter.name) {
                Some(reference) => vec![self.planted(owner, row, reference)?],
                None => Vec::new(),
            };
            let value = body::parameter(&parameter.schema, planted);
            let value = if parameter.required {
                value.prop_map(Some).boxed()
            } else {
                prop::option::weighted(0.35, value).boxed()
            };
            if let Some(value) = body::draw(&value, seed(&parameter.name)) {
                values.push((parameter.name.clone(), value));
            }
        }
        if !instants.is_empty() {
            let range = (0..RANGES_S.len(), any::<bool>(), 0..self.plan.bounds.rows).boxed();
            let (length, ranged, row) = body::draw(&range, seed("range"));
            if ranged && let Some(start) = self.instant_of(access, owner, row) {
                let first = instants.first().map(|p| (p.name.clone(), self.instant(start)));
                let end = start + RANGES_S[length] * 1_000_000;
                let second = instants.get(1).map(|p| (p.name.clone(), self.instant(end)));
                values.extend(first.into_iter().chain(second));
            }
        }
        Ok(values)
    }

    /// The planted instant of a row of the operation's table, if it has one.
    fn instant_of(&self, access: &Access, owner: Owner, row: u32) -> Option<i64> {
        let table = self.holdings.table(access.table.as_deref()?)?;
        let (column, _) = table.columns.iter().find(|(_, generator)| *generator == "timestamptz")?;
        let owner = if owner == Owner::ABSENT { Owner::new(0) } else { owner };
        match self.holdings.value(owner, row, &table.name, column).ok()? {
            crate::tenant::Planted::Time(us) => Some(us),
            _ => None,
        }
    }
}

fn names_object(operation: &Operation, access: &Access) -> bool {
    TargetFile::named_in_path(operation, access).next().is_some()
}
