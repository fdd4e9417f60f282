//! Has retention run in a copy of the target in which rows are old: in the run's own, what went would be missed.

use std::sync::Arc;
use std::time::Instant;

use super::aside::Aside;
use super::overhear::objects;
use super::{Campaign, Run};
use crate::ageing::Ageing;
use crate::canary::Owner;
use crate::error::{Error, Result};
use crate::history::Entry;
use crate::plan::{Plan, Planner};
use crate::snapshot::Snapshot;

impl Campaign {
    /// What was observed there, between what its database held before and after. Nothing once the run is interrupted.
    ///
    /// # Errors
    /// A copy that cannot be set up, or a plan that does not fit the target.
    pub(super) async fn aged(&self, run: &Run, plan: &Arc<Plan>, ageing: Ageing, began: Instant) -> Result<Vec<Entry>> {
        tokio::select! {
            entries = self.retention(run, plan, ageing, began) => entries,
            () = run.interrupt.wait() => Ok(Vec::new()),
        }
    }

    async fn retention(&self, run: &Run, plan: &Arc<Plan>, ageing: Ageing, began: Instant) -> Result<Vec<Entry>> {
        let state = Aside::state(plan);
        let sequences = Planner::new(plan.clone()).retention(state).map_err(Error::Usage)?;
        let owners = (0..Ageing::TENANTS.min(plan.bounds.tenants)).map(Owner::new).collect();
        let holdings = plan.holdings().only(owners).aged(ageing);
        let aside = Aside::open(self, run, "aged", plan.clone(), holdings).await?;
        let entries = async {
            let mut entries = Vec::new();
            let aged = |snapshot| Entry::Snapshot { snapshot: Snapshot { aged: true, ..snapshot } };
            entries.extend(aside.snapshot().await?.map(aged));
            let mut observed = aside.drive(sequences, began).await?;
            if let Some(folder) = aside.stage.surroundings.objects.as_ref().filter(|_| self.target.keeps_objects()) {
                observed.extend(objects(folder, &aside.scanner(), state)?);
            }
            entries.extend(observed.into_iter().map(|observation| Entry::Observation(Box::new(observation))));
            entries.extend(aside.snapshot().await?.map(aged));
            Ok(entries)
        };
        let entries = entries.await;
        aside.close().await;
        entries
    }
}
