//! The sweep: every operation × application role × relation, each with its control.

use std::collections::{BTreeMap, BTreeSet};

use super::cast::{Cast, id_parameter};
use super::request::Forge;
use super::requirement::refusal_of;
use super::{Answer, Expect, Planner, Proof, Request, Step, Vector};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::principal::NOBODY;
use crate::target::credential::{Credential, Flaw};
use crate::target::file::{Access, TargetFile};

/// What one sequence of the sweep is about.
#[derive(Clone, Debug)]
pub(super) struct Template {
    operation: usize,
    role: String,
    relation: Relation,
    variant: Variant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Variant {
    /// The request as it is meant, naming objects by `relation`.
    Plain,
    /// Only one path parameter belongs to the subject, the others to the actor: parent and child swapped.
    Child,
    /// Below the own tenant's place in the path, every object is the subject's.
    Below,
    /// A list in the body names a row of the actor's and one of the subject's, which is the first or the last.
    Among(bool),
    /// A planted value in the named filter.
    Filter(String),
    /// A cursor of the subject.
    Cursor,
    /// The subject forged into the request; one word of those known, or all.
    Forged(Forge, Option<u64>),
    /// An altered credential.
    Credential(Proof),
}

impl Template {
    /// Whether it is what a tenant's principal may do without another tenant.
    pub(super) fn is_of_itself(&self, planner: &Planner) -> bool {
        let tenants = planner.plan.target.role(&self.role).is_some_and(|role| !role.platform);
        let allowed =
            self.described(planner).is_some_and(|(_, access)| !access.open && access.allow.contains(&self.role));
        tenants && allowed && self.relation != Relation::Foreign && !matches!(self.variant, Variant::Credential(_))
    }

    /// Its operation, and what the target file says of it.
    pub(super) fn described<'p>(&self, planner: &'p Planner) -> Option<(&'p Operation, &'p Access)> {
        let operation = &planner.plan.operations[self.operation];
        Some((operation, planner.access(operation)?))
    }
}

/// All templates, in an order that lets tenants alternate.
pub(super) fn templates(planner: &Planner) -> Vec<Template> {
    let mut all = Vec::new();
    for (index, operation) in planner.plan.operations.iter().enumerate() {
        let Some(access) = planner.access(operation) else { continue };
        let relations = access.relations.clone().unwrap_or_else(|| Relation::ALL.to_vec());
        for relation in relations {
            for role in planner.plan.roles() {
                for variant in variants(&planner.plan.target, operation, access, role, relation) {
                    all.push(Template { operation: index, role: role.into(), relation, variant });
                }
            }
        }
        if operation.secured && !access.open {
            for proof in planner.bad_proofs(access) {
                let variant = Variant::Credential(proof);
                all.push(Template { operation: index, role: NOBODY.into(), relation: Relation::Own, variant });
            }
        }
    }
    all
}

fn variants(
    target: &TargetFile,
    operation: &Operation,
    access: &Access,
    role: &str,
    relation: Relation,
) -> Vec<Variant> {
    let objects = TargetFile::named_in_path(operation, access).count();
    let rows = target.rows_in_path(operation, access).count();
    let in_body = !target.rows_in_body(access).is_empty();
    let filters = || {
        let filters = operation.parameters_in(Place::Query).filter(|p| access.params.contains_key(&p.name));
        filters.map(|p| Variant::Filter(p.name.clone()))
    };
    let allowed = access.open || access.allow.iter().any(|r| r == role);
    if !allowed {
        return vec![Variant::Plain];
    }
    let mut all = Vec::new();
    let listing = access.list.as_ref();
    if relation == Relation::Own {
        // What shows nothing unless it is told of something is asked by that.
        if listing.is_none_or(|list| list.complete) || in_body {
            all.push(Variant::Plain);
        }
        all.extend(filters());
        return all;
    }
    if objects > 0 || in_body {
        all.push(Variant::Plain);
    }
    if objects > 1 {
        all.push(Variant::Child);
    }
    if rows < objects && (rows > 1 || (in_body && rows == 0)) {
        all.push(Variant::Below);
    }
    if in_body && relation == Relation::Foreign {
        all.extend([Variant::Among(true), Variant::Among(false)]);
    }
    all.extend(filters());
    all.push(Variant::Forged(Forge::Query, None));
    if relation == Relation::Foreign {
        // One word alone too: what takes it may refuse the others.
        all.push(Variant::Forged(Forge::Query, Some(TENANT_ID_WORD)));
        all.push(Variant::Forged(Forge::Header, None));
        // Below one object there may be too few rows for a second page.
        if rows == 0 && listing.is_some_and(|list| list.cursor.is_some() && list.complete) {
            all.push(Variant::Cursor);
        }
    }
    if operation.body.is_some() {
        all.push(Variant::Forged(Forge::Body, None));
    }
    all
}

/// Marks "the commonest word"; resolved by name, not by position.
const TENANT_ID_WORD: u64 = u64::MAX;

impl Planner {
    /// The `turn`-th sequence of the sweep.
    pub(super) fn sweep(
        &self,
        pool_state: PoolState,
        template: &Template,
        turn: u64,
        pair: u32,
    ) -> Result<Vec<Step>, String> {
        let Some((operation, access)) = template.described(self) else { return Ok(Vec::new()) };
        let tenants = u64::from(self.plan.bounds.tenants);
        let observer = (turn % tenants) as u32;
        let distance = 1 + pair % (self.plan.bounds.tenants - 1).max(1);
        let other = (observer + distance) % self.plan.bounds.tenants;
        let cast =
            Cast { operation, access, pool_state, observer: Owner::new(observer), other: Owner::new(other), turn };
        self.cast(&cast, template)
    }

    pub(super) fn cast(&self, cast: &Cast<'_>, template: &Template) -> Result<Vec<Step>, String> {
        let role = template.role.as_str();
        let allowed = cast.access.open || cast.access.allow.iter().any(|r| r == role);
        let mut steps = Vec::new();
        match &template.variant {
            Variant::Credential(proof) => {
                let Some(role) = self.proving(cast.access, proof) else { return Ok(steps) };
                let given = self.prepared(cast, role, &mut steps)?;
                let mut step = self.step(cast, role, Relation::Own, Vector::Credential, given)?;
                step.requirement = refusal_of(proof).into();
                step.request.proof = proof.clone();
                step.cell.role = NOBODY.into();
                step.expect = Expect { answer: Answer::Refused, ..Expect::default() };
                steps.push(step);
            }
            Variant::Plain | Variant::Child if allowed && template.relation == Relation::Own => {
                self.own(cast, role, &mut steps)?;
            }
            Variant::Plain => {
                let given = self.prepared(cast, role, &mut steps)?;
                let vector = if names_object(cast) { Vector::Object } else { Vector::Plain };
                let mut step = self.step(cast, role, template.relation, vector, given)?;
                let denied = if allowed { Answer::Denied } else { Answer::Refused };
                step.expect = match allowed && !names_object(cast) {
                    true => self.lenient(cast, role),
                    false => Expect { answer: denied, ..Expect::default() },
                };
                steps.push(step);
            }
            Variant::Below => {
                let given = self.below(cast, cast.observer)?;
                let mut step = self.step(cast, role, template.relation, Vector::Object, given)?;
                let in_path = self.plan.target.rows_in_path(cast.operation, cast.access).next().is_some();
                step.expect = match in_path {
                    true => Expect { answer: Answer::Denied, ..Expect::default() },
                    false => self.lenient(cast, role),
                };
                steps.push(step);
            }
            Variant::Among(first) => self.among(cast, role, *first, &mut steps)?,
            Variant::Child => {
                let mut step = self.child(cast, role, template.relation, Vector::Object)?;
                if cast.operation.is_read() {
                    step.requirement = "read/child".into();
                }
                step.expect = Expect { answer: Answer::Denied, ..Expect::default() };
                steps.push(step);
            }
            Variant::Filter(name) => steps.push(self.filtered(cast, role, template.relation, name)?),
            Variant::Cursor => self.cursor(cast, role, &mut steps)?,
            Variant::Forged(forge, word) => {
                let owner = self.owner_of(cast, template.relation);
                let vector = match forge {
                    Forge::Query => Vector::ForgedQuery,
                    Forge::Header => Vector::ForgedHeader,
                    Forge::Body => Vector::ForgedBody,
                };
                let forged = |mut request: Request| match word {
                    Some(_) => {
                        request.query.push(("tenant_id".into(), self.holdings.tenant_id(owner).to_string()));
                        request
                    }
                    None => self.forged(request, *forge, owner),
                };
                self.forge(cast, role, template.relation, vector, &mut steps, forged)?;
            }
        }
        Ok(steps)
    }

    /// Only the last object of the path is named by `relation`; those above it are the actor's own.
    pub(super) fn child(
        &self,
        cast: &Cast<'_>,
        role: &str,
        relation: Relation,
        vector: Vector,
    ) -> Result<Step, String> {
        let owner = self.owner_of(cast, relation);
        let child = TargetFile::named_in_path(cast.operation, cast.access).last();
        let given = match child {
            Some((child, reference)) => {
                BTreeMap::from([(child.to_string(), self.planted(owner, self.row(cast, role), reference)?)])
            }
            None => BTreeMap::new(),
        };
        let mut step = self.step(cast, role, Relation::Own, vector, given)?;
        step.cell.relation = relation;
        step.subject = (relation == Relation::Foreign).then_some(cast.other);
        step.requirement = self.requirement(cast, role, relation, vector);
        Ok(step)
    }

    /// What must come of a request that names a row of another in its body: no more than what it shows and changes, since
    /// a list of rows may well be answered without those that are not there.
    fn lenient(&self, cast: &Cast<'_>, role: &str) -> Expect {
        let table = cast.access.table.as_ref();
        let lists = cast.access.list.as_ref().and(table).map(|table| self.listing(role, table, false));
        let adds_to = cast.access.creates.as_ref().and(table).map(|table| (table.clone(), self.lines(cast)));
        Expect { lists, adds_to, ..Expect::default() }
    }

    /// One's own row and another's in one list, between two readings of the other's by its owner where it writes.
    fn among(&self, cast: &Cast<'_>, role: &str, first: bool, steps: &mut Vec<Step>) -> Result<(), String> {
        let mut naming = self.named(cast, role, cast.observer);
        naming.given.extend(self.prepared(cast, role, steps)?);
        if !cast.reads() {
            naming.given.extend(self.made(cast, role, steps)?);
        }
        naming.among = Some((cast.other, first));
        // Another row in each pool state: what is done to one may leave it as it was.
        let place = self.plan.pool_states().position(|state| state == cast.pool_state).unwrap_or(0) as u32;
        let planted = cast.access.table.as_deref().and_then(|table| self.holdings.table(table));
        naming.row = (naming.row + place) % planted.map_or(1, |table| self.holdings.rows_of(table).max(1));
        let mut step = self.step(cast, role, Relation::Own, Vector::Object, BTreeMap::new())?;
        step.request = self.request(cast.operation, &naming)?;
        step.cell.relation = Relation::Foreign;
        step.subject = Some(cast.other);
        step.requirement = self.requirement(cast, role, Relation::Foreign, Vector::Object);
        step.expect = self.lenient(cast, role);
        let reading = if cast.reads() { None } else { self.reading(cast, naming.row)? };
        steps.extend(reading.clone().into_iter().chain([step]).chain(reading));
        Ok(())
    }

    /// The own tenant's request as it is meant: the control. What changes or deletes gets an object made for it; what
    /// was made is read back, by its owner and in vain by another tenant.
    fn own(&self, cast: &Cast<'_>, role: &str, steps: &mut Vec<Step>) -> Result<(), String> {
        let mut given = self.prepared(cast, role, steps)?;
        let changes = !cast.reads() && (names_object(cast) || self.names_row(cast)) && cast.access.creates.is_none();
        if changes && let Some((name, made)) = self.made(cast, role, steps)? {
            given.insert(name, made);
        }
        let mut step = self.step(cast, role, Relation::Own, Vector::Plain, given)?;
        step.expect = Expect { answer: Answer::Success, control: true, ..Expect::default() };
        if let (true, Some(table)) = (cast.reads(), &cast.access.table) {
            match &cast.access.list {
                Some(list) => {
                    step.walk = list.has_pages();
                    step.request.query.extend(list.count.iter().map(|(k, v)| (k.clone(), v.clone())));
                    step.expect.lists = Some(self.listing(role, table, list.complete && !self.names_row(cast)));
                    if self.names_row(cast) {
                        step.expect.shows = vec![(table.clone(), self.row(cast, role))];
                    }
                }
                // The tenant in the path is no object of what is counted or exported below it.
                None if self.names_row(cast) || id_parameter(cast.operation, cast.access, table).is_some() => {
                    step.expect.shows = vec![(table.clone(), self.row(cast, role))]
                }
                None => {}
            }
        }
        if let (Some(pointer), Some(table)) = (&cast.access.creates, &cast.access.table) {
            step.captures.insert("made".into(), pointer.clone());
            step.expect.adds_to = Some((table.clone(), self.lines(cast)));
            steps.push(step);
            return self.read_back(cast, role, steps);
        }
        steps.push(step);
        Ok(())
    }

    /// Reads what the last step made: its owner can, another tenant cannot.
    pub(super) fn read_back(&self, cast: &Cast<'_>, role: &str, steps: &mut Vec<Step>) -> Result<(), String> {
        let Some((reader, access, parameter)) = self.reader_of(cast) else { return Ok(()) };
        let narrowed = |r: &str| self.narrowing(r, cast.access.table.as_deref()).is_some();
        let by = if access.allow.iter().any(|r| r == role) && !narrowed(role) {
            role
        } else {
            match access.allow.iter().find(|r| !narrowed(r)) {
                Some(by) => by,
                None => return Ok(()),
            }
        };
        let given = BTreeMap::from([(parameter, "⟦made⟧".to_string())]);
        let own = Cast { operation: reader, access, ..*cast };
        // The parents are those that it was made below, whoever reads it.
        let mut parents = given.clone();
        for (name, reference) in access.params.iter().filter(|(name, _)| !given.contains_key(*name)) {
            parents.insert(name.clone(), self.planted(cast.observer, self.row(cast, role), reference)?);
        }
        let mut control = self.step(&own, by, Relation::Own, Vector::Object, parents)?;
        control.expect = Expect { answer: Answer::Success, ..Expect::default() };
        let foreign = Cast { observer: cast.other, other: cast.observer, ..own };
        // Parents are the intruder's own: only the made id is foreign.
        let mut probe = self.step(&foreign, by, Relation::Own, Vector::Object, given)?;
        probe.cell.relation = Relation::Foreign;
        probe.subject = Some(cast.observer);
        probe.expect = Expect { answer: Answer::Denied, ..Expect::default() };
        steps.extend([control, probe]);
        Ok(())
    }

    pub(super) fn filtered(&self, cast: &Cast<'_>, role: &str, relation: Relation, name: &str) -> Result<Step, String> {
        let reference = cast.access.params.get(name).ok_or("a filter without its column")?;
        let row = self.row(cast, role);
        let value = self.planted(self.owner_of(cast, relation), row, reference)?;
        let given = BTreeMap::from([(name.to_string(), value.clone())]);
        let mut step = self.step(cast, role, Relation::Own, Vector::Filter, given)?;
        if !step.request.query.iter().any(|(k, _)| k == name) {
            step.request.query.push((name.into(), value));
        }
        step.cell.relation = relation;
        step.subject = match relation {
            Relation::Own => Some(cast.observer),
            Relation::Foreign => Some(cast.other),
            Relation::Absent => None,
        };
        step.requirement = self.requirement(cast, role, relation, Vector::Filter);
        let table = cast.access.table.clone().unwrap_or_default();
        step.expect = Expect {
            answer: if relation == Relation::Own { Answer::Success } else { Answer::Either },
            lists: Some(self.listing(role, &table, false)),
            control: relation == Relation::Own,
            ..Expect::default()
        };
        let same_table = reference.split('.').next() == Some(&table);
        if relation == Relation::Own && same_table {
            step.expect.shows = vec![(table, row)];
        }
        Ok(step)
    }

    /// The subject lists a page, and the actor continues with its cursor; before that, the subject itself does.
    pub(super) fn cursor(&self, cast: &Cast<'_>, role: &str, steps: &mut Vec<Step>) -> Result<(), String> {
        let (Some(list), Some(table)) = (&cast.access.list, &cast.access.table) else { return Ok(()) };
        let (Some(next), Some(cursor)) = (&list.next, &list.cursor) else { return Ok(()) };
        let page = |step: &mut Step| {
            if let Some(limit) = &list.limit {
                step.request.query.push((limit.clone(), "2".into()));
            }
        };
        let subject = Cast { observer: cast.other, other: cast.observer, ..*cast };
        let mut first = self.step(&subject, role, Relation::Own, Vector::Plain, BTreeMap::new())?;
        page(&mut first);
        first.captures.insert("cursor".into(), next.clone());
        first.expect =
            Expect { answer: Answer::Success, lists: Some(self.listing(role, table, false)), ..Expect::default() };
        let mut control = first.clone();
        control.captures.clear();
        control.request.query.push((cursor.clone(), "⟦cursor⟧".into()));
        control.requirement = "read/cursor".into();
        let mut probe = self.step(cast, role, Relation::Foreign, Vector::Cursor, BTreeMap::new())?;
        page(&mut probe);
        probe.request.query.push((cursor.clone(), "⟦cursor⟧".into()));
        probe.expect =
            Expect { answer: Answer::Either, lists: Some(self.listing(role, table, false)), ..Expect::default() };
        steps.extend([first, control, probe]);
        Ok(())
    }

    /// A request into which `forged` puts the subject: as if it were the subject's own, and without its object.
    pub(super) fn forge(
        &self,
        cast: &Cast<'_>,
        role: &str,
        relation: Relation,
        vector: Vector,
        steps: &mut Vec<Step>,
        forged: impl FnOnce(Request) -> Request,
    ) -> Result<(), String> {
        let mut given = self.prepared(cast, role, steps)?;
        // Objects are the subject's, so that a service that believes the forgery has something to give away; where the
        // path begins with the tenant, it is the actor's own, and the forgery alone says another.
        let rows = self.plan.target.rows_in_path(cast.operation, cast.access).next().is_some();
        let named = if rows { relation } else { Relation::Own };
        given.extend(self.below(cast, cast.observer)?);
        // A row of one's own that the body names is changed or gone after that: not a planted one.
        if !cast.reads() && !rows && cast.access.creates.is_none() && self.names_row(cast) {
            given.extend(self.made(cast, role, steps)?);
        }
        let mut step = self.step(cast, role, named, vector, given)?;
        step.request = forged(step.request);
        step.cell.relation = relation;
        step.subject = (relation == Relation::Foreign).then_some(cast.other);
        step.requirement = self.requirement(cast, role, relation, vector);
        step.expect.answer = if rows { Answer::Denied } else { Answer::Either };
        if let (Some(list), Some(table)) = (&cast.access.list, &cast.access.table) {
            step.request.query.extend(list.count.iter().map(|(k, v)| (k.clone(), v.clone())));
            step.expect.lists = Some(self.listing(role, table, false));
        }
        if let (Some(pointer), Some(table)) = (&cast.access.creates, &cast.access.table)
            && !rows
        {
            step.expect.adds_to = Some((table.clone(), self.lines(cast)));
            step.captures.insert("made".into(), pointer.clone());
        }
        steps.push(step);
        Ok(())
    }

    fn credential_of(&self, role: &str) -> Option<&Credential> {
        self.plan.target.credential.get(&self.plan.target.role(role)?.credential)
    }

    /// The ways in which a credential is not as issued: alterations where the first application role that may call it
    /// proves itself by something that can be altered, and the flaws of those that are made here.
    fn bad_proofs(&self, access: &Access) -> Vec<Proof> {
        let first = access.allow.first().and_then(|role| self.credential_of(role));
        let mut proofs = Vec::new();
        if first.is_none_or(Credential::proves) {
            proofs.extend([Proof::Altered, Proof::Truncated, Proof::Malformed, Proof::Unsigned]);
        }
        let made = access.allow.iter().filter_map(|role| self.credential_of(role));
        let flaws: BTreeSet<Flaw> = made.flat_map(Credential::flaws).collect();
        proofs.extend(flaws.into_iter().map(Proof::Flawed));
        proofs
    }

    /// The application role whose credential is presented as `proof` says.
    fn proving<'a>(&self, access: &'a Access, proof: &Proof) -> Option<&'a String> {
        match proof {
            Proof::Flawed(flaw) => {
                access.allow.iter().find(|role| self.credential_of(role).is_some_and(|c| c.flaws().contains(flaw)))
            }
            _ => access.allow.first(),
        }
    }
}

fn names_object(cast: &Cast<'_>) -> bool {
    TargetFile::named_in_path(cast.operation, cast.access).next().is_some()
}
