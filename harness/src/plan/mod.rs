//! From a scenario and a seed to steps. Pure: the same plan yields the same sequences, one at a time, so that its size
//! in memory does not depend on how many there are.

pub mod body;
mod corpus;
mod forgery;
mod generated;
mod hand_over;
mod learnt;
mod ranges;
mod request;
mod requirement;
mod spelling;
mod step;
mod story;
mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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

pub use corpus::{Corpus, Coverage, SCHEMA_VERSION as CORPUS_VERSION, shape};
pub use learnt::{Case, Offer};
pub use request::principal_value;
pub use step::{Answer, Expect, Listing, Proof, Request, Sequence, Step, Vector};

/// Version of `plan.json`'s shape.
pub const SCHEMA_VERSION: u32 = 1;

/// Planted rows lie in this many days, which end a day before the run.
const PLANTED_DAYS: i64 = 300;
const DAY_S: i64 = 86_400;
/// Where the turns of forgeries and of stories begin, so that no two writes have a number in common.
const FORGERY_TURN: u64 = 1 << 18;
const STORY_TURN: u64 = 1 << 19;
const LEARNT_TURN: u64 = 3 << 18;
/// Each case of the corpus is driven with so many in all: itself, and others near it.
const NEAR: u64 = 3;
/// Of the generated cases, one in so many offers what another answer yielded.
const ONE_LEARNT_IN: u64 = 5;

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
    /// Cases that taught something in earlier runs: driven first, each with some near it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpus: Vec<Case>,
}

impl Plan {
    /// The plan of one run. `now_unix_s` only picks the day that the planted period ends before.
    pub fn new(
        seed: Seed,
        bounds: Bounds,
        requirements: Vec<String>,
        target: TargetFile,
        operations: Vec<Operation>,
        now_unix_s: i64,
    ) -> Self {
        let day_unix_s = now_unix_s - now_unix_s.rem_euclid(DAY_S);
        Self {
            schema_version: SCHEMA_VERSION,
            seed,
            bounds,
            requirements,
            day_unix_s,
            target,
            operations,
            corpus: Vec::new(),
        }
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
        Holdings::new(&self.target, self.bounds.tenants, self.bounds.rows, Mint::new(self.seed.canary_key(), window))
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

    /// The cells that this plan must cover.
    pub fn cells(&self) -> BTreeSet<Cell> {
        let mut cells = BTreeSet::new();
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

/// Draws the sequences of a plan.
pub struct Planner {
    plan: Arc<Plan>,
    holdings: Holdings,
    tenant_words: Vec<String>,
    links: Vec<learnt::Link>,
}

impl Planner {
    /// A planner of `plan`.
    pub fn new(plan: Arc<Plan>) -> Self {
        let tenant_words = request::tenant_words(&plan.operations);
        let mut planner = Self { holdings: plan.holdings(), tenant_words, plan, links: Vec::new() };
        planner.links = learnt::links(&planner);
        planner
    }

    /// How many cases of the corpus, and near them, each pool state drives first.
    fn recalled(&self) -> u64 {
        self.plan.corpus.len() as u64 * NEAR
    }

    /// The case that the sequence of that number drives, if it drives one; generated ones begin at `generated`.
    fn case(&self, pool_state: PoolState, number: u64, generated: u64) -> Option<Case> {
        if number < self.recalled() {
            let kept = &self.plan.corpus[(number / NEAR) as usize];
            let near = self.plan.seed.bytes(&format!("near {pool_state}"), number);
            return if number.is_multiple_of(NEAR) {
                Some(kept.clone())
            } else {
                learnt::varied(&self.links, kept, near)
            };
        }
        let drawn = number >= generated && (number - generated).is_multiple_of(ONE_LEARNT_IN);
        let seed = || self.plan.seed.bytes(&format!("learnt {pool_state}"), number - generated);
        drawn.then(|| learnt::drawn(&self.links, seed())).flatten()
    }

    /// The sequences of one pool state: first what the corpus recalls, then the sweep over all cells, hand-overs, time ranges, forgeries,
    /// stories, and generated cases.
    ///
    /// # Errors
    /// The iterator yields an error where the target file and the document do not fit together.
    pub fn into_sequences(self, pool_state: PoolState) -> impl Iterator<Item = Result<Sequence>> + Send {
        let templates = sweep::templates(&self);
        let states = self.plan.pool_states().count().max(1);
        let place = self.plan.pool_states().position(|s| s == pool_state).unwrap_or(0);
        let forgeries: Vec<_> = forgery::forgeries(&self).into_iter().skip(place).step_by(states).collect();
        let stories = story::stories(&self);
        let recalled = self.recalled();
        let swept = recalled + templates.len() as u64 * u64::from(self.plan.bounds.pairs);
        let handed = swept + self.hand_overs();
        let ranged = handed + self.ranges();
        let forged = ranged + forgeries.len() as u64;
        let told = forged + stories.len() as u64;
        let end = told + self.plan.bounds.cases_max / states as u64;
        (0..end).filter_map(move |number| {
            let steps = if let Some(case) = self.case(pool_state, number, told) {
                self.learnt(pool_state, &case, LEARNT_TURN + number)
            } else if number < recalled {
                Ok(Vec::new())
            } else if number < swept {
                let turn = number - recalled;
                let (pair, index) = (turn / templates.len() as u64, turn as usize % templates.len());
                self.sweep(pool_state, &templates[index], turn, pair as u32)
            } else if number < handed {
                self.hand_over(pool_state, number - swept)
            } else if number < ranged {
                self.range(pool_state, number - handed)
            } else if number < forged {
                let turn = number - ranged;
                self.forgery(pool_state, &forgeries[turn as usize], FORGERY_TURN + turn)
            } else if number < told {
                let turn = number - forged;
                self.story(pool_state, &stories[turn as usize], STORY_TURN + turn + place as u64)
            } else {
                self.generated(pool_state, number - told)
            };
            match steps {
                Ok(steps) if steps.is_empty() => None,
                Ok(steps) => Some(Ok(Sequence { number, steps })),
                Err(why) => Some(Err(Error::Usage(format!("target file {}: {why}", self.plan.target.name)))),
            }
        })
    }

    /// Sequences planned in all pool states; walks of lists add requests to this.
    pub fn size(&self) -> u64 {
        let states = self.plan.pool_states().count() as u64;
        let swept = sweep::templates(self).len() as u64 * u64::from(self.plan.bounds.pairs);
        let forged = forgery::forgeries(self).len() as u64;
        let told = story::stories(self).len() as u64;
        (self.recalled() + swept + self.hand_overs() + self.ranges() + told) * states
            + forged
            + self.plan.bounds.cases_max
    }
}
