//! A database that goes through a folder's migrations, one at a time.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::presumed::{Presumed, SUPABASE};
use super::{Folder, Layout, Migration, Origins, Place};
use crate::error::{Error, Result};
use crate::target::copy::{database_words, execute, quoted};
use crate::target::database::connect;

/// A database that has gone through the first so many migrations.
pub struct Stage<'f> {
    folder: &'f Folder,
    url: String,
    connection: Option<(PathBuf, PgConnection)>,
    origins: Origins,
    presumed: Vec<Presumed>,
    next: usize,
}

impl<'f> Stage<'f> {
    /// An empty database at `url`, of a server that is thrown away: roles are made in it.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn open(folder: &'f Folder, url: &str) -> Result<Self> {
        let mut connection = connect(url).await?;
        if folder.layout == Layout::Supabase {
            execute(&mut connection, SUPABASE).await?;
        }
        let mut origins = Origins::default();
        origins.overlook(&mut connection).await?;
        // What is set for the database is set for the sessions that come after.
        let _ = connection.close().await;
        Ok(Self { folder, url: url.into(), connection: None, origins, presumed: Vec::new(), next: 0 })
    }

    /// Applies the next migration; none when all are.
    ///
    /// # Errors
    /// What the server says to a statement, with the file and the line.
    pub async fn step(&mut self) -> Result<Option<&'f Migration>> {
        let Some(migration) = self.folder.migrations.get(self.next) else { return Ok(None) };
        let mut connection = self.session(migration).await?;
        loop {
            let before = self.origins.clone();
            match self.run(migration, &mut connection).await {
                Ok(()) => break,
                Err((place, error)) => {
                    let presumed = Presumed::of(&error).filter(|missing| !self.presumed.contains(missing));
                    let Some(presumed) = presumed else { return Err(self.refused(&place, &error)) };
                    self.origins = before;
                    let mut admin = connect(&self.url).await?;
                    self.path(migration, &mut admin).await?;
                    presumed.make(&mut admin).await?;
                    self.origins.overlook(&mut admin).await?;
                    let _ = admin.close().await;
                    self.presumed.push(presumed);
                }
            }
        }
        self.next += 1;
        let place = migration.path.parent().unwrap_or(Path::new("")).to_path_buf();
        self.connection = self.folder.layout.keeps_session().then_some((place, connection));
        Ok(Some(migration))
    }

    /// Where everything comes from so far.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// What no migration makes and was made for them, such as `role web`.
    pub fn presumed(&self) -> Vec<String> {
        self.presumed.iter().map(ToString::to_string).collect()
    }

    /// The session in which `migration` runs: the one before it, or a new one where its folder begins.
    async fn session(&mut self, migration: &Migration) -> Result<PgConnection> {
        let place = migration.path.parent().unwrap_or(Path::new(""));
        match self.connection.take() {
            Some((before, connection)) if before == place || self.folder.layout == Layout::Prisma => Ok(connection),
            _ => {
                let mut connection = connect(&self.url).await?;
                self.path(migration, &mut connection).await?;
                Ok(connection)
            }
        }
    }

    async fn path(&self, migration: &Migration, connection: &mut PgConnection) -> Result<()> {
        let told = migration.path.parent().and_then(|place| self.folder.search_paths.get(place));
        let Some(told) = told else { return Ok(()) };
        let schemas: Vec<String> = told.split(',').map(|schema| quoted(schema.trim())).collect();
        execute(connection, &format!("SET search_path TO {}", schemas.join(", "))).await
    }

    async fn run(&mut self, migration: &Migration, connection: &mut PgConnection) -> Result<(), (Place, sqlx::Error)> {
        let at = |line| Place { file: migration.path.clone(), line };
        let begin = if migration.transactional { "BEGIN" } else { "SELECT 1" };
        connection.execute(begin).await.map_err(|e| (at(1), e))?;
        for statement in &migration.statements {
            let place = at(statement.line);
            let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.sql.as_str()))).await;
            if let Err(error) = done {
                let _ = connection.execute("ROLLBACK").await;
                return Err((place, error));
            }
            if let Err(error) = self.origins.note(connection, &place).await {
                let _ = connection.execute("ROLLBACK").await;
                return Err((place, sqlx::Error::Protocol(error.to_string())));
            }
        }
        // Only a warning where the file has ended its own transaction.
        connection.execute("COMMIT").await.map(drop).map_err(|e| (at(1), e))
    }

    fn refused(&self, place: &Place, error: &sqlx::Error) -> Error {
        let file = self.folder.root.join(&place.file);
        let words = database_words(error);
        Error::Usage(format!("{}:{}: the server refuses this statement: {words}", file.display(), place.line))
    }
}
