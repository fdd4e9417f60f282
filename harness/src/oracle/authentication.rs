//! Credentials and application roles that must be refused are refused.

use std::collections::{BTreeMap, BTreeSet};

use super::canary_sighting::actor_words;
use super::{Ground, Oracle, Suspicion};
use crate::cell::PoolState;
use crate::finding::OracleId;
use crate::history::Observation;
use crate::plan::{Answer, DOWNGRADED, Proof, REMOVED, Step};
use crate::principal::{NOBODY, Principal};
use crate::target::credential::Flaw;

/// The oracle, with its account of departures: a service may keep whom it was asked to let go, and then nothing is shown.
#[derive(Default)]
pub struct Authentication {
    /// By requirement of departures, where and by whom something was last done: only another lets one go.
    done: BTreeMap<&'static str, (PoolState, u64, Principal)>,
    /// The requirements for which somebody had gone who tried again.
    gone: BTreeSet<&'static str>,
}

/// The requirement that `step` speaks for, where it is one of departures.
fn departure(step: &Step) -> Option<&'static str> {
    [REMOVED, DOWNGRADED].into_iter().find(|id| *id == step.requirement)
}

fn flawed(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::Expired => "a credential whose time was over",
        Flaw::ForeignKey => "a credential that another key had signed",
        Flaw::Confused | Flaw::ConfusedTrimmed => "a credential signed with the public key as a secret",
        Flaw::ForeignIssuer => "a credential of another issuer",
        Flaw::ForeignAudience => "a credential for another audience",
        Flaw::AnothersKey => "a credential that the key of another tenant had signed",
        Flaw::AnothersKeyAsOwn => "a credential that the key of another tenant had signed under the own key's id",
        Flaw::KeyIdPath => "a credential whose key id is the path of an empty file",
        Flaw::KeyIdSql => "a credential whose key id is SQL",
        Flaw::EmbeddedKey => "a credential that brings its own key along",
        Flaw::NoneCased => "an unsigned credential, of the algorithm `nOnE`",
    }
}

impl Oracle for Authentication {
    fn id(&self) -> OracleId {
        OracleId::Authentication
    }

    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion> {
        let step = &observation.step;
        let Some(answer) = observation.answered() else { return Vec::new() };
        let must = step.expect.answer == Answer::Refused;
        if let Some(id) = departure(step) {
            if step.expect.answer == Answer::Success && answer.status < 400 && step.request.method != "GET" {
                self.done.insert(id, (step.cell.pool_state, observation.sequence, step.actor.clone()));
            }
            let gone = self.done.get(id).is_some_and(|(state, sequence, by)| {
                (*state, *sequence) == (step.cell.pool_state, observation.sequence) && *by != step.actor
            });
            if !gone {
                return Vec::new();
            }
            self.gone.extend(must.then_some(id));
            // Whoever has an account still, and no tenant, may be told of no rows.
            let lists = ground.plan.target.access(&step.cell.operation).is_some_and(|access| access.list.is_some());
            if lists && answer.sightings.is_empty() {
                return Vec::new();
            }
        }
        if !must || !(200..300).contains(&answer.status) {
            return Vec::new();
        }
        let who = match step.request.proof {
            Proof::AsIssued | Proof::Issued if step.requirement == REMOVED => {
                format!("the {}, which had been removed", step.actor)
            }
            Proof::AsIssued if step.requirement == DOWNGRADED => {
                format!("the {}, which had been given a lesser role", step.actor)
            }
            Proof::AsIssued if step.actor.role == NOBODY => "a request without a credential".into(),
            Proof::AsIssued => format!("the {}, which has no right to it,", actor_words(observation)),
            Proof::Altered => "an altered credential".into(),
            Proof::Truncated => "a truncated credential".into(),
            Proof::Malformed => "a malformed credential".into(),
            Proof::Unsigned => "an unsigned credential".into(),
            Proof::Issued => "a credential that had been revoked".into(),
            Proof::Reclaimed(..) => "a credential whose claims were rewritten".into(),
            Proof::Flawed(flaw) => flawed(flaw).into(),
        };
        vec![Suspicion {
            requirement: None,
            sentence: format!("{} answered {} to {who}", step.cell.operation, answer.status)
                .trim_end_matches(',')
                .into(),
            owner: step.subject,
            shows: vec![format!("status {} where 401 or 403 was due", answer.status)],
            beside: Vec::new(),
        }]
    }

    fn doubt(&self, requirement: &str) -> Option<String> {
        let waits = [REMOVED, DOWNGRADED].contains(&requirement) && !self.gone.contains(requirement);
        waits.then(|| "the target let nobody go".into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::simulated::{STATE, Told, ground, observed, sighting, suspected};
    use super::*;
    use crate::history::Outcome;
    use crate::operation::{Operation, Parameter, Place};
    use crate::plan::Planner;

    /// The simulated target, with folk of two roles who are removed and have their roles changed.
    fn left() -> Ground {
        let mut plan = (*ground().plan).clone();
        let target = &mut plan.target;
        let chief = target.role[0].clone();
        target.role.push(crate::target::file::Role { name: "chief".into(), ..chief });
        let folk = target.plant.table.iter_mut().find(|table| table.name == "folk").expect("folk");
        folk.roles = vec!["chief".into(), "clerk".into()];
        folk.columns.insert("rank".into(), "role".into());
        let of = |id: &str| target.access(id).expect("an operation").clone();
        let (mut audit, mut dismiss) = (of("list"), of("change"));
        (audit.id, audit.list, audit.allow) = ("audit".into(), None, vec!["chief".into()]);
        dismiss.id = "dismiss".into();
        (dismiss.table, dismiss.params) = (Some("folk".into()), [("id".into(), "folk.id".into())].into());
        dismiss.allow = vec!["clerk".into(), "chief".into()];
        let mut rank = dismiss.clone();
        rank.id = "rank".into();
        target.operation.extend([audit, dismiss, rank]);
        let id = |place| Parameter { name: "id".into(), place, required: true, schema: serde_json::json!({}) };
        let schema = serde_json::json!({ "type": "object", "properties": { "rank": { "type": "string" } } });
        let patch = plan.operations.iter().find(|o| o.id == "change").expect("an operation").clone();
        let body = patch.body.clone().map(|body| crate::operation::Body { schema, ..body });
        let operation = |id: &str, method: &str, path: &str, parameters, body| Operation {
            id: id.into(),
            method: method.into(),
            path: path.into(),
            parameters,
            body,
            ..patch.clone()
        };
        plan.operations.extend([
            operation("audit", "GET", "/audit", Vec::new(), None),
            operation("dismiss", "DELETE", "/folk/{id}", vec![id(Place::Path)], None),
            operation("rank", "PATCH", "/folk/{id}", vec![id(Place::Path)], body),
        ]);
        Ground::new(Arc::new(plan))
    }

    /// What lets somebody go there.
    const LETS_GO: [&str; 2] = ["dismiss", "rank"];

    /// What is suspected where removing is answered with `ends`, whoever is to be out with `after`, and by what was issued
    /// since with `anew`; all of it shows rows where `shows`.
    fn check(ends: u16, after: u16, anew: u16, shows: bool) -> BTreeSet<String> {
        let ground = left();
        let sequences = Planner::new(ground.plan.clone()).departures(STATE).expect("a plan");
        let steps = sequences.iter().flat_map(|sequence| {
            sequence.steps.iter().enumerate().map(|(position, step)| (sequence.number, position as u32, step))
        });
        let told = |step: &Step| match step.expect.answer {
            Answer::Refused if step.request.proof == Proof::Issued => anew,
            Answer::Refused => after,
            _ if LETS_GO.contains(&&*step.cell.operation) => ends,
            _ => 200,
        };
        let all = steps.enumerate().map(|(number, (sequence, position, step))| {
            let told = Told { status: told(step), ..Told::default() };
            let mut observation = observed(step, number as u64, (sequence, position), told);
            if let (Outcome::Answered(answer), true) = (&mut observation.outcome, shows) {
                answer.sightings.push(sighting(step.actor.tenant.expect("a tenant"), None, None));
            }
            observation
        });
        let all: Vec<Observation> = all.collect();
        let mut oracle = Authentication::default();
        let found = suspected(&ground, &mut oracle, &all);
        let doubted = [REMOVED, DOWNGRADED].map(|id| oracle.doubt(id).is_some());
        assert_eq!(doubted, [ends >= 400; 2], "what is refused to all shows nothing");
        found.into_iter().map(|(requirement, _)| requirement).collect()
    }

    #[test]
    fn whoever_has_left_and_is_still_let_in_is_suspected() {
        assert_eq!(check(204, 401, 401, true), BTreeSet::new());
        assert_eq!(check(204, 200, 401, true), [DOWNGRADED.to_string(), REMOVED.to_string()].into());
        assert_eq!(check(204, 401, 200, true), [REMOVED.to_string()].into(), "signed in again");
        assert_eq!(check(204, 401, 200, false), BTreeSet::new(), "signed in to an account that is shown nothing");
        // Whom the service keeps may go on, whatever was made before.
        assert_eq!(check(409, 200, 200, true), BTreeSet::new());
    }

    #[test]
    fn who_leaves_reads_before_and_after_and_is_let_go_by_another() {
        let ground = left();
        let sequences = Planner::new(ground.plan.clone()).departures(STATE).expect("a plan");
        assert_eq!(sequences.len(), 3, "a chief and a clerk are removed, and a chief made a clerk");
        let mut gone = BTreeSet::new();
        for sequence in &sequences {
            let (first, last) = (&sequence.steps[0], &sequence.steps[sequence.steps.len() - 1]);
            let write = sequence.steps.iter().find(|step| LETS_GO.contains(&&*step.cell.operation)).expect("a write");
            assert!(
                first.actor == last.actor && write.actor != first.actor && first.actor.tenant == write.actor.tenant
            );
            assert!(!gone.contains(&write.actor), "{} lets others go after it has gone", write.actor);
            gone.insert(first.actor.clone());
            let demotes = write.request.body.as_ref().is_some_and(|(_, body)| body.contains(r#""rank":"clerk""#));
            assert_eq!(demotes, write.requirement == DOWNGRADED, "{:?}", write.request);
        }
    }
}
