//! Recorded traffic played again: each user's requests by two tenants in turn, and each request once more with what is
//! the other tenant's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cast::Cast;
use super::request::{Forge, Naming};
use super::{Answer, Expect, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{Cell, PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::target::file::Access;

/// What one user was recorded to do, in terms of operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Journey {
    /// The application role that plays the user.
    pub role: String,
    /// The requests, in order.
    pub requests: Vec<Recorded>,
}

/// One recorded request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// The operation.
    pub operation: String,
    /// What stood in its parameters, by name.
    pub given: BTreeMap<String, Given>,
    /// Its JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// What stood in a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// What names nobody's object, as it was.
    Kept(String),
    /// An object that was there before: the n-th that the capture names.
    Row(u64),
    /// What an earlier request of the journey made.
    Made(usize),
    /// The cursor that an earlier request of the journey was answered.
    Cursor(usize),
}

/// One request of one tenant's playing.
struct Played<'a> {
    cast: Cast<'a>,
    role: &'a str,
    recorded: &'a Recorded,
    index: usize,
}

impl Planner {
    /// How many sequences each pool state has.
    pub(super) fn recordings(&self) -> u64 {
        self.plan.recorded.len() as u64 * u64::from(self.plan.bounds.pairs)
    }

    /// One journey, played by two tenants on one connection.
    pub(super) fn recorded(&self, pool_state: PoolState, number: u64) -> Result<Vec<Step>, String> {
        let journeys = &self.plan.recorded;
        let journey = &journeys[number as usize % journeys.len()];
        let tenants = self.plan.bounds.tenants;
        let first = Owner::new((number % u64::from(tenants)) as u32);
        let second = Owner::new((first.index() + 1) % tenants);
        let platform = self.plan.target.role(&journey.role).is_some_and(|role| role.platform);
        let mut steps = Vec::new();
        for (index, recorded) in journey.requests.iter().enumerate() {
            let Some(operation) = self.operation(&recorded.operation) else { continue };
            let Some(access) = self.access(operation) else { continue };
            let turn = number << 12 | (index as u64) << 1;
            let cast = Cast { operation, access, pool_state, observer: first, other: second, turn };
            let back = Cast { observer: second, other: first, turn: turn | 1, ..cast };
            let role = journey.role.as_str();
            if platform {
                self.own_again(&Played { cast, role, recorded, index }, &mut steps)?;
                continue;
            }
            let (one, two) = (Played { cast, role, recorded, index }, Played { cast: back, role, recorded, index });
            // What changes an object is offered before its owner may have removed it.
            if !operation.is_read() {
                self.offered(&one, &mut steps)?;
            }
            self.own_again(&two, &mut steps)?;
            self.own_again(&one, &mut steps)?;
            if operation.is_read() {
                self.offered(&one, &mut steps)?;
            }
        }
        Ok(steps)
    }

    /// The request as it was recorded, with what is the actor's own.
    fn own_again(&self, played: &Played<'_>, steps: &mut Vec<Step>) -> Result<(), String> {
        let Played { cast, role, recorded, index } = played;
        let Cast { operation, access, observer, .. } = *cast;
        let mut before = Vec::new();
        self.prepared(cast, role, &mut before)?;
        let mut given = BTreeMap::new();
        let mut row = self.recorded_row(played);
        let made = recorded.given.values().any(|value| matches!(value, Given::Made(_)));
        let changes = !operation.is_read() && named(operation, access) && access.creates.is_none() && !made;
        if changes && let Some((name, value)) = self.made(cast, role, &mut before)? {
            given.insert(name, value);
            row = self.row(cast, role);
        }
        let other = |name: &str| format!("{name} {index} {}", observer.index());
        steps.extend(before.into_iter().map(|step| step.with_captures_named(&other)));
        for (name, value) in self.named_by(played, observer, row)? {
            given.entry(name).or_insert(value);
        }
        let mut step = self.played(played, Relation::Own, Vector::Plain, row, given)?;
        step.requirement = "replay/own-data".into();
        step.expect = Expect { answer: Answer::Success, control: true, ..Expect::default() };
        if let Some(table) = &access.table {
            match &access.list {
                Some(_) => step.expect.lists = Some(self.listing(role, table, false)),
                None if operation.is_read() && named(operation, access) && !made => {
                    step.expect.shows = vec![(table.clone(), row)];
                }
                None => {}
            }
            if let Some(pointer) = &access.creates {
                step.expect.adds_to = Some((table.clone(), self.lines(cast)));
                step.captures.insert("made".into(), pointer.clone());
            }
        }
        if let Some(next) = access.list.as_ref().and_then(|list| list.next.as_ref()) {
            step.captures.insert("next".into(), next.clone());
        }
        steps.push(step.with_captures_named(&|name| match name.contains(' ') {
            true => name.into(),
            false => other(name),
        }));
        Ok(())
    }

    /// The request with what is the other tenant's: its objects, its cursor, its value in a filter; and where nothing of
    /// the kind stands in it, the other tenant's id beside what does.
    fn offered(&self, played: &Played<'_>, steps: &mut Vec<Step>) -> Result<(), String> {
        let Played { cast, role, recorded, .. } = played;
        let Cast { operation, access, other, .. } = *cast;
        if access.open || access.prepare.is_some() {
            return Ok(());
        }
        let row = self.recorded_row(played);
        let cursor = recorded.given.values().any(|value| matches!(value, Given::Cursor(_)));
        let filter = operation
            .parameters_in(Place::Query)
            .any(|p| access.params.contains_key(&p.name) && matches!(recorded.given.get(&p.name), Some(Given::Row(_))));
        let objects = named(operation, access);
        let vector = match (objects, cursor, filter) {
            (true, _, _) => Vector::Object,
            (_, true, _) => Vector::Cursor,
            (_, _, true) => Vector::Filter,
            _ => Vector::ForgedQuery,
        };
        let whose = if vector == Vector::ForgedQuery { cast.observer } else { other };
        let given = self.named_by(played, whose, row)?;
        let relation = if vector == Vector::ForgedQuery { Relation::Own } else { Relation::Foreign };
        let mut step = self.played(played, relation, vector, row, given)?;
        step.cell.relation = Relation::Foreign;
        step.subject = Some(other);
        step.requirement = "replay/foreign-id".into();
        step.expect.answer = if objects { Answer::Denied } else { Answer::Either };
        if let (Some(_), Some(table)) = (&access.list, &access.table) {
            step.expect.lists = Some(self.listing(role, table, false));
        }
        if let (Some(_), Some(table), false) = (&access.creates, &access.table, objects) {
            step.expect.adds_to = Some((table.clone(), self.lines(cast)));
        }
        if vector == Vector::ForgedQuery {
            let mut one = step.clone();
            one.request.query.push(("tenant_id".into(), self.holdings.tenant_id(other).to_string()));
            steps.push(one);
            step.request = self.forged(step.request, Forge::Query, other);
        }
        steps.push(step);
        Ok(())
    }

    /// The planted row that stands for the object that the request names.
    fn recorded_row(&self, played: &Played<'_>) -> u32 {
        let Played { cast, role, recorded, .. } = played;
        let named = recorded.given.values().find_map(|value| match value {
            Given::Row(number) => Some(*number),
            _ => None,
        });
        self.row(&Cast { turn: named.unwrap_or(0), ..*cast }, role)
    }

    /// What stands in the parameters when the objects are those of `whose`.
    fn named_by(&self, played: &Played<'_>, whose: Owner, row: u32) -> Result<BTreeMap<String, String>, String> {
        let Played { cast, recorded, .. } = played;
        let value = |(name, given): (&String, &Given)| {
            let text = match (given, cast.access.params.get(name)) {
                (Given::Kept(text), _) => text.clone(),
                (Given::Row(_), Some(reference)) => self.planted(whose, row, reference)?,
                (Given::Row(_), None) => return Ok(None),
                (Given::Made(index), _) => format!("⟦made {index} {}⟧", whose.index()),
                (Given::Cursor(index), _) => format!("⟦next {index} {}⟧", whose.index()),
            };
            Ok(Some((name.clone(), text)))
        };
        recorded.given.iter().filter_map(|one| value(one).transpose()).collect()
    }

    fn played(
        &self,
        played: &Played<'_>,
        relation: Relation,
        vector: Vector,
        row: u32,
        given: BTreeMap<String, String>,
    ) -> Result<Step, String> {
        let Played { cast, role, recorded, .. } = played;
        let Cast { operation, access, pool_state, .. } = *cast;
        let actor = self.holdings.principal(cast.observer, role);
        let owner = if relation == Relation::Foreign { cast.other } else { cast.observer };
        let writer = actor.tenant.unwrap_or(Owner::PLATFORM);
        let write = self.write_number(pool_state, cast.turn);
        let mut request = self.request(operation, &Naming { owner, row, writer, write, role, given, among: None })?;
        if let (Some(recorded), None, None) = (&recorded.body, &access.body, &access.lines_of)
            && let Some((_, body)) = &mut request.body
            && let Ok(fresh) = serde_json::from_str(body)
        {
            *body = as_recorded(fresh, recorded).to_string();
        }
        let cell = Cell { operation: operation.id.clone(), role: (*role).into(), relation, pool_state };
        Ok(Step { subject: Some(owner), ..Step::new(cell, actor, vector, request) })
    }
}

fn named(operation: &Operation, access: &Access) -> bool {
    operation.parameters_in(Place::Path).any(|p| access.params.contains_key(&p.name))
}

/// The recorded body, with fresh text wherever the document lets text be free: it then names its writer.
fn as_recorded(fresh: Value, recorded: &Value) -> Value {
    match (fresh, recorded) {
        (Value::Object(mut fresh), Value::Object(recorded)) => Value::Object(
            recorded
                .iter()
                .map(|(name, value)| {
                    let value = fresh.shift_remove(name).map_or_else(|| value.clone(), |f| as_recorded(f, value));
                    (name.clone(), value)
                })
                .collect(),
        ),
        (Value::String(fresh), Value::String(_)) => Value::String(fresh),
        (_, recorded) => recorded.clone(),
    }
}
