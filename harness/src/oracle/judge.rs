//! Runs all oracles over a history and concludes: findings by cause, one verdict a requirement, one state a cell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Authentication, CanarySighting, ExistenceSignal, Ground, Noninterference, Oracle, Recovery, Retention, ShadowModel,
    Suspicion, TenantContext, WriteContainment, retention, tenant_context, witness, write_containment,
};
use crate::cell::{Cell, PoolState, Relation};
use crate::finding::{Cause, Finding, OracleId, Place, Witness};
use crate::history::{Entry, Observation, Outcome};
use crate::plan::{Answer, Plan, Vector};
use crate::requirement::Requirement;
use crate::snapshot::Snapshot;
use crate::verdict::{CellState, CellVerdict, Counts, Judgement, RequirementVerdict, Verdict};
use crate::wire::Wire;

/// What makes two violations the same one.
type Key = (String, OracleId, String, Vector);

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
    known: BTreeMap<Key, usize>,
    counts: Counts,
    /// Requirements that this run has no way to judge, and why.
    set_aside: BTreeMap<String, Verdict>,
    /// The fault that struck last, as a witness, and its sequence.
    fault: Option<(u64, Witness)>,
    /// Whether a snapshot came before, and of the copy in which rows are old: the first one is what later ones are
    /// compared with.
    inspected: [bool; 2],
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
            oracles: vec![
                Box::new(CanarySighting),
                Box::new(ShadowModel::default()),
                Box::new(Authentication::default()),
                Box::new(Noninterference::default()),
                Box::new(ExistenceSignal::default()),
                Box::new(WriteContainment::default()),
                Box::new(Retention::default()),
                Box::new(TenantContext::default()),
                Box::new(Recovery::default()),
            ],
            inspected: [false; 2],
            cells: plan.cells().into_iter().map(|cell| (cell, CellAccount::default())).collect(),
            ground: Ground::new(plan),
            tallies: BTreeMap::new(),
            controls: BTreeMap::new(),
            control_witnesses: BTreeMap::new(),
            findings: Vec::new(),
            known: BTreeMap::new(),
            counts: Counts::default(),
            set_aside: BTreeMap::new(),
            fault: None,
        }
    }

    /// Concludes on `requirement` that this run has no way to judge it.
    pub fn set_aside(&mut self, requirement: &str, verdict: Verdict) {
        self.set_aside.insert(requirement.into(), verdict);
    }

    /// Judges the next entry of a history; the sentences of findings that are new.
    pub fn enter(&mut self, entry: &Entry) -> Vec<String> {
        match entry {
            Entry::Observation(observation) => self.observe(observation),
            Entry::Snapshot { snapshot } => self.inspect(snapshot),
            Entry::Wire { wire } => self.overhear(wire),
        }
    }

    /// Judges what the database held after the observations so far; the sentences of findings that are new.
    fn inspect(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut new = Vec::new();
        for index in 0..self.oracles.len() {
            let suspicions = self.oracles[index].inspect(&self.ground, snapshot);
            let oracle = self.oracles[index].id();
            for (suspicion, write) in suspicions {
                new.extend(self.found(oracle, suspicion, &write));
            }
        }
        // What was planted and is there is the control for its not being there.
        let spoken_for = match snapshot.aged {
            true => retention::spoken_for(&self.ground, snapshot).to_vec(),
            false => write_containment::spoken_for(snapshot).to_vec(),
        };
        let inspected = &mut self.inspected[usize::from(snapshot.aged)];
        for (requirement, rows) in spoken_for {
            let tally = self.tallies.entry(requirement.into()).or_default();
            *(if *inspected { &mut tally.judged } else { &mut tally.controls }) += rows;
        }
        *inspected = true;
        new
    }

    /// Judges what came between the target and its database; the sentences of findings that are new.
    fn overhear(&mut self, wire: &Wire) -> Vec<String> {
        let mut new = Vec::new();
        for index in 0..self.oracles.len() {
            let suspicions = self.oracles[index].overhear(&self.ground, wire);
            let oracle = self.oracles[index].id();
            for (suspicion, overheard) in suspicions {
                new.extend(self.found(oracle, suspicion, &overheard));
            }
        }
        for (requirement, judged, controls) in tenant_context::spoken_for(wire) {
            let tally = self.tallies.entry(requirement.into()).or_default();
            tally.judged += judged;
            tally.controls += controls;
        }
        self.counts.rows_judged += wire.backends.iter().map(|backend| backend.rows).sum::<u64>();
        self.counts.hand_overs += wire.backends.iter().map(|backend| backend.hand_overs).sum::<u64>();
        new
    }

    /// Judges the next observation; the sentences of findings that are new.
    pub fn observe(&mut self, observation: &Observation) -> Vec<String> {
        self.count(observation);
        if let (Some(struck), Some(fault)) = (&observation.struck, observation.step.fault) {
            let backends: Vec<String> = struck.backends.iter().map(ToString::to_string).collect();
            let shows = vec![format!("its connection was {fault}; backends {}", backends.join(", "))];
            self.fault = Some((observation.sequence, witness::of(observation, "fault", shows)));
        }
        let mut new = Vec::new();
        for index in 0..self.oracles.len() {
            // In a world others are planted than the plan says: only these two do not ask who.
            let anywhere = matches!(self.oracles[index].id(), OracleId::CanarySighting | OracleId::Noninterference);
            if observation.world.is_some() && !anywhere {
                continue;
            }
            let suspicions = self.oracles[index].observe(&self.ground, observation);
            let oracle = self.oracles[index].id();
            for suspicion in suspicions {
                new.extend(self.found(oracle, suspicion, observation));
            }
        }
        self.account(observation);
        new
    }

    /// The finding of such a requirement and oracle, and of the operation where it matters, if there is one so far.
    pub fn find(&self, requirement: &str, oracle: OracleId, operation: Option<&str>) -> Option<&Finding> {
        let alike = |f: &&Finding| {
            let same = operation.is_none_or(|operation| f.operation == operation);
            f.requirement == requirement && f.oracle == oracle && same
        };
        self.findings.iter().find(alike)
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
        // Of a tenant something was heard only where its own rows show.
        let own = step.actor.tenant;
        let heard = matches!(&observation.outcome, Outcome::Overheard { bytes, sightings }
            if *bytes > 0 && own.is_none_or(|own| sightings.iter().any(|s| s.owner == own)));
        let succeeded = heard || observation.answered().is_some_and(|a| a.status < 400 && a.cut.is_none());
        let due = step.expect.answer == Answer::Success && step.cell.relation == Relation::Own;
        let is_control = succeeded && due;
        let sent = !matches!(observation.outcome, Outcome::NotSent { .. });
        for requirement in spoken_for(observation) {
            let tally = self.tallies.entry(requirement.into()).or_default();
            tally.judged += u64::from(matches!(worth, Worth::Judged));
            // What only speaks by the way is no control, nor is what could not be asked.
            tally.due += u64::from(due && sent && requirement == step.requirement);
            tally.controls += u64::from(is_control);
            if observation.world.is_none() && !tally.cells.contains(&step.cell) {
                tally.cells.insert(step.cell.clone());
            }
        }
        if observation.world.is_some() {
            return;
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
        let key = (id, oracle, step.cell.operation.clone(), step.vector);
        if let Some(known) = self.known.get(&key) {
            self.findings[*known].occurrences += 1;
            return None;
        }
        let mut proof = vec![witness::of(observation, "probe", suspicion.shows)];
        proof.extend(suspicion.beside);
        let after = self.fault.iter().filter(|(sequence, _)| *sequence == observation.sequence);
        proof.extend(after.filter(|_| step.vector == Vector::AfterFault).map(|(_, fault)| fault.clone()));
        proof.extend(self.control_witnesses.get(&step.cell.operation).cloned());
        self.findings.push(Finding {
            id: format!("f{}", self.findings.len() + 1),
            requirement: requirement.id.clone(),
            oracle,
            severity: requirement.severity,
            sentence: suspicion.sentence.clone(),
            operation: step.cell.operation.clone(),
            vector: step.vector,
            seen: Place {
                pool_state: step.cell.pool_state,
                sequence: observation.sequence,
                position: observation.position,
            },
            observer: step.actor.to_string(),
            owner: suspicion.owner.map(|owner| owner.to_string()),
            occurrences: 1,
            found_after_requests: self.counts.attempted,
            found_after_ms: (observation.sent_at_us + observation.took_us) / 1_000,
            witness: proof,
            minimised: None,
        });
        self.known.insert(key, self.findings.len() - 1);
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
        let causes = Cause::of(&findings);
        Judgement { requirements, cells, findings, causes, counts: self.counts }
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

    /// Why a requirement cannot be judged on this target: a channel that is not open.
    fn closed(&self, requirement: &Requirement) -> Option<String> {
        let open = self.ground.plan.channels();
        // Where it was listened to, it was open, whoever put it there.
        let heard = self.counts.rows_judged > 0;
        let is_open = |channel: &str| open.contains(&channel) || (heard && channel == "wiretap");
        let closed = requirement.channels.iter().find(|channel| !is_open(channel))?;
        let why = match closed.as_str() {
            "capture" => "no recorded traffic is played",
            "log" => "the target is not launched here",
            "objects" => "the target file gives no folder for objects",
            "wiretap" if self.ground.plan.target.database.is_some() => {
                "the target file does not say how a tenant is bound, or gives what is launched no address of the database"
            }
            "plain" => "the target is spoken to through TLS",
            "retention" if !self.ground.plan.recorded.is_empty() => "recorded traffic has no rows that are old",
            "retention" => "the target file does not say what goes by its age",
            "webhook" if !self.ground.plan.recorded.is_empty() => "recorded traffic tells it no address",
            "webhook" => "the target file names no operation that takes an address to send to",
            "mint" => "the target file has no credential that is made here",
            _ => "the target file gives no database",
        };
        Some(format!("the channel {closed} is not open: {why}"))
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
        // What no step spoke for is not doubted either, unless it needs none.
        let doubt = self.oracles.iter().find_map(|oracle| oracle.doubt(&requirement.id));
        let doubt = doubt.filter(|_| tally.judged > 0 || requirement.channels.iter().any(|c| c == "wiretap"));
        let remark = self.oracles.iter().find_map(|oracle| oracle.remark(&requirement.id));
        let verdict = if self.findings.iter().any(|f| f.requirement == requirement.id) {
            Verdict::Violated
        } else if let Some(why) = cut_short {
            Verdict::Inconclusive(format!("the plan was not driven to its end: {why}"))
        } else if let Some(verdict) = self.set_aside.get(&requirement.id) {
            verdict.clone()
        } else if let Some(why) = self.closed(requirement) {
            Verdict::NotApplicable(why)
        } else if let Some(why) = remark {
            Verdict::NotApplicable(why)
        } else if let Some(why) = doubt {
            Verdict::Inconclusive(why)
        } else if tally.cells.is_empty() && tally.judged == 0 {
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
    let answer = observation.answered();
    let total = answer.and_then(|answer| answer.list.as_ref()).is_some_and(|list| list.total.is_some());
    let shown = [
        ("read/header", answer.is_some()),
        ("read/error", answer.is_some_and(|answer| answer.status >= 400)),
        ("read/total", total && observation.step.expect.lists.is_some()),
    ];
    let shown = shown.into_iter().filter_map(|(id, shows)| shows.then_some(id));
    observation.step.speaks_for().chain(shown)
}

fn worth(observation: &Observation) -> Worth {
    let failed = observation.answered().is_none_or(|answer| answer.status >= 500 || answer.cut.is_some());
    if failed && observation.step.vector == Vector::AfterFault && !observation.step.is_control() {
        // What a fault hits may fail.
        return Worth::Nothing;
    }
    let answer = match &observation.outcome {
        Outcome::Answered(answer) => answer,
        Outcome::TimedOut => return Worth::Unusable("no answer in time".into()),
        Outcome::Failed { why } => return Worth::Unusable(format!("connection failed: {why}")),
        Outcome::NotSent { why } => return Worth::Unusable(why.clone()),
        Outcome::Overheard { bytes: 0, .. } => return Worth::Unusable("there was nothing to hear".into()),
        Outcome::Overheard { .. } => return Worth::Judged,
        Outcome::Abandoned => return Worth::Nothing,
    };
    if let Some(why) = &answer.cut {
        return Worth::Unusable(format!("the answer is not whole: {why}"));
    }
    let usable = match observation.step.expect.answer {
        Answer::Success => answer.status < 400,
        Answer::Denied | Answer::Either => answer.status < 500 && !matches!(answer.status, 408 | 429),
        Answer::Refused => answer.status < 300 || matches!(answer.status, 401 | 403 | 404 | 405),
    };
    if usable { Worth::Judged } else { Worth::Unusable(format!("the answer was {}", answer.status)) }
}
