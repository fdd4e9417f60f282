//! What the tests share: a campaign against the bundled reference, and a database of the reference's.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use partywall::campaign::{Campaign, Ended, Interrupt, Variant};
use partywall::postgres::{Options, Postgres, Source};
use partywall::scenario::Bounds;
use partywall::seed::Seed;
use partywall::target::file::TargetFile;

/// A campaign against the bundled reference; its reports go to a folder that is kept only until the test ends.
///
/// # Errors
/// A bundled file that does not parse.
pub fn campaign(seed: u64) -> anyhow::Result<(Campaign, tempfile::TempDir)> {
    let reports = tempfile::tempdir()?;
    let campaign = Campaign {
        target: TargetFile::load(None)?,
        target_dir: PathBuf::new(),
        bounds: Bounds { cases_max: 1_200, ..Bounds::of_profile("quick")? },
        only: Vec::new(),
        seed: Seed(seed),
        postgres: Source::Auto,
        reports: reports.path().into(),
        formats: Vec::new(),
        reproduce: format!("partywall certify --seed {seed}"),
        dry_run: false,
        first_finding_only: false,
        variant: Variant::default(),
    };
    Ok((campaign, reports))
}

/// Runs a campaign to its end.
///
/// # Errors
/// Whatever kept it from starting.
pub async fn run(campaign: &Campaign) -> anyhow::Result<Ended> {
    Ok(campaign.run(Arc::new(|_| {}), Interrupt::default()).await?)
}

/// A migrated database of the reference on a throw-away Postgres.
pub struct Migrated {
    /// The server; it ends with this value.
    pub postgres: Postgres,
}

impl Migrated {
    /// Starts a server and migrates a database on it.
    ///
    /// # Errors
    /// No Postgres, or a migration that fails.
    pub async fn start() -> anyhow::Result<Self> {
        let postgres = Postgres::start(&Source::Auto, &Options::default()).await?;
        postgres.create_database("audit").await?;
        partywall_reference::serve::migrate(&postgres.admin_url_for("audit")).await.context("migrate")?;
        Ok(Self { postgres })
    }

    /// The administrator's URL.
    pub fn admin_url(&self) -> String {
        self.postgres.admin_url_for("audit")
    }

    /// The URL of a database role, which is given a password.
    ///
    /// # Errors
    /// No such role.
    pub async fn url_of(&self, role: &str) -> anyhow::Result<String> {
        use sqlx::Connection;
        let mut admin = sqlx::PgConnection::connect(&self.admin_url()).await?;
        let statement = format!("ALTER ROLE {role} LOGIN PASSWORD 'for-tests'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await?;
        admin.close().await?;
        Ok(self.postgres.url_for("audit", role, "for-tests"))
    }
}
