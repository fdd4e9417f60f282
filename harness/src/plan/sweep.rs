//! The sweep: every operation × application role × relation, each with its control.

use std::collections::BTreeMap;

use super::cast::{Cast, id_parameter};
use super::request::Forge;
use super::requirement::refusal_of;
use super::template::{Template, Variant};
use super::{Answer, Expect, Planner, Request, Step, Vector};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::principal::NOBODY;
use crate::target::file::TargetFile;

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
        let makes = cast.access.creates.is_some() && !table.is_empty();
        step.expect = Expect {
            answer: if relation == Relation::Own { Answer::Success } else { Answer::Either },
            lists: (!makes).then(|| self.listing(role, &table, false)),
            adds_to: makes.then(|| (table.clone(), self.lines(cast))),
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
}

fn names_object(cast: &Cast<'_>) -> bool {
    TargetFile::named_in_path(cast.operation, cast.access).next().is_some()
}
