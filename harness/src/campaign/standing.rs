//! Worlds that stay, so that the steps of a finding that several worlds told can be tried in them again and again: each
//! time by an observer that was not there before.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;

use super::aside::Aside;
use super::{Campaign, Run};
use crate::canary::Owner;
use crate::error::{Error, Result};
use crate::history::Observation;
use crate::plan::{Plan, Script, Sequence, Step};
use crate::world::World;

/// All worlds, and who has observed them.
pub(super) struct Standing<'a> {
    worlds: Vec<(World, Aside<'a>)>,
    plan: Arc<Plan>,
    /// How many observers are used up.
    used: u32,
}

impl<'a> Standing<'a> {
    /// Plants every world, each with all observers.
    ///
    /// # Errors
    /// A world that cannot be set up.
    pub(super) async fn open(campaign: &'a Campaign, run: &Run, plan: &Plan) -> Result<Self> {
        let plan = Arc::new(plan.for_worlds());
        let mut worlds = Vec::new();
        for world in World::ALL {
            let here: Vec<Owner> = World::observers().chain(world.others()).map(Owner::new).collect();
            let holdings = plan.holdings().only(here);
            match Aside::open(campaign, run, &format!("{}-stays", world.others().start), plan.clone(), holdings).await {
                Ok(aside) => worlds.push((world, aside)),
                Err(error) => {
                    Self { worlds, plan, used: 0 }.close().await;
                    return Err(error);
                }
            }
        }
        Ok(Self { worlds, plan, used: 0 })
    }

    /// Takes all of them down.
    pub(super) async fn close(self) {
        for (_, aside) in self.worlds {
            aside.close().await;
        }
    }

    /// Whether an observer is left.
    pub(super) fn has_observers(&self) -> bool {
        self.used < World::observers().count() as u32
    }

    /// Plays `script` in every world: its first tenant is the next observer, all others are one that is there besides.
    ///
    /// # Errors
    /// A service that does not come up; a script that the plan has no values for.
    pub(super) async fn play(&mut self, script: &Script, take: u32) -> Result<Vec<Observation>> {
        let observer = World::observers().nth(self.used as usize).map(Owner::new);
        let observer = observer.ok_or_else(|| Error::Defect("no observer is left".into()))?;
        self.used += 1;
        let holdings = self.plan.holdings();
        let began = Instant::now();
        let observed = self.worlds.iter().map(|(world, aside)| {
            let mut tenants = vec![Owner::new(world.others().start); script.tenants.max(1) as usize];
            tenants[0] = observer;
            let cast = script.cast(&tenants, take, &holdings).map_err(Error::Usage);
            async move {
                let lanes: Vec<Vec<Step>> = cast?;
                let steps = lanes.into_iter().flatten().collect();
                let observed = aside.drive(vec![Sequence { number: 0, steps }], began).await?;
                let of_world = |observation| Observation { world: Some(*world), ..observation };
                Ok::<_, Error>(observed.into_iter().map(of_world).collect::<Vec<_>>())
            }
        });
        Ok(try_join_all(observed).await?.concat())
    }
}
