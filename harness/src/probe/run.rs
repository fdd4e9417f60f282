//! A run: a place, rows, trials, their record, the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bind::Binding;
use super::breach::shows;
use super::engine::Engine;
use super::ground::{Ground, Tenant};
use super::history::{Header, SCHEMA_VERSION, Writer};
use super::judge::{Judgement, Record, judge};
use super::place::{Asked, Mode, Place};
use super::plant::Planter;
use super::schema::Schema;
use super::story::Stage;
use super::subject::{Kind, Subject};
use super::trial::{Context, Lane};
use super::trials::Made;
use super::{tenancy, tenants};
use crate::campaign::Interrupt;
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::exit_code::ExitCode;
use crate::guard::config::Config;
use crate::requirement;
use crate::seed::Seed;
use crate::verdict::Overall;

/// Tenants of a run.
const TENANTS: u32 = 2;
const TENANTS_HASHED: u32 = 12;
/// Places for rows in the canaries of a tenant.
const PLACES: u32 = 600_000;

/// What is asked of a run.
#[derive(Clone)]
pub struct Probe {
    /// Where, and as whom.
    pub asked: Asked,
    /// Statements that bind the tenant context, `$1` where the tenant stands; none given are found.
    pub contexts: Vec<String>,
    /// Which tables and columns are tenants', where their names do not say so.
    pub config: Config,
    /// The seed.
    pub seed: Seed,
    /// Sequences drawn at random.
    pub cases: u64,
    /// Folder for the runs' reports.
    pub reports: PathBuf,
    /// The command that does the same again.
    pub reproduce: String,
}

/// What a reader of a run's report has to know of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The run's name.
    pub run_id: String,
    /// The database.
    pub database: String,
    /// The application's database role.
    pub role: String,
    /// How much was done: `copy`, `rollback`, `read-only`.
    pub mode: String,
    /// How the tenant context was bound.
    pub context: String,
    /// The tenants.
    pub tenants: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The server's version number.
    pub server_version: i32,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
    /// True when it was ended early.
    pub interrupted: bool,
    /// The command that does the same again.
    pub reproduce: String,
}

/// How a run ended.
pub struct Ended {
    /// Its facts.
    pub facts: Facts,
    /// Its judgement.
    pub judgement: Judgement,
    /// What was recorded.
    pub records: Vec<Record>,
    /// The statements that planted each row, with the table's name.
    pub planted: Vec<(String, String)>,
    /// Its folder.
    pub dir: PathBuf,
    /// Its exit code.
    pub exit: ExitCode,
    binding: Binding,
    tenants: Vec<Tenant>,
}

impl Ended {
    /// The statement that binds `context`.
    pub fn bound(&self, context: &Context) -> String {
        self.binding.sql(context, &self.tenants)
    }
}

impl Probe {
    /// Runs it.
    ///
    /// # Errors
    /// Nobody answers, the role cannot be taken, or nothing may be written.
    pub async fn run(&self, events: Events, interrupt: Interrupt) -> Result<Ended> {
        let began = std::time::Instant::now();
        events(Event::Stage("probe: a place"));
        let mut place = Place::open(&self.asked).await?;
        let done = self.within(&mut place, &events, &interrupt).await;
        // Whatever came of it, no copy stays behind.
        let closed = place.close().await;
        let mut ended = done?;
        closed?;
        ended.facts.elapsed_ms = began.elapsed().as_millis() as u64;
        Ok(ended)
    }

    async fn within(&self, place: &mut Place, events: &Events, interrupt: &Interrupt) -> Result<Ended> {
        let run_id = crate::seed::run_id(time::OffsetDateTime::now_utc());
        let mut session = place.session().await?;
        let mut schema = Schema::read(session.connection(), &self.asked.role).await?;
        let found = tenancy::find(session.connection(), &mut schema.subjects, &self.config, &self.asked.role).await?;
        let binding = if self.contexts.is_empty() { found } else { Binding::by(self.contexts.clone())? };
        if !schema.subjects.iter().any(|subject| subject.owned) {
            return Err(Error::Usage(
                "no table has a column that names a tenant: name it, as in --tenant-column owner_key, or in partywall.toml".into(),
            ));
        }
        let mut ground = Ground::new(self.seed, TENANTS, PLACES);
        ground.tenant_columns =
            schema.subjects.iter().filter(|s| !s.is_root()).filter_map(|s| s.tenant.clone()).collect();
        // A view has its tables' columns.
        for subject in schema.subjects.iter_mut().filter(|s| !s.kind.is_table()) {
            subject.tenant =
                subject.columns.iter().map(|c| &c.name).find(|name| ground.tenant_columns.contains(*name)).cloned();
        }
        let mut unplanted = Vec::new();
        let mut may_replicate = false;
        let mut adopted = BTreeMap::new();
        events(Event::Stage("probe: planting"));
        if place.mode == Mode::ReadOnly {
            let tables: Vec<&Subject> =
                schema.subjects.iter().filter(|s| s.owned && s.kind != Kind::Partition).collect();
            ground.tenants = tenants::found(&mut session, &tables, 0).await?;
        } else {
            let mut planter = Planter::new(&mut session, &schema.subjects, &binding, self.seed).await?;
            // Which partition a hash puts a tenant in is not to be chosen: of many tenants, each gets some.
            let hashed = schema
                .subjects
                .iter()
                .any(|s| s.owned && s.checks.iter().any(|c| c.expression.contains("satisfies_hash_partition")));
            let count = if hashed { TENANTS_HASHED } else { TENANTS };
            ground.tenants = tenants::made(&mut planter, &schema.subjects, &ground, count, self.seed).await?;
            unplanted = planter.plant(&mut ground).await?;
            may_replicate = planter.may_replicate;
            for stored in schema.subjects.iter().filter(|s| s.kind == Kind::Materialised) {
                session.aside(&stored.refreshed(may_replicate)).await?;
            }
            for table in unplanted.iter().filter(|unplanted| !unplanted.spare).filter_map(|u| schema.subject(u.table)) {
                let first = ground.tenants.len();
                let found = tenants::found(&mut session, &[table], first as u32).await?;
                if found.len() == 2 {
                    ground.tenants.extend(found);
                    adopted.insert(table.oid, [first, first + 1]);
                }
            }
        }
        let columns: Vec<&Subject> =
            schema.subjects.iter().filter(|s| s.owned && s.tenant.is_some() && s.kind != Kind::Partition).collect();
        ground.meet(tenants::ids(&mut session, &columns).await?);
        if ground.tenants.len() < 2 {
            return Err(Error::Usage(
                "two tenants are needed, and there are fewer with rows: probe a copy, where rows are planted".into(),
            ));
        }
        let whole = session.is_within().then_some(session);
        let mut engine = Engine::new(place.door.clone(), &ground, binding.clone(), &schema.subjects, whole);
        let chosen = tenants::contexts(&mut engine, &binding, &ground, &schema.subjects).await?;
        let whole = engine.into_whole();
        for (number, values) in chosen {
            ground.tenants[number].context = values;
        }
        let made = Made {
            schema: &schema,
            ground: &ground,
            unplanted: &unplanted,
            adopted: &adopted,
            mode: place.mode,
            may_replicate,
        };
        let (trials, gaps) = made.trials();
        events(Event::Planned(format!("{} trials of {} subjects", trials.len(), schema.subjects.len())));
        let dir = self.reports.join(&run_id);
        std::fs::create_dir_all(&dir).map_err(|e| Error::write(&dir, e))?;
        let header = Header {
            probe_schema_version: SCHEMA_VERSION,
            run_id: run_id.clone(),
            database: place.database.clone(),
            role: self.asked.role.clone(),
            seed: self.seed.0,
            gaps: gaps.clone(),
        };
        let mut writer = Writer::create(&dir.join("history.ndjson.zst"), &header)?;
        let mut engine = Engine::new(place.door.clone(), &ground, binding.clone(), &schema.subjects, whole);
        if place.mode != Mode::ReadOnly {
            engine.note().await?;
        }
        events(Event::Stage("probe: trying"));
        let mut records = Vec::with_capacity(trials.len());
        let planned = trials.len() as u64;
        for trial in trials {
            if interrupt.is_raised() {
                break;
            }
            let outcomes = engine.perform(&trial).await?;
            if trial.commits() && trial.acts.iter().any(|(lane, _)| *lane == Lane::Second) {
                engine.forget();
                engine.note().await?;
            }
            let record = Record { trial, outcomes };
            writer = writer.append(&record)?;
            records.push(record);
            events(Event::Progress { done: records.len() as u64, planned, findings: 0 });
        }
        if !interrupt.is_raised() {
            let broken: BTreeSet<&str> =
                records.iter().filter(|r| shows(r)).map(|r| r.trial.subject.as_str()).collect();
            let readable = |s: &&Subject| s.owned && s.rights.usage && s.rights.select && s.parent.is_none();
            let stage = Stage {
                tables: schema
                    .subjects
                    .iter()
                    .filter(readable)
                    .filter(|s| !broken.contains(s.title().as_str()))
                    .collect(),
                roles: schema.roles.iter().cloned().chain([self.asked.role.clone()]).collect(),
                tenants: ground.tenants.len(),
                copies: place.mode == Mode::Copy,
                writes: place.mode != Mode::ReadOnly,
                seed: self.seed,
            };
            events(Event::Stage("probe: sequences"));
            for record in stage.play(&mut engine, self.cases).await? {
                writer = writer.append(&record)?;
                records.push(record);
            }
        }
        writer.finish()?;
        let judgement = judge(&records, &gaps, &requirements()?);
        let exit = exit(&judgement, interrupt.is_raised());
        let name = |oid: i64| schema.subject(oid).map_or_else(String::new, |subject| subject.title());
        let facts = Facts {
            run_id,
            database: place.database.clone(),
            role: self.asked.role.clone(),
            mode: word(place.mode).into(),
            context: binding.shown(),
            tenants: ground
                .tenants
                .iter()
                .map(|tenant| if tenant.planted { tenant.id.clone() } else { "one that was there".into() })
                .collect(),
            seed: self.seed.0,
            server_version: schema.version,
            notes: place.notes.clone(),
            elapsed_ms: 0,
            interrupted: interrupt.is_raised(),
            reproduce: self.reproduce.clone(),
        };
        let planted = ground
            .rows
            .iter()
            .filter(|row| !row.statement.is_empty())
            .map(|row| (name(row.table), row.statement.clone()))
            .collect();
        let tenants = ground.tenants.clone();
        Ok(Ended { facts, judgement, records, planted, dir, exit, binding, tenants })
    }
}

/// What the probe judges.
///
/// # Errors
/// A catalogue that does not parse.
pub fn requirements() -> Result<Vec<requirement::Requirement>> {
    Ok(requirement::catalogue()?.into_iter().filter(requirement::Requirement::needs_probe).collect())
}

/// Judges a history that was written before.
///
/// # Errors
/// It cannot be read.
pub fn judge_again(path: &Path) -> Result<Option<Judgement>> {
    let Some((header, records)) = super::history::read(path)? else { return Ok(None) };
    Ok(Some(judge(&records, &header.gaps, &requirements()?)))
}

fn exit(judgement: &Judgement, interrupted: bool) -> ExitCode {
    match judgement.overall() {
        _ if interrupted => ExitCode::Interrupted,
        Overall::Violated => ExitCode::Violated,
        Overall::Inconclusive => ExitCode::Inconclusive,
        Overall::Upheld => ExitCode::Upheld,
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto | Mode::Copy => "copy",
        Mode::Rollback => "rollback",
        Mode::ReadOnly => "read-only",
    }
}
