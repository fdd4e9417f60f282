//! Twins: the same request on what is another's and on what is nobody's, in one sequence and by one actor. The order is
//! another's, nobody's, nobody's, another's: what a clock, a counter or a rotation of servers changes then differs
//! between the two of nobody's or the two of another's, and is known for noise.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cast::Cast;
use super::claim::put;
use super::{Answer, Expect, HEADER, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{Lanes, PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::placeholder;
use crate::principal::{NOBODY, Principal};
use crate::target::credential::Credential;
use crate::target::file::TargetFile;

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
    /// All objects below one's own tenant's place in the path.
    Below,
    /// An object under a condition (RFC 9110, 13.1).
    Condition(&'static str, &'static str),
    /// A value in the named filter.
    Filter(String),
    /// A tenant in a parameter that may well take one, of what shows no rows: what is counted for another differs.
    Taker(usize),
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
                let body = access.body.as_ref().filter(|_| signs_in && operation.method == "POST");
                if body.is_some_and(|body| with_secret(body, credential, "").is_some()) {
                    add(None, Kind::Account(name.clone()));
                }
            }
            if access.prepare.is_some() || access.open || self.tenant_roles(access).is_empty() {
                continue;
            }
            let objects = TargetFile::named_in_path(operation, access).count();
            let rows = self.plan.target.rows_in_path(operation, access).count();
            if objects > 0 || !self.plan.target.rows_in_body(access).is_empty() {
                access.allow.iter().for_each(|role| add(Some(role), Kind::Object));
            }
            if rows < objects && (rows > 0 || !self.plan.target.rows_in_body(access).is_empty()) {
                access.allow.iter().for_each(|role| add(Some(role), Kind::Below));
            }
            if objects > 0 {
                if objects > 1 {
                    access.allow.iter().for_each(|role| add(Some(role), Kind::Child));
                }
                conditions(operation).iter().for_each(|(name, value)| add(None, Kind::Condition(name, value)));
            }
            for parameter in operation.parameters_in(Place::Query).filter(|p| access.params.contains_key(&p.name)) {
                add(None, Kind::Filter(parameter.name.clone()));
            }
            if operation.is_read() && access.list.is_none() && rows == 0 {
                self.takers(operation, access).into_iter().for_each(|place| add(None, Kind::Taker(place)));
            }
            let list = access.list.as_ref().filter(|list| list.complete && rows == 0);
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
            Kind::Object if cast.reads() => self.alike(&cast, |cast, relation| self.object(cast, role, relation)),
            Kind::Object => self.watched(&cast, role, |cast, relation| self.object(cast, role, relation)),
            Kind::Child if cast.reads() => self.alike(&cast, |cast, relation| self.last(cast, role, relation)),
            Kind::Child => self.watched(&cast, role, |cast, relation| self.last(cast, role, relation)),
            Kind::Below if cast.reads() => self.alike(&cast, |cast, relation| self.inside(cast, role, relation)),
            Kind::Below => self.watched(&cast, role, |cast, relation| self.inside(cast, role, relation)),
            Kind::Condition(name, value) => self.conditional(&cast, role, name, value),
            Kind::Filter(name) => self
                .alike(&cast, |cast, relation| compare(self.filtered(cast, role, relation, name)?, "existence/name")),
            Kind::Taker(place) => self.alike(&cast, |cast, relation| self.taken(cast, role, relation, *place)),
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
        self.compared_object(self.step(cast, role, relation, Vector::Twin, BTreeMap::new())?, cast)
    }

    fn inside(&self, cast: &Cast<'_>, role: &str, relation: Relation) -> Result<Step, String> {
        let given = self.below(cast, cast.observer)?;
        self.compared_object(self.step(cast, role, relation, Vector::Twin, given)?, cast)
    }

    /// What is made although it names another's is made all the same.
    fn compared_object(&self, step: Step, cast: &Cast<'_>) -> Result<Step, String> {
        let adds_to =
            cast.access.creates.as_ref().and(cast.access.table.clone()).map(|table| (table, self.lines(cast)));
        let step = compare(step, self.object_requirement(cast))?;
        Ok(Step { expect: Expect { adds_to, ..step.expect.clone() }, ..step })
    }

    /// Asked with a tenant in the parameter at that place.
    fn taken(&self, cast: &Cast<'_>, role: &str, relation: Relation, place: usize) -> Result<Step, String> {
        let mut step = self.step(cast, role, Relation::Own, Vector::Twin, BTreeMap::new())?;
        let owner = self.owner_of(cast, relation);
        let parameter = &cast.operation.parameters[place];
        put(&mut step.request, parameter, &self.holdings.tenant_id(owner));
        step.cell.relation = relation;
        step.subject = (relation == Relation::Foreign).then_some(owner);
        compare(step, "existence/name")
    }

    fn last(&self, cast: &Cast<'_>, role: &str, relation: Relation) -> Result<Step, String> {
        self.compared_object(self.child(cast, role, relation, Vector::Twin)?, cast)
    }

    fn object_requirement(&self, cast: &Cast<'_>) -> &'static str {
        let named = |reference: &str| {
            let (table, column) = reference.split_once('.').unwrap_or((reference, "id"));
            let generator = self.holdings.table(table).and_then(|table| table.columns.get(column));
            generator.is_some_and(|generator| matches!(generator.as_str(), "text" | "email"))
        };
        let mut path = self.plan.target.rows_in_path(cast.operation, cast.access).map(|(_, reference)| reference);
        match cast.reads() {
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
        if let Some(read) = self.reading(cast, self.row(cast, role))? {
            steps.insert(0, read.clone());
            steps.push(read);
        }
        Ok(steps)
    }

    /// The other reads its own `row`, of the table that an operation writes to.
    pub(super) fn reading(&self, cast: &Cast<'_>, row: u32) -> Result<Option<Step>, String> {
        let owner = Cast { observer: cast.other, other: cast.observer, ..*cast };
        let Some((reader, access, _)) = self.reader_of(&owner) else { return Ok(None) };
        let sees_all = |by: &&str| self.narrowing(by, cast.access.table.as_deref()).is_none();
        let Some(by) = self.tenant_roles(access).into_iter().find(sees_all) else { return Ok(None) };
        let mut given = BTreeMap::new();
        for (name, reference) in &access.params {
            given.insert(name.clone(), self.planted(cast.other, row, reference)?);
        }
        let owner = Cast { operation: reader, access, ..owner };
        let mut read = self.step(&owner, by, Relation::Own, Vector::Object, given)?;
        read.requirement = "write/tampering".into();
        let shows = access.table.iter().map(|table| (table.clone(), row)).collect();
        read.expect = Expect { answer: Answer::Success, shows, ..Expect::default() };
        Ok(Some(read))
    }

    /// The owner's tag is taken first, where the condition wants one.
    fn conditional(&self, cast: &Cast<'_>, role: &str, name: &str, value: &str) -> Result<Vec<Step>, String> {
        let mut steps = self.alike(cast, |cast, relation| {
            let mut step = self.object(cast, role, relation)?;
            step.request.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
            step.request.headers.push((name.into(), value.into()));
            let mut step = compare(step, "existence/conditional")?;
            // That it is unchanged is told of nothing that is not one's own.
            if cast.reads() {
                step.expect.answer = Answer::Denied;
            }
            Ok(step)
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
        let given = !self.plan.target.tenant.is_empty();
        // Whoever is given may be shut out after a few wrong tries: no more than two are made.
        let spared = given && cast.pool_state.lanes == Lanes::Many;
        let credential = self.plan.target.credential.get(credential);
        let wrong = self.writer(Owner::ABSENT, self.write_number(cast.pool_state, FIRST_TURN)).text();
        let template = credential.and_then(|c| with_secret(cast.access.body.as_ref()?, c, &wrong)).filter(|_| !spared);
        let (Some(first), Some(template)) = (roles.first(), template) else { return Ok(Vec::new()) };
        self.alike(cast, |cast, relation| {
            let role = roles[(cast.turn % TURNS) as usize % roles.len()];
            let role = if relation == Relation::Foreign { first } else { &role };
            let mut step = self.step(cast, role, relation, Vector::Twin, BTreeMap::new())?;
            let owner = if given { cast.other } else { self.owner_of(cast, relation) };
            let naming = self.named(cast, role, owner);
            let filled = self.fill(&template, &naming, &self.writer(naming.writer, naming.write))?;
            let stranger = given && relation == Relation::Absent;
            let filled = if stranger { placeholder::each(&filled.to_string(), "stranger") } else { filled.to_string() };
            step.request.body = step.request.body.map(|(kind, _)| (kind, filled));
            step.actor = Principal::without_tenant(NOBODY);
            step.cell.role = NOBODY.into();
            compare(step, "existence/account")
        })
    }
}

/// The body of a sign-in with `wrong` in the place of the right secret; none where nothing says which that is.
fn with_secret(body: &Value, credential: &Credential, wrong: &str) -> Option<Value> {
    let Credential::Login { secret, .. } = credential else { return None };
    let text = body.to_string();
    let known = [format!("{{given:{secret}}}"), "{password}".to_string()];
    let place = known.iter().find(|word| text.contains(&format!("\"{word}\"")))?;
    serde_json::from_str(&text.replace(place.as_str(), wrong)).ok()
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
