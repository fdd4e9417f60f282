//! Takes one tenant's transcript in every world: each is a Postgres and a service of its own.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::stage::Stage;
use super::{Campaign, Run, plant};
use crate::canary::{Owner, Scanner};
use crate::cell::{Lanes, PoolState};
use crate::drive::{self, Door, Sequences};
use crate::error::{Error, Result};
use crate::history::Observation;
use crate::patience::Patience;
use crate::plan::{Plan, Planner, Sequence};
use crate::target::http;
use crate::target::identity::{Identities, Secrets};
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
        let quiet = Run {
            id: format!("{}-{}", run.id, world.others().start),
            dir: run.dir.clone(),
            events: Arc::new(|_| {}),
            interrupt: run.interrupt.clone(),
            notes: Mutex::default(),
        };
        let mut stage = Stage::build(self, &quiet).await?;
        let observed = match stage.furnish(self).await {
            Ok(()) => self.observed(&stage, &quiet, plan, world, began).await,
            Err(error) => Err(error),
        };
        stage.strike().await;
        observed
    }

    async fn observed(
        &self,
        stage: &Stage,
        run: &Run,
        plan: Arc<Plan>,
        world: World,
        began: Instant,
    ) -> Result<Vec<Observation>> {
        let secrets = Arc::new(Secrets::fresh(self.variables.clone()));
        let here = std::iter::once(World::OBSERVER).chain(world.others()).map(Owner::new);
        let holdings = plan.holdings().only(here.collect());
        plant(self, stage, &plan, &holdings, &secrets).await?;
        let state = PoolState { pool_size: plan.pool_states().last().and_then(|s| s.pool_size), lanes: Lanes::One };
        let service = stage.launch(self, state.pool_size, &run.log()).await?;
        let base_url = self.base_url(service.as_ref());
        let client = http::client(plan.target.timeout())?;
        let door = Door {
            identities: Identities::establish(&plan, &holdings, &secrets, &client, &base_url).await?,
            scanner: Arc::new(Scanner::new(plan.canary_key(), plan.window())),
            base_url,
            secrets,
            began,
            keeps_bodies: true,
            ledger: Arc::default(),
            sinks: None,
            patience: Patience::default(),
            plan: plan.clone(),
        };
        let sequences = Planner::new(plan.clone()).transcript(world, state).map_err(Error::Usage)?;
        let sequences = sequences.into_iter().map(Ok::<Sequence, Error>);
        let sequences: Sequences = Arc::new(tokio::sync::Mutex::new(Box::new(sequences)));
        let (sender, mut receiver) = mpsc::channel(256);
        let lane = tokio::spawn(drive::lane(Arc::new(door), 0, sequences, sender, None, None));
        let mut observed = Vec::new();
        while let Some(observation) = receiver.recv().await {
            observed.push(Observation { world: Some(world), ..observation });
        }
        lane.await.map_err(|e| Error::Defect(format!("a lane broke: {e}")))??;
        if let Some(service) = service {
            service.stop().await;
        }
        Ok(observed)
    }
}
