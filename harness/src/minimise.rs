//! From steps that showed a finding to the fewest that still do: greedy delta debugging (Zeller and Hildebrandt, 2002).
//! Pure: it proposes smaller scripts, and is told of each whether the finding was seen again.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::canary::Owner;
use crate::plan::{Script, Step};

/// Proposes smaller scripts than the best one known.
pub struct Minimiser {
    best: Script,
    /// What was proposed already, as JSON.
    tried: HashSet<String>,
    proposed: Option<Script>,
}

impl Minimiser {
    /// Begins with a script that showed the finding.
    pub fn new(script: Script) -> Self {
        Self { tried: HashSet::from([key(&script)]), best: script, proposed: None }
    }

    /// The smallest script known to show the finding.
    pub fn best(&self) -> &Script {
        &self.best
    }

    /// The next smaller script to try; none when nothing smaller is left.
    pub fn propose(&mut self) -> Option<Script> {
        let next = smaller(&self.best).find(|script| !self.tried.contains(&key(script)))?;
        self.tried.insert(key(&next));
        self.proposed = Some(next.clone());
        Some(next)
    }

    /// Says that what was proposed last showed the finding.
    pub fn shown(&mut self) {
        if let Some(script) = self.proposed.take() {
            self.best = script;
        }
    }
}

fn key(script: &Script) -> String {
    serde_json::to_string(script).unwrap_or_default()
}

/// All scripts one change smaller, what takes most away first.
fn smaller(script: &Script) -> impl Iterator<Item = Script> + '_ {
    let changes: [fn(&Script) -> Vec<Script>; 7] =
        [one_lane, fewer_steps, fewer_tenants, single_pages, fewer_parameters, fewer_fields, plain_values];
    changes.into_iter().flat_map(move |change| change(script)).map(|mut script| {
        script.renumber();
        script
    })
}

/// All steps on one connection.
fn one_lane(script: &Script) -> Vec<Script> {
    let flat = || Script { lanes: vec![script.steps().cloned().collect()], ..script.clone() };
    if script.lanes.len() > 1 { vec![flat()] } else { Vec::new() }
}

/// Runs of steps left out: halves, quarters, and so on down to single ones.
fn fewer_steps(script: &Script) -> Vec<Script> {
    let steps = script.steps().count();
    let mut all = Vec::new();
    let mut length = steps.div_ceil(2);
    while length > 0 && steps > 1 {
        for from in (0..steps).step_by(length) {
            let mut number = 0;
            let mut fewer = script.clone();
            for lane in &mut fewer.lanes {
                lane.retain(|_| {
                    number += 1;
                    !(from + 1..=from + length).contains(&number)
                });
            }
            fewer.lanes.retain(|lane| !lane.is_empty());
            all.push(fewer);
        }
        length /= 2;
    }
    all
}

/// One tenant's part played by another.
fn fewer_tenants(script: &Script) -> Vec<Script> {
    let tenants = || (0..script.tenants).map(Owner::new);
    let pairs =
        tenants().rev().flat_map(|from| tenants().filter(move |into| *into < from).map(move |into| (from, into)));
    pairs.filter_map(|(from, into)| script.folded(from, into)).collect()
}

/// One list not followed beyond its first page.
fn single_pages(script: &Script) -> Vec<Script> {
    let walks = script.steps().enumerate().filter(|(_, step)| step.walk && step.expect.shows.is_empty());
    walks
        .map(|(place, _)| {
            let mut single = script.clone();
            if let Some(step) = single.lanes.iter_mut().flatten().nth(place) {
                step.walk = false;
                // One page cannot have all rows.
                step.expect.lists.iter_mut().for_each(|listing| listing.complete = false);
            }
            single
        })
        .collect()
}

/// `change` made to every step of one operation alike, so that steps that are compared stay comparable.
fn alike(script: &Script, operation: &str, change: impl Fn(&mut Step)) -> Script {
    let mut changed = script.clone();
    let steps = changed.lanes.iter_mut().flatten();
    steps.filter(|step| step.cell.operation == operation).for_each(change);
    changed
}

/// One query parameter or header left out of an operation's requests.
fn fewer_parameters(script: &Script) -> Vec<Script> {
    // A filter that is to show a row may be why the row is there.
    let free = script.steps().filter(|step| step.expect.shows.is_empty());
    let named: BTreeSet<(&str, bool, &str)> = free
        .flat_map(|step| {
            let query = step.request.query.iter().map(|(name, _)| (true, name.as_str()));
            let headers = step.request.headers.iter().map(|(name, _)| (false, name.as_str()));
            query.chain(headers).map(|(query, name)| (step.cell.operation.as_str(), query, name))
        })
        .collect();
    let all = |script: Script, (operation, query, name): &(&str, bool, &str)| {
        alike(&script, operation, |step| without_parameter(step, *query, name))
    };
    let together = named.iter().fold(script.clone(), all);
    std::iter::once(together).chain(named.iter().map(|one| all(script.clone(), one))).collect()
}

fn without_parameter(step: &mut Step, query: bool, name: &str) {
    let of = if query { &mut step.request.query } else { &mut step.request.headers };
    of.retain(|(known, _)| known != name);
}

/// One field left out of an operation's bodies.
fn fewer_fields(script: &Script) -> Vec<Script> {
    let without = |(operation, place): (String, Vec<String>)| {
        alike(script, &operation, |step| {
            edit(step, |body| {
                let (name, parents) = place.split_last()?;
                at(body, parents)?.as_object_mut()?.shift_remove(name).map(drop)
            });
        })
    };
    fields(script).into_iter().map(without).collect()
}

/// One text made as plain as can be, in the query or in bodies.
fn plain_values(script: &Script) -> Vec<Script> {
    let queries: BTreeSet<(&str, &str)> = script
        .steps()
        .flat_map(|step| step.request.query.iter().map(|(name, _)| (step.cell.operation.as_str(), name.as_str())))
        .collect();
    let plain = |script: Script, (operation, name): &(&str, &str)| {
        alike(&script, operation, |step| {
            let query = step.request.query.iter_mut().filter(|(known, value)| known == name && !captured(value));
            // A filter that is to show a row may be why the row is there.
            query.filter(|_| step.expect.shows.is_empty()).for_each(|(_, value)| *value = "1".into());
        })
    };
    let fields = fields(script);
    let text = |script: Script, (operation, place): &(String, Vec<String>)| {
        alike(&script, operation, |step| {
            edit(step, |body| match at(body, place)? {
                Value::String(text) if !captured(text) => {
                    *text = "x".into();
                    Some(())
                }
                _ => None,
            });
        })
    };
    let together = fields.iter().fold(queries.iter().fold(script.clone(), plain), text);
    let one_by_one = queries.iter().map(|one| plain(script.clone(), one));
    let one_by_one = one_by_one.chain(fields.iter().map(|one| text(script.clone(), one)));
    std::iter::once(together).chain(one_by_one).collect()
}

/// A value that an earlier step yields.
fn captured(value: &str) -> bool {
    value.starts_with('⟦') && !value.contains('.')
}

/// Every field of every operation's JSON bodies: the operation, and the names that lead to the field.
fn fields(script: &Script) -> BTreeSet<(String, Vec<String>)> {
    let mut all = BTreeSet::new();
    for step in script.steps() {
        let body = step.request.body.as_ref().and_then(|(_, body)| serde_json::from_str(body).ok());
        let mut open: Vec<(Vec<String>, Value)> = body.map(|body| (Vec::new(), body)).into_iter().collect();
        while let Some((place, value)) = open.pop() {
            let Value::Object(fields) = value else { continue };
            for (name, value) in fields {
                let place: Vec<String> = place.iter().cloned().chain([name]).collect();
                all.insert((step.cell.operation.clone(), place.clone()));
                open.push((place, value));
            }
        }
    }
    all
}

fn at<'v>(value: &'v mut Value, place: &[String]) -> Option<&'v mut Value> {
    place.iter().try_fold(value, |value, name| value.get_mut(name))
}

/// Changes a step's JSON body; a body that `change` finds nothing in stays.
fn edit(step: &mut Step, change: impl Fn(&mut Value) -> Option<()>) {
    let Some((_, text)) = &mut step.request.body else { return };
    if let Ok(mut body) = serde_json::from_str::<Value>(text)
        && change(&mut body).is_some()
    {
        *text = body.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Cell, Lanes, PoolState, Relation};
    use crate::plan::{Proof, Request, Vector};
    use crate::principal::Principal;

    fn step(tenant: u32, path: &str, query: &[&str], relation: Relation) -> Step {
        let pool_state = PoolState { pool_size: Some(1), lanes: Lanes::One };
        let request = Request {
            method: "GET".into(),
            path: path.into(),
            query: query.iter().map(|name| (name.to_string(), "long value".into())).collect(),
            headers: vec![("X-Tenant".into(), "⟦1.documents.0.id⟧".into())],
            body: Some(("application/json".into(), r#"{"kept":{"needed":"a","not":1},"other":"text"}"#.into())),
            proof: Proof::AsIssued,
        };
        let cell = Cell { operation: path.into(), role: "reader".into(), relation, pool_state };
        Step {
            subject: Some(Owner::new(if relation == Relation::Foreign { 1 - tenant.min(1) } else { tenant })),
            requirement: "read/list".into(),
            walk: true,
            ..Step::new(cell, Principal::of(Owner::new(tenant), "reader"), Vector::Plain, request)
        }
    }

    /// Minimises against a rule that says what shows the finding; the result and how many scripts were tried.
    fn check(script: Script, shows: impl Fn(&Script) -> bool) -> (Script, usize) {
        assert!(shows(&script), "the rule holds for what it begins with");
        let mut minimiser = Minimiser::new(script);
        let mut tries = 0;
        while let Some(proposed) = minimiser.propose() {
            tries += 1;
            if shows(&proposed) {
                minimiser.shown();
            }
        }
        (minimiser.best().clone(), tries)
    }

    #[test]
    fn what_the_finding_does_not_need_is_left_out() {
        let mut lane: Vec<Step> = (0..40).map(|n| step(n % 4, &format!("/{n}"), &["a", "b"], Relation::Own)).collect();
        lane[17] = step(2, "/leaks", &["page", "forged"], Relation::Own);
        let script = Script { pool_size: Some(1), tenants: 4, lanes: vec![lane.clone(), lane] };
        let (best, tries) = check(script, |script| {
            let forged = |step: &Step| step.request.query.iter().any(|(name, _)| name == "forged");
            let needed = |step: &Step| step.request.body.as_ref().is_some_and(|(_, body)| body.contains("needed"));
            script.steps().any(|s| s.cell.operation == "/leaks" && forged(s) && needed(s))
                && script.steps().any(|s| s.cell.operation == "/3")
        });
        assert_eq!((best.lanes.len(), best.steps().count(), best.tenants), (1, 2, 1), "{best:?}");
        let leaks = best.steps().find(|s| s.cell.operation == "/leaks").expect("kept");
        assert_eq!(leaks.request.query, [("forged".to_string(), "1".to_string())]);
        assert_eq!(leaks.request.body.as_ref().map(|(_, b)| b.as_str()), Some(r#"{"kept":{"needed":"x"}}"#));
        assert!(leaks.request.headers.is_empty() && !leaks.walk);
        assert!(tries < 200, "{tries} tries");
    }

    #[test]
    fn a_foreign_object_never_becomes_ones_own() {
        let lane = vec![step(0, "/a", &[], Relation::Foreign), step(1, "/b", &[], Relation::Own)];
        let script = Script { pool_size: None, tenants: 2, lanes: vec![lane] };
        let (best, _) = check(script, |script| script.steps().any(|step| step.cell.operation == "/a"));
        assert_eq!((best.steps().count(), best.tenants), (1, 2), "{best:?}");
    }

    #[test]
    fn a_finding_that_nothing_smaller_shows_stays_as_it_is() {
        let script = Script { pool_size: None, tenants: 1, lanes: vec![vec![step(0, "/a", &["q"], Relation::Own)]] };
        let (best, _) = check(script.clone(), |other| *other == script);
        assert_eq!(best, script);
    }
}
