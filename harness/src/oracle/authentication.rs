//! Credentials and application roles that must be refused are refused.

use std::collections::BTreeSet;

use super::canary_sighting::actor_words;
use super::{Ground, Oracle, Suspicion, witness};
use crate::canary::Scanner;
use crate::cell::PoolState;
use crate::finding::{OracleId, Witness};
use crate::history::{Answered, Observation};
use crate::plan::{Answer, CLOSED, DEPARTURES, DOWNGRADED, Proof, REMOVED};
use crate::principal::{NOBODY, Principal};
use crate::target::credential::Flaw;
use crate::tenant::WRITTEN;

/// The oracle, with its account of departures: a service may keep whom it was asked to let go, and then nothing is shown.
#[derive(Default)]
pub struct Authentication {
    /// Where and by whom something was last done in a departure: only another lets one go.
    done: Option<(PoolState, u64, Principal)>,
    /// The requirements for which somebody had gone, and tried again or listened on.
    gone: BTreeSet<&'static str>,
    closing: Closing,
    scanner: Option<Scanner>,
}

/// Streams that are open while their reader leaves, in one sequence.
#[derive(Default)]
struct Closing {
    sequence: u64,
    /// The rows that were written once it had left, and the write.
    written: BTreeSet<u32>,
    write: Option<Witness>,
    /// Whether its own stream was open, and whether that of one who stayed showed what was written.
    opened: bool,
    shown: bool,
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
        if step.requirement == CLOSED {
            return self.listened(ground, observation, answer).into_iter().collect();
        }
        if let Some(id) = DEPARTURES.into_iter().find(|id| *id == step.requirement) {
            if step.expect.answer == Answer::Success && answer.status < 400 && step.request.method != "GET" {
                self.done = Some((step.cell.pool_state, observation.sequence, step.actor.clone()));
            }
            if self.let_go(observation).is_none_or(|by| *by == step.actor) {
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
        let waits = DEPARTURES.contains(&requirement) && !self.gone.contains(requirement);
        waits.then(|| match requirement {
            CLOSED => "nobody left whose stream was open, while another's showed what was written afterwards".into(),
            _ => "the target let nobody go".into(),
        })
    }
}

impl Authentication {
    /// Who let somebody go, in this sequence.
    fn let_go(&self, observation: &Observation) -> Option<&Principal> {
        let here = (observation.step.cell.pool_state, observation.sequence);
        self.done.as_ref().filter(|(state, sequence, _)| (*state, *sequence) == here).map(|(.., by)| by)
    }

    /// Judges what streams show once a reader has left, of what was written since.
    fn listened(&mut self, ground: &Ground, observation: &Observation, answer: &Answered) -> Option<Suspicion> {
        let step = &observation.step;
        if self.closing.sequence != observation.sequence {
            self.closing = Closing { sequence: observation.sequence, ..Closing::default() };
        }
        let open = (200..300).contains(&answer.status);
        let writes = ground.plan.target.access(&step.cell.operation).is_some_and(|access| access.creates.is_some());
        if writes && open && self.let_go(observation).is_some() {
            let scanner =
                self.scanner.get_or_insert_with(|| Scanner::new(ground.plan.canary_key(), ground.plan.window()));
            let (_, body) = step.request.body.as_ref()?;
            scanner.scan(body.as_bytes(), &mut |sighting| {
                self.closing.written.extend(sighting.row.filter(|_| sighting.column == Some(WRITTEN)));
            });
            self.closing.write = Some(witness::of(observation, "written afterwards", Vec::new()));
        }
        let written = |row: &u32| self.closing.written.contains(row);
        let own = answer.sightings.iter().filter(|s| Some(s.owner) == step.actor.tenant && s.column == Some(WRITTEN));
        let shown = own.filter_map(|sighting| sighting.row).find(written).filter(|_| !writes);
        // Whoever has left has no application role.
        let left = step.cell.role == NOBODY;
        self.closing.opened |= left && open;
        self.closing.shown |= !left && shown.is_some();
        if self.closing.opened && self.closing.shown {
            self.gone.insert(CLOSED);
        }
        let row = shown.filter(|_| left)?;
        Some(Suspicion {
            requirement: None,
            sentence: format!(
                "{} showed the {}, which had left, what was written afterwards",
                step.cell.operation, step.actor
            ),
            owner: step.subject,
            shows: vec![format!("row {row}, which was written after the reader had been let go")],
            beside: self.closing.write.clone().into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::simulated::{STATE, Told, ground, observed, sighting, suspected};
    use super::*;
    use crate::history::Outcome;
    use crate::operation::{Body, Operation, Parameter, Place};
    use crate::plan::{Planner, Step};

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
        let (mut rank, mut watch) = (dismiss.clone(), of("list"));
        rank.id = "rank".into();
        (watch.id, watch.list, watch.live) = ("watch".into(), None, Some([("for_s".into(), "60".into())].into()));
        watch.allow = dismiss.allow.clone();
        target.operation.extend([audit, dismiss, rank, watch]);
        let id = |place| Parameter { name: "id".into(), place, required: true, schema: serde_json::json!({}) };
        let schema = serde_json::json!({ "type": "object", "properties": { "rank": { "type": "string" } } });
        let patch = plan.operations.iter().find(|o| o.id == "change").expect("an operation").clone();
        let body = patch.body.clone().map(|body| Body { schema, ..body });
        let streams = Body { content_type: "text/event-stream".into(), schema: serde_json::json!({}) };
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
            Operation { answer: Some(streams), ..operation("watch", "GET", "/watch", Vec::new(), None) },
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

    /// What is suspected of the stream of a clerk who leaves, and what is doubted, where the streams of those who left, and
    /// of those who stayed, show what was written since.
    fn listened(left_shows: bool, stayed_shows: bool, opens: u16) -> (BTreeSet<String>, bool) {
        let ground = left();
        let scanner = Scanner::new(ground.plan.canary_key(), ground.plan.window());
        let (mut oracle, mut found) = (Authentication::default(), BTreeSet::new());
        let sequences = Planner::new(ground.plan.clone()).departures(STATE).expect("a plan");
        let listens = |step: &Step| step.requirement == CLOSED && step.request.method == "GET";
        assert!(sequences.iter().any(|sequence| sequence.steps.iter().any(listens)));
        for sequence in &sequences {
            let mut steps: Vec<(usize, &Step)> = sequence.steps.iter().enumerate().collect();
            // A stream is observed when it has ended.
            steps.sort_by_key(|(position, step)| position + 4 * usize::from(listens(step)));
            let write = sequence.steps.iter().find(|step| step.requirement == CLOSED && !listens(step));
            let mut row = None;
            if let Some((_, body)) = write.and_then(|write| write.request.body.as_ref()) {
                scanner.scan(body.as_bytes(), &mut |sighting| row = row.or(sighting.row));
            }
            for (position, step) in steps {
                let left = step.cell.role == NOBODY;
                let status = if left && listens(step) { opens } else { 200 + u16::from(left) * 201 };
                let told = Told { status, ..Told::default() };
                let mut observation = observed(step, position as u64, (sequence.number, position as u32), told);
                if let (Outcome::Answered(answer), true) = (&mut observation.outcome, listens(step)) {
                    let owner = step.actor.tenant.expect("a tenant");
                    answer.sightings.push(sighting(owner, Some(u32::MAX), Some(WRITTEN)));
                    let shows = if left { left_shows } else { stayed_shows };
                    answer.sightings.extend(shows.then(|| sighting(owner, row, Some(WRITTEN))));
                }
                found.extend(suspected(&ground, &mut oracle, &[observation]).into_iter().map(|(id, _)| id));
            }
        }
        (found, oracle.doubt(CLOSED).is_some())
    }

    #[test]
    fn a_stream_that_outlives_what_its_reader_may_is_suspected() {
        let closed: BTreeSet<String> = [CLOSED.to_string()].into();
        assert_eq!(listened(true, true, 200), (closed, false));
        assert_eq!(listened(false, true, 200), (BTreeSet::new(), false));
        assert_eq!(listened(false, false, 200), (BTreeSet::new(), true), "nobody was shown anything");
        assert_eq!(listened(false, true, 503), (BTreeSet::new(), true), "it was never open");
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
