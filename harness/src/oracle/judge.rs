//! Runs all oracles over a history and concludes: findings by cause, one verdict a requirement, one state a cell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Authentication, CanarySighting, Ground, Oracle, ShadowModel, Suspicion, witness};
use crate::cell::{Cell, PoolState, Relation};
use crate::finding::{Finding, OracleId, Witness};
use crate::history::{Observation, Outcome};
use crate::plan::{Answer, Plan, Vector};
use crate::requirement::Requirement;
use crate::verdict::{CellState, CellVerdict, Counts, Judgement, RequirementVerdict, Verdict};

/// A finding's cause: what makes two violations the same one.
type Cause = (String, OracleId, String, Vector);

/// The judge of one run.
pub struct Judge {
    ground: Ground,
    requirements: Vec<Requirement>,
    oracles: Vec<Box<dyn Oracle + Send>>,
    cells: BTreeMap<Cell, CellAccount>,
    tallies: BTreeMap<String, Tally>,
    controls: BTreeMap<(String, String, PoolState), u64>,
    control_witnesses: BTreeMap<String, Witness>,
    findings: Vec<Finding>,
    causes: BTreeMap<Cause, usize>,
    counts: Counts,
}

#[derive(Default)]
struct CellAccount {
    judged: u64,
    violated: bool,
    /// The last outcome that told nothing, in words.
    last_unusable: Option<String>,
}

#[derive(Default)]
struct Tally {
    judged: u64,
    /// Steps meant as its controls.
    due: u64,
    /// Those that succeeded.
    controls: u64,
    cells: BTreeSet<Cell>,
}

/// What one outcome is worth to the judge.
enum Worth {
    Judged,
    Unusable(String),
    /// Meant to tell nothing: an abandoned request.
    Nothing,
}

impl Judge {
    /// A judge of `plan` for the selected requirements.
    pub fn new(plan: Arc<Plan>, requirements: Vec<Requirement>) -> Self {
        Self {
            requirements,
            oracles: vec![Box::new(CanarySighting), Box::new(ShadowModel::default()), Box::new(Authentication)],
            cells: plan.cells().into_iter().map(|cell| (cell, CellAccount::default())).collect(),
            ground: Ground::new(plan),
            tallies: BTreeMap::new(),
            controls: BTreeMap::new(),
            control_witnesses: BTreeMap::new(),
            findings: Vec::new(),
            causes: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Judges the next observation; the sentences of findings that are new.
    pub fn observe(&mut self, observation: &Observation) -> Vec<String> {
        self.count(observation);
        let mut new = Vec::new();
        for index in 0..self.oracles.len() {
            let suspicions = self.oracles[index].observe(&self.ground, observation);
            let oracle = self.oracles[index].id();
            for suspicion in suspicions {
                new.extend(self.found(oracle, suspicion, observation));
            }
        }
        self.account(observation);
        new
    }

    /// Findings so far.
    pub fn findings(&self) -> usize {
        self.findings.len()
    }

    /// The counts so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn count(&mut self, observation: &Observation) {
        match &observation.outcome {
            Outcome::NotSent { .. } => return,
            Outcome::Overheard { bytes, sightings } => {
                self.counts.sightings += sightings.len() as u64;
                self.counts.bytes_scanned += bytes;
                return;
            }
            _ => {}
        }
        self.counts.attempted += 1;
        let answer = observation.answered();
        *self.counts.statuses.entry(answer.map_or_else(|| "none".into(), |a| a.status.to_string())).or_default() += 1;
        if let Some(answer) = answer {
            self.counts.sightings += answer.sightings.len() as u64;
            self.counts.bytes_scanned += answer.body_bytes;
        }
    }

    fn account(&mut self, observation: &Observation) {
        let step = &observation.step;
        let worth = worth(observation);
        if let Worth::Judged = worth {
            self.counts.judged += 1;
        } else if let Worth::Unusable(_) = worth {
            self.counts.unusable += 1;
        }
        let heard = matches!(observation.outcome, Outcome::Overheard { bytes, .. } if bytes > 0);
        let succeeded = heard || observation.answered().is_some_and(|a| a.status < 400);
        let due = step.expect.answer == Answer::Success && step.cell.relation == Relation::Own;
        let is_control = succeeded && due;
        let sent = !matches!(observation.outcome, Outcome::NotSent { .. });
        for requirement in spoken_for(observation) {
            let tally = self.tallies.entry(requirement.into()).or_default();
            tally.judged += u64::from(matches!(worth, Worth::Judged));
            // What only speaks by the way is no control, nor is what could not be asked.
            tally.due += u64::from(due && sent && requirement == step.requirement);
            tally.controls += u64::from(is_control);
            if !tally.cells.contains(&step.cell) {
                tally.cells.insert(step.cell.clone());
            }
        }
        if is_control {
            let key = (step.cell.operation.clone(), step.cell.role.clone(), step.cell.pool_state);
            *self.controls.entry(key).or_default() += 1;
            if !self.control_witnesses.contains_key(&step.cell.operation) {
                let proof = witness::of(observation, "control", Vec::new());
                self.control_witnesses.insert(step.cell.operation.clone(), proof);
            }
        }
        if let Some(cell) = self.cells.get_mut(&step.cell) {
            match worth {
                Worth::Judged => cell.judged += 1,
                Worth::Unusable(why) => cell.last_unusable = Some(why),
                Worth::Nothing => {}
            }
        }
    }

    fn found(&mut self, oracle: OracleId, suspicion: Suspicion, observation: &Observation) -> Option<String> {
        let step = &observation.step;
        let id = suspicion.requirement.unwrap_or(&step.requirement).to_string();
        let requirement = self.requirements.iter().find(|r| r.id == id)?;
        if let Some(cell) = self.cells.get_mut(&step.cell) {
            cell.violated = true;
        }
        let cause = (id, oracle, step.cell.operation.clone(), step.vector);
        if let Some(known) = self.causes.get(&cause) {
            self.findings[*known].occurrences += 1;
            return None;
        }
        let mut proof = vec![witness::of(observation, "probe", suspicion.shows)];
        proof.extend(self.control_witnesses.get(&step.cell.operation).cloned());
        self.findings.push(Finding {
            id: format!("f{}", self.findings.len() + 1),
            requirement: requirement.id.clone(),
            oracle,
            severity: requirement.severity,
            sentence: suspicion.sentence.clone(),
            operation: step.cell.operation.clone(),
            observer: step.actor.to_string(),
            owner: suspicion.owner.map(|owner| owner.to_string()),
            occurrences: 1,
            found_after_requests: self.counts.attempted,
            found_after_ms: (observation.sent_at_us + observation.took_us) / 1_000,
            witness: proof,
        });
        self.causes.insert(cause, self.findings.len() - 1);
        Some(suspicion.sentence)
    }

    /// Concludes. `cut_short` says why the plan was not driven to its end, if it was not.
    pub fn conclude(self, cut_short: Option<&str>) -> Judgement {
        let states: BTreeMap<Cell, CellState> =
            self.cells.iter().map(|(cell, account)| (cell.clone(), self.state(cell, account))).collect();
        let requirements = self.requirements.iter().map(|r| self.verdict(r, &states, cut_short)).collect();
        let cells = self.cells.iter().map(|(cell, account)| CellVerdict {
            cell: cell.clone(),
            state: states[cell].clone(),
            judged: account.judged,
        });
        let cells = cells.collect();
        let mut findings = self.findings;
        findings.sort_by_key(|finding| finding.severity);
        Judgement { requirements, cells, findings, counts: self.counts }
    }

    fn state(&self, cell: &Cell, account: &CellAccount) -> CellState {
        if account.violated {
            return CellState::Violated;
        }
        let inconclusive = |why: String| CellState::Inconclusive(why);
        let Some(access) = self.ground.plan.target.access(&cell.operation) else {
            return inconclusive("the target file does not say who may call this operation".into());
        };
        if account.judged == 0 {
            return inconclusive(account.last_unusable.clone().unwrap_or_else(|| "not run".into()));
        }
        let allowed = access.allow.contains(&cell.role);
        let controlled = if allowed {
            let key = (cell.operation.clone(), cell.role.clone(), cell.pool_state);
            self.controls.contains_key(&key)
        } else {
            self.controls.keys().any(|(o, _, p)| *o == cell.operation && *p == cell.pool_state)
        };
        if controlled {
            return CellState::Upheld;
        }
        let last = account.last_unusable.as_deref().map_or_else(String::new, |why| format!(" ({why})"));
        inconclusive(format!("no control: nobody with the right to it succeeded{last}"))
    }

    fn verdict(
        &self,
        requirement: &Requirement,
        states: &BTreeMap<Cell, CellState>,
        cut_short: Option<&str>,
    ) -> RequirementVerdict {
        let none = Tally::default();
        let tally = self.tallies.get(&requirement.id).unwrap_or(&none);
        let weak = tally.cells.iter().find_map(|cell| match states.get(cell) {
            Some(CellState::Inconclusive(why)) => {
                Some(format!("{} as {}, {}: {why}", cell.operation, cell.role, cell.relation.word()))
            }
            _ => None,
        });
        let verdict = if self.findings.iter().any(|f| f.requirement == requirement.id) {
            Verdict::Violated
        } else if let Some(why) = cut_short {
            Verdict::Inconclusive(format!("the plan was not driven to its end: {why}"))
        } else if tally.cells.is_empty() {
            Verdict::NotApplicable("the target has no operation that it speaks of".into())
        } else if tally.judged == 0 {
            Verdict::Inconclusive("no answer could be judged".into())
        } else if tally.due > 0 && tally.controls == 0 {
            Verdict::Inconclusive("no control succeeded".into())
        } else if let Some(why) = weak {
            Verdict::Inconclusive(why)
        } else {
            Verdict::Upheld
        };
        RequirementVerdict {
            requirement: requirement.id.clone(),
            sentence: requirement.sentence.clone(),
            severity: requirement.severity,
            verdict,
            judged: tally.judged,
            controls: tally.controls,
        }
    }
}

/// The requirements that an observation speaks for: the step's, and those that its answer shows by the way.
fn spoken_for(observation: &Observation) -> impl Iterator<Item = &str> {
    let step = &observation.step;
    let lists = step.expect.lists.as_ref();
    let total = observation.answered().and_then(|a| a.list.as_ref()).is_some_and(|list| list.total.is_some());
    let narrowed = lists.is_some_and(|list| list.narrowed_to.is_some());
    let status = observation.answered().map(|a| a.status);
    let mut all = vec![step.requirement.as_str()];
    all.extend(status.map(|_| "read/header"));
    all.extend(status.filter(|status| *status >= 400).map(|_| "read/error"));
    all.extend((lists.is_some() && total).then_some("read/total"));
    all.extend(narrowed.then_some("role/own-rows"));
    all.into_iter()
}

fn worth(observation: &Observation) -> Worth {
    let answer = match &observation.outcome {
        Outcome::Answered(answer) => answer,
        Outcome::TimedOut => return Worth::Unusable("no answer in time".into()),
        Outcome::Failed { why } => return Worth::Unusable(format!("connection failed: {why}")),
        Outcome::NotSent { why } => return Worth::Unusable(why.clone()),
        Outcome::Overheard { bytes: 0, .. } => return Worth::Unusable("there was nothing to hear".into()),
        Outcome::Overheard { .. } => return Worth::Judged,
        Outcome::Abandoned => return Worth::Nothing,
    };
    let usable = match observation.step.expect.answer {
        Answer::Success => answer.status < 400,
        Answer::Denied | Answer::Either => answer.status < 500 && !matches!(answer.status, 408 | 429),
        Answer::Refused => answer.status < 300 || matches!(answer.status, 401 | 403 | 404 | 405),
    };
    if usable { Worth::Judged } else { Worth::Unusable(format!("the answer was {}", answer.status)) }
}
