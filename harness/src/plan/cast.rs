//! Who takes part in a sequence, and the steps that they take.

use std::collections::BTreeMap;

use super::request::Naming;
use super::requirement::requirement;
use super::{Answer, Expect, Listing, Planner, Request, Step, Vector};
use crate::canary::Owner;
use crate::cell::{Cell, PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::placeholder;
use crate::target::file::{Access, TargetFile};

/// Who takes part in one sequence.
#[derive(Clone, Copy)]
pub(super) struct Cast<'a> {
    pub operation: &'a Operation,
    pub access: &'a Access,
    pub pool_state: PoolState,
    pub observer: Owner,
    pub other: Owner,
    pub turn: u64,
}

impl Cast<'_> {
    /// Whether it asks, by whatever method: a list is read.
    pub fn reads(&self) -> bool {
        self.operation.is_read() || (self.access.list.is_some() && self.access.creates.is_none())
    }
}

impl Planner {
    /// The operation that reads one row of the same table, and its parameter for the row's id.
    pub(super) fn reader_of(&self, cast: &Cast<'_>) -> Option<(&Operation, &Access, String)> {
        let table = cast.access.table.as_deref()?;
        self.plan.operations.iter().find_map(|operation| {
            let access = self.access(operation)?;
            let fits = operation.is_read() && access.list.is_none() && access.table.as_deref() == Some(table);
            let parameter = id_parameter(operation, access, table).filter(|_| fits)?;
            Some((operation, access, parameter))
        })
    }

    /// Lets an allowed role make a row of the operation's table first; the parameter that takes its id.
    pub(super) fn made(
        &self,
        cast: &Cast<'_>,
        role: &str,
        steps: &mut Vec<Step>,
    ) -> Result<Option<(String, String)>, String> {
        let Some(table) = cast.access.table.as_deref() else { return Ok(None) };
        let in_body = || {
            let rows = self.plan.target.rows_in_body(cast.access).into_iter();
            rows.filter(|r| r.split('.').next() == Some(table)).map(String::from).next()
        };
        let Some(parameter) = id_parameter(cast.operation, cast.access, table).or_else(in_body) else {
            return Ok(None);
        };
        let maker = self.plan.operations.iter().find_map(|operation| {
            let access = self.access(operation)?;
            let fits = access.creates.is_some() && access.lines_of.is_none() && access.table.as_deref() == Some(table);
            fits.then_some((operation, access))
        });
        let Some((operation, access)) = maker else { return Ok(None) };
        let by = if access.allow.iter().any(|r| r == role) { role } else { &access.allow[0] };
        let cast = Cast { operation, access, ..*cast };
        let mut step = self.step(&cast, by, Relation::Own, Vector::Plain, BTreeMap::new())?;
        step.expect = Expect { answer: Answer::Success, adds_to: Some((table.into(), 1)), ..Expect::default() };
        step.captures.insert("made".into(), access.creates.clone().unwrap_or_default());
        steps.push(step);
        Ok(Some((parameter, "⟦made⟧".into())))
    }

    /// The `prepare` operation of the target file, called by the same principal; the parameters that take what it yields.
    pub(super) fn prepared(
        &self,
        cast: &Cast<'_>,
        role: &str,
        steps: &mut Vec<Step>,
    ) -> Result<BTreeMap<String, String>, String> {
        let (Some(prepare), parameters) = (&cast.access.prepare, &cast.operation.parameters) else {
            return Ok(BTreeMap::new());
        };
        let operation = self.operation(&prepare.operation);
        let Some((operation, access)) = operation.and_then(|o| Some((o, self.access(o)?))) else {
            return Err(format!("operation {}: prepare names no described operation", cast.operation.id));
        };
        let by = if access.open || access.allow.iter().any(|r| r == role) { role } else { &access.allow[0] };
        let cast = Cast { operation, access, ..*cast };
        let mut step = self.step(&cast, by, Relation::Own, Vector::Plain, BTreeMap::new())?;
        step.expect = Expect { answer: Answer::Success, ..Expect::default() };
        step.captures = prepare.capture.clone();
        steps.push(step);
        let taken = prepare.capture.keys().filter(|name| parameters.iter().any(|parameter| parameter.name == **name));
        Ok(taken.map(|name| (name.clone(), placeholder::of(name))).collect())
    }

    pub(super) fn lines(&self, cast: &Cast<'_>) -> u32 {
        if cast.access.lines_of.is_some() { 3 } else { 1 }
    }

    pub(super) fn owner_of(&self, cast: &Cast<'_>, relation: Relation) -> Owner {
        match relation {
            Relation::Own => cast.observer,
            Relation::Foreign => cast.other,
            Relation::Absent => Owner::ABSENT,
        }
    }

    /// A row of the operation's table that `role` may see; which one changes with the turn.
    pub(super) fn row(&self, cast: &Cast<'_>, role: &str) -> u32 {
        let table = self.narrowed_table(cast);
        let actors = table.map_or(0, |t| t.actors.len()) as u64;
        let planted = cast.access.table.as_deref().and_then(|t| self.holdings.table(t));
        let rows = u64::from(planted.map_or(self.plan.bounds.rows, |t| self.holdings.rows_of(t).max(1)));
        let Some(narrowed) = table.and_then(|t| self.narrowing(role, Some(&t.name))) else {
            return (cast.turn % rows) as u32;
        };
        let position = table.and_then(|t| t.actors.iter().position(|a| *a == narrowed)).unwrap_or(0) as u64;
        let cycles = (rows / actors.max(1)).max(1);
        (position + actors.max(1) * (cast.turn % cycles)) as u32
    }

    /// The table whose actors decide which rows a narrowed role sees: the operation's, or that of its parent object.
    fn narrowed_table(&self, cast: &Cast<'_>) -> Option<&crate::target::file::PlantTable> {
        let own = cast.access.table.as_deref().and_then(|t| self.holdings.table(t));
        own.filter(|t| !t.actors.is_empty()).or_else(|| {
            cast.access.params.values().find_map(|reference| {
                let table = self.holdings.table(reference.split('.').next()?)?;
                (!table.actors.is_empty()).then_some(table)
            })
        })
    }

    pub(super) fn narrowing(&self, role: &str, table: Option<&str>) -> Option<String> {
        self.plan.target.role(role)?.narrowed.get(table?).cloned()
    }

    pub(super) fn listing(&self, role: &str, table: &str, complete: bool) -> Listing {
        Listing { table: table.into(), complete, narrowed_to: self.narrowing(role, Some(table)) }
    }

    /// Whether it names a row: in the path below the tenant, or in the body.
    pub(super) fn names_row(&self, cast: &Cast<'_>) -> bool {
        let target = &self.plan.target;
        target.rows_in_path(cast.operation, cast.access).next().is_some()
            || !target.rows_in_body(cast.access).is_empty()
    }

    /// The path's parameters for the tenant itself, all of them `owner`'s.
    pub(super) fn below(&self, cast: &Cast<'_>, owner: Owner) -> Result<BTreeMap<String, String>, String> {
        let named = TargetFile::named_in_path(cast.operation, cast.access);
        let tenants = named.filter(|(_, reference)| self.plan.target.is_tenants_own(reference));
        tenants.map(|(name, reference)| Ok((name.to_string(), self.planted(owner, 0, reference)?))).collect()
    }

    /// Names what is `owner`'s, as `role` of the observer would.
    pub(super) fn named<'a>(&self, cast: &Cast<'_>, role: &'a str, owner: Owner) -> Naming<'a> {
        Naming {
            owner,
            row: self.row(cast, role),
            writer: self.holdings.principal(cast.observer, role).tenant.unwrap_or(Owner::PLATFORM),
            write: self.write_number(cast.pool_state, cast.turn),
            role,
            given: BTreeMap::new(),
            among: None,
        }
    }

    pub(super) fn step(
        &self,
        cast: &Cast<'_>,
        role: &str,
        relation: Relation,
        vector: Vector,
        given: BTreeMap<String, String>,
    ) -> Result<Step, String> {
        let owner = self.owner_of(cast, relation);
        let actor = self.holdings.principal(cast.observer, role);
        let naming = Naming { given, ..self.named(cast, role, owner) };
        let request: Request = self.request(cast.operation, &naming)?;
        let operation = cast.operation.id.clone();
        let cell = Cell { operation, role: role.into(), relation, pool_state: cast.pool_state };
        Ok(Step {
            subject: (owner != Owner::ABSENT).then_some(owner),
            requirement: self.requirement(cast, role, relation, vector),
            ..Step::new(cell, actor, vector, request)
        })
    }

    /// A number for the values of one write, told apart by pool state and turn.
    pub(super) fn write_number(&self, pool_state: PoolState, turn: u64) -> u32 {
        let state = self.plan.pool_states().position(|s| s == pool_state).unwrap_or(0) as u64;
        ((state << 21 | turn & 0x1f_ffff) & 0x1ff_ffff) as u32
    }

    pub(super) fn requirement(&self, cast: &Cast<'_>, role: &str, relation: Relation, vector: Vector) -> String {
        let table = cast.access.table.as_deref().and_then(|name| self.holdings.table(name));
        requirement(&self.plan.target, cast.operation, cast.access, table, role, relation, vector).into()
    }
}

/// The parameter that takes the id of a row of `table`.
pub(super) fn id_parameter(operation: &Operation, access: &Access, table: &str) -> Option<String> {
    let mut path = operation.parameters_in(Place::Path);
    let named = path.find(|p| access.params.get(&p.name).is_some_and(|r| r.split('.').next() == Some(table)));
    named.map(|p| p.name.clone())
}
