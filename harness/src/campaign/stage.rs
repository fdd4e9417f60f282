//! What must stand before anything is driven: the program, a Postgres, the target's database with its schema and roles.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Campaign, Run};
use crate::canary::Scanner;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::postgres::{Options, Postgres, Restart, Source};
use crate::snapshot::Snapshot;
use crate::target::database::{database_names, databases_named, drop_roles, role_names, role_urls};
use crate::target::file::Database;
use crate::target::inspect::inspect;
use crate::target::launch::{self, Service, Surroundings};
use crate::tenant::Holdings;

/// A target that can be planted, and launched at any pool size.
pub(super) struct Stage {
    postgres: Option<Postgres>,
    pub(super) surroundings: Surroundings,
    pub(super) program: Option<PathBuf>,
    /// Removed with the stage.
    _objects: tempfile::TempDir,
    /// Where Postgres came from, for the report.
    pub(super) note: String,
    /// The database, where its server is not ours and it has to be removed by name.
    database: String,
    /// The roles that its setup made.
    made: BTreeSet<String>,
    /// How the databases are named that the target makes there.
    makes: Vec<String>,
    /// Databases that were there before and are none of the run's.
    strangers: BTreeSet<String>,
}

impl Stage {
    /// Finds the program, and starts Postgres.
    pub(super) async fn build(campaign: &Campaign, run: &Run) -> Result<Self> {
        let target = &campaign.target;
        let objects = tempfile::tempdir().map_err(|e| Error::write(&std::env::temp_dir(), e))?;
        let mut surroundings = Surroundings { objects: Some(objects.path().into()), ..Surroundings::default() };
        surroundings.make_secrets(target);
        let defects = target.launch.as_ref().and_then(|launch| launch.defects.as_ref());
        if let (false, Some(build)) = (campaign.variant.defects.is_empty(), defects) {
            surroundings.env.insert(build.variable.clone(), campaign.variant.defects.join(","));
        }
        surroundings.instead = campaign.variant.instead.iter().cloned().collect();
        (run.events)(Event::Stage("prepare"));
        let program = match &target.launch {
            Some(launch) => Some(launch::find_program(launch, campaign.variant.defects_build).await?),
            None => None,
        };
        let mut stage = Self {
            postgres: None,
            _objects: objects,
            surroundings,
            program,
            note: "none: judged over HTTP alone".into(),
            database: format!("partywall-{}", run.id),
            made: BTreeSet::new(),
            makes: Vec::new(),
            strangers: BTreeSet::new(),
        };
        let Some(database) = &target.database else {
            run.note("no database is given: what needs SQL or the wiretap is not applicable".into());
            return Ok(stage);
        };
        if database.url.is_some() {
            return Err(Error::Usage(
                "[database] url names a database that Partywall did not make; it is not written to. Leave url out, \
                 and give --postgres a server where Partywall may make a database of its own"
                    .into(),
            ));
        }
        let postgres = start(&campaign.postgres, run).await?;
        stage.note = format!("PostgreSQL {} ({})", postgres.server_version(), postgres.rung());
        stage.postgres = Some(postgres);
        Ok(stage)
    }

    /// Makes the database and its roles. What was made is to be removed also when this fails, or is cut.
    pub(super) async fn furnish(&mut self, campaign: &Campaign) -> Result<()> {
        let (Some(postgres), Some(database)) = (&self.postgres, &campaign.target.database) else { return Ok(()) };
        self.refuse_what_is_there(postgres, database).await?;
        let before = role_names(&postgres.admin_url()).await?;
        self.makes.clone_from(&database.makes);
        // Until it is known what a setup has made: should it be cut, these at least were not there before.
        self.made = database.roles.iter().cloned().collect();
        self.strangers = database_names(&postgres.admin_url()).await?;
        postgres.create_database(&self.database).await?;
        let admin = postgres.admin_url_for(&self.database);
        self.surroundings.admin_url = Some(admin.clone());
        if let Some(program) = &self.program {
            for words in &database.setup {
                launch::run(words, program, &self.surroundings).await?;
            }
        }
        self.made = role_names(&admin).await?.difference(&before).cloned().collect();
        let url = |role: &str, password: &str| postgres.url_for(&self.database, role, password);
        self.surroundings.role_urls = role_urls(&admin, database, &url).await?;
        Ok(())
    }

    /// Refuses a server on which something of somebody else's would be taken for the run's own.
    async fn refuse_what_is_there(&self, postgres: &Postgres, database: &Database) -> Result<()> {
        if postgres.is_ours() {
            return Ok(());
        }
        let there = |what: &str, name: &str| {
            Err(Error::Usage(format!(
                "the server has a {what} `{name}` already, which Partywall did not make and does not touch. \
                 Give --postgres a server without it, or drop the {}",
                what.rsplit(' ').next().unwrap_or(what)
            )))
        };
        // Roles belong to the server, not to a database: those of somebody else are not given new passwords.
        let roles = role_names(&postgres.admin_url()).await?;
        if let Some(role) = database.roles.iter().find(|role| roles.contains(*role)) {
            return there("database role", role);
        }
        match databases_named(&postgres.admin_url(), &database.makes).await?.first() {
            Some(name) => there("database", name),
            None => Ok(()),
        }
    }

    /// Launches the service; none when the target runs elsewhere.
    pub(super) async fn launch(
        &self,
        campaign: &Campaign,
        pool_size: Option<u32>,
        log: &Path,
    ) -> Result<Option<Service>> {
        self.launch_in(&self.surroundings, campaign, pool_size, log).await
    }

    /// As [`Stage::launch`], with what listens at an address between the service and its database, under encryption or not.
    pub(super) async fn launch_through(
        &self,
        before: Option<(SocketAddr, bool)>,
        campaign: &Campaign,
        pool_size: Option<u32>,
        log: &Path,
    ) -> Result<Option<Service>> {
        let surroundings = before.map(|(address, encrypted)| self.surroundings.through(address, encrypted));
        self.launch_in(surroundings.as_ref().unwrap_or(&self.surroundings), campaign, pool_size, log).await
    }

    async fn launch_in(
        &self,
        surroundings: &Surroundings,
        campaign: &Campaign,
        pool_size: Option<u32>,
        log: &Path,
    ) -> Result<Option<Service>> {
        let (Some(launch), Some(program)) = (&campaign.target.launch, &self.program) else { return Ok(None) };
        Service::start(program, launch, surroundings, pool_size, log).await.map(Some)
    }

    /// The target's OpenAPI document: from the file that the target file names, or from the service.
    pub(super) async fn document(&self, campaign: &Campaign, log: &Path) -> Result<String> {
        let place = &campaign.target.openapi;
        if !place.starts_with('/') {
            let path = campaign.target_dir.join(place);
            return std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e));
        }
        let service = self.launch(campaign, None, log).await?;
        let base_url = campaign.base_url(service.as_ref());
        let document = fetch(&format!("{base_url}{place}"), place).await;
        if let Some(service) = service {
            service.stop().await;
        }
        document
    }

    /// What the planted tables hold in all databases that the run made; none when the target's are not open.
    pub(super) async fn snapshot(&self, holdings: &Holdings, scanner: &Scanner) -> Result<Option<Snapshot>> {
        let (Some(postgres), Some(_)) = (&self.postgres, &self.surroundings.admin_url) else { return Ok(None) };
        // On a server of somebody else's, what else came up meanwhile may be anyone's.
        let names = match postgres.is_ours() {
            true => database_names(&postgres.admin_url()).await?,
            false => BTreeSet::from([self.database.clone()]),
        };
        let urls: Vec<String> = names.difference(&self.strangers).map(|name| postgres.admin_url_for(name)).collect();
        inspect(&urls, holdings, scanner).await.map(Some)
    }

    /// What restarts the database, where that can be done.
    pub(super) fn restart(&self) -> Option<Restart> {
        self.postgres.as_ref().and_then(Postgres::restart)
    }

    /// Takes everything down.
    pub(super) async fn strike(self) {
        let Some(postgres) = self.postgres else { return };
        if !postgres.is_ours() {
            // Best effort: the server may be gone; what stays carries Partywall's name.
            let _ = postgres.drop_database(&self.database).await;
            for name in databases_named(&postgres.admin_url(), &self.makes).await.unwrap_or_default() {
                let _ = postgres.drop_database(&name).await;
            }
            let _ = drop_roles(&postgres.admin_url(), &self.made).await;
        }
        postgres.stop().await;
    }
}

async fn start(source: &Source, run: &Run) -> Result<Postgres> {
    let postgres = Postgres::start(source, &Options::default()).await?;
    let passed = postgres.passed_over().iter().map(|p| format!("Postgres by {} passed over: {}", p.rung, p.why));
    passed.chain(postgres.warnings().iter().cloned()).for_each(|note| run.note(note));
    Ok(postgres)
}

async fn fetch(url: &str, place: &str) -> Result<String> {
    let client = crate::target::http::client(Duration::from_secs(10))?;
    let failed = |why: String| {
        Error::Unreachable(format!("GET {place} for the OpenAPI document {why}. Check `openapi` in the target file"))
    };
    let answer = client.get(url).send().await;
    let answer = answer.map_err(|e| failed(format!("got no answer: {}", e.without_url())))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(failed(format!("answered {status}")));
    }
    let document = crate::target::http::whole(answer).await.map_err(failed)?;
    String::from_utf8(document).map_err(|_| failed("answered what is no UTF-8".into()))
}
