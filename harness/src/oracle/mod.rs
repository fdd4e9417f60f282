//! Oracles: pure, incremental judges of a history. Each sees every observation once, in order, and keeps an account
//! whose size depends on the plan's tenants and operations, never on how many requests there are.

mod authentication;
mod canary_sighting;
mod counters;
mod existence_signal;
mod judge;
mod latency;
mod namesakes;
mod noninterference;
mod recovery;
mod retention;
mod shadow_model;
#[cfg(test)]
mod simulated;
mod tenant_context;
mod witness;
mod write_containment;

pub use authentication::Authentication;
pub use canary_sighting::CanarySighting;
pub use existence_signal::ExistenceSignal;
pub use judge::Judge;
pub use noninterference::Noninterference;
pub use recovery::Recovery;
pub use retention::Retention;
pub use shadow_model::ShadowModel;
pub use tenant_context::{TenantContext, WIRETAP_ALONE};
pub use write_containment::WriteContainment;

use std::sync::Arc;

use crate::canary::{Form, Owner, Sighting};
use crate::finding::{OracleId, Witness};
use crate::history::Observation;
use crate::plan::Plan;
use crate::principal::Principal;
use crate::snapshot::Snapshot;
use crate::tenant::{Holdings, WRITTEN};
use crate::wire::Wire;

/// What every oracle may know besides the history: the plan and the account of what was planted.
pub struct Ground {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Who owns what.
    pub holdings: Holdings,
}

/// A violation that an oracle saw in one observation.
#[derive(Clone, Debug)]
pub struct Suspicion {
    /// The requirement, where it is another than the step's.
    pub requirement: Option<&'static str>,
    /// What happened, in one sentence.
    pub sentence: String,
    /// Whose it was.
    pub owner: Option<Owner>,
    /// What in the answer proves it.
    pub shows: Vec<String>,
    /// Other observations that the proof needs.
    pub beside: Vec<Witness>,
}

/// Proofs shown in one finding; more of the same teach nothing.
const SHOWN_MAX: usize = 6;

impl Suspicion {
    /// Planted `rows` of a table are `what` they should not be.
    fn of_rows(requirement: &'static str, sentence: String, whose: (Owner, &str), rows: &[u32], what: &str) -> Self {
        let (owner, table) = whose;
        let shown = rows.iter().take(SHOWN_MAX);
        Self {
            requirement: Some(requirement),
            sentence,
            owner: Some(owner),
            shows: shown.map(|row| format!("row {row} of {table} of {owner} is {what}")).collect(),
            beside: Vec::new(),
        }
    }
}

/// A pure judge for named requirements.
pub trait Oracle {
    /// Its name.
    fn id(&self) -> OracleId;
    /// Judges the next observation.
    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion>;
    /// Judges what the database held after the observations so far; with each suspicion the write that most likely did it.
    fn inspect(&mut self, _: &Ground, _: &Snapshot) -> Vec<(Suspicion, Observation)> {
        Vec::new()
    }
    /// Judges what came between the target and its database; with each suspicion what stands for it.
    fn overhear(&mut self, _: &Ground, _: &Wire) -> Vec<(Suspicion, Observation)> {
        Vec::new()
    }
    /// Why a requirement was not shown either way, where this oracle knows better than the steps do.
    fn doubt(&self, _: &str) -> Option<String> {
        None
    }
    /// Why a requirement says nothing about this target, where this oracle knows better than the steps do.
    fn remark(&self, _: &str) -> Option<String> {
        None
    }
}

impl Ground {
    /// The ground that `plan` gives.
    pub fn new(plan: Arc<Plan>) -> Self {
        Self { holdings: plan.holdings(), plan }
    }

    /// Whether `observer` has a right to perceive what a sighting names.
    pub fn has_right(&self, observer: &Principal, sighting: &Sighting) -> bool {
        if sighting.owner == Owner::ABSENT {
            return true;
        }
        if observer.tenant.is_some() {
            return observer.tenant == Some(sighting.owner);
        }
        let Some(role) = self.plan.target.role(&observer.role).filter(|role| role.platform) else { return false };
        let column = sighting.column.and_then(|code| self.holdings.column(code)).map(|c| c.to_string());
        sighting.owner == Owner::PLATFORM || column.is_some_and(|column| role.may_see.contains(&column))
    }

    /// A sighting in words.
    pub fn describe(&self, sighting: &Sighting) -> String {
        let form = match sighting.form {
            Form::Text => "text",
            Form::Uuid => "UUID",
            Form::Bigint => "number",
            Form::Inet => "address",
            Form::Time => "instant",
            Form::Learnt => "learnt value",
        };
        let place = match sighting.column {
            Some(WRITTEN) => ", written during the run".to_string(),
            Some(code) => self.holdings.column(code).map_or_else(String::new, |c| format!(", {c}")),
            None => String::new(),
        };
        let row = sighting.row.filter(|_| sighting.column != Some(WRITTEN));
        let row = row.map_or_else(String::new, |row| format!(" row {row}"));
        let canary = if sighting.form == Form::Learnt { "" } else { " canary" };
        format!(
            "{form}{canary} of {}{place}{row}, at byte {} ({:?})",
            sighting.owner, sighting.offset, sighting.encoding
        )
    }
}
