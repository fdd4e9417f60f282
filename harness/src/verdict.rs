//! What the judge concludes: one verdict a requirement, one state a cell, and the counts behind them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::finding::{Cause, Finding};
use crate::requirement::Severity;

/// The conclusion on one requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "verdict", content = "reason", rename_all = "snake_case")]
pub enum Verdict {
    /// Every probe was refused or saw nothing, beside a control that succeeded.
    Upheld,
    /// At least one finding.
    Violated,
    /// Nothing was shown either way; the text says why.
    Inconclusive(String),
    /// The target has nothing this requirement speaks of; the text says what is missing.
    NotApplicable(String),
}

impl Verdict {
    /// The verdict as one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Upheld => "upheld",
            Self::Violated => "violated",
            Self::Inconclusive(_) => "inconclusive",
            Self::NotApplicable(_) => "not applicable",
        }
    }
}

/// The conclusion on one cell of the coverage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum CellState {
    /// Judged, with its control.
    Upheld,
    /// A finding was made here.
    Violated,
    /// Not run, not answered, or without a control.
    Inconclusive(String),
}

/// One requirement's line in every report.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RequirementVerdict {
    /// Stable ID, such as `read/by-id`.
    pub requirement: String,
    /// The promise in one sentence.
    pub sentence: String,
    /// How bad a violation is.
    pub severity: Severity,
    /// The conclusion.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Observations judged for it.
    pub judged: u64,
    /// Positive controls among them that succeeded.
    pub controls: u64,
}

/// One cell's line.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellVerdict {
    /// Which cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// The conclusion.
    #[serde(flatten)]
    pub state: CellState,
    /// Observations judged in it.
    pub judged: u64,
}

/// How many of what; the report computes nothing itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Counts {
    /// Requests sent.
    pub attempted: u64,
    /// Observations the judge could use.
    pub judged: u64,
    /// Observations it could not: no answer, or an answer of 500 and above.
    pub unusable: u64,
    /// Canary sightings attributed, rightful ones included.
    pub sightings: u64,
    /// Bytes of answers scanned.
    pub bytes_scanned: u64,
    /// Rows judged between the target and its database.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_judged: u64,
    /// How often a connection to the database served a tenant after another one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hand_overs: u64,
    /// Answers by status code, in text as JSON has its keys; `none` stands for no answer.
    pub statuses: BTreeMap<String, u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Everything the judge concluded; the reports' only input besides the run's facts.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Judgement {
    /// One a requirement, in the catalogue's order.
    pub requirements: Vec<RequirementVerdict>,
    /// One a cell.
    pub cells: Vec<CellVerdict>,
    /// Violations, deduplicated by cause, worst first.
    pub findings: Vec<Finding>,
    /// The same findings by likely root.
    pub causes: Vec<Cause>,
    /// The counts.
    pub counts: Counts,
}

/// The conclusion on the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// All upheld.
    Upheld,
    /// Something violated.
    Violated,
    /// Something inconclusive, or nothing judged.
    Inconclusive,
}

impl Judgement {
    /// Each cause with the finding that stands for it, worst first.
    pub fn told(&self) -> impl Iterator<Item = (&Cause, &Finding)> {
        self.causes.iter().filter_map(|cause| {
            let first = cause.findings.first()?;
            Some((cause, self.findings.iter().find(|finding| finding.id == *first)?))
        })
    }

    /// Violated beats inconclusive beats upheld; a run that judged nothing is inconclusive.
    pub fn overall(&self) -> Overall {
        let any = |test: fn(&Verdict) -> bool| self.requirements.iter().any(|r| test(&r.verdict));
        let uncovered = self.cells.iter().any(|c| matches!(c.state, CellState::Inconclusive(_)));
        if !self.findings.is_empty() || any(|v| *v == Verdict::Violated) {
            Overall::Violated
        } else if (self.counts.judged == 0 && self.counts.rows_judged == 0)
            || uncovered
            || !any(|v| *v == Verdict::Upheld)
            || any(|v| matches!(v, Verdict::Inconclusive(_)))
        {
            Overall::Inconclusive
        } else {
            Overall::Upheld
        }
    }
}

/// Facts about the run that no oracle needs and every reader does.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunFacts {
    /// Version of this file's shape.
    pub schema_version: u32,
    /// Partywall's version.
    pub partywall_version: String,
    /// The run's name, also its folder's.
    pub run_id: String,
    /// The target's name.
    pub target: String,
    /// When it began, RFC 3339, UTC.
    pub started_at: String,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
    /// Where Postgres came from, and its version.
    pub postgres: String,
    /// Rungs of the ladder passed over, and other things worth knowing.
    pub notes: Vec<String>,
    /// True when the run was ended before its plan was.
    pub interrupted: bool,
    /// Why the run stopped early, if it did.
    pub stopped_because: Option<String>,
    /// The command that makes this plan again.
    pub reproduce: String,
}

/// What `report.json` holds and every other format is made from.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// The run.
    pub run: RunFacts,
    /// The conclusion.
    pub overall: Overall,
    /// Seed, tenants, rows, pool states: what was asked of the run.
    pub plan: PlanSummary,
    /// The judge's word.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// The plan in a few numbers.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanSummary {
    /// The seed: it reproduces the plan, never the interleaving.
    pub seed: u64,
    /// The profile's name.
    pub profile: String,
    /// Tenants planted.
    pub tenants: u32,
    /// Rows planted per tenant and row table.
    pub rows: u32,
    /// Operations of the target's document.
    pub operations: usize,
    /// Application roles driven, nobody included.
    pub roles: usize,
    /// Pool states driven.
    pub pool_states: Vec<String>,
}
