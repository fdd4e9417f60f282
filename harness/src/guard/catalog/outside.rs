//! What leaves a database by another door than a query: publications and large objects; and what a session starts with.

use sqlx::{FromRow, PgConnection};

use super::{Oid, read};
use crate::error::Result;

/// A table as one publication has it.
#[derive(Clone, Debug, FromRow)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// A published table's schema; none when nothing is published yet.
    pub schema: Option<String>,
    /// A published table.
    pub table: Option<String>,
    /// The `WHERE` of that table, since 15.
    pub row_filter: Option<String>,
}

/// One role's large objects.
#[derive(Clone, Debug, FromRow)]
pub struct LargeObjects {
    /// Who owns them, and so may read each of them.
    pub owner: Oid,
    /// How many.
    pub count: i64,
}

/// A function of the server's own that reaches its files, granted to somebody.
#[derive(Clone, Debug, FromRow)]
pub struct ServerFunction {
    /// Its name.
    pub name: String,
    /// Who may call it.
    pub grantee: Oid,
}

/// A setting that sessions start with.
#[derive(Clone, Debug, FromRow)]
pub struct RoleSetting {
    /// Of which role; none for every one.
    pub role: Option<Oid>,
    /// `name=value`.
    pub setting: String,
}

pub(super) async fn publications(connection: &mut PgConnection) -> Result<Vec<Publication>> {
    let query = "SELECT p.pubname::text AS name, p.puballtables AS all_tables, t.schemaname::text AS schema, \
         t.tablename::text AS \"table\", to_jsonb(t) ->> 'rowfilter' AS row_filter \
         FROM pg_publication p LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname";
    read::all(connection, "publications", query).await
}

pub(super) async fn large_objects(connection: &mut PgConnection) -> Result<Vec<LargeObjects>> {
    let query = "SELECT lomowner::int8 AS owner, count(*) AS count FROM pg_largeobject_metadata GROUP BY lomowner";
    read::all(connection, "large objects", query).await
}

pub(super) async fn server_functions(connection: &mut PgConnection) -> Result<Vec<ServerFunction>> {
    let query = "SELECT DISTINCT p.proname::text AS name, x.grantee::int8 FROM pg_proc p, aclexplode(p.proacl) x \
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND x.grantee <> p.proowner AND p.proname IN \
         ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'lo_import', 'lo_export', 'pg_file_write')";
    read::all(connection, "functions of the server", query).await
}

pub(super) async fn settings(connection: &mut PgConnection) -> Result<Vec<RoleSetting>> {
    let query = "SELECT nullif(s.setrole, 0)::int8 AS role, x.setting FROM pg_db_role_setting s, \
         unnest(s.setconfig) AS x(setting) WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database \
         WHERE datname = current_database()))";
    read::all(connection, "settings of roles", query).await
}

pub(super) async fn extensions(connection: &mut PgConnection) -> Result<Vec<String>> {
    let found: Vec<(String,)> = read::all(connection, "extensions", "SELECT extname::text FROM pg_extension").await?;
    Ok(found.into_iter().map(|(name,)| name).collect())
}
