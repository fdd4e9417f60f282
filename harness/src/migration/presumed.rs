//! What migrations presume and no file of them makes: roles that whoever runs the server has made, the tool's own record,
//! and what Supabase puts into every project.

use sqlx::PgConnection;
use sqlx::migrate::Migrate;
use sqlx::postgres::PgDatabaseError;

use crate::error::Result;
use crate::target::copy::{execute, quoted};

/// The roles, schemas and functions of a Supabase project that migrations speak of.
pub(super) const SUPABASE: &str = include_str!("../../templates/supabase.sql");

/// What one error says is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presumed {
    /// A role: made so that it can log in and nothing more.
    Role(String),
    /// The record that a tool keeps of what it has applied.
    Record(String),
    /// An empty schema.
    Schema(String),
}

impl Presumed {
    /// What `error` is about, if that is something that migrations may presume.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        let sqlx::Error::Database(error) = error else { return None };
        let error = error.try_downcast_ref::<PgDatabaseError>()?;
        // The object itself is in the message alone; the cluster speaks English.
        let name = error.message().split('"').nth(1)?.to_owned();
        let about = |what: &str| error.message().starts_with(what);
        match error.code() {
            "42704" if about("role ") => Some(Self::Role(name)),
            "3F000" if about("schema ") => Some(Self::Schema(name)),
            "42P01" if name.ends_with("_migrations") || name.ends_with("schema_history") => Some(Self::Record(name)),
            _ => None,
        }
    }

    /// Makes it.
    pub(super) async fn make(&self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::Role(name) => execute(connection, &format!("CREATE ROLE {} LOGIN", quoted(name))).await,
            Self::Schema(name) => execute(connection, &format!("CREATE SCHEMA {}", quoted(name))).await,
            Self::Record(name) => {
                let made = connection.ensure_migrations_table(name).await;
                made.map_err(|e| crate::error::Error::Unreachable(format!("{name} cannot be made: {e}")))
            }
        }
    }
}

impl std::fmt::Display for Presumed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role(name) => write!(f, "role {name}"),
            Self::Record(name) => write!(f, "record {name}"),
            Self::Schema(name) => write!(f, "schema {name}"),
        }
    }
}
