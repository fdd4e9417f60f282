//! Drives the plan in every pool state, and has each observation written, then judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::corpus;
use super::overhear::{News, Overhearing};
use super::stage::Stage;
use super::tapping::Tapping;
use super::{Campaign, Run};
use crate::canary::Scanner;
use crate::cell::{Lanes, PoolState};
use crate::drive::{self, Door, Sequences};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::fault::Kind;
use crate::history::{self, Entry, Observation, Outcome};
use crate::ledger::Ledger;
use crate::oracle::Judge;
use crate::patience::Patience;
use crate::plan::{
    AFTER_RESTART, Coverage, DEPARTURES, NONINTERFERENCE, Plan, Planner, RETENTION, RETENTION_REACH, Sequence, Step,
    WEBHOOK,
};
use crate::postgres::Source;
use crate::settle::Settling;
use crate::target::http;
use crate::target::identity::{Identities, Secrets};
use crate::target::sink::Sinks;
use crate::verdict::Verdict;

/// Observations between two progress events.
const PROGRESS_EVERY: u64 = 200;
/// Observations between two looks at what the wiretap saw.
const OVERHEARD_EVERY: u64 = 100;
/// How long the last of what the target sends is waited for.
const NEWS_MAX: Duration = Duration::from_secs(10);
/// Failed requests in a row after which the target counts as gone.
const FAILURES_MAX: u32 = 50;

/// Sequences as they are drawn.
type Drawn = Box<dyn Iterator<Item = Result<Sequence>> + Send>;

/// One plan, driven.
pub(super) struct Course<'a> {
    campaign: &'a Campaign,
    run: &'a Run,
    stage: &'a Stage,
    plan: &'a Arc<Plan>,
    secrets: &'a Arc<Secrets>,
    judge: &'a mut Judge,
    writer: history::Writer,
    overhearing: Overhearing,
    sinks: Option<Arc<Sinks>>,
    news: News,
    coverage: Coverage,
    began: Instant,
    until: Option<Instant>,
    /// Parts of the run that are still to come: pool states, and what is judged in copies.
    left: u32,
    planned: u64,
    number: u64,
    /// What was learnt of given tenants, once they are settled in.
    ledger: Option<Arc<Ledger>>,
    tapping: Tapping,
    /// How often each kind of fault struck.
    struck: BTreeMap<Kind, u64>,
}

impl<'a> Course<'a> {
    /// Ready to drive `plan` against what `stage` holds; `writer` is the history's.
    pub(super) fn new(
        (campaign, run, stage): (&'a Campaign, &'a Run, &'a Stage),
        plan: &'a Arc<Plan>,
        secrets: &'a Arc<Secrets>,
        judge: &'a mut Judge,
        writer: history::Writer,
    ) -> Self {
        let began = Instant::now();
        let until = plan.bounds.time_s_max.map(|s| began + Duration::from_secs(s));
        let planned = Planner::new(plan.clone()).size();
        let left =
            plan.pool_states().count() as u32 + 1 + u32::from(plan.ageing().is_some()) + u32::from(plan.departs());
        let objects = stage.surroundings.objects.clone().filter(|_| campaign.target.keeps_objects());
        let overhearing = Overhearing::new(run.log(), objects);
        Self {
            campaign,
            run,
            stage,
            plan,
            secrets,
            judge,
            writer,
            overhearing,
            sinks: None,
            news: News::default(),
            coverage: Coverage::default(),
            began,
            until,
            left,
            planned,
            number: 0,
            ledger: None,
            tapping: Tapping::default(),
            struck: BTreeMap::new(),
        }
    }

    /// Drives every pool state; the service is launched anew for each pool size. What was observed is kept also when
    /// this fails.
    pub(super) async fn drive(mut self) -> Result<()> {
        let mut driven = if self.plan.only_aside() { Ok(()) } else { self.pool_sizes().await };
        if driven.is_ok() {
            driven = self.worlds().await;
        }
        if driven.is_ok() {
            driven = self.retention().await;
        }
        if driven.is_ok() {
            driven = self.departures().await;
        }
        let closed = self.writer.finish();
        // A run that was cut short would forget what it did not come to.
        let kept = match (&self.campaign.corpus, driven.is_ok() && !self.run.interrupt.is_raised()) {
            (Some(folder), true) => corpus::save(folder, &self.coverage.corpus()),
            _ => Ok(()),
        };
        driven.and(closed).and(kept)
    }

    async fn pool_sizes(&mut self) -> Result<()> {
        self.inspect().await?;
        self.tapping = Tapping::begin(self.campaign, self.plan, self.stage, self.scanner(), self.run).await?;
        if self.tapping.faults().is_some() && self.stage.restart().is_none() {
            let why = "the database's server is not Partywall's to restart".into();
            self.judge.set_aside(AFTER_RESTART, Verdict::NotApplicable(why));
        }
        if self.plan.channels().contains(&WEBHOOK) {
            self.sinks = Some(Arc::new(Sinks::open(self.plan.holdings().owners()).await?));
        }
        let mut states: Vec<PoolState> = self.plan.pool_states().collect();
        while !states.is_empty() && !self.over() {
            let size = states[0].pool_size;
            let same: Vec<PoolState> = states.iter().copied().take_while(|s| s.pool_size == size).collect();
            states.drain(..same.len());
            let last = same[same.len() - 1];
            let service = self.tapping.launch(self.stage, self.campaign, size, &self.run.log()).await?;
            let base_url = self.campaign.base_url(service.as_ref());
            let mut driven = Ok(());
            for state in same {
                driven = self.pool_state(state, &base_url).await;
                driven = driven.and(self.overhear(Some(state)));
                // What a run was cut short in may still be writing.
                if driven.is_ok() && !self.over() {
                    driven = self.inspect().await;
                }
                if driven.is_err() {
                    break;
                }
            }
            if driven.is_ok() {
                driven = self.news(last).await;
            }
            if let Some(mut service) = service {
                // Its connections break a moment before it counts as ended.
                let moment = if driven.is_err() { Duration::from_secs(2) } else { Duration::ZERO };
                // What interrupts a run from a terminal ends its target, too: that is no news.
                if !self.run.interrupt.is_raised()
                    && let Some(why) = service.ended_within(moment).await
                {
                    driven = Err(Error::Unreachable(format!("the target ended during the run: {why}")));
                }
                service.stop().await;
                driven?;
                let scanner = self.scanner();
                self.overhear(Some(last))?;
                for observation in self.overhearing.listen(&scanner, last)? {
                    self.observe(observation)?;
                }
                continue;
            }
            driven?;
        }
        self.tapping.tell(self.run);
        if !self.struck.is_empty() {
            let told: Vec<String> =
                self.struck.iter().map(|(kind, times)| format!("{} {times}", kind.done())).collect();
            self.run.note(format!("faults that struck connections to the database: {}", told.join(", ")));
        }
        Ok(())
    }

    /// Judges what came between the target and its database since the last time.
    fn overhear(&mut self, state: Option<PoolState>) -> Result<()> {
        match self.tapping.take(state) {
            Some(wire) => self.enter(&Entry::Wire { wire }),
            None => Ok(()),
        }
    }

    /// Hears what the target sent by itself.
    async fn news(&mut self, last: PoolState) -> Result<()> {
        let Some(sinks) = self.sinks.clone() else { return Ok(()) };
        if !self.over() {
            sinks.settled(NEWS_MAX).await;
        }
        self.news.gather(&sinks, &self.scanner());
        for observation in self.news.listen(&sinks, last) {
            self.observe(observation)?;
        }
        Ok(())
    }

    /// Takes the transcripts that are compared, world by world.
    async fn worlds(&mut self) -> Result<()> {
        let selected = self.plan.requirements.iter().any(|id| id == NONINTERFERENCE);
        // Other worlds can only be planted in a database, and recorded traffic has one world.
        if !selected || self.plan.target.database.is_none() || !self.plan.recorded.is_empty() {
            return Ok(());
        }
        if !self.room_aside(&[NONINTERFERENCE]) {
            return Ok(());
        }
        (self.run.events)(Event::Stage("compare"));
        for observation in self.campaign.worlds(self.run, self.plan, self.began).await? {
            self.observe(observation)?;
        }
        Ok(())
    }

    /// Has retention run, where rows can be planted that are old.
    async fn retention(&mut self) -> Result<()> {
        let Some(ageing) = self.plan.ageing() else { return Ok(()) };
        if !self.room_aside(&[RETENTION, RETENTION_REACH]) {
            return Ok(());
        }
        (self.run.events)(Event::Stage("age"));
        for entry in self.campaign.aged(self.run, self.plan, ageing, self.began).await? {
            match entry {
                Entry::Observation(observation) => self.observe(*observation)?,
                entry => self.enter(&entry)?,
            }
        }
        Ok(())
    }

    /// Has principals leave, where there are some that can.
    async fn departures(&mut self) -> Result<()> {
        if !self.plan.departs() || !self.room_aside(&DEPARTURES) {
            return Ok(());
        }
        (self.run.events)(Event::Stage("remove"));
        for observation in self.campaign.departed(self.run, self.plan, self.began).await? {
            self.observe(observation)?;
        }
        Ok(())
    }

    /// Whether there is time, and a server, for a copy of the target; else that is what is concluded on `requirements`.
    fn room_aside(&mut self, requirements: &[&str]) -> bool {
        let verdict = if self.over() {
            Verdict::Inconclusive("there was no time left for it".into())
        } else if let Source::Url(_) = self.campaign.postgres {
            Verdict::NotApplicable("it needs a server of its own, and --postgres gives one".into())
        } else {
            return true;
        };
        requirements.iter().for_each(|id| self.judge.set_aside(id, verdict.clone()));
        false
    }

    async fn pool_state(&mut self, state: PoolState, base_url: &str) -> Result<()> {
        let door = Arc::new(self.door(base_url).await?);
        let planner = Planner::new(self.plan.clone());
        // What must be covered is driven in every pool state; what is generated takes the time that is left, each its share.
        let (generated, share) = (planner.generated_from(state), self.share());
        let on_time = move |sequence: &Result<Sequence>| {
            let extra = sequence.as_ref().is_ok_and(|sequence| sequence.number >= generated);
            !extra || share.is_none_or(|share| Instant::now() < share)
        };
        let faulted = planner.faulted_numbers(state);
        let hit = faulted.clone();
        let clean = move |sequence: &Result<Sequence>| !sequence.as_ref().is_ok_and(|s| hit.contains(&s.number));
        let lanes = match state.lanes {
            Lanes::One => 1,
            Lanes::Many => self.plan.bounds.workers,
        };
        let sequences = planner.into_sequences(state).filter(clean).take_while(on_time);
        self.lanes(state, &door, Box::new(sequences), lanes).await?;
        if self.over() || door.faults.is_none() {
            return Ok(());
        }
        // A fault would hit whatever else is driven.
        let restarts = door.restart.is_some();
        let able = move |sequence: &Result<Sequence>| {
            let restart = |step: &Step| step.fault.is_some_and(|fault| fault.kind == Kind::Restart);
            restarts || !sequence.as_ref().is_ok_and(|s| s.steps.iter().any(restart))
        };
        let planner = Planner::new(self.plan.clone());
        let struck = faulted.filter_map(move |number| planner.sequence(state, number).transpose()).filter(able);
        self.lanes(state, &door, Box::new(struck), 1).await
    }

    /// Drives `sequences` on so many connections.
    async fn lanes(&mut self, state: PoolState, door: &Arc<Door>, sequences: Drawn, lanes: u32) -> Result<()> {
        let sequences: Sequences = Arc::new(Mutex::new(sequences));
        let pause = self.plan.bounds.rate_limit.map(|rate| Duration::from_secs(1) * lanes / rate.max(1));
        let (sender, mut receiver) = mpsc::channel(256);
        let mut running = JoinSet::new();
        for connection in 0..lanes {
            let (door, sequences) = (door.clone(), sequences.clone());
            running.spawn(drive::lane(door, connection, sequences, sender.clone(), self.until, pause));
        }
        drop(sender);
        let mut failures = 0;
        while let Some(observation) = receiver.recv().await {
            // What is sent again until it succeeds may fail often.
            let failed = matches!(observation.outcome, Outcome::Failed { .. }) && observation.step.within_ms.is_none();
            failures = if failed { failures + 1 } else { 0 };
            self.observe(observation)?;
            if self.number.is_multiple_of(OVERHEARD_EVERY) {
                self.overhear(Some(state))?;
            }
            if let (Some(sinks), true) = (&self.sinks, self.number.is_multiple_of(PROGRESS_EVERY)) {
                self.news.gather(sinks, &door.scanner);
            }
            if failures > FAILURES_MAX {
                return Err(Error::Unreachable(format!(
                    "the target stopped answering: {FAILURES_MAX} requests in a row failed. Check its log"
                )));
            }
            if self.over() {
                return Ok(());
            }
        }
        while let Some(lane) = running.join_next().await {
            lane.map_err(|e| Error::Defect(format!("a lane broke: {e}")))??;
        }
        Ok(())
    }

    async fn door(&mut self, base_url: &str) -> Result<Door> {
        let client = http::client(self.plan.target.timeout())?;
        let holdings = self.plan.holdings();
        let identities = Identities::establish(self.plan, &holdings, self.secrets, &client, base_url).await?;
        let ledger = match &self.ledger {
            Some(ledger) => ledger.clone(),
            None => self.settled(&identities, base_url).await?,
        };
        self.ledger = Some(ledger.clone());
        Ok(Door {
            plan: self.plan.clone(),
            base_url: base_url.into(),
            identities,
            secrets: self.secrets.clone(),
            scanner: Arc::new(self.scanner()),
            ledger,
            sinks: self.sinks.clone(),
            faults: self.tapping.faults(),
            restart: self.stage.restart(),
            patience: Patience::default(),
            began: self.began,
            keeps_bodies: self.campaign.har.is_some(),
            asks_again: false,
        })
    }

    /// Finds what is planted, and what was learnt of given tenants.
    fn scanner(&self) -> Scanner {
        let learnt = self.ledger.as_ref().map(|ledger| ledger.telling()).unwrap_or_default();
        Scanner::new(self.plan.canary_key(), self.plan.window()).with_learnt(learnt)
    }

    /// Settles given tenants in; there is nothing to learn of those that are planted.
    async fn settled(&self, identities: &Identities, base_url: &str) -> Result<Arc<Ledger>> {
        if self.plan.target.tenant.is_empty() {
            return Ok(Arc::default());
        }
        let planner = Planner::new(self.plan.clone());
        let settling = Settling { planner: &planner, plan: self.plan, identities, secrets: self.secrets, base_url };
        let ledger = settling.settle().await?;
        for (table, why) in ledger.failures() {
            self.run.note(format!("not all rows of {table} could be made: {why}"));
        }
        Ok(Arc::new(ledger))
    }

    fn observe(&mut self, mut observation: Observation) -> Result<()> {
        observation.number = self.number;
        self.number += 1;
        self.coverage.observe(&observation);
        if let (Some(fault), Some(_)) = (observation.step.fault, &observation.struck) {
            *self.struck.entry(fault.kind).or_default() += 1;
        }
        self.enter(&Entry::Observation(Box::new(observation)))?;
        let done = self.judge.counts().attempted;
        if done.is_multiple_of(PROGRESS_EVERY) {
            let (planned, findings) = (self.planned.max(done), self.judge.findings() as u64);
            (self.run.events)(Event::Progress { done, planned, findings });
        }
        Ok(())
    }

    /// Looks into the database, where it is open: nothing may be driven meanwhile.
    async fn inspect(&mut self) -> Result<()> {
        let scanner = self.scanner();
        match self.stage.snapshot(&self.plan.holdings(), &scanner).await? {
            Some(snapshot) => self.enter(&Entry::Snapshot { snapshot }),
            None => Ok(()),
        }
    }

    fn enter(&mut self, entry: &Entry) -> Result<()> {
        self.writer.append(entry)?;
        for sentence in self.judge.enter(entry) {
            (self.run.events)(Event::Found(sentence));
        }
        Ok(())
    }

    /// When the next part of the run has had its share of the time that is left.
    fn share(&mut self) -> Option<Instant> {
        let parts = self.left.max(1);
        self.left = parts - 1;
        let now = Instant::now();
        self.until.map(|until| now + until.saturating_duration_since(now) / parts)
    }

    fn over(&self) -> bool {
        self.run.interrupt.is_raised()
            || self.until.is_some_and(|until| Instant::now() >= until)
            || (self.campaign.first_finding_only && self.judge.findings() > 0)
    }
}
