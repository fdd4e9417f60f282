//! From a scenario and a seed to steps. Pure: the same plan yields the same sequences, one at a time, so that its size
//! in memory does not depend on how many there are.

pub mod body;
mod by_hand;
mod cast;
mod claim;
mod closing;
mod collision;
mod corpus;
mod departure;
mod existence;
mod fault;
mod forgery;
mod generated;
mod hand_over;
mod learnt;
mod namesake;
mod planner;
mod planting;
mod proof;
mod ranges;
mod recorded;
mod request;
mod requirement;
mod retention;
mod script;
mod session;
mod spelling;
mod step;
mod story;
mod sweep;
mod taker;
mod template;
mod transcript;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ageing::Ageing;
use crate::canary::{Mint, TimeWindow};
use crate::cell::{Cell, Lanes, PoolState, Relation};
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::principal::NOBODY;
use crate::scenario::Bounds;
use crate::seed::Seed;
use crate::target::file::TargetFile;
use crate::tenant::Holdings;
use crate::verdict::PlanSummary;
use crate::world::World;

pub use by_hand::PIPELINED;
pub use closing::CLOSED;
pub use corpus::{Corpus, Coverage, SCHEMA_VERSION as CORPUS_VERSION, shape};
pub use departure::{DEPARTURES, DOWNGRADED, REMOVED};
pub use learnt::{Case, Offer};
pub use namesake::NAMESAKE;
pub use planner::Planner;
pub use planting::{Planting, Showing};
pub use recorded::{Given, Journey, Recorded};
pub use request::{principal_value, text_of};
pub use retention::{RETENTION, RETENTION_REACH};
pub use script::Script;
pub use step::{
    AFTER_FAULT, AFTER_RESTART, Answer, ByHand, COOKIE, Expect, HEADER, Listing, Proof, RECOVERY, Request, STREAM_ID,
    Sequence, Step, Until, Vector,
};
pub use transcript::NONINTERFERENCE;

/// Version of `plan.json`'s shape.
pub const SCHEMA_VERSION: u32 = 1;

/// The channel of what a target sends by itself.
pub const WEBHOOK: &str = "webhook";
/// Planted rows lie in this many days, which end a day before the run.
const PLANTED_DAYS: i64 = 300;
const DAY_S: i64 = 86_400;
/// Rows planted a tenant in each table of a world: enough for every application role, and for a second page.
const WORLD_ROWS: u32 = 12;
/// Everything that decides what a run does. Printed and saved before anything is planted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this file's shape.
    pub schema_version: u32,
    /// The seed: it reproduces the plan, never the interleaving.
    pub seed: Seed,
    /// How much is done.
    pub bounds: Bounds,
    /// IDs of the selected requirements.
    pub requirements: Vec<String>,
    /// The day that the planted period ends before, seconds since the Unix epoch, UTC.
    pub day_unix_s: i64,
    /// The target.
    pub target: TargetFile,
    /// The operations of its document.
    pub operations: Vec<Operation>,
    /// What else the canaries' key depends on: given tenants keep what earlier runs of the same seed planted.
    #[serde(default)]
    pub salt: u64,
    /// Recorded traffic that is played instead of what would be planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorded: Vec<Journey>,
    /// Cases that taught something in earlier runs: driven first, each with some near it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpus: Vec<Case>,
}

impl Plan {
    /// The plan of one run. `now_unix_s` only picks the day that the planted period ends before, and the salt where
    /// tenants are given.
    pub fn new(
        seed: Seed,
        bounds: Bounds,
        requirements: Vec<String>,
        target: TargetFile,
        operations: Vec<Operation>,
        now_unix_s: i64,
    ) -> Self {
        let day_unix_s = now_unix_s - now_unix_s.rem_euclid(DAY_S);
        let salt = if target.tenant.is_empty() { 0 } else { now_unix_s.unsigned_abs() };
        Self {
            schema_version: SCHEMA_VERSION,
            seed,
            bounds,
            requirements,
            day_unix_s,
            target,
            operations,
            salt,
            corpus: Vec::new(),
            recorded: Vec::new(),
        }
    }

    /// The key of the canaries of this run.
    pub fn canary_key(&self) -> [u8; 16] {
        self.seed.canary_key(self.salt)
    }

    /// Checks that the target file speaks of this document.
    ///
    /// # Errors
    /// An operation in the file that the document does not have.
    pub fn check(&self) -> Result<()> {
        for access in &self.target.operation {
            if !self.operations.iter().any(|o| o.id == access.id) {
                let known = self.operations.iter().map(|o| o.id.as_str());
                let error = crate::error::unknown("operation of the target file", &access.id, known);
                return Err(Error::Usage(format!("{error} (from the OpenAPI document)")));
            }
        }
        Ok(())
    }

    /// The account of what this plan plants.
    pub fn holdings(&self) -> Holdings {
        let window = self.window();
        Holdings::new(&self.target, self.bounds.tenants, self.bounds.rows, Mint::new(self.canary_key(), window))
    }

    /// This plan with what every world needs, and no more.
    pub fn for_worlds(&self) -> Self {
        let mut plan = self.clone();
        plan.bounds.tenants = World::TENANTS;
        plan.bounds.rows = WORLD_ROWS;
        plan
    }

    /// The planted period.
    pub fn window(&self) -> TimeWindow {
        TimeWindow {
            start_unix_s: self.day_unix_s - (PLANTED_DAYS + 1) * DAY_S,
            seconds: (PLANTED_DAYS * DAY_S) as u64,
            owners: self.bounds.tenants,
            rows_per_owner: self.bounds.rows.max(16),
        }
    }

    /// The application roles driven, nobody last.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.target.role.iter().map(|r| r.name.as_str()).chain([NOBODY])
    }

    /// The pool states visited, smallest pool first.
    pub fn pool_states(&self) -> impl Iterator<Item = PoolState> + '_ {
        let settable = self.target.launch.as_ref().is_some_and(|launch| launch.pool_sizes);
        let sizes = if settable { self.bounds.pool_sizes.iter().map(|size| Some(*size)).collect() } else { vec![None] };
        sizes.into_iter().flat_map(|pool_size| [Lanes::One, Lanes::Many].map(|lanes| PoolState { pool_size, lanes }))
    }

    /// Whether nothing is asked for but what is judged in copies of the target beside the run's own.
    pub fn only_aside(&self) -> bool {
        let aside = [NONINTERFERENCE, RETENTION, RETENTION_REACH];
        self.requirements.iter().all(|id| aside.iter().chain(&DEPARTURES).any(|aside| aside == id))
    }

    /// How rows are aged, where what goes by its age is judged.
    pub fn ageing(&self) -> Option<Ageing> {
        let wanted = self.requirements.iter().any(|id| [RETENTION, RETENTION_REACH].contains(&id.as_str()));
        let open = wanted && self.channels().contains(&"retention");
        self.target.retention.as_ref().filter(|_| open).map(|retention| Ageing::of(retention, self.day_unix_s))
    }

    /// Whether principals leave, in a copy that is planted for it: where recorded traffic is played nobody does.
    pub fn departs(&self) -> bool {
        let wanted = self.requirements.iter().any(|id| DEPARTURES.contains(&id.as_str()));
        wanted && self.target.database.is_some() && self.recorded.is_empty()
    }

    /// The channels that can be listened on.
    pub fn channels(&self) -> Vec<&'static str> {
        let played = !self.recorded.is_empty();
        let mut open = self.target.channels();
        // Where recorded traffic is played, nothing tells a target where to send its news, nor has it rows that are old.
        open.retain(|channel| !played || ![WEBHOOK, "retention"].contains(channel));
        open.extend(played.then_some("capture"));
        open
    }

    /// The cells that this plan must cover.
    pub fn cells(&self) -> BTreeSet<Cell> {
        let mut cells = BTreeSet::new();
        if self.only_aside() {
            return cells;
        }
        let planner = Planner::new(Arc::new(self.clone()));
        if !self.recorded.is_empty() || !planner.drives_all() {
            return planner.cells();
        }
        for pool_state in self.pool_states() {
            for operation in &self.operations {
                let relations = self.target.access(&operation.id).and_then(|a| a.relations.clone());
                for relation in relations.unwrap_or_else(|| Relation::ALL.to_vec()) {
                    for role in self.roles() {
                        cells.insert(Cell { operation: operation.id.clone(), role: role.into(), relation, pool_state });
                    }
                }
            }
        }
        cells
    }

    /// The plan in a few numbers.
    pub fn summary(&self) -> PlanSummary {
        PlanSummary {
            seed: self.seed.0,
            profile: self.bounds.profile.clone(),
            tenants: self.bounds.tenants,
            rows: self.bounds.rows,
            operations: self.operations.len(),
            roles: self.roles().count(),
            pool_states: self.pool_states().map(|state| state.to_string()).collect(),
        }
    }
}

/// SHA-256 of a saved plan, hex.
pub fn sha256(saved: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(saved))
}
