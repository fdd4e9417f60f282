//! One query, one set of rows.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use crate::error::{Error, Result};
use crate::target::copy::database_words;

/// What is the system's own: its schemas, and those of temporary and toast tables.
pub(super) const OURS: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// All rows of `query`, which reads `what`.
pub(super) async fn all<T>(connection: &mut PgConnection, what: &str, query: &str) -> Result<Vec<T>>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    sqlx::query_as(AssertSqlSafe(query.to_string())).fetch_all(connection).await.map_err(|e| {
        Error::Unreachable(format!(
            "cannot read the database's {what}: {}. Connect as a role that may read pg_catalog",
            database_words(&e)
        ))
    })
}
