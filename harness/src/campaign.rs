//! A bounded run from a scenario to a verdict: prepare the database, launch, plant, drive, observe, judge, report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, mpsc};

use crate::canary::Scanner;
use crate::cell::{Lanes, PoolState};
use crate::drive::{self, Door, Sequences};
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::exit_code::ExitCode;
use crate::history::{self, Observation};
use crate::oracle::Judge;
use crate::plan::{Plan, Planner};
use crate::postgres::{Postgres, Source};
use crate::report::{self, Format};
use crate::requirement::{self, Requirement};
use crate::scenario::Bounds;
use crate::seed::{self, Seed};
use crate::target::copy::{database_words, execute};
use crate::target::database::{connect, role_urls};
use crate::target::file::TargetFile;
use crate::target::identity::{Identities, Secrets};
use crate::target::launch::{self, Service, Surroundings};
use crate::target::openapi;
use crate::verdict::{Overall, Report, RunFacts};

/// Observations between two progress events.
const PROGRESS_EVERY: u64 = 200;
/// Failed requests in a row after which a target that runs elsewhere counts as gone.
const FAILURES_MAX: u32 = 50;

/// What a campaign is made of.
#[derive(Clone)]
pub struct Campaign {
    /// The service under test.
    pub target: TargetFile,
    /// The target file's folder, for a document beside it.
    pub target_dir: PathBuf,
    /// How much is done.
    pub bounds: Bounds,
    /// Selected requirement IDs or families; empty selects all.
    pub only: Vec<String>,
    /// The seed.
    pub seed: Seed,
    /// Where Postgres comes from.
    pub postgres: Source,
    /// Folder of all runs.
    pub reports: PathBuf,
    /// Report formats to write.
    pub formats: Vec<Format>,
    /// The command that makes this plan again.
    pub reproduce: String,
    /// Print and save the plan, then stop.
    pub dry_run: bool,
    /// Stop at the first finding: a mutant needs no second one.
    pub first_finding_only: bool,
    /// What a variant changes.
    pub variant: Variant,
}

/// What a mutant changes about its target.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// SQL run as administrator once rows are planted.
    pub sql: Option<String>,
    /// Serve with the build that has deliberate defects.
    pub defects_build: bool,
    /// The defects to switch on.
    pub defects: Vec<String>,
    /// Database roles to serve with instead of others: old, new.
    pub instead: Vec<(String, String)>,
}

/// How a campaign ended.
pub struct Ended {
    /// The report, also written to files.
    pub report: Report,
    /// The run's folder.
    pub dir: PathBuf,
    /// The exit code.
    pub exit: ExitCode,
}

impl Ended {
    /// Panics unless every selected requirement was upheld and nothing was left out.
    ///
    /// # Panics
    /// With the findings, when something was violated or inconclusive.
    pub fn assert_upheld(&self) {
        let findings: Vec<&str> = self.report.judgement.findings.iter().map(|f| f.sentence.as_str()).collect();
        assert!(self.exit == ExitCode::Upheld, "{:?}: {findings:#?}; see {}", self.exit, self.dir.display());
    }
}

/// Tells a run to stop early; what it knows is still judged and reported.
#[derive(Clone, Default)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

impl Interrupt {
    /// Asks the run to stop.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// True once asked.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// Waits until asked.
    pub async fn wait(&self) {
        loop {
            let notified = self.notify.notified();
            if self.is_raised() {
                return;
            }
            notified.await;
        }
    }
}

/// A planted target, ready to be launched at any pool size.
struct Stage {
    postgres: Option<Postgres>,
    surroundings: Surroundings,
    program: Option<PathBuf>,
    note: String,
}

/// What driving needs in every pool state.
struct Course<'a> {
    campaign: &'a Campaign,
    plan: &'a Arc<Plan>,
    stage: &'a Stage,
    secrets: &'a Arc<Secrets>,
    dir: &'a Path,
    events: &'a Events,
    interrupt: &'a Interrupt,
    began: Instant,
    until: Option<Instant>,
}

impl Campaign {
    /// Runs the campaign. A run that was cut short still returns what it knew.
    ///
    /// # Errors
    /// Whatever kept the run from starting: configuration, no Postgres, a target that does not come up.
    pub async fn run(&self, events: Events, interrupt: Interrupt) -> Result<Ended> {
        let started = time::OffsetDateTime::now_utc();
        let clock = Instant::now();
        self.bounds.check()?;
        let requirements = requirement::select(&self.only)?;
        let run_id = seed::run_id(started);
        let dir = self.reports.join(&run_id);
        std::fs::create_dir_all(&dir).map_err(|e| Error::write(&dir, e))?;
        let mut notes = Vec::new();
        let secrets = Arc::new(Secrets::fresh());

        let stage = tokio::select! {
            stage = self.stage(&events, &mut notes) => stage?,
            () = interrupt.wait() => return Err(Error::Interrupted),
        };
        let outcome = self.staged(&stage, &requirements, &secrets, &dir, &run_id, &events, &interrupt).await;
        let Stage { postgres, note, .. } = stage;
        if let Some(postgres) = postgres {
            postgres.stop().await;
        }
        let Some((plan, judge, cut_short)) = outcome? else {
            return Err(Error::Interrupted);
        };
        let interrupted = interrupt.is_raised();
        let why = cut_short.as_ref().map(ToString::to_string);
        let judgement = judge.conclude(if interrupted { Some("interrupted") } else { why.as_deref() });
        let report = Report {
            run: RunFacts {
                schema_version: 1,
                partywall_version: env!("CARGO_PKG_VERSION").into(),
                run_id,
                target: self.target.name.clone(),
                started_at: started.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
                elapsed_ms: clock.elapsed().as_millis() as u64,
                postgres: note,
                notes,
                interrupted,
                stopped_because: why,
                reproduce: self.reproduce.clone(),
            },
            overall: judgement.overall(),
            plan: plan.summary(),
            judgement,
        };
        report::write_all(&report, &self.formats, &dir)?;
        let exit = match (report.overall, &cut_short) {
            (Overall::Violated, _) => ExitCode::Violated,
            _ if interrupted => ExitCode::Interrupted,
            (_, Some(error)) => error.exit_code(),
            (Overall::Inconclusive, None) => ExitCode::Inconclusive,
            (Overall::Upheld, None) => ExitCode::Upheld,
        };
        Ok(Ended { report, dir, exit })
    }

    /// Postgres, the database, its schema and roles, and the program.
    async fn stage(&self, events: &Events, notes: &mut Vec<String>) -> Result<Stage> {
        let mut surroundings = Surroundings::default();
        surroundings.make_secrets(&self.target);
        if let (false, Some(build)) =
            (self.variant.defects.is_empty(), self.target.launch.as_ref().and_then(|l| l.defects.as_ref()))
        {
            surroundings.env.insert(build.variable.clone(), self.variant.defects.join(","));
        }
        surroundings.instead = self.variant.instead.iter().cloned().collect();
        events(Event::Stage("prepare"));
        let program = match &self.target.launch {
            Some(launch) => Some(launch::find_program(launch, self.variant.defects_build).await?),
            None => None,
        };
        let Some(database) = &self.target.database else {
            return Ok(Stage { postgres: None, surroundings, program, note: "the target's own".into() });
        };
        let source = match &database.url {
            Some(url) => Source::Url(url.clone()),
            None => self.postgres.clone(),
        };
        let postgres = Postgres::start(&source, &crate::postgres::Options::default()).await?;
        for passed in postgres.passed_over() {
            notes.push(format!("Postgres by {} passed over: {}", passed.rung, passed.why));
        }
        notes.extend(postgres.warnings().iter().cloned());
        for note in notes.iter() {
            events(Event::Note(note.clone()));
        }
        let note = format!("PostgreSQL {} ({})", postgres.server_version(), postgres.rung());
        if !postgres.is_ours() {
            return Err(Error::Usage(
                "[database] url names a database that Partywall did not make; it is not written to. \
                 Leave url out to use a throw-away Postgres"
                    .into(),
            ));
        }
        let name = "partywall";
        postgres.create_database(name).await?;
        surroundings.admin_url = Some(postgres.admin_url_for(name));
        if let Some(program) = &program {
            for words in &database.setup {
                launch::run(words, program, &surroundings).await?;
            }
        }
        let admin = surroundings.admin_url.clone().unwrap_or_default();
        surroundings.role_urls =
            role_urls(&admin, database, &|role, password| postgres.url_for(name, role, password)).await?;
        Ok(Stage { postgres: Some(postgres), surroundings, program, note })
    }

    /// Plan, plant, drive and judge; none when interrupted before there was a plan.
    #[allow(clippy::too_many_arguments)]
    async fn staged(
        &self,
        stage: &Stage,
        requirements: &[Requirement],
        secrets: &Arc<Secrets>,
        dir: &Path,
        run_id: &str,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Option<(Arc<Plan>, Judge, Option<Error>)>> {
        let log = dir.join("target.log");
        let ids = requirements.iter().map(|r| r.id.clone()).collect();
        let document = match &self.target.launch {
            Some(launch) if self.target.openapi.starts_with('/') => {
                let program = stage.program.as_deref().unwrap_or(Path::new(&launch.program));
                let service = Service::start(program, launch, &stage.surroundings, None, &log).await?;
                let document = self.document(&service.base_url).await;
                service.stop().await;
                document?
            }
            _ => self.document(self.target.base_url.as_deref().unwrap_or_default()).await?,
        };
        let operations = openapi::operations(&document, &self.target.openapi)?;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let plan = Arc::new(Plan::new(self.seed, self.bounds.clone(), ids, self.target.clone(), operations, now));
        plan.check()?;
        let saved = serde_json::to_vec_pretty(&*plan).map_err(|e| Error::Defect(e.to_string()))?;
        let path = dir.join("plan.json");
        std::fs::write(&path, &saved).map_err(|e| Error::write(&path, e))?;
        let planned = Planner::new(plan.clone()).size();
        let cells = plan.cells().len();
        events(Event::Planned(format!(
            "seed {} (it reproduces the plan, never the interleaving): {} tenants, {} operations, {cells} cells, \
             {planned} sequences, {} pool states",
            self.seed.0,
            plan.bounds.tenants,
            plan.operations.len(),
            plan.pool_states().count()
        )));
        let mut judge = Judge::new(plan.clone(), requirements.to_vec());
        if self.dry_run || interrupt.is_raised() {
            return Ok(Some((plan, judge, Some(Error::Usage("--dry-run: nothing was driven".into())))));
        }
        events(Event::Stage("plant"));
        if let Some(admin) = &stage.surroundings.admin_url {
            let mut connection = connect(admin).await?;
            crate::plant::plant(&plan, &plan.holdings(), secrets, &mut connection).await?;
            if let Some(sql) = &self.variant.sql {
                execute(&mut connection, sql).await?;
            }
            sqlx::Connection::close(connection).await.map_err(|e| Error::Unreachable(database_words(&e)))?;
            if let Some(program) = &stage.program {
                launch::run(&self.target.plant.after, program, &stage.surroundings).await?;
            }
        }
        let header = history::Header {
            schema_version: history::SCHEMA_VERSION,
            run_id: run_id.into(),
            plan_sha256: sha256(&saved),
        };
        let mut writer = history::Writer::create(&dir.join("history.ndjson.zst"), &header)?;
        let began = Instant::now();
        let until = self.bounds.time_s_max.map(|s| began + Duration::from_secs(s));
        let course = Course { campaign: self, plan: &plan, stage, secrets, dir, events, interrupt, began, until };
        events(Event::Stage("drive"));
        let driven = course.drive(&mut judge, &mut writer, planned).await;
        writer.finish()?;
        let cut_short = match driven {
            Ok(()) if interrupt.is_raised() => Some(Error::Interrupted),
            Ok(()) => None,
            Err(error @ (Error::File { .. } | Error::Defect(_))) => return Err(error),
            Err(error) => Some(error),
        };
        Ok(Some((plan, judge, cut_short)))
    }

    async fn document(&self, base_url: &str) -> Result<String> {
        let place = &self.target.openapi;
        if !place.starts_with('/') {
            let path = self.target_dir.join(place);
            return std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e));
        }
        let client = crate::target::http::client(Duration::from_secs(10))?;
        let failed = |why: String| {
            Error::Unreachable(format!(
                "GET {place} for the OpenAPI document {why}. Check `openapi` in the target file"
            ))
        };
        let answer = client.get(format!("{base_url}{place}")).send().await;
        let answer = answer.map_err(|e| failed(format!("got no answer: {}", e.without_url())))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(failed(format!("answered {status}")));
        }
        answer.text().await.map_err(|e| failed(format!("broke off: {}", e.without_url())))
    }
}

impl Course<'_> {
    async fn drive(&self, judge: &mut Judge, writer: &mut history::Writer, planned: u64) -> Result<()> {
        let mut states: Vec<PoolState> = self.plan.pool_states().collect();
        let mut number = 0;
        while !states.is_empty() && !self.over(judge) {
            let size = states[0].pool_size;
            let same: Vec<PoolState> = states.iter().copied().take_while(|s| s.pool_size == size).collect();
            states.drain(..same.len());
            let mut service = self.launch(size).await?;
            let base_url = match &service {
                Some(service) => service.base_url.clone(),
                None => self.campaign.target.base_url.clone().unwrap_or_default().trim_end_matches('/').to_string(),
            };
            let driven = self.pool(&same, &base_url, &mut service, judge, writer, planned, &mut number).await;
            if let Some(service) = service {
                service.stop().await;
            }
            driven?;
        }
        Ok(())
    }

    async fn launch(&self, pool_size: Option<u32>) -> Result<Option<Service>> {
        let (Some(launch), Some(program)) = (&self.campaign.target.launch, &self.stage.program) else {
            return Ok(None);
        };
        let log = self.dir.join("target.log");
        Service::start(program, launch, &self.stage.surroundings, pool_size, &log).await.map(Some)
    }

    fn over(&self, judge: &Judge) -> bool {
        self.interrupt.is_raised()
            || self.until.is_some_and(|until| Instant::now() >= until)
            || (self.campaign.first_finding_only && judge.findings() > 0)
    }

    #[allow(clippy::too_many_arguments)]
    async fn pool(
        &self,
        states: &[PoolState],
        base_url: &str,
        service: &mut Option<Service>,
        judge: &mut Judge,
        writer: &mut history::Writer,
        planned: u64,
        number: &mut u64,
    ) -> Result<()> {
        let client = crate::target::http::client(crate::target::http::TIMEOUT)?;
        for state in states {
            let holdings = self.plan.holdings();
            let identities = Identities::establish(self.plan, &holdings, self.secrets, &client, base_url).await?;
            let scanner = Scanner::new(self.plan.seed.canary_key(), self.plan.window());
            let door = Arc::new(Door {
                plan: self.plan.clone(),
                base_url: base_url.into(),
                identities,
                secrets: self.secrets.clone(),
                scanner: Arc::new(scanner),
                began: self.began,
            });
            let planner = Planner::new(self.plan.clone());
            let sequences: Sequences = Arc::new(Mutex::new(Box::new(planner.into_sequences(*state))));
            let lanes = match state.lanes {
                Lanes::One => 1,
                Lanes::Many => self.plan.bounds.workers,
            };
            let pause = self.plan.bounds.rate_limit.map(|rate| Duration::from_secs(1) * lanes / rate.max(1));
            let (sender, mut receiver) = mpsc::channel(256);
            let mut running = tokio::task::JoinSet::new();
            for connection in 0..lanes {
                running.spawn(drive::lane(
                    door.clone(),
                    connection,
                    sequences.clone(),
                    sender.clone(),
                    self.until,
                    pause,
                ));
            }
            drop(sender);
            let mut failures = 0;
            while let Some(mut observation) = receiver.recv().await {
                observation.number = *number;
                *number += 1;
                self.observe(&observation, judge, writer, planned)?;
                failures =
                    if matches!(observation.outcome, history::Outcome::Failed { .. }) { failures + 1 } else { 0 };
                if failures > 0
                    && let Some(why) = service.as_mut().and_then(Service::ended)
                {
                    return Err(Error::Unreachable(format!("the target ended during the run: {why}")));
                }
                if failures > FAILURES_MAX {
                    return Err(Error::Unreachable(format!(
                        "the target stopped answering: {FAILURES_MAX} requests in a row failed. Check its log"
                    )));
                }
                if self.over(judge) {
                    break;
                }
            }
            drop(receiver);
            if !self.over(judge) {
                while let Some(lane) = running.join_next().await {
                    lane.map_err(|e| Error::Defect(format!("a lane broke: {e}")))??;
                }
            }
        }
        Ok(())
    }

    fn observe(
        &self,
        observation: &Observation,
        judge: &mut Judge,
        writer: &mut history::Writer,
        planned: u64,
    ) -> Result<()> {
        writer.append(observation)?;
        for sentence in judge.observe(observation) {
            (self.events)(Event::Found(sentence));
        }
        let done = judge.counts().attempted;
        if done.is_multiple_of(PROGRESS_EVERY) {
            (self.events)(Event::Progress { done, planned: planned.max(done), findings: judge.findings() as u64 });
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}
