//! Producers feed consumers: what one tenant's answer yields is offered again, by the tenant itself and by another one.
//! Which field fits which parameter is read from the document.

use std::collections::BTreeMap;

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cast::{Cast, id_parameter};
use super::{Answer, Expect, Planner, Step, Vector, body};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::operation::{Operation, Parameter, Place};
use crate::target::file::Access;

/// Schemas are looked into so deep.
const DEPTH_MAX: u32 = 4;
/// A value longer than any that a service keeps is repeated so often.
const LONG: usize = 200;

/// One such sequence, by what a document calls its parts: it outlives the run that drew it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The operation whose answer is learnt from.
    pub producer: String,
    /// Where in the answer: a JSON pointer, or `header:NAME`.
    pub field: String,
    /// The operation that is offered it.
    pub consumer: String,
    /// The parameter.
    pub parameter: String,
    /// How it is offered.
    pub offer: Offer,
}

/// How a value is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// As it was learnt.
    Plain,
    /// One character of it changed.
    Altered,
    /// Cut short.
    Cut,
    /// Repeated beyond every length.
    Long,
}

/// A field that fits a parameter.
#[derive(Clone, Debug)]
pub(super) struct Link {
    case: Case,
    fit: Fit,
}

/// How well a field fits a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It is the id of what the parameter names, or where a list goes on.
    Own,
    /// It has the parameter's name.
    Named,
    /// It has its type.
    Typed,
}

/// How often a case of each fit is drawn.
const WEIGHTS: [(u32, Fit); 3] = [(6, Fit::Own), (2, Fit::Named), (1, Fit::Typed)];

/// A leaf of an answer.
struct Leaf {
    pointer: String,
    name: String,
    format: String,
}

fn leaves(schema: &Value, pointer: &str, depth: u32, all: &mut Vec<Leaf>) {
    if depth > DEPTH_MAX {
        return;
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        leaves(part, pointer, depth, all);
    }
    if let Some(items) = schema.get("items") {
        leaves(items, &format!("{pointer}/0"), depth + 1, all);
    }
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let pointer = format!("{pointer}/{name}");
        if field.get("properties").or(field.get("items")).is_some() {
            leaves(field, &pointer, depth + 1, all);
        } else {
            let format = field.get("format").and_then(Value::as_str).unwrap_or_default().into();
            all.push(Leaf { pointer, name: name.clone(), format });
        }
    }
}

/// All links of a plan's document.
pub(super) fn links(planner: &Planner) -> Vec<Link> {
    let operations = || {
        planner.plan.operations.iter().filter_map(|o| Some((o, planner.access(o)?))).filter(|(_, a)| {
            let foreign = a.relations.as_ref().is_none_or(|relations| relations.contains(&Relation::Foreign));
            foreign && !planner.tenant_roles(a).is_empty()
        })
    };
    let mut links = Vec::new();
    // What changes or deletes would take from the planted rows, which are needed to the end.
    let produces = |o: &Operation, a: &Access| o.is_read() || (a.creates.is_some() && a.busy.is_empty());
    for (producer, access) in operations().filter(|(o, a)| a.prepare.is_none() && produces(o, a)) {
        let mut all = Vec::new();
        if let Some(answer) = producer.answer.as_ref().filter(|a| a.content_type.contains("json")) {
            leaves(&answer.schema, "", 0, &mut all);
        }
        if access.creates.is_some() {
            all.push(Leaf { pointer: "header:location".into(), name: "location".into(), format: String::new() });
        }
        for (consumer, opens) in operations().filter(|(o, _)| o.is_read()) {
            let own_id = access.table.as_deref().filter(|t| opens.table.as_deref() == Some(t));
            let own_id = own_id.and_then(|table| id_parameter(consumer, opens, table));
            let cursor = opens.list.as_ref().and_then(|list| list.cursor.as_ref());
            for leaf in &all {
                for parameter in &consumer.parameters {
                    let id = (leaf.name == "id" || leaf.name == "location") && own_id.as_ref() == Some(&parameter.name);
                    let next = access.list.as_ref().and_then(|list| list.next.as_ref());
                    let page = next == Some(&leaf.pointer) && cursor == Some(&parameter.name);
                    let fit = if id || page {
                        Some(Fit::Own)
                    } else if leaf.name == parameter.name && leaf.name.len() > 2 {
                        Some(Fit::Named)
                    } else {
                        (leaf.format == "uuid" && format_of(parameter) == "uuid").then_some(Fit::Typed)
                    };
                    if let Some(fit) = fit {
                        let case = Case {
                            producer: producer.id.clone(),
                            field: leaf.pointer.clone(),
                            consumer: consumer.id.clone(),
                            parameter: parameter.name.clone(),
                            offer: Offer::Plain,
                        };
                        links.push(Link { case, fit });
                    }
                }
            }
        }
    }
    links
}

fn format_of(parameter: &Parameter) -> &str {
    parameter.schema.get("format").and_then(Value::as_str).unwrap_or_default()
}

/// A case of one of `links`; the same bytes draw the same.
pub(super) fn drawn(links: &[Link], seed: [u8; 32]) -> Option<Case> {
    let of = |fit| links.iter().filter(|l| l.fit == fit).map(|l| l.case.clone()).collect::<Vec<_>>();
    let all = WEIGHTS.map(|(weight, fit)| (weight, of(fit)));
    let all: Vec<_> = all.into_iter().filter(|(_, cases)| !cases.is_empty()).collect();
    if all.is_empty() {
        return None;
    }
    let case = prop::strategy::Union::new_weighted(
        all.into_iter().map(|(weight, cases)| (weight, prop::sample::select(cases).boxed())).collect(),
    );
    let offer =
        prop_oneof![5 => Just(Offer::Plain), 1 => Just(Offer::Altered), 1 => Just(Offer::Cut), 1 => Just(Offer::Long)];
    let strategy = (case, offer).prop_map(|(case, offer)| Case { offer, ..case }).boxed();
    Some(body::draw(&strategy, seed))
}

/// Another case near `case`: the same producer or the same consumer.
pub(super) fn varied(links: &[Link], case: &Case, seed: [u8; 32]) -> Option<Case> {
    let near = |l: &&Link| l.case.producer == case.producer || l.case.consumer == case.consumer;
    let near: Vec<Link> = links.iter().filter(near).cloned().collect();
    drawn(&near, seed)
}

impl Planner {
    /// The steps of a case; none where the document has its parts no more.
    pub(super) fn learnt(&self, pool_state: PoolState, case: &Case, turn: u64) -> Result<Vec<Step>, String> {
        let part = |id: &str| self.operation(id).and_then(|o| Some((o, self.access(o)?)));
        let (Some((producer, made_by)), Some((consumer, opens))) = (part(&case.producer), part(&case.consumer)) else {
            return Ok(Vec::new());
        };
        let tenants = u64::from(self.plan.bounds.tenants);
        let owner = |turn: u64| Owner::new((turn % tenants) as u32);
        let (observer, other) = (owner(turn), owner(turn + 1 + turn / tenants % (tenants - 1)));
        let first = Cast { operation: producer, access: made_by, pool_state, observer, other, turn };
        let again = Cast { operation: consumer, access: opens, ..first };
        let roles = self.tenant_roles(made_by);
        let role = roles[turn as usize % roles.len()];
        let reader = self.player(&again);
        let mut told = self.step(&first, role, Relation::Own, Vector::Learnt, BTreeMap::new())?;
        told.captures = BTreeMap::from([("learnt".into(), case.field.clone())]);
        told.expect = Expect { answer: Answer::Success, ..Expect::default() };
        if let (Some(_), Some(table)) = (&made_by.creates, &made_by.table) {
            told.expect.adds_to = Some((table.clone(), 3));
        }
        let own = self.offer(&again, reader, case)?;
        let mut probe = self.offer(&Cast { observer: other, other: observer, ..again }, reader, case)?;
        (probe.cell.relation, probe.subject) = (Relation::Foreign, Some(observer));
        // An id of one's own object is nobody else's; other values may well mean something to others, too.
        let id = made_by.creates.as_deref() == Some(&case.field)
            && made_by.table.as_deref().and_then(|t| id_parameter(consumer, opens, t)).as_ref()
                == Some(&case.parameter)
            && opens.table == made_by.table
            && case.offer == Offer::Plain;
        if id {
            probe.expect.answer = Answer::Denied;
        }
        let mut steps = vec![told, own, probe];
        steps.iter_mut().for_each(|step| step.case = Some(case.clone()));
        Ok(steps)
    }

    fn offer(&self, cast: &Cast<'_>, role: &str, case: &Case) -> Result<Step, String> {
        let learnt = if case.field == "header:location" { "⟦learnt|last⟧" } else { "⟦learnt⟧" };
        let value = match case.offer {
            Offer::Plain => learnt.to_string(),
            Offer::Altered => "⟦learnt|altered⟧".into(),
            Offer::Cut => "⟦learnt|cut⟧".into(),
            Offer::Long => learnt.repeat(LONG),
        };
        let given = BTreeMap::from([(case.parameter.clone(), value.clone())]);
        let mut step = self.step(cast, role, Relation::Own, Vector::Learnt, given)?;
        if takes_in_query(cast.operation, &case.parameter)
            && !step.request.query.iter().any(|(k, _)| *k == case.parameter)
        {
            step.request.query.push((case.parameter.clone(), value));
        }
        Ok(step)
    }
}

fn takes_in_query(operation: &Operation, name: &str) -> bool {
    operation.parameters_in(Place::Query).any(|p| p.name == name)
}
