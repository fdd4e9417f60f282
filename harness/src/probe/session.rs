//! A connection on which trials are done: the application's own, or a privileged one that takes its place.

use futures_util::{StreamExt, TryStreamExt};
use sqlx::{AssertSqlSafe, Column, Either, PgConnection, Row, ValueRef};

use crate::error::{Error, Result};
use crate::target::copy::{database_words, quoted};
use crate::target::database::connect;

use super::subject::literal;

/// Rows of one answer that are looked at; the rest is counted.
const ROWS_MAX: usize = 20_000;
/// What the savepoint is called that stands for a transaction's beginning where all happens in one.
const PLACE: &str = "partywall_place";

/// How a connection acts as the application's database role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It signed in as that role.
    Real,
    /// `SET SESSION AUTHORIZATION`: as if it had signed in, but for its settings.
    Authorization(String),
    /// `SET ROLE`: `session_user` stays another.
    Role(String),
}

/// What the server said to one statement.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Columns of the last rows.
    pub columns: Vec<String>,
    /// The last statement's rows.
    pub rows: Vec<Vec<Option<String>>>,
    /// Rows beyond those looked at.
    pub more: u64,
    /// Rows that the last statement says it touched.
    pub affected: u64,
    /// Code and text, the detail and the hint among it.
    pub error: Option<(String, String)>,
}

/// One connection.
pub struct Session {
    connection: PgConnection,
    identity: Identity,
    settings: Vec<(String, String)>,
    /// True where a transaction is open already, and stays open.
    within: bool,
    /// True once the connection and the server no longer agree on whose turn it is.
    lost: bool,
}

impl Session {
    /// Connects; `settings` are those that a connection as the role begins with.
    ///
    /// # Errors
    /// Nobody answers at `url`.
    pub async fn open(url: &str, identity: Identity, settings: &[(String, String)]) -> Result<Self> {
        let connection = connect(url).await?;
        let mut session = Self { connection, identity, settings: settings.to_vec(), within: false, lost: false };
        let limits = "SET statement_timeout = '10s'; SET lock_timeout = '1s'; SET client_min_messages = error";
        session.must(limits).await?;
        Ok(session)
    }

    /// From here on everything happens in one transaction, which is never kept.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn stay_within(&mut self, read_only: bool) -> Result<()> {
        self.must(if read_only { "BEGIN READ ONLY" } else { "BEGIN" }).await?;
        self.within = true;
        Ok(())
    }

    /// True where all happens in one transaction.
    pub fn is_within(&self) -> bool {
        self.within
    }

    /// True once nothing more can be done on it: a `COPY … TO` that is refused leaves sqlx one answer behind.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The connection, for what the privileged role reads.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Begins a transaction as the application's database role.
    ///
    /// # Errors
    /// The role cannot be taken.
    pub async fn begin(&mut self) -> Result<()> {
        let begin = if self.within { format!("SAVEPOINT {PLACE}") } else { "BEGIN".into() };
        self.must(&format!("{begin}; {}", self.assumed())).await
    }

    /// The statements that take the role, and its settings.
    fn assumed(&self) -> String {
        let role = match &self.identity {
            Identity::Real => return "SELECT".into(),
            Identity::Authorization(role) => format!("SET LOCAL SESSION AUTHORIZATION {}", quoted(role)),
            Identity::Role(role) => format!("SET LOCAL ROLE {}", quoted(role)),
        };
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("; SELECT set_config({}, {}, true)", literal(name), literal(value)))
            .collect();
        role + &settings.concat()
    }

    /// Takes the privileged role again, within the transaction.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn privileged(&mut self) -> Result<()> {
        match &self.identity {
            Identity::Real => Ok(()),
            Identity::Authorization(_) => {
                self.must("SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL row_security = on").await
            }
            Identity::Role(_) => self.must("SET LOCAL ROLE NONE; SET LOCAL row_security = on").await,
        }
    }

    /// Takes the application's role once more, its settings left as they have become.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn resume(&mut self) -> Result<()> {
        match self.identity.clone() {
            Identity::Real => Ok(()),
            Identity::Authorization(role) => {
                self.must(&format!("SET LOCAL SESSION AUTHORIZATION {}", quoted(&role))).await
            }
            Identity::Role(role) => self.must(&format!("SET LOCAL ROLE {}", quoted(&role))).await,
        }
    }

    /// Ends the transaction and keeps nothing of it.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn rollback(&mut self) -> Result<()> {
        let place = format!("ROLLBACK TO SAVEPOINT {PLACE}; RELEASE SAVEPOINT {PLACE}");
        self.must(if self.within { &place } else { "ROLLBACK" }).await
    }

    /// Runs a statement of ours that has to succeed.
    ///
    /// # Errors
    /// What the server says.
    pub async fn must(&mut self, sql: &str) -> Result<()> {
        match self.run(sql).await?.error {
            None => Ok(()),
            Some((_, why)) => Err(Error::Unreachable(format!("SQL failed: {why} (in `{sql}`)"))),
        }
    }

    /// Runs a statement of the privileged role; what it did before it failed does not stand in the way.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn aside(&mut self, sql: &str) -> Result<Answer> {
        if !self.within {
            return self.run(sql).await;
        }
        let answer = self.run(&format!("SAVEPOINT aside; {sql}")).await?;
        let back = if answer.error.is_some() { "ROLLBACK TO SAVEPOINT aside; " } else { "" };
        self.must(&format!("{back}RELEASE SAVEPOINT aside")).await?;
        Ok(answer)
    }

    /// Runs a statement, whatever comes of it.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn run(&mut self, sql: &str) -> Result<Answer> {
        let mut answer = Answer::default();
        let mut results = sqlx::raw_sql(AssertSqlSafe(sql.to_string())).fetch_many(&mut self.connection);
        while let Some(item) = results.next().await {
            match item {
                Ok(Either::Left(done)) => answer.affected = done.rows_affected(),
                Ok(Either::Right(row)) => {
                    let names: Vec<String> = row.columns().iter().map(|column| column.name().to_string()).collect();
                    if names != answer.columns {
                        answer.columns = names;
                        answer.rows.clear();
                    }
                    if answer.rows.len() < ROWS_MAX {
                        answer.rows.push((0..row.len()).map(|place| text(&row, place)).collect());
                    } else {
                        answer.more += 1;
                    }
                }
                Err(error) => answer.error = Some(told(error)?),
            }
        }
        Ok(answer)
    }

    /// `COPY … TO STDOUT`: its lines, each cut at its tabs.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn copy_out(&mut self, sql: &str) -> Result<Answer> {
        let mut answer = Answer::default();
        let bytes = match self.connection.copy_out_raw(sql).await {
            Ok(stream) => stream.map_ok(|chunk| chunk.to_vec()).try_concat().await,
            Err(error) => {
                self.lost = true;
                Err(error)
            }
        };
        match bytes {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let value = |word: &str| (word != "\\N").then(|| word.replace("\\\\", "\\"));
                answer.rows = text.lines().take(ROWS_MAX).map(|line| line.split('\t').map(value).collect()).collect();
                answer.affected = text.lines().count() as u64;
            }
            Err(error) => answer.error = Some(told(error)?),
        }
        Ok(answer)
    }

    /// `COPY … FROM STDIN`.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn copy_in(&mut self, sql: &str, lines: &str) -> Result<Answer> {
        let mut answer = Answer::default();
        let done = match self.connection.copy_in_raw(sql).await {
            Ok(mut copy) => match copy.send(lines.as_bytes()).await {
                Ok(_) => copy.finish().await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match done {
            Ok(rows) => answer.affected = rows,
            Err(error) => answer.error = Some(told(error)?),
        }
        Ok(answer)
    }
}

fn text(row: &sqlx::postgres::PgRow, place: usize) -> Option<String> {
    let value = row.try_get_raw(place).ok()?;
    if value.is_null() { None } else { value.as_str().ok().map(String::from) }
}

/// Code and whole text of what the server refused.
fn told(error: sqlx::Error) -> Result<(String, String)> {
    let sqlx::Error::Database(error) = error else {
        return Err(Error::Unreachable(format!("the connection failed: {}", database_words(&error))));
    };
    let mut text = error.message().to_string();
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        for more in [error.detail(), error.hint(), error.r#where()].into_iter().flatten() {
            text.push('\n');
            text.push_str(more);
        }
    }
    Ok((error.code().map(Into::into).unwrap_or_default(), text))
}
