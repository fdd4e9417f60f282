//! Plays scripts of a finding against a target that was planted for this alone, with tenants to spare. Each try has the
//! target started anew, tenants that no try before it had, and a judge of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::overhear::{News, Overhearing};
use super::stage::Stage;
use super::standing::Standing;
use super::tapping::Tapping;
use super::{Campaign, Run, plant};
use crate::canary::{Owner, Scanner};
use crate::cell::{Lanes, PoolState};
use crate::drive::{self, Door, Sequences};
use crate::error::{Error, Result};
use crate::finding::{Finding, OracleId};
use crate::history::{Entry, Observation, Outcome};
use crate::oracle::Judge;
use crate::patience::Patience;
use crate::plan::{Plan, Script, Sequence, WEBHOOK};
use crate::principal::Principal;
use crate::requirement::{self, Requirement};
use crate::snapshot::Snapshot;
use crate::target::http;
use crate::target::identity::{Identities, Secrets};
use crate::target::sink::Sinks;
use crate::tenant::Holdings;

/// Tenants planted for tries, where planting is ours.
const TENANTS: u32 = 192;

/// How long the last of what the target sends is waited for in one try.
const NEWS_MAX: Duration = Duration::from_secs(3);

/// What a try is to show again.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) requirement: String,
    pub(super) oracle: OracleId,
    pub(super) operation: String,
}

/// What tells a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// An answer.
    Answer,
    /// What the database held before and after.
    Tables,
    /// What the target wrote by itself.
    Listening,
    /// Several worlds.
    Worlds,
}

impl From<&Finding> for Wanted {
    fn from(finding: &Finding) -> Self {
        let Finding { requirement, oracle, operation, .. } = finding.clone();
        Self { requirement, oracle, operation }
    }
}

impl Wanted {
    /// What tells of it.
    pub(super) fn teller(&self) -> Teller {
        match (self.oracle, self.requirement.as_str()) {
            (OracleId::Noninterference, _) => Teller::Worlds,
            (OracleId::WriteContainment, _) => Teller::Tables,
            (_, "store/logs" | "store/objects" | "work/webhook") => Teller::Listening,
            _ => Teller::Answer,
        }
    }

    /// The finding, if `judge` saw it again. Which write did it is a guess where tables tell, and may be another.
    fn found(&self, judge: &Judge) -> Option<Finding> {
        let operation = (self.teller() != Teller::Tables).then_some(self.operation.as_str());
        judge.find(&self.requirement, self.oracle, operation).cloned()
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
    /// What the tables held after the try before.
    before: Option<Snapshot>,
    /// The worlds, once they were needed.
    worlds: Option<Standing<'a>>,
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
        Ok(Self {
            campaign,
            run,
            stage,
            plan: Arc::new(plan),
            holdings,
            secrets,
            requirements,
            next: 0,
            takes: 0,
            before: None,
            worlds: None,
        })
    }

    /// Takes everything down.
    pub(super) async fn close(self) {
        if let Some(worlds) = self.worlds {
            worlds.close().await;
        }
        self.stage.strike().await;
    }

    /// Plays `script` once.
    pub(super) async fn play(&mut self, script: &Script, wanted: &Wanted) -> Result<Take> {
        self.takes += 1;
        if wanted.teller() == Teller::Worlds {
            return self.compared(script, wanted).await;
        }
        let tenants = self.tenants(script.tenants).await?;
        let cast = script.cast(&tenants, self.takes, &self.holdings).map_err(Error::Usage)?;
        let listens = wanted.teller() == Teller::Listening;
        let mut overhearing =
            Overhearing::new(self.run.log(), self.stage.surroundings.objects.clone().filter(|_| self.keeps_objects()))
                .passing_over();
        let sinks = match listens && self.plan.channels().contains(&WEBHOOK) {
            true => Some(Arc::new(Sinks::open(tenants.iter().copied()).await?)),
            false => None,
        };
        let before = match wanted.teller() {
            Teller::Tables if self.before.is_none() => self.stage.snapshot(&self.holdings, &self.scanner()).await?,
            _ => self.before.take(),
        };
        let tapping = match script.steps().any(|step| step.fault.is_some()) {
            true => Tapping::begin(self.campaign, &self.plan, &self.stage, self.scanner(), self.run).await?,
            false => Tapping::default(),
        };
        let service = tapping.launch(&self.stage, self.campaign, script.pool_size, &self.run.log()).await?;
        let base_url = self.campaign.base_url(service.as_ref());
        let observed = self.observed(cast, &base_url, sinks.clone(), &tapping).await;
        if let (Ok(_), Some(sinks)) = (&observed, &sinks) {
            sinks.settled(NEWS_MAX).await;
        }
        if let Some(service) = service {
            service.stop().await;
        }
        let mut observations = observed?;
        if listens {
            let state = PoolState { pool_size: script.pool_size, lanes: Lanes::One };
            let mut heard = overhearing.listen(&self.scanner(), state)?;
            if let Some(sinks) = &sinks {
                let mut news = News::default();
                news.gather(sinks, &self.scanner());
                heard.extend(news.listen(sinks, state));
            }
            // Objects of the tries before are still there.
            heard.iter_mut().for_each(|one| only_of(&mut one.outcome, &tenants));
            observations.extend(heard);
        }
        let mut judge = Judge::new(self.judged(script), self.requirements.clone());
        if let Some(snapshot) = before {
            judge.enter(&Entry::Snapshot { snapshot });
        }
        for (number, observation) in observations.iter_mut().enumerate() {
            observation.number = number as u64;
            judge.observe(observation);
        }
        if wanted.teller() == Teller::Tables
            && let Some(snapshot) = self.stage.snapshot(&self.holdings, &self.scanner()).await?
        {
            self.before = Some(snapshot.clone());
            judge.enter(&Entry::Snapshot { snapshot });
        }
        Ok(Take { finding: wanted.found(&judge), observations })
    }

    /// Plays `script` once in every world.
    async fn compared(&mut self, script: &Script, wanted: &Wanted) -> Result<Take> {
        if let Some(worn) = self.worlds.take_if(|worlds| !worlds.has_observers()) {
            worn.close().await;
        }
        let worlds = match &mut self.worlds {
            Some(worlds) => worlds,
            none => none.insert(Standing::open(self.campaign, self.run, &self.plan).await?),
        };
        let mut observations = worlds.play(script, self.takes).await?;
        let mut judge = Judge::new(self.judged(script), self.requirements.clone());
        for (number, observation) in observations.iter_mut().enumerate() {
            observation.number = number as u64;
            judge.observe(observation);
        }
        Ok(Take { finding: wanted.found(&judge), observations })
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(self.plan.canary_key(), self.plan.window())
    }

    fn keeps_objects(&self) -> bool {
        self.campaign.target.keeps_objects()
    }

    /// The next so many tenants. Where planting is ours, all are planted anew when none is left that has not played.
    async fn tenants(&mut self, number: u32) -> Result<Vec<Owner>> {
        let all = self.plan.bounds.tenants;
        if self.next + number > all && self.campaign.target.database.is_some() {
            let fresh = planted(self.campaign, self.run, &self.plan, &self.secrets).await?;
            std::mem::replace(&mut self.stage, fresh).strike().await;
            (self.next, self.before) = (0, None);
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

    async fn observed(
        &self,
        lanes: Vec<Vec<crate::plan::Step>>,
        base_url: &str,
        sinks: Option<Arc<Sinks>>,
        tapping: &Tapping,
    ) -> Result<Vec<Observation>> {
        let (plan, holdings, secrets) = (&self.plan, &self.holdings, &self.secrets);
        let client = http::client(plan.target.timeout())?;
        let actors: BTreeSet<Principal> = lanes.iter().flatten().map(|step| step.actor.clone()).collect();
        let wanted = |principal: &Principal| actors.contains(principal);
        let identities = Identities::establish_some(plan, holdings, secrets, &client, base_url, &wanted).await?;
        let door = Arc::new(Door {
            faults: tapping.faults(),
            restart: self.stage.restart(),
            plan: plan.clone(),
            base_url: base_url.into(),
            identities,
            secrets: secrets.clone(),
            scanner: Arc::new(self.scanner()),
            began: Instant::now(),
            keeps_bodies: true,
            asks_again: false,
            ledger: Arc::default(),
            sinks,
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
        while let Some(observation) = receiver.recv().await {
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

/// Leaves out what is heard of others than `tenants`.
fn only_of(outcome: &mut Outcome, tenants: &[Owner]) {
    if let Outcome::Overheard { sightings, .. } = outcome {
        sightings.retain(|sighting| tenants.contains(&sighting.owner));
    }
}
