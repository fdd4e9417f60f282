//! Draws the sequences of a plan, part by part.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Case, Plan, Sequence, Step, existence, forgery, learnt, request, story, template};
use crate::cell::{Cell, PoolState};
use crate::error::{Error, Result};
use crate::requirement::{self, Breadth};
use crate::tenant::Holdings;

/// Where the turns of forgeries, of stories and of others begin, so that no two writes have a number in common.
const FORGERY_TURN: u64 = 1 << 18;
const STORY_TURN: u64 = 3 << 17;
const LEARNT_TURN: u64 = 3 << 18;
pub(super) const FAULT_TURN: u64 = 5 << 17;
/// Each case of the corpus is driven with so many in all: itself, and others near it.
const NEAR: u64 = 3;
/// Of the generated cases, one in so many offers what another answer yielded.
const ONE_LEARNT_IN: u64 = 5;

/// What the sequences of one pool state are drawn from.
struct Sketches {
    templates: Vec<template::Template>,
    twins: Vec<existence::Twin>,
    /// Each forgery is tried in one pool state.
    forgeries: Vec<forgery::Forgery>,
    stories: Vec<story::Story>,
    /// Which of the pool states it is.
    place: u64,
}

/// The parts of a plan, in the order that they are driven.
#[derive(Clone, Copy)]
enum Part {
    Recorded,
    Recalled,
    Swept,
    HandedOver,
    Ranged,
    Compared,
    Forged,
    Told,
    Faulted,
    Generated,
}

/// Draws the sequences of a plan.
pub struct Planner {
    pub(super) plan: Arc<Plan>,
    pub(super) holdings: Holdings,
    pub(super) tenant_words: Vec<String>,
    pub(super) links: Vec<learnt::Link>,
    /// Operations that end the session which they are called in.
    pub(super) endings: BTreeSet<String>,
    selection: Selection,
}

/// What was selected, and so which sequences are driven.
struct Selection {
    ids: BTreeSet<String>,
    breadth: Breadth,
}

impl Selection {
    /// Of a plan's requirements; one that is not in the catalogue selects all.
    fn of(ids: &[String]) -> Self {
        let breadth = requirement::select(ids).map_or(Breadth::All, |selected| {
            selected.iter().map(|requirement| requirement.breadth).max().unwrap_or_default()
        });
        Self { ids: ids.iter().cloned().collect(), breadth }
    }

    /// Whether a sequence is driven: it speaks for what is selected, or is the control of what may be.
    fn drives(&self, steps: &[Step]) -> bool {
        let wanted = |step: &Step| {
            let writes = self.breadth == Breadth::Writes && step.request.method != "GET";
            writes || step.speaks_for().any(|id| self.ids.contains(id))
        };
        self.breadth == Breadth::All || steps.iter().any(wanted) || steps.iter().all(Step::is_control)
    }
}

impl Planner {
    /// A planner of `plan`.
    pub fn new(plan: Arc<Plan>) -> Self {
        let tenant_words = request::tenant_words(&plan.operations, &plan.target.plant.table);
        let selection = Selection::of(&plan.requirements);
        let (links, endings) = (Vec::new(), BTreeSet::new());
        let mut planner = Self { holdings: plan.holdings(), tenant_words, plan, links, endings, selection };
        planner.links = learnt::links(&planner);
        planner.endings = planner.endings();
        planner
    }

    /// The case near one of the corpus: each is driven as it is, and then others like it.
    fn near(&self, pool_state: PoolState, turn: u64) -> Option<Case> {
        let kept = &self.plan.corpus[(turn / NEAR) as usize];
        if turn.is_multiple_of(NEAR) {
            return Some(kept.clone());
        }
        learnt::varied(&self.links, kept, self.plan.seed.bytes(&format!("near {pool_state}"), turn))
    }

    /// The case that is generated at that turn, where one is.
    fn learnt_case(&self, pool_state: PoolState, turn: u64) -> Option<Case> {
        let seed = || self.plan.seed.bytes(&format!("learnt {pool_state}"), turn);
        turn.is_multiple_of(ONE_LEARNT_IN).then(|| learnt::drawn(&self.links, seed())).flatten()
    }

    /// The sequences of one pool state, part by part; of a generated one that was not selected, no steps.
    ///
    /// # Errors
    /// The iterator yields an error where the target file and the document do not fit together.
    pub fn into_sequences(self, pool_state: PoolState) -> impl Iterator<Item = Result<Sequence>> + Send {
        let sketches = self.sketches(pool_state);
        let end = self.length(&sketches);
        let generated = self.generated_from(pool_state);
        (0..end).filter_map(move |number| match self.numbered(pool_state, number, &sketches) {
            // Of very many generated cases few may be selected: whoever draws them looks at the clock in between.
            Ok(None) if number >= generated => Some(Ok(Sequence { number, steps: Vec::new() })),
            other => other.transpose(),
        })
    }

    /// How many sequences recall what the corpus holds.
    fn recalled(&self) -> u64 {
        if self.plan.recorded.is_empty() { self.plan.corpus.len() as u64 * NEAR } else { 0 }
    }

    /// The number from which on a pool state's sequences are generated: those before it must be driven.
    pub fn generated_from(&self, pool_state: PoolState) -> u64 {
        let parts = self.parts(&self.sketches(pool_state));
        parts.iter().filter(|(part, _)| !matches!(part, Part::Generated)).map(|(_, length)| length).sum()
    }

    /// The cells that all pool states must visit. What cannot be planned is said when it is driven.
    pub fn cells(&self) -> BTreeSet<Cell> {
        let mut cells = BTreeSet::new();
        for state in self.plan.pool_states() {
            let sketches = self.sketches(state);
            // What an earlier run was taught need not be there to be learnt again.
            let must = self.recalled()..self.generated_from(state);
            let driven = must.filter_map(|number| self.numbered(state, number, &sketches).ok()?);
            cells.extend(driven.flat_map(|sequence| sequence.steps).map(|step| step.cell));
        }
        cells
    }

    /// Whether all is driven that could be.
    pub fn drives_all(&self) -> bool {
        self.selection.breadth == Breadth::All
    }

    /// One sequence again, by its number; none where nothing is planned under it.
    ///
    /// # Errors
    /// As [`Planner::into_sequences`].
    pub fn sequence(&self, pool_state: PoolState, number: u64) -> Result<Option<Sequence>> {
        self.numbered(pool_state, number, &self.sketches(pool_state))
    }

    fn sketches(&self, pool_state: PoolState) -> Sketches {
        let states = self.plan.pool_states().count().max(1);
        let place = self.plan.pool_states().position(|state| state == pool_state).unwrap_or(0);
        Sketches {
            templates: template::templates(self),
            twins: self.twins(),
            forgeries: forgery::forgeries(self).into_iter().skip(place).step_by(states).collect(),
            stories: story::stories(self),
            place: place as u64,
        }
    }

    /// The parts of what one pool state drives, in order, each with the number of its sequences.
    fn parts(&self, sketches: &Sketches) -> Vec<(Part, u64)> {
        if !self.plan.recorded.is_empty() {
            return vec![(Part::Recorded, self.recordings())];
        }
        let states = self.plan.pool_states().count().max(1) as u64;
        vec![
            (Part::Recalled, self.recalled()),
            (Part::Swept, sketches.templates.len() as u64 * u64::from(self.plan.bounds.pairs)),
            (Part::HandedOver, self.hand_overs()),
            (Part::Ranged, self.ranges()),
            (Part::Compared, sketches.twins.len() as u64),
            (Part::Forged, sketches.forgeries.len() as u64),
            (Part::Told, sketches.stories.len() as u64),
            (Part::Faulted, self.faults()),
            (Part::Generated, self.plan.bounds.cases_max / states),
        ]
    }

    fn length(&self, sketches: &Sketches) -> u64 {
        self.parts(sketches).iter().map(|(_, length)| length).sum()
    }

    fn numbered(&self, pool_state: PoolState, number: u64, sketches: &Sketches) -> Result<Option<Sequence>> {
        let mut turn = number;
        let mut parts = self.parts(sketches).into_iter();
        let part = parts.find_map(|(part, length)| {
            if turn < length {
                return Some(part);
            }
            turn -= length;
            None
        });
        let Some(part) = part else { return Ok(None) };
        let index = turn as usize;
        let case = |case: Option<Case>| case.map(|case| self.learnt(pool_state, &case, LEARNT_TURN + number));
        let steps = match part {
            Part::Recorded => self.recorded(pool_state, turn),
            Part::Recalled => case(self.near(pool_state, turn)).unwrap_or(Ok(Vec::new())),
            Part::Swept => {
                let (pair, index) = (index / sketches.templates.len(), index % sketches.templates.len());
                self.sweep(pool_state, &sketches.templates[index], turn, pair as u32)
            }
            Part::HandedOver => self.hand_over(pool_state, turn),
            Part::Ranged => self.range(pool_state, turn),
            Part::Compared => self.compared(pool_state, &sketches.twins[index], turn),
            Part::Forged => self.forgery(pool_state, &sketches.forgeries[index], FORGERY_TURN + turn),
            Part::Told => self.story(pool_state, &sketches.stories[index], STORY_TURN + turn + sketches.place),
            Part::Faulted => self.faulted(pool_state, turn),
            Part::Generated => {
                case(self.learnt_case(pool_state, turn)).unwrap_or_else(|| self.generated(pool_state, turn))
            }
        };
        let told = |why: String| Error::Usage(format!("target file {}: {why}", self.plan.target.name));
        let steps = steps.map_err(told)?;
        let steps = match part {
            Part::Recorded => steps,
            _ => self.sheltered(steps).map_err(told)?,
        };
        let driven = !steps.is_empty() && (matches!(part, Part::Recorded) || self.selection.drives(&steps));
        Ok(driven.then_some(Sequence { number, steps }))
    }

    /// The account of what is planted.
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// Sequences planned in all pool states, at most; walks of lists add requests to this.
    pub fn size(&self) -> u64 {
        let of = |state| {
            let (sketches, must) = (self.sketches(state), self.generated_from(state));
            let driven = |number: &u64| matches!(self.numbered(state, *number, &sketches), Ok(Some(_)));
            let must_be = if self.drives_all() { must } else { (0..must).filter(driven).count() as u64 };
            must_be + self.length(&sketches) - must
        };
        self.plan.pool_states().map(of).sum()
    }
}
