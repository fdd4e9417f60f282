//! What one tenant asks in every world, and what the others do between its questions: as many requests in each world, so
//! that as much time passes.

use super::cast::Cast;
use super::template::{self, Template};
use super::{Planner, Sequence, Step};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::world::World;

/// The requirement that the answers are compared for.
pub const NONINTERFERENCE: &str = "inference/noninterference";

impl Planner {
    /// The sequences of `world`: each question of the observer follows the same question of another tenant. A question
    /// has the same number in every world.
    ///
    /// # Errors
    /// A sentence where the target file and the document do not fit together.
    pub fn transcript(&self, world: World, pool_state: PoolState) -> Result<Vec<Sequence>, String> {
        let mut others = world.others().cycle();
        let mut sequences = Vec::new();
        for template in template::templates(self).iter().filter(|template| template.is_of_itself(self)) {
            for asker in others.next().into_iter().chain([World::OBSERVER]) {
                let steps = self.asked(template, Owner::new(asker), pool_state, sequences.len() as u64 / 2)?;
                sequences.push(Sequence { number: sequences.len() as u64, steps });
            }
        }
        Ok(sequences)
    }

    /// What `asker` does by itself of what `template` is about.
    fn asked(&self, template: &Template, asker: Owner, pool_state: PoolState, turn: u64) -> Result<Vec<Step>, String> {
        let Some((operation, access)) = template.described(self) else { return Ok(Vec::new()) };
        let cast = Cast { operation, access, pool_state, observer: asker, other: asker, turn };
        let mut steps = self.sheltered(self.cast(&cast, template)?)?;
        steps.retain(|step| step.actor.tenant == Some(asker) && step.cell.relation != Relation::Foreign);
        for step in &mut steps {
            step.requirement = NONINTERFERENCE.into();
        }
        Ok(steps)
    }
}
