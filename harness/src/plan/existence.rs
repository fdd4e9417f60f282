//! Twins: the same request on what is another's and on what is nobody's, in one sequence and by one actor. The order is
//! another's, nobody's, nobody's, another's: what a clock, a counter or a rotation of servers changes then differs
//! between the two of nobody's or the two of another's, and is known for noise.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::{Answer, Expect, HEADER, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::principal::{NOBODY, Principal};
use crate::target::credential::Credential;

/// First turn of this part: turns number what is written, and no two parts may write the same.
const FIRST_TURN: u64 = 1 << 19;
/// Turns of one sequence.
pub(super) const TURNS: u64 = 8;

/// Relations in the order of a comparison, and whether it is the second of its kind.
pub(super) const ORDER: [(Relation, bool); 4] =
    [(Relation::Foreign, false), (Relation::Absent, false), (Relation::Absent, true), (Relation::Foreign, true)];

/// An instant that no row was changed after, and one that none was changed before (RFC 9110, 5.6.7).
const LONG_HENCE: &str = "Fri, 31 Dec 2100 23:59:59 GMT";
const LONG_AGO: &str = "Mon, 01 Jan 1990 00:00:00 GMT";

/// What one sequence compares.
#[derive(Clone, Debug)]
pub(super) struct Twin {
    operation: usize,
    /// The only application role that asks; else the roles take turns.
    role: Option<String>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// An object in the path.
    Object,
    /// The last object in the path, below one's own.
    Child,
    /// An object under a condition (RFC 9110, 13.1).
    Condition(&'static str, &'static str),
    /// A value in the named filter.
    Filter(String),
    /// A cursor of another list, and one that was never made.
    Cursor,
    /// What another has made already, made again.
    Conflict,
    /// A key that another has used, in the named header.
    Key(String),
    /// Numbers of what one makes, while another makes the same.
    Numbers,
    /// What is left of one's requests, while another asks much.
    Limits,
    /// An account of the named credential.
    Account(String),
}

impl Planner {
    /// All comparisons of a pool state.
    pub(super) fn twins(&self) -> Vec<Twin> {
        let mut all = Vec::new();
        for (index, operation) in self.plan.operations.iter().enumerate() {
            let Some(access) = self.access(operation) else { continue };
            let relations = |relation| access.relations.as_ref().is_none_or(|all| all.contains(&relation));
            if !relations(Relation::Foreign) || !relations(Relation::Absent) {
                continue;
            }
            let mut add = |role: Option<&String>, kind| all.push(Twin { operation: index, role: role.cloned(), kind });
            for (name, credential) in &self.plan.target.credential {
                let signs_in = matches!(credential, Credential::Login { path, .. } if *path == operation.path);
                // Of what is given for a tenant, nothing says which part is the secret: a wrong one cannot be made up.
                let ours = self.plan.target.tenant.is_empty();
                if ours && signs_in && operation.method == "POST" && access.body.is_some() {
                    add(None, Kind::Account(name.clone()));
                }
            }
            if access.prepare.is_some() || access.open || self.tenant_roles(access).is_empty() {
                continue;
            }
            let objects = operation.parameters_in(Place::Path).filter(|p| access.params.contains_key(&p.name)).count();
            if objects > 0 {
                access.allow.iter().for_each(|role| add(Some(role), Kind::Object));
                if objects > 1 {
                    access.allow.iter().for_each(|role| add(Some(role), Kind::Child));
                }
                conditions(operation).iter().for_each(|(name, value)| add(None, Kind::Condition(name, value)));
            }
            for parameter in operation.parameters_in(Place::Query).filter(|p| access.params.contains_key(&p.name)) {
                add(None, Kind::Filter(parameter.name.clone()));
            }
            let list = access.list.as_ref().filter(|list| list.complete && objects == 0);
            if list.is_some_and(|list| list.cursor.is_some() && list.next.is_some()) {
                add(None, Kind::Cursor);
            }
            if list.is_some_and(|list| list.limit.is_some()) && !all.iter().any(|t| matches!(t.kind, Kind::Limits)) {
                all.push(Twin { operation: index, role: None, kind: Kind::Limits });
            }
            let mut add = |kind| all.push(Twin { operation: index, role: None, kind });
            if access.creates.is_some() && access.lines_of.is_none() {
                add(Kind::Conflict);
                if access.busy.is_empty() {
                    add(Kind::Numbers);
                }
            }
            let key = |name: &str| name.to_lowercase().contains("idempotency");
            for header in operation.parameters_in(Place::Header).filter(|p| key(&p.name)) {
                add(Kind::Key(header.name.clone()));
            }
        }
        all
    }

    /// The `index`-th comparison.
    pub(super) fn compared(&self, pool_state: PoolState, twin: &Twin, index: u64) -> Result<Vec<Step>, String> {
        let operation = &self.plan.operations[twin.operation];
        let Some(access) = self.access(operation) else { return Ok(Vec::new()) };
        let tenants = u64::from(self.plan.bounds.tenants);
        let state = self.plan.pool_states().position(|s| s == pool_state).unwrap_or(0) as u64;
        let observer = (index + state) % tenants;
        let other = (observer + 1 + index % (tenants - 1)) % tenants;
        let (observer, other) = (Owner::new(observer as u32), Owner::new(other as u32));
        let turn = FIRST_TURN + index * TURNS;
        let cast = Cast { operation, access, pool_state, observer, other, turn };
        let roles = self.tenant_roles(access);
        let role = match &twin.role {
            Some(role) => role.as_str(),
            None => roles.get((index + state) as usize % roles.len().max(1)).copied().unwrap_or(NOBODY),
        };
        match &twin.kind {
            Kind::Object if operation.is_read() => {
                self.alike(&cast, |cast, relation| self.object(cast, role, relation))
            }
            Kind::Object => self.watched(&cast, role, |cast, relation| self.object(cast, role, relation)),
            Kind::Child if operation.is_read() => self.alike(&cast, |cast, relation| self.below(cast, role, relation)),
            Kind::Child => self.watched(&cast, role, |cast, relation| self.below(cast, role, relation)),
            Kind::Condition(name, value) => self.conditional(&cast, role, name, value),
            Kind::Filter(name) => self
                .alike(&cast, |cast, relation| compare(self.filtered(cast, role, relation, name)?, "existence/name")),
            Kind::Cursor => self.foreign_cursor(&cast, role),
            Kind::Conflict => self.collisions(&cast, role, None),
            Kind::Key(name) => self.collisions(&cast, role, Some(name)),
            Kind::Numbers => self.numbers(&cast, role),
            Kind::Limits => self.limits(&cast, role),
            Kind::Account(credential) => self.account(&cast, credential),
        }
    }

    /// One request on what is another's, nobody's, nobody's again, and another's again: two different ones of nobody's.
    pub(super) fn alike(
        &self,
        cast: &Cast<'_>,
        make: impl Fn(&Cast<'_>, Relation) -> Result<Step, String>,
    ) -> Result<Vec<Step>, String> {
        let of = |(relation, second)| {
            let turn = cast.turn + u64::from(second && relation == Relation::Absent);
            make(&Cast { turn, ..*cast }, relation)
        };
        ORDER.into_iter().map(of).collect()
    }

    fn object(&self, cast: &Cast<'_>, role: &str, relation: Relation) -> Result<Step, String> {
        compare(self.step(cast, role, relation, Vector::Twin, BTreeMap::new())?, self.object_requirement(cast))
    }

    fn below(&self, cast: &Cast<'_>, role: &str, relation: Relation) -> Result<Step, String> {
        compare(self.child(cast, role, relation, Vector::Twin)?, self.object_requirement(cast))
    }

    fn object_requirement(&self, cast: &Cast<'_>) -> &'static str {
        let named = |reference: &String| {
            let (table, column) = reference.split_once('.').unwrap_or((reference, "id"));
            let generator = self.holdings.table(table).and_then(|table| table.columns.get(column));
            generator.is_some_and(|generator| matches!(generator.as_str(), "text" | "email"))
        };
        let mut path = cast.operation.parameters_in(Place::Path).filter_map(|p| cast.access.params.get(&p.name));
        match cast.operation.is_read() {
            false => "existence/write",
            true if path.any(named) => "existence/name",
            true => "existence/status",
        }
    }

    /// A write that must change nothing, between two readings by the owner of what it names.
    fn watched(
        &self,
        cast: &Cast<'_>,
        role: &str,
        make: impl Fn(&Cast<'_>, Relation) -> Result<Step, String>,
    ) -> Result<Vec<Step>, String> {
        let mut steps = self.alike(cast, make)?;
        let owner = Cast { observer: cast.other, other: cast.observer, ..*cast };
        let Some((reader, access, _)) = self.reader_of(&owner) else { return Ok(steps) };
        let sees_all = |by: &&str| self.narrowing(by, cast.access.table.as_deref()).is_none();
        let Some(by) = self.tenant_roles(access).into_iter().find(sees_all) else { return Ok(steps) };
        let row = self.row(cast, role);
        let mut given = BTreeMap::new();
        for (name, reference) in &access.params {
            given.insert(name.clone(), self.planted(cast.other, row, reference)?);
        }
        let owner = Cast { operation: reader, access, ..owner };
        let mut read = self.step(&owner, by, Relation::Own, Vector::Object, given)?;
        read.requirement = "write/tampering".into();
        let shows = access.table.iter().map(|table| (table.clone(), row)).collect();
        read.expect = Expect { answer: Answer::Success, shows, ..Expect::default() };
        steps.insert(0, read.clone());
        steps.push(read);
        Ok(steps)
    }

    /// The owner's tag is taken first, where the condition wants one.
    fn conditional(&self, cast: &Cast<'_>, role: &str, name: &str, value: &str) -> Result<Vec<Step>, String> {
        let mut steps = self.alike(cast, |cast, relation| {
            let mut step = self.object(cast, role, relation)?;
            step.request.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
            step.request.headers.push((name.into(), value.into()));
            compare(step, "existence/conditional")
        })?;
        if value == TAG {
            let owner = Cast { observer: cast.other, other: cast.observer, ..*cast };
            let mut read = self.step(&owner, role, Relation::Own, Vector::Object, BTreeMap::new())?;
            read.captures.insert("tag".into(), format!("{HEADER}etag"));
            read.expect = Expect { answer: Answer::Success, ..Expect::default() };
            steps.insert(0, read);
        }
        Ok(steps)
    }

    /// A cursor that another's list gave, and ones that no list ever gave.
    fn foreign_cursor(&self, cast: &Cast<'_>, role: &str) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        self.cursor(cast, role, &mut steps)?;
        let Some(parameter) = cast.access.list.as_ref().and_then(|list| list.cursor.as_deref()) else {
            return Ok(Vec::new());
        };
        let Some(probe) = steps.pop() else { return Ok(steps) };
        steps.truncate(1);
        steps.extend(self.alike(cast, |cast, relation| {
            let mut step = probe.clone();
            step.cell.relation = relation;
            if relation == Relation::Absent {
                let never = self.writer(Owner::ABSENT, self.write_number(cast.pool_state, cast.turn)).text();
                step.request.query.retain(|(name, _)| name != parameter);
                step.request.query.push((parameter.into(), never));
                step.subject = None;
            }
            compare(step, "existence/cursor")
        })?);
        Ok(steps)
    }

    /// Signing in with a wrong password, as someone who is known and as someone who is not.
    fn account(&self, cast: &Cast<'_>, credential: &str) -> Result<Vec<Step>, String> {
        let roles = self.plan.target.role.iter().filter(|role| role.credential == credential && !role.platform);
        let roles: Vec<&str> = roles.map(|role| role.name.as_str()).collect();
        let Some(first) = roles.first() else { return Ok(Vec::new()) };
        self.alike(cast, |cast, relation| {
            let role = roles[(cast.turn % TURNS) as usize % roles.len()];
            let role = if relation == Relation::Foreign { first } else { &role };
            let mut step = self.step(cast, role, relation, Vector::Twin, BTreeMap::new())?;
            let wrong = self.writer(Owner::ABSENT, self.write_number(cast.pool_state, FIRST_TURN)).text();
            if let Some((_, body)) = &mut step.request.body {
                *body = body.replace("⟦password⟧", &wrong);
            }
            step.actor = Principal::without_tenant(NOBODY);
            step.cell.role = NOBODY.into();
            compare(step, "existence/account")
        })
    }
}

/// Stands for the tag that the owner was given.
const TAG: &str = "⟦tag⟧";

/// Conditions that something which exists may meet and something which does not cannot, or the other way round.
fn conditions(operation: &Operation) -> &'static [(&'static str, &'static str)] {
    if operation.is_read() {
        &[("if-none-match", "*"), ("if-none-match", TAG), ("if-modified-since", LONG_HENCE)]
    } else {
        &[("if-match", "*"), ("if-none-match", "*"), ("if-unmodified-since", LONG_AGO)]
    }
}

/// `step` as one of those that are compared, for `requirement`.
pub(super) fn compare(mut step: Step, requirement: &str) -> Result<Step, String> {
    step.vector = Vector::Twin;
    step.requirement = requirement.into();
    step.expect = Expect::default();
    Ok(step)
}
