//! A bounded run from a scenario to a verdict: prepare the database, launch, plant, drive, observe, judge, report.

mod against;
mod aged;
mod aside;
mod bundle;
mod corpus;
mod course;
mod departed;
mod interrupt;
mod overhear;
mod reproduce;
mod shrink;
mod stage;
mod standing;
mod tapping;
mod trial;
mod worlds;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub use self::against::Against;
use self::course::Course;
pub use self::interrupt::Interrupt;
use self::stage::Stage;
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::exit_code::ExitCode;
use crate::history;
use crate::oracle::Judge;
use crate::plan::{Plan, Planner, sha256};
use crate::postgres::Source;
use crate::postgres::pgbouncer::Through;
use crate::replay::{self, Recording};
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
use crate::target::tenants::Variables;
use crate::tenant::Holdings;
use crate::verdict::{Overall, Report, RunFacts, Verdict};

/// What a campaign is made of.
#[derive(Clone)]
pub struct Campaign {
    /// The service under test.
    pub target: TargetFile,
    /// The target file's folder, for a document beside it.
    pub target_dir: PathBuf,
    /// The target file as it was given; none for the bundled reference.
    pub target_file: Option<PathBuf>,
    /// How much is done.
    pub bounds: Bounds,
    /// Selected requirement IDs or families; empty selects all.
    pub only: Vec<String>,
    /// The seed.
    pub seed: Seed,
    /// Where Postgres comes from.
    pub postgres: Source,
    /// A pooler between the target and its database, if there is one.
    pub through: Option<Through>,
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
    /// What the variables hold that the target file names, before the process's own.
    pub variables: Variables,
    /// Recorded traffic to play instead of a plan of our own.
    pub recording: Option<Recording>,
    /// Where to write the run's own traffic as a HAR.
    pub har: Option<PathBuf>,
    /// How long is spent on making findings smaller; none leaves them as they are.
    pub shrink: Option<Shrink>,
    /// Folder of the corpus: its cases are driven first, and those that taught something are written to it.
    pub corpus: Option<PathBuf>,
}

/// Bounds of the search for the fewest steps that show a finding.
#[derive(Clone, Copy, Debug)]
pub struct Shrink {
    /// Causes looked at, the worst first.
    pub causes_max: usize,
    /// Seconds spent on each.
    pub time_s: u64,
}

impl Default for Shrink {
    fn default() -> Self {
        Self { causes_max: 5, time_s: 30 }
    }
}

/// What a mutant changes about its target.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// The mutant's ID.
    pub mutant: Option<String>,
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
    /// With the findings' sentences, and with what was inconclusive and why.
    pub fn assert_upheld(&self) {
        if self.exit == ExitCode::Upheld {
            return;
        }
        let judgement = &self.report.judgement;
        let mut said: Vec<String> =
            judgement.findings.iter().map(|f| format!("{}: {}", f.requirement, f.sentence)).collect();
        match &self.report.run.stopped_because {
            Some(why) => said.push(why.clone()),
            None => said.extend(judgement.requirements.iter().filter_map(|r| match &r.verdict {
                Verdict::Inconclusive(why) => Some(format!("{} is inconclusive: {why}", r.requirement)),
                _ => None,
            })),
        }
        panic!("{:?}:\n{}\nThe report is in {}", self.exit, said.join("\n"), self.dir.display());
    }
}

/// One run: its name, its folder, and who listens to it.
struct Run {
    id: String,
    dir: PathBuf,
    events: Events,
    interrupt: Interrupt,
    notes: Mutex<Vec<String>>,
}

impl Run {
    /// Tells what a reader should know, now and in the report.
    fn note(&self, text: String) {
        (self.events)(Event::Note(text.clone()));
        if let Ok(mut notes) = self.notes.lock() {
            notes.push(text);
        }
    }

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
        self.fitted()?.perform(events, interrupt).await
    }

    /// The campaign as its target allows it: as many tenants as are given, and the address that a variable holds.
    fn fitted(&self) -> Result<Self> {
        let mut fitted = self.clone();
        if let Some(base_url) = &self.target.base_url {
            let base_url = self.variables.resolve(base_url, "base_url")?;
            if base_url.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or(rest).contains('@'))
            {
                return Err(Error::Usage(
                    "base_url holds a user name: say who calls by [credential] and [[tenant]]".into(),
                ));
            }
            fitted.target.base_url = Some(base_url);
        }
        if !self.target.tenant.is_empty() {
            fitted.bounds.tenants = self.target.tenant.len() as u32;
        }
        Ok(fitted)
    }

    async fn perform(&self, events: Events, interrupt: Interrupt) -> Result<Ended> {
        let started = time::OffsetDateTime::now_utc();
        let clock = Instant::now();
        self.bounds.check()?;
        let mut requirements = requirement::select(&self.only)?;
        requirements.retain(|r| !r.needs_probe() && (self.recording.is_some() || !r.needs_capture()));
        if requirements.is_empty() {
            return Err(Error::Usage(
                "what is selected is judged on recorded traffic, or as the application's database role: use partywall \
                 replay, or partywall probe"
                    .into(),
            ));
        }
        let id = seed::run_id(started);
        let run = Run { dir: self.reports.join(&id), id, events, interrupt, notes: Mutex::default() };
        std::fs::create_dir_all(&run.dir).map_err(|e| Error::write(&run.dir, e))?;
        let mut stage = tokio::select! {
            stage = Stage::build(self, &run) => stage?,
            () = run.interrupt.wait() => return Err(Error::Interrupted),
        };
        let furnished = tokio::select! {
            furnished = stage.furnish(self) => furnished,
            () = run.interrupt.wait() => Err(Error::Interrupted),
        };
        if let Err(error) = furnished {
            stage.strike().await;
            return Err(error);
        }
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
                run_id: run.id.clone(),
                target: self.target.name.clone(),
                started_at: started.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
                elapsed_ms: clock.elapsed().as_millis() as u64,
                postgres,
                notes: run.notes.lock().map(|notes| notes.clone()).unwrap_or_default(),
                interrupted,
                stopped_because: why,
                reproduce: self.reproduce.clone(),
            },
            overall: judgement.overall(),
            plan: plan.summary(),
            judgement,
        };
        let mut write = |report: &mut Report| {
            // What the run knows is still told where no file can be written.
            if let Err(error) = report::write_all(report, &self.formats, &run.dir) {
                report.run.stopped_because.get_or_insert_with(|| error.to_string());
                cut_short.get_or_insert(error);
            }
        };
        write(&mut report);
        if let Err(error) = self.shrink(&run, &plan, &mut report.judgement).await {
            report.run.notes.push(format!("findings were not made smaller: {error}"));
        }
        report.run.elapsed_ms = clock.elapsed().as_millis() as u64;
        if report.judgement.findings.iter().any(|f| f.minimised.is_some()) {
            write(&mut report);
        }
        let exit = match (report.overall, &cut_short) {
            (Overall::Violated, _) => ExitCode::Violated,
            _ if interrupted => ExitCode::Interrupted,
            (_, Some(error)) => error.exit_code(),
            (Overall::Inconclusive, None) => ExitCode::Inconclusive,
            (Overall::Upheld, None) => ExitCode::Upheld,
        };
        Ok(Ended { report, dir: run.dir.clone(), exit })
    }

    /// Plan, plant, drive and judge.
    async fn staged(&self, stage: &Stage, requirements: Vec<Requirement>, run: &Run) -> Result<Driven> {
        let document = stage.document(self, &run.log()).await?;
        let operations = openapi::operations(&document, &self.target.openapi)?;
        for reference in openapi::gaps(&document) {
            run.note(format!("the document refers to {reference}, which it does not hold"));
        }
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let ids = requirements.iter().map(|r| r.id.clone()).collect();
        let mut plan = Plan::new(self.seed, self.bounds.clone(), ids, self.target.clone(), operations, now);
        if let Some(folder) = &self.corpus {
            plan.corpus = corpus::load(folder)?.cases;
        }
        plan.check()?;
        if let Some(recording) = &self.recording {
            let mapped = recording.onto(&plan.operations, &plan.target)?;
            mapped.told(recording.entries.len()).into_iter().for_each(|note| run.note(note));
            plan.recorded = mapped.journeys;
        }
        let nothing = self.recording.is_some() && plan.recorded.is_empty();
        let plan = Arc::new(plan);
        let saved = serde_json::to_vec_pretty(&*plan).map_err(|e| Error::Defect(e.to_string()))?;
        let path = run.dir.join("plan.json");
        std::fs::write(&path, &saved).map_err(|e| Error::write(&path, e))?;
        let planner = Planner::new(plan.clone());
        (run.events)(Event::Planned(format!(
            "seed {} (it reproduces the plan, never the interleaving): {} tenants, {} operations, {} cells, {} \
             sequences, {} faults, {} pool states",
            self.seed.0,
            plan.bounds.tenants,
            plan.operations.len(),
            plan.cells().len(),
            planner.size(),
            plan.pool_states().map(|state| planner.faulted_numbers(state).count()).sum::<usize>(),
            plan.pool_states().count()
        )));
        let mut judge = Judge::new(plan.clone(), requirements);
        let cut_short = if self.dry_run {
            Err(Error::Usage("--dry-run: nothing was driven".into()))
        } else if nothing {
            Ok(())
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
        let secrets = Arc::new(Secrets::fresh(self.variables.clone()));
        (run.events)(Event::Stage("plant"));
        plant(self, stage, plan, &plan.holdings(), &secrets).await?;
        let header = history::Header {
            schema_version: history::SCHEMA_VERSION,
            run_id: run.id.clone(),
            plan_sha256: sha256(saved),
        };
        let writer = history::Writer::create(&run.dir.join("history.ndjson.zst"), &header)?;
        (run.events)(Event::Stage("drive"));
        Course::new((self, run, stage), plan, &secrets, judge, writer).drive().await?;
        match &self.har {
            Some(har) => replay::write(&run.dir.join("history.ndjson.zst"), plan, har),
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

/// Plants `holdings`, and makes the database the variant's.
async fn plant(campaign: &Campaign, stage: &Stage, plan: &Plan, holdings: &Holdings, secrets: &Secrets) -> Result<()> {
    let Some(admin) = &stage.surroundings.admin_url else { return Ok(()) };
    let mut connection = connect(admin).await?;
    crate::plant::plant(plan, holdings, secrets, &mut connection).await?;
    if let Some(sql) = &campaign.variant.sql {
        execute(&mut connection, sql).await?;
    }
    close(connection).await?;
    match &stage.program {
        Some(program) => launch::run(&campaign.target.plant.after, program, &stage.surroundings).await,
        None => Ok(()),
    }
}
