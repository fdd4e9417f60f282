//! Takes one tenant's transcript in every world: each is a Postgres and a service of its own.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::aside::Aside;
use super::{Campaign, Run};
use crate::canary::Owner;
use crate::error::{Error, Result};
use crate::history::Observation;
use crate::plan::{Plan, Planner};
use crate::world::World;

/// Worlds that stand at a time: each is a server, a service and a lane, of which one at most has work.
const AT_A_TIME: usize = 2;

impl Campaign {
    /// What was observed in each world, in their order. Nothing once the run is interrupted.
    ///
    /// # Errors
    /// A world that cannot be set up, or a plan that does not fit the target.
    pub(super) async fn worlds(&self, run: &Run, plan: &Plan, began: Instant) -> Result<Vec<Observation>> {
        let plan = Arc::new(plan.for_worlds());
        let worlds = stream::iter(World::ALL).map(|world| self.world(run, plan.clone(), world, began));
        let observed = worlds.buffered(AT_A_TIME).try_concat();
        tokio::select! {
            observed = observed => observed,
            () = run.interrupt.wait() => Ok(Vec::new()),
        }
    }

    async fn world(&self, run: &Run, plan: Arc<Plan>, world: World, began: Instant) -> Result<Vec<Observation>> {
        let here = std::iter::once(World::OBSERVER).chain(world.others()).map(Owner::new);
        let holdings = plan.holdings().only(here.collect());
        let aside = Aside::open(self, run, &world.others().start.to_string(), plan.clone(), holdings).await?;
        let sequences = Planner::new(plan.clone()).transcript(world, Aside::state(&plan)).map_err(Error::Usage);
        let observed = match sequences {
            Ok(sequences) => aside.drive(sequences, began).await,
            Err(error) => Err(error),
        };
        aside.close().await;
        let of_world = |observation| Observation { world: Some(world), ..observation };
        Ok(observed?.into_iter().map(of_world).collect())
    }
}
