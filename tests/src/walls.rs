//! The corpus of walls (`scenarios/walls`): put into a database of their own, one side at a time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use partywall::postgres::{Options, Postgres, Source};
use partywall::target::copy::{execute, quoted};
use partywall::target::database::{close, connect, role_names};
use serde::Deserialize;

/// A wall with one defect, and its sound twin. `scenarios/walls/verify` shows by the witness that they differ.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wall {
    /// Its file's name.
    #[serde(skip)]
    pub id: String,
    /// What is wrong with the mutant.
    pub sentence: String,
    /// Where it is known from.
    pub source: String,
    /// The schema it is built on, in `bases/`.
    pub base: String,
    /// What a finding should name.
    pub object: String,
    /// Who shows it: `guard`, `probe` or `either`.
    pub shows: String,
    /// The application role, where it is not the base's.
    pub role: Option<String>,
    /// The oldest major version of the server on which it can be built.
    pub since: Option<u32>,
    /// The newest major version on which it is a defect.
    pub until: Option<u32>,
    /// SQL of the twin.
    pub sound: String,
    /// SQL of the defect.
    pub mutant: String,
    /// What the application role runs to show it.
    pub witness: String,
    /// `none` where the witness binds no tenant.
    pub context: Option<String>,
    /// What shows in the witness's answer, where it is not the other tenant's mark.
    pub tells: Option<String>,
    /// What another session does meanwhile.
    pub beside: Option<String>,
}

/// What a case's SQL stands on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its style.
    pub sentence: String,
    /// Who owns the tables and runs the case's SQL.
    pub owner: String,
    /// The application role.
    pub role: String,
    /// Binds the tenant context.
    pub bind: String,
    /// The other tenant's mark.
    pub tells: String,
    /// The mark of its rows.
    pub rows: String,
    /// Shows one's own rows.
    pub control: String,
}

/// One side of a wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// With the defect.
    Mutant,
    /// Done right.
    Sound,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("scenarios/walls")
}

/// Every wall, by its ID.
///
/// # Errors
/// A file that does not parse.
pub fn all() -> anyhow::Result<Vec<Wall>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "toml") {
            let text = std::fs::read_to_string(&path)?;
            let wall: Wall = toml::from_str(&text).with_context(|| path.display().to_string())?;
            found.push(Wall { id: path.file_stem().unwrap_or_default().to_string_lossy().into(), ..wall });
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

impl Wall {
    /// What it stands on.
    ///
    /// # Errors
    /// A base that is not there or does not parse.
    pub fn base(&self) -> anyhow::Result<Base> {
        let path = folder().join("bases").join(format!("{}.toml", self.base));
        Ok(toml::from_str(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?)?)
    }
}

/// A server for walls. Roles belong to the whole of it, so one side of one wall is there at a time.
pub struct Ground {
    /// The server.
    pub postgres: Postgres,
    roles: BTreeSet<String>,
}

/// The database that the wall is in.
pub const DATABASE: &str = "wall";

impl Ground {
    /// Starts the server.
    ///
    /// # Errors
    /// None is to be had.
    pub async fn start() -> anyhow::Result<Self> {
        let postgres = Postgres::start(&Source::Auto, &Options::default()).await?;
        let roles = role_names(&postgres.admin_url()).await?;
        Ok(Self { postgres, roles })
    }

    /// The walls that this server can have; those of other versions alone are named on standard error.
    ///
    /// # Errors
    /// A file that does not parse.
    pub fn walls(&self) -> anyhow::Result<Vec<Wall>> {
        let major: u32 = self.postgres.server_version().split('.').next().unwrap_or_default().parse()?;
        let fits = |wall: &Wall| (wall.since.unwrap_or(0)..=wall.until.unwrap_or(u32::MAX)).contains(&major);
        let (can, cannot): (Vec<_>, Vec<_>) = all()?.into_iter().partition(fits);
        for wall in cannot {
            eprintln!("{} is not tried: it is none of Postgres {major}'s", wall.id);
        }
        Ok(can)
    }

    /// Puts one side of `wall` into a fresh database; its URL, as administrator.
    ///
    /// # Errors
    /// What the server says to its SQL.
    pub async fn put(&self, wall: &Wall, side: Side) -> anyhow::Result<String> {
        self.clear().await?;
        self.postgres.create_database(DATABASE).await?;
        let url = self.postgres.admin_url_for(DATABASE);
        let base = std::fs::read_to_string(folder().join("bases").join(format!("{}.sql", wall.base)))?;
        let owner = format!("SET ROLE {}", quoted(&wall.base()?.owner));
        let own = if side == Side::Mutant { &wall.mutant } else { &wall.sound };
        let mut connection = connect(&url).await?;
        for sql in [&base, &owner, own] {
            execute(&mut connection, sql).await.with_context(|| format!("{} ({side:?})", wall.id))?;
        }
        close(connection).await?;
        Ok(url)
    }

    /// Takes away the wall and its roles.
    ///
    /// # Errors
    /// What the server says.
    pub async fn clear(&self) -> anyhow::Result<()> {
        self.postgres.drop_database(DATABASE).await?;
        let admin = self.postgres.admin_url();
        let mut connection = connect(&admin).await?;
        for role in role_names(&admin).await?.difference(&self.roles) {
            execute(&mut connection, &format!("DROP ROLE {}", quoted(role))).await?;
        }
        Ok(close(connection).await?)
    }
}
