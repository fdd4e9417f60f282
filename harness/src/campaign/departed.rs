//! Has principals leave a copy of the target: in the run's own they would be missed.

use std::sync::Arc;
use std::time::Instant;

use super::aside::Aside;
use super::{Campaign, Run};
use crate::error::{Error, Result};
use crate::history::Observation;
use crate::plan::{Plan, Planner};

impl Campaign {
    /// What was observed there. Nothing once the run is interrupted, and where nobody can leave.
    ///
    /// # Errors
    /// A copy that cannot be set up, or a plan that does not fit the target.
    pub(super) async fn departed(&self, run: &Run, plan: &Arc<Plan>, began: Instant) -> Result<Vec<Observation>> {
        let planner = Planner::new(plan.clone());
        let sequences = planner.departures(Aside::state(plan)).map_err(Error::Usage)?;
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let holdings = plan.holdings().only(planner.left().collect());
        let observed = async {
            let aside = Aside::open(self, run, "left", plan.clone(), holdings).await?;
            let observed = aside.drive(sequences, began).await;
            aside.close().await;
            observed
        };
        tokio::select! {
            observed = observed => observed,
            () = run.interrupt.wait() => Ok(Vec::new()),
        }
    }
}
