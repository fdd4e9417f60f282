//! A bounded run from a scenario to a verdict: prepare the database, launch, plant, drive, observe, judge, report.

mod corpus;
mod course;
mod interrupt;
mod overhear;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use self::course::Course;
pub use self::interrupt::Interrupt;
use self::stage::Stage;
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::exit_code::ExitCode;
use crate::history;
use crate::oracle::Judge;
use crate::plan::{Plan, Planner};
use crate::postgres::Source;
use crate::report::{self, Format};
use crate::requirement::{self, Requirement};
use crate::scenario::Bounds;
use crate::seed::{self, Seed};
use crate::target::copy::execute;
use crate::target::database::{close, connect};
use crate::target::file::TargetFile;
use crate::target::identity::Secrets;
use crate::target::launch::{self, Service};
use crate::target::openapi;
use crate::verdict::{Overall, Report, RunFacts};

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
    /// Folder of the corpus: its cases are driven first, and those that taught something are written to it.
    pub corpus: Option<PathBuf>,
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

/// One run: its name, its folder, and who listens to it.
struct Run {
    id: String,
    dir: PathBuf,
    events: Events,
    interrupt: Interrupt,
}

impl Run {
    /// Where the target's own output goes.
    fn log(&self) -> PathBuf {
        self.dir.join("target.log")
    }
}

/// What driving came to.
struct Driven {
    plan: Arc<Plan>,
    judge: Judge,
    /// Why the plan was not driven to its end.
    cut_short: Option<Error>,
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
        let id = seed::run_id(started);
        let run = Run { dir: self.reports.join(&id), id, events, interrupt };
        std::fs::create_dir_all(&run.dir).map_err(|e| Error::write(&run.dir, e))?;
        let mut notes = Vec::new();
        let stage = tokio::select! {
            stage = Stage::build(self, &run, &mut notes) => stage?,
            () = run.interrupt.wait() => return Err(Error::Interrupted),
        };
        let driven = self.staged(&stage, requirements, &run).await;
        let postgres = stage.note.clone();
        stage.strike().await;
        let Driven { plan, judge, mut cut_short } = driven?;

        let interrupted = run.interrupt.is_raised();
        let why = cut_short.as_ref().map(ToString::to_string);
        let judgement = judge.conclude(if interrupted { Some("interrupted") } else { why.as_deref() });
        let mut report = Report {
            run: RunFacts {
                schema_version: 1,
                partywall_version: env!("CARGO_PKG_VERSION").into(),
                run_id: run.id,
                target: self.target.name.clone(),
                started_at: started.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
                elapsed_ms: clock.elapsed().as_millis() as u64,
                postgres,
                notes,
                interrupted,
                stopped_because: why,
                reproduce: self.reproduce.clone(),
            },
            overall: judgement.overall(),
            plan: plan.summary(),
            judgement,
        };
        // What the run knows is still told where no file can be written.
        if let Err(error) = report::write_all(&report, &self.formats, &run.dir) {
            report.run.stopped_because.get_or_insert_with(|| error.to_string());
            cut_short.get_or_insert(error);
        }
        let exit = match (report.overall, &cut_short) {
            (Overall::Violated, _) => ExitCode::Violated,
            _ if interrupted => ExitCode::Interrupted,
            (_, Some(error)) => error.exit_code(),
            (Overall::Inconclusive, None) => ExitCode::Inconclusive,
            (Overall::Upheld, None) => ExitCode::Upheld,
        };
        Ok(Ended { report, dir: run.dir, exit })
    }

    /// Plan, plant, drive and judge.
    async fn staged(&self, stage: &Stage, requirements: Vec<Requirement>, run: &Run) -> Result<Driven> {
        let document = stage.document(self, &run.log()).await?;
        let operations = openapi::operations(&document, &self.target.openapi)?;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let ids = requirements.iter().map(|r| r.id.clone()).collect();
        let mut plan = Plan::new(self.seed, self.bounds.clone(), ids, self.target.clone(), operations, now);
        if let Some(folder) = &self.corpus {
            plan.corpus = corpus::load(folder)?.cases;
        }
        let plan = Arc::new(plan);
        plan.check()?;
        let saved = serde_json::to_vec_pretty(&*plan).map_err(|e| Error::Defect(e.to_string()))?;
        let path = run.dir.join("plan.json");
        std::fs::write(&path, &saved).map_err(|e| Error::write(&path, e))?;
        (run.events)(Event::Planned(format!(
            "seed {} (it reproduces the plan, never the interleaving): {} tenants, {} operations, {} cells, {} \
             sequences, {} pool states",
            self.seed.0,
            plan.bounds.tenants,
            plan.operations.len(),
            plan.cells().len(),
            Planner::new(plan.clone()).size(),
            plan.pool_states().count()
        )));
        let mut judge = Judge::new(plan.clone(), requirements);
        let cut_short = if self.dry_run {
            Err(Error::Usage("--dry-run: nothing was driven".into()))
        } else {
            self.driven(stage, &plan, &saved, &mut judge, run).await
        };
        let cut_short = match cut_short {
            Ok(()) if run.interrupt.is_raised() => Some(Error::Interrupted),
            Ok(()) => None,
            Err(defect @ Error::Defect(_)) => return Err(defect),
            Err(error) => Some(error),
        };
        Ok(Driven { plan, judge, cut_short })
    }

    async fn driven(&self, stage: &Stage, plan: &Arc<Plan>, saved: &[u8], judge: &mut Judge, run: &Run) -> Result<()> {
        if run.interrupt.is_raised() {
            return Ok(());
        }
        let secrets = Arc::new(Secrets::fresh());
        (run.events)(Event::Stage("plant"));
        self.plant(stage, plan, &secrets).await?;
        let header = history::Header {
            schema_version: history::SCHEMA_VERSION,
            run_id: run.id.clone(),
            plan_sha256: sha256(saved),
        };
        let writer = history::Writer::create(&run.dir.join("history.ndjson.zst"), &header)?;
        (run.events)(Event::Stage("drive"));
        Course::new((self, run, stage), plan, &secrets, judge, writer).drive().await
    }

    async fn plant(&self, stage: &Stage, plan: &Plan, secrets: &Secrets) -> Result<()> {
        let Some(admin) = &stage.surroundings.admin_url else { return Ok(()) };
        let mut connection = connect(admin).await?;
        crate::plant::plant(plan, &plan.holdings(), secrets, &mut connection).await?;
        if let Some(sql) = &self.variant.sql {
            execute(&mut connection, sql).await?;
        }
        close(connection).await?;
        match &stage.program {
            Some(program) => launch::run(&self.target.plant.after, program, &stage.surroundings).await,
            None => Ok(()),
        }
    }

    /// Where the target answers, without a trailing slash.
    fn base_url(&self, service: Option<&Service>) -> String {
        match service {
            Some(service) => service.base_url.clone(),
            None => self.target.base_url.clone().unwrap_or_default().trim_end_matches('/').to_string(),
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}
