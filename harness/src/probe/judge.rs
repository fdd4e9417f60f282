//! Judges recorded trials: one state a cell, findings by their cause, one verdict a requirement. It sees trials and
//! outcomes and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::breach::{breaches, of_reading, unlike};
use super::control::{Control, control};
use super::outcome::Outcome;
use super::subject::Kind;
use super::trial::{Answered, Command, Expect, Relation, Trial};
use crate::finding::OracleId;
use crate::requirement::{Requirement, Severity};
use crate::verdict::{CellState, Overall, RequirementVerdict, Verdict};

/// A trial and what came of it: one line of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The trial.
    pub trial: Trial,
    /// What came of its acts.
    pub outcomes: Vec<Outcome>,
}

/// What no trial can be made of, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// The subject, qualified.
    pub subject: String,
    /// What it is.
    pub kind: Kind,
    /// Why.
    pub why: String,
}

/// One cell: subject, command, relation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The subject, qualified.
    pub subject: String,
    /// The command.
    pub command: Command,
    /// The relation.
    pub relation: Relation,
}

/// A cell's line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellVerdict {
    /// Which cell.
    #[serde(flatten)]
    pub place: Place,
    /// What the subject is.
    pub kind: Kind,
    /// The conclusion; none where nothing is to be tried.
    #[serde(flatten)]
    pub state: CellState,
}

/// One violation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// `p1`, `p2`, … worst first.
    pub id: String,
    /// The requirement violated.
    pub requirement: String,
    /// Who saw it.
    pub oracle: OracleId,
    /// How bad it is.
    pub severity: Severity,
    /// What happened.
    pub sentence: String,
    /// The subject.
    pub subject: String,
    /// What it is.
    pub kind: Kind,
    /// The cells in which it was seen.
    pub cells: Vec<(Command, Relation)>,
    /// Times it was seen.
    pub occurrences: u64,
    /// Number of the shortest trial that shows it.
    pub record: usize,
}

/// All that was concluded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// One a requirement.
    pub requirements: Vec<RequirementVerdict>,
    /// One a cell that was tried.
    pub cells: Vec<CellVerdict>,
    /// Violations.
    pub findings: Vec<Finding>,
    /// What no trial was made of.
    pub gaps: Vec<Gap>,
    /// Trials judged.
    pub trials: u64,
}

impl Judgement {
    /// Violated beats inconclusive beats upheld; what judged nothing is inconclusive.
    pub fn overall(&self) -> Overall {
        let open = self.cells.iter().any(|cell| matches!(cell.state, CellState::Inconclusive(_)));
        if !self.findings.is_empty() {
            Overall::Violated
        } else if open || !self.gaps.is_empty() || !self.requirements.iter().any(|r| r.verdict == Verdict::Upheld) {
            Overall::Inconclusive
        } else {
            Overall::Upheld
        }
    }
}

/// Judges `records`; `gaps` are what none was made of.
pub fn judge(records: &[Record], gaps: &[Gap], requirements: &[Requirement]) -> Judgement {
    let mut findings: BTreeMap<(String, String), Finding> = BTreeMap::new();
    let mut states: BTreeMap<Place, (Kind, CellState)> = BTreeMap::new();
    let mut controls: BTreeMap<(&str, Command, &str), Control> = BTreeMap::new();
    for record in records.iter().filter(|record| record.trial.expect == Expect::Own) {
        let key = (record.trial.subject.as_str(), record.trial.command, record.trial.group.as_str());
        let shown = control(record);
        let worse = matches!(
            (controls.get(&key), &shown),
            (Some(Control::Held), _) | (Some(_), Control::Failed(_) | Control::Refused(_))
        );
        if !worse {
            controls.insert(key, shown);
        }
    }
    for (number, record) in records.iter().enumerate() {
        let trial = &record.trial;
        let mut found = breaches(trial, &record.outcomes);
        found.extend(unlike(records, record));
        let place = Place { subject: trial.subject.clone(), command: trial.command, relation: trial.relation };
        let state = if found.is_empty() { state(record, &controls, records) } else { Some(CellState::Violated) };
        if let Some(state) = state {
            let kept = states.entry(place).or_insert((trial.kind, state.clone()));
            if rank(&state) > rank(&kept.1) {
                kept.1 = state;
            }
        }
        for breach in found {
            let severity =
                requirements.iter().find(|r| r.id == breach.requirement).map_or(Severity::High, |r| r.severity);
            let finding =
                findings.entry((breach.requirement.into(), trial.subject.clone())).or_insert_with(|| Finding {
                    id: String::new(),
                    requirement: breach.requirement.into(),
                    oracle: breach.oracle,
                    severity,
                    sentence: breach.sentence.clone(),
                    subject: trial.subject.clone(),
                    kind: trial.kind,
                    cells: Vec::new(),
                    occurrences: 0,
                    record: number,
                });
            finding.occurrences += 1;
            if trial.acts.len() < records[finding.record].trial.acts.len() {
                (finding.record, finding.sentence) = (number, breach.sentence);
            }
            if !finding.cells.contains(&(trial.command, trial.relation)) {
                finding.cells.push((trial.command, trial.relation));
            }
        }
    }
    let mut findings: Vec<Finding> = findings.into_values().collect();
    findings.sort_by(|a, b| (a.severity, &a.requirement, &a.subject).cmp(&(b.severity, &b.requirement, &b.subject)));
    for (number, finding) in findings.iter_mut().enumerate() {
        finding.id = format!("p{}", number + 1);
    }
    let cells: Vec<CellVerdict> =
        states.into_iter().map(|(place, (kind, state))| CellVerdict { place, kind, state }).collect();
    let requirements =
        requirements.iter().map(|requirement| verdict(requirement, records, &findings, &cells)).collect();
    Judgement { requirements, cells, findings, gaps: gaps.to_vec(), trials: records.len() as u64 }
}

fn rank(state: &CellState) -> u8 {
    match state {
        CellState::Upheld => 0,
        CellState::Inconclusive(_) => 1,
        CellState::Violated => 2,
    }
}

/// The state of a trial's cell where it shows no breach; none where there is nothing to hold.
fn state(
    record: &Record,
    controls: &BTreeMap<(&str, Command, &str), Control>,
    records: &[Record],
) -> Option<CellState> {
    let trial = &record.trial;
    if record.outcomes.is_empty() {
        // A sequence may be drawn that asks nothing.
        if trial.command == Command::Generated {
            return None;
        }
        return Some(CellState::Inconclusive("it was not answered".into()));
    }
    match (&trial.expect, trial.command) {
        (Expect::Own, _)
        | (
            _,
            Command::Truncate
            | Command::RowSecurityOff
            | Command::SetRole
            | Command::Generated
            | Command::LastValue
            | Command::Setval,
        ) => {}
        (Expect::Alike(_), _) => {
            let absent = records.iter().find(|r| {
                r.trial.subject == trial.subject
                    && r.trial.group == trial.group
                    && r.trial.expect == Expect::Alike(Answered::Absent)
            });
            let answer = absent.and_then(|r| r.outcomes.last());
            // Either a value that nobody has is taken, or it is known for what it is, or it is refused in the words of the
            // other's by a policy that lets a row of one's own in.
            let told = record.outcomes.last().map(Outcome::answer);
            let lets_in = |command| controls.get(&(trial.subject.as_str(), command, ""));
            let writes = [Command::Insert, Command::Update].map(lets_in);
            return match answer.map(Outcome::answer) {
                Some("success" | "23503") => Some(CellState::Upheld),
                alike if alike == told && writes.iter().any(|own| matches!(own, Some(Control::Held))) => {
                    Some(CellState::Upheld)
                }
                Some(code) => Some(CellState::Inconclusive(format!("a value that nobody has is refused too ({code})"))),
                None => Some(CellState::Inconclusive("it was not answered".into())),
            };
        }
        (Expect::Unmoved, _) => {
            let runs: Vec<&Outcome> = record.outcomes.iter().collect();
            return match runs[..] {
                [a, b, c] if a.succeeded() && c.succeeded() && a.digest == b.digest => Some(CellState::Upheld),
                [a, ..] if !a.succeeded() => None,
                [_, _, c] if !c.succeeded() => {
                    Some(CellState::Inconclusive("others' rows could not be taken away".into()))
                }
                _ => None,
            };
        }
        _ => {}
    }
    let own = controls.get(&(trial.subject.as_str(), trial.command, trial.group.as_str()));
    let select = || controls.get(&(trial.subject.as_str(), Command::Select, ""));
    // What its owner may not do either, who reads its rows, is closed to everybody: there is nothing to hold.
    let closed = matches!(own, Some(Control::Refused(_)))
        && trial.command != Command::Select
        && matches!(select(), Some(Control::Held));
    let own = match trial.command {
        _ if closed => return None,
        Command::RowSecurityOff | Command::SetRole => select(),
        Command::Truncate | Command::Generated | Command::LastValue | Command::Setval => {
            return Some(CellState::Upheld);
        }
        _ => own,
    };
    match own {
        Some(Control::Held) => Some(CellState::Upheld),
        Some(Control::Closed) => None,
        Some(Control::Failed(why) | Control::Refused(why)) => {
            Some(CellState::Inconclusive(format!("no control: {why}")))
        }
        None if trial.command == Command::Call => Some(CellState::Upheld),
        None => Some(CellState::Inconclusive("no control: its owner could not try it".into())),
    }
}

/// The requirement that a trial speaks for where it shows no breach.
fn speaks_for(trial: &Trial) -> BTreeSet<&'static str> {
    let reading = of_reading(trial);
    let writes = matches!(
        trial.command,
        Command::Update | Command::Delete | Command::Merge | Command::Truncate | Command::OnConflict
    );
    let mut all = BTreeSet::from(["sql/error"]);
    all.extend(match trial.command {
        Command::Lock => None,
        Command::Constraint if trial.expect == Expect::Refused => Some("sql/link"),
        Command::Constraint => Some("sql/existence"),
        Command::LastValue | Command::Setval | Command::Nextval => Some("sql/sequence"),
        Command::Influence => Some("sql/influence"),
        Command::Insert | Command::CopyFrom if reading == "sql/read" => Some("sql/misattribution"),
        _ if writes && reading == "sql/read" => Some("sql/change"),
        _ => Some(reading),
    });
    all
}

fn verdict(
    requirement: &Requirement,
    records: &[Record],
    findings: &[Finding],
    cells: &[CellVerdict],
) -> RequirementVerdict {
    let spoken: Vec<&Record> =
        records.iter().filter(|r| speaks_for(&r.trial).contains(requirement.id.as_str())).collect();
    let open = cells.iter().find_map(|cell| match &cell.state {
        CellState::Inconclusive(why) => {
            let here = |r: &&Record| {
                r.trial.subject == cell.place.subject
                    && r.trial.command == cell.place.command
                    && r.trial.relation == cell.place.relation
            };
            let about = requirement.id != "sql/error" && spoken.iter().any(here);
            about.then(|| {
                format!(
                    "{} by {}, {}: {why}",
                    cell.place.subject,
                    cell.place.command.word(),
                    cell.place.relation.word()
                )
            })
        }
        _ => None,
    });
    let verdict = if findings.iter().any(|finding| finding.requirement == requirement.id) {
        Verdict::Violated
    } else if spoken.is_empty() {
        Verdict::NotApplicable("nothing that the role may do speaks of it".into())
    } else if let Some(why) = open {
        Verdict::Inconclusive(why)
    } else {
        Verdict::Upheld
    };
    let controls =
        spoken.iter().filter(|r| r.trial.expect == Expect::Own && matches!(control(r), Control::Held)).count();
    RequirementVerdict {
        requirement: requirement.id.clone(),
        sentence: requirement.sentence.clone(),
        severity: requirement.severity,
        verdict,
        judged: spoken.len() as u64,
        controls: controls as u64,
    }
}
