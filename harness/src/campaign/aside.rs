//! A copy of the target beside the run's own: a server, what is planted there, and a service.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::mpsc;

use super::stage::Stage;
use super::{Campaign, Run, plant};
use crate::canary::Scanner;
use crate::cell::{Lanes, PoolState};
use crate::drive::{self, Door, Sequences};
use crate::error::{Error, Result};
use crate::history::Observation;
use crate::patience::Patience;
use crate::plan::{Plan, Sequence};
use crate::principal::Principal;
use crate::snapshot::Snapshot;
use crate::target::http;
use crate::target::identity::{Identities, Secrets};
use crate::tenant::Holdings;

/// A planted copy.
pub(super) struct Aside<'a> {
    campaign: &'a Campaign,
    run: Run,
    pub(super) stage: Stage,
    plan: Arc<Plan>,
    holdings: Holdings,
    secrets: Arc<Secrets>,
}

impl<'a> Aside<'a> {
    /// Plants `holdings` in a copy that `name` tells from the run's others.
    ///
    /// # Errors
    /// A copy that cannot be set up.
    pub(super) async fn open(
        campaign: &'a Campaign,
        run: &Run,
        name: &str,
        plan: Arc<Plan>,
        holdings: Holdings,
    ) -> Result<Self> {
        let run = Run {
            id: format!("{}-{name}", run.id),
            dir: run.dir.clone(),
            events: Arc::new(|_| {}),
            interrupt: run.interrupt.clone(),
            notes: Mutex::default(),
        };
        let secrets = Arc::new(Secrets::fresh(campaign.variables.clone()));
        let mut stage = Stage::build(campaign, &run).await?;
        let planted = match stage.furnish(campaign).await {
            Ok(()) => plant(campaign, &stage, &plan, &holdings, &secrets).await,
            Err(error) => Err(error),
        };
        match planted {
            Ok(()) => Ok(Self { campaign, run, stage, plan, holdings, secrets }),
            Err(error) => {
                stage.strike().await;
                Err(error)
            }
        }
    }

    /// The state in which a copy is driven: one connection, and the largest pool.
    pub(super) fn state(plan: &Plan) -> PoolState {
        PoolState { pool_size: plan.pool_states().last().and_then(|state| state.pool_size), lanes: Lanes::One }
    }

    /// Finds what is planted here.
    pub(super) fn scanner(&self) -> Scanner {
        Scanner::new(self.plan.canary_key(), self.plan.window())
    }

    /// Drives `sequences` in order, by a service that is launched for them.
    ///
    /// # Errors
    /// A service that does not come up; principals that cannot sign in.
    pub(super) async fn drive(&self, sequences: Vec<Sequence>, began: Instant) -> Result<Vec<Observation>> {
        let service = self.stage.launch(self.campaign, Self::state(&self.plan).pool_size, &self.run.log()).await?;
        let base_url = self.campaign.base_url(service.as_ref());
        let observed = self.observed(sequences, base_url, began).await;
        if let Some(service) = service {
            service.stop().await;
        }
        observed
    }

    async fn observed(&self, sequences: Vec<Sequence>, base_url: String, began: Instant) -> Result<Vec<Observation>> {
        let (plan, secrets) = (&self.plan, &self.secrets);
        let client = http::client(plan.target.timeout())?;
        let actors: BTreeSet<Principal> =
            sequences.iter().flat_map(|sequence| &sequence.steps).map(|step| step.actor.clone()).collect();
        let takes_part = |principal: &Principal| actors.contains(principal);
        let door = Door {
            faults: None,
            restart: None,
            identities: Identities::establish_some(plan, &self.holdings, secrets, &client, &base_url, &takes_part)
                .await?,
            scanner: Arc::new(self.scanner()),
            base_url,
            secrets: secrets.clone(),
            began,
            keeps_bodies: true,
            asks_again: true,
            ledger: Arc::default(),
            sinks: None,
            patience: Patience::default(),
            plan: plan.clone(),
        };
        let sequences = sequences.into_iter().map(Ok::<Sequence, Error>);
        let sequences: Sequences = Arc::new(tokio::sync::Mutex::new(Box::new(sequences)));
        let (sender, mut receiver) = mpsc::channel(256);
        let lane = tokio::spawn(drive::lane(Arc::new(door), 0, sequences, sender, None, None));
        let mut observed = Vec::new();
        while let Some(observation) = receiver.recv().await {
            observed.push(observation);
        }
        lane.await.map_err(|e| Error::Defect(format!("a lane broke: {e}")))??;
        Ok(observed)
    }

    /// What the planted tables hold.
    ///
    /// # Errors
    /// A server that does not answer.
    pub(super) async fn snapshot(&self) -> Result<Option<Snapshot>> {
        self.stage.snapshot(&self.holdings, &self.scanner()).await
    }

    /// Takes it down.
    pub(super) async fn close(self) {
        self.stage.strike().await;
    }
}
