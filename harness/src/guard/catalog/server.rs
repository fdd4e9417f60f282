//! The server, and what this connection may do on it.

use sqlx::{FromRow, PgConnection};

use super::{Oid, read};
use crate::error::{Error, Result};

/// The server, the database and the connection.
#[derive(Clone, Debug, FromRow)]
pub struct Server {
    /// `server_version_num`: 150018 is 15.18.
    pub version: i32,
    /// The database's name.
    pub database: String,
    /// The database's owner.
    pub database_owner: Oid,
    /// True on a standby, where nothing can be written.
    pub in_recovery: bool,
    /// True when transactions are read-only unless they say otherwise.
    pub read_only: bool,
    /// The role that this connection runs as.
    pub connected_as: Oid,
}

impl Server {
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self> {
        let query = "SELECT current_setting('server_version_num')::int AS version, d.datname::text AS database, \
             d.datdba::int8 AS database_owner, pg_is_in_recovery() AS in_recovery, \
             current_setting('default_transaction_read_only')::bool AS read_only, r.oid::int8 AS connected_as \
             FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user";
        let mut found: Vec<Self> = read::all(connection, "version", query).await?;
        found.pop().ok_or_else(|| Error::Unreachable("the server does not tell which database this is".into()))
    }

    /// `15.18`.
    pub fn version_words(&self) -> String {
        format!("{}.{}", self.version / 10_000, self.version % 10_000)
    }
}
