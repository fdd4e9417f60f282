//! Namesakes: rows of two tenants that are alike in all but one text, as codes and names are that each tenant gives for
//! itself. Whatever one does to its own must leave the other's, and what hangs below it, where it was and as it was.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::cast::{Cast, id_parameter};
use super::request::Naming;
use super::{Answer, Planner, Request, Step};
use crate::canary::Owner;
use crate::cell::{Lanes, Relation};
use crate::operation::{Operation, Place};
use crate::placeholder;
use crate::target::file::{Access, TargetFile};

/// That what is done to one's own is not done to another's of the same name.
pub const NAMESAKE: &str = "write/namesake";
/// Kinds of children that are hung below the other's row.
const CHILDREN_MAX: usize = 2;
/// The names of the values that the story takes from answers.
const MINE: &str = "mine";
const ONCE: &str = "once";
const THEIRS: &str = "theirs";

/// Which of several texts stays each tenant's own: another one may be what a row is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    First,
    Last,
}

/// An operation and what is said of it.
type Described<'p> = (&'p Operation, &'p Access);

impl Planner {
    /// Whether rows that an operation makes can be read by their ids.
    pub(super) fn makes_what_is_read(&self, operation: &Operation, access: &Access) -> bool {
        let makes = access.creates.is_some() && access.lines_of.is_none() && access.prepare.is_none();
        let read = |table: &str| self.of_row(table).any(|(o, a)| o.is_read() && a.list.is_none());
        makes && operation.body.is_some() && access.table.as_deref().is_some_and(read)
    }

    /// Operations on a row of `table` that its path names, which need nothing else.
    fn of_row(&self, table: &str) -> impl Iterator<Item = Described<'_>> {
        self.plan.operations.iter().filter_map(move |operation| {
            let access = self.access(operation).filter(|access| access.prepare.is_none())?;
            let own = access.table.as_deref() == Some(table) && access.creates.is_none();
            (own && id_parameter(operation, access, table).is_some()).then_some((operation, access))
        })
    }

    /// The other has a row, and rows below it; one makes a row that is alike, changes it and deletes it; between all that
    /// each reads its own. On one connection only, so that nobody else does anything to them meanwhile.
    pub(super) fn namesakes(&self, cast: &Cast<'_>, apart: Apart) -> Result<Vec<Step>, String> {
        let (Some(made), Some(table)) = (&cast.access.creates, cast.access.table.as_deref()) else {
            return Ok(Vec::new());
        };
        let one = cast.pool_state.lanes == Lanes::One;
        let Some((reader, reads, _)) = self.reader_of(cast).filter(|_| one) else { return Ok(Vec::new()) };
        let other = self.turned(cast);
        let make = |cast: &Cast<'_>, name: &str| -> Result<Option<Step>, String> {
            let mut step = self.told(cast, NAMESAKE, BTreeMap::new())?;
            let Some(request) = self.alike_but(cast, apart)? else { return Ok(None) };
            step.request = request;
            step.captures = BTreeMap::from([(name.to_string(), made.clone())]);
            Ok(Some(step))
        };
        let (Some(theirs), Some(mut mine)) = (make(&other, THEIRS)?, make(cast, MINE)?) else { return Ok(Vec::new()) };
        // Whether it may be made at all is asked elsewhere.
        mine.expect.answer = Answer::Either;
        let mut steps = vec![theirs];
        let row = self.row(cast, self.player(cast));
        let on = |described: Described<'_>, cast: &Cast<'_>, name: &str, below: Option<(String, String)>| {
            self.on_row(described, cast, (table, row), name, below)
        };
        let mut watched = vec![on((reader, reads), &other, THEIRS, None)?];
        for (number, (operation, access)) in self.makers_below(table).take(CHILDREN_MAX).enumerate() {
            let child = Cast { operation, access, ..other };
            let (Some(pointer), Some((reader, reads, parameter))) = (&access.creates, self.reader_of(&child)) else {
                continue;
            };
            let name = format!("below {number}");
            let mut step = on((operation, access), &other, THEIRS, None)?;
            step.captures = BTreeMap::from([(name.clone(), pointer.clone())]);
            steps.push(step);
            watched.push(on((reader, reads), &other, THEIRS, Some((parameter, placeholder::of(&name))))?);
        }
        steps.extend(watched.iter().cloned());
        let deletion = self.of_row(table).find(|(o, a)| o.method == "DELETE" && self.opens_to_all(a));
        if let Some(deletion) = deletion {
            // As it was made: one that is changed may have another name by then.
            let captures = mine.captures.values().map(|pointer| (ONCE.to_string(), pointer.clone())).collect();
            steps.push(Step { captures, ..mine.clone() });
            steps.push(on(deletion, cast, ONCE, None)?);
            steps.extend(watched.iter().cloned());
        }
        steps.push(mine);
        let changes = |o: &Operation| !o.is_read() && o.method != "DELETE";
        if let Some(change) = self.of_row(table).find(|(o, a)| changes(o) && a.list.is_none() && self.opens_to_all(a)) {
            let mut step = on(change, cast, MINE, None)?;
            step.expect.answer = Answer::Either;
            steps.push(step);
        }
        let own = on((reader, reads), cast, MINE, None)?;
        steps.extend(watched.iter().cloned().chain([own]));
        // Where the name is the id as well, what the other asks for by it is its own.
        if !self.tells_its_id(cast, made)? {
            let mut probe = on((reader, reads), &other, MINE, None)?;
            (probe.cell.relation, probe.subject) = (Relation::Foreign, Some(cast.observer));
            probe.expect.answer = Answer::Denied;
            steps.push(probe);
        }
        if let Some(deletion) = deletion {
            steps.push(on(deletion, cast, MINE, None)?);
            steps.extend(watched);
        }
        Ok(steps)
    }

    /// Whether who makes a row says what its id is to be: in the path, or where the answer has it.
    fn tells_its_id(&self, cast: &Cast<'_>, made: &str) -> Result<bool, String> {
        let Cast { operation, access, .. } = *cast;
        let mapped = TargetFile::named_in_path(operation, access).count();
        let table = access.table.as_deref().unwrap_or_default();
        if operation.parameters_in(Place::Path).count() > mapped || id_parameter(operation, access, table).is_some() {
            return Ok(true);
        }
        let request = self.request(cast.operation, &self.named(cast, self.player(cast), cast.observer))?;
        let body = request.body.and_then(|(_, body)| serde_json::from_str::<Value>(&body).ok());
        Ok(body.is_some_and(|body| body.pointer(made).is_some()))
    }

    /// Whether somebody of a tenant may call it who sees all its rows.
    fn opens_to_all(&self, access: &Access) -> bool {
        self.tenant_roles(access).iter().any(|role| self.narrowing(role, access.table.as_deref()).is_none())
    }

    /// A request on the row of `table` that was captured as `name`, or on what lies below it; what that lies below itself is
    /// the observer's own.
    fn on_row(
        &self,
        (operation, access): Described<'_>,
        cast: &Cast<'_>,
        (table, row): (&str, u32),
        name: &str,
        below: Option<(String, String)>,
    ) -> Result<Step, String> {
        let mut given = BTreeMap::new();
        for (parameter, reference) in TargetFile::named_in_path(operation, access) {
            given.insert(parameter.to_string(), self.planted(cast.observer, row, reference)?);
        }
        given.extend(id_parameter(operation, access, table).map(|parameter| (parameter, placeholder::of(name))));
        given.extend(below);
        self.told(&Cast { operation, access, ..*cast }, NAMESAKE, given)
    }

    /// Operations that make a row below one of `table`.
    fn makers_below<'p>(&'p self, table: &'p str) -> impl Iterator<Item = Described<'p>> {
        self.plan.operations.iter().filter_map(move |operation| {
            let access = self.access(operation)?;
            let below = access.table.as_deref() != Some(table) && id_parameter(operation, access, table).is_some();
            (below && self.makes_what_is_read(operation, access)).then_some((operation, access))
        })
    }

    /// The request that makes a row whose values are nobody's, but for one text; none where that asks for another text
    /// than there is.
    fn alike_but(&self, cast: &Cast<'_>, apart: Apart) -> Result<Option<Request>, String> {
        let role = self.player(cast);
        let made_by = |writer| {
            let naming = Naming { writer, ..self.named(cast, role, cast.observer) };
            self.request(cast.operation, &naming)
        };
        let (mut alike, own) = (made_by(Owner::ABSENT)?, made_by(cast.observer)?);
        let fields =
            |request: &Request| -> Option<Map<String, Value>> { serde_json::from_str(&request.body.as_ref()?.1).ok() };
        let (Some(mut values), Some(own)) = (fields(&alike), fields(&own)) else { return Ok(None) };
        let texts: Vec<String> = values
            .iter()
            .filter(|(name, value)| value.is_string() && own.get(*name).is_some_and(|own| own != *value))
            .map(|(name, _)| name.clone())
            .collect();
        let kept = match apart {
            Apart::First => texts.first().filter(|_| texts.len() > 1),
            Apart::Last if texts.len() < 2 => return Ok(None),
            Apart::Last => texts.last(),
        };
        if let Some(name) = kept {
            values.insert(name.clone(), own[name].clone());
        }
        if let Some((_, body)) = &mut alike.body {
            *body = Value::Object(values).to_string();
        }
        Ok(Some(alike))
    }
}
