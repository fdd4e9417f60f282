//! Plays scripts of a finding against a target that was planted for this alone, with tenants to spare. Each try has the
//! target started anew, tenants that no try before it had, and a judge of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::stage::Stage;
use super::{Campaign, Run, plant};
use crate::canary::{Owner, Scanner};
use crate::drive::{self, Door, Sequences};
use crate::error::{Error, Result};
use crate::finding::{Finding, OracleId};
use crate::history::Observation;
use crate::oracle::Judge;
use crate::patience::Patience;
use crate::plan::{Plan, Script, Sequence};
use crate::principal::Principal;
use crate::requirement::{self, Requirement};
use crate::target::http;
use crate::target::identity::{Identities, Secrets};
use crate::tenant::Holdings;

/// Tenants planted for tries, where planting is ours.
const TENANTS: u32 = 192;

/// What a try is to show again.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) requirement: String,
    pub(super) oracle: OracleId,
    pub(super) operation: String,
}

impl From<&Finding> for Wanted {
    fn from(finding: &Finding) -> Self {
        let Finding { requirement, oracle, operation, .. } = finding.clone();
        Self { requirement, oracle, operation }
    }
}

/// What one try came to.
pub(super) struct Take {
    /// The finding, if it was seen again.
    pub(super) finding: Option<Finding>,
    /// The try's own history.
    pub(super) observations: Vec<Observation>,
}

/// A planted target on which scripts are tried.
pub(super) struct Trial<'a> {
    campaign: &'a Campaign,
    run: &'a Run,
    stage: Stage,
    pub(super) plan: Arc<Plan>,
    pub(super) holdings: Holdings,
    secrets: Arc<Secrets>,
    requirements: Vec<Requirement>,
    /// How many tenants have played; beyond the last one the first follows.
    next: u32,
    takes: u32,
}

impl<'a> Trial<'a> {
    /// Plants what `plan` says, for more tenants where planting is ours, to look for a violation of `requirements`.
    pub(super) async fn open(campaign: &'a Campaign, run: &'a Run, plan: &Plan) -> Result<Self> {
        let mut plan = plan.clone();
        if campaign.target.database.is_some() {
            plan.bounds.tenants = plan.bounds.tenants.max(TENANTS);
        }
        let secrets = Arc::new(Secrets::fresh(campaign.variables.clone()));
        let stage = planted(campaign, run, &plan, &secrets).await?;
        let requirements = requirement::select(&plan.requirements)?;
        let holdings = plan.holdings();
        Ok(Self { campaign, run, stage, plan: Arc::new(plan), holdings, secrets, requirements, next: 0, takes: 0 })
    }

    /// Takes everything down.
    pub(super) async fn close(self) {
        self.stage.strike().await;
    }

    /// Plays `script` once.
    pub(super) async fn play(&mut self, script: &Script, wanted: &Wanted) -> Result<Take> {
        let tenants = self.tenants(script.tenants).await?;
        self.takes += 1;
        let cast = script.cast(&tenants, self.takes, &self.holdings).map_err(Error::Usage)?;
        let service = self.stage.launch(self.campaign, script.pool_size, &self.run.log()).await?;
        let base_url = self.campaign.base_url(service.as_ref());
        let observed = self.observed(cast, &base_url).await;
        if let Some(service) = service {
            service.stop().await;
        }
        let observations = observed?;
        let mut judge = Judge::new(self.judged(script), self.requirements.clone());
        for observation in &observations {
            judge.observe(observation);
        }
        let finding = judge.find(&wanted.requirement, wanted.oracle, &wanted.operation).cloned();
        Ok(Take { finding, observations })
    }

    /// The next so many tenants. Where planting is ours, all are planted anew when none is left that has not played.
    async fn tenants(&mut self, number: u32) -> Result<Vec<Owner>> {
        let all = self.plan.bounds.tenants;
        if self.next + number > all && self.campaign.target.database.is_some() {
            let fresh = planted(self.campaign, self.run, &self.plan, &self.secrets).await?;
            std::mem::replace(&mut self.stage, fresh).strike().await;
            self.next = 0;
        }
        let tenants = (0..number).map(|n| Owner::new((self.next + n) % all)).collect();
        self.next += number;
        Ok(tenants)
    }

    /// The plan as a judge of one try needs it: its pool state alone.
    pub(super) fn judged(&self, script: &Script) -> Arc<Plan> {
        let mut plan = (*self.plan).clone();
        plan.bounds.pool_sizes = script.pool_size.into_iter().collect();
        Arc::new(plan)
    }

    async fn observed(&self, lanes: Vec<Vec<crate::plan::Step>>, base_url: &str) -> Result<Vec<Observation>> {
        let (plan, holdings, secrets) = (&self.plan, &self.holdings, &self.secrets);
        let client = http::client(plan.target.timeout())?;
        let actors: BTreeSet<Principal> = lanes.iter().flatten().map(|step| step.actor.clone()).collect();
        let wanted = |principal: &Principal| actors.contains(principal);
        let identities = Identities::establish_some(plan, holdings, secrets, &client, base_url, &wanted).await?;
        let door = Arc::new(Door {
            plan: plan.clone(),
            base_url: base_url.into(),
            identities,
            secrets: secrets.clone(),
            scanner: Arc::new(Scanner::new(plan.canary_key(), plan.window())),
            began: Instant::now(),
            keeps_bodies: true,
            ledger: Arc::default(),
            sinks: None,
            patience: Patience::default(),
        });
        let (sender, mut receiver) = mpsc::channel(256);
        let mut running = JoinSet::new();
        for (number, steps) in lanes.into_iter().enumerate() {
            let sequence = Ok(Sequence { number: number as u64, steps });
            let sequences: Sequences = Arc::new(Mutex::new(Box::new(std::iter::once(sequence))));
            running.spawn(drive::lane(door.clone(), number as u32, sequences, sender.clone(), None, None));
        }
        drop(sender);
        let mut observations = Vec::new();
        while let Some(mut observation) = receiver.recv().await {
            observation.number = observations.len() as u64;
            observations.push(observation);
        }
        while let Some(lane) = running.join_next().await {
            lane.map_err(|e| Error::Defect(format!("a lane broke: {e}")))??;
        }
        Ok(observations)
    }
}

async fn planted(campaign: &Campaign, run: &Run, plan: &Plan, secrets: &Secrets) -> Result<Stage> {
    let mut stage = Stage::build(campaign, run).await?;
    let planted = match stage.furnish(campaign).await {
        Ok(()) => plant(campaign, &stage, plan, &plan.holdings(), secrets).await,
        Err(error) => Err(error),
    };
    match planted {
        Ok(()) => Ok(stage),
        Err(error) => {
            stage.strike().await;
            Err(error)
        }
    }
}
