//! Moves a tenant from one storage model to another: copied table by table, compared row by row, and only then believed.
//! Requests of this tenant wait meanwhile, some seconds at most, and are then told to try again; each that waits holds a
//! connection of the pool. A move that is cut has moved nothing, and can be run again.

use anyhow::{Context, bail, ensure};
use futures_util::TryStreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use uuid::Uuid;

use super::lock_of;
use super::model::{Model, model};

/// A tenant table.
pub(super) struct Table {
    /// Its bare name.
    pub name: String,
    /// The columns that are written, in order.
    columns: String,
    /// The columns of its primary key, in order.
    key: String,
}

impl Table {
    /// Deletes what `tenant` has here.
    pub(super) async fn clear(&self, connection: &mut PgConnection, tenant: Uuid) -> anyhow::Result<()> {
        let delete = format!("DELETE FROM {} WHERE tenant_id = $1", self.name);
        sqlx::query(AssertSqlSafe(delete)).bind(tenant).execute(connection).await?;
        Ok(())
    }
}

/// Moves `tenant` to the storage model `to`; how many rows that were.
///
/// # Errors
/// No such tenant, a place that cannot be made, or rows that arrived differently.
pub async fn tenant(admin: &PgConnectOptions, tenant: Uuid, to: &str) -> anyhow::Result<u64> {
    let to = model(to)?;
    let mut directory = admin.connect().await?;
    let from = place(&mut directory, tenant).await?;
    if from.word() == to.word() {
        return Ok(0);
    }
    to.provision(admin, tenant).await?;
    let mut transaction = directory.begin().await?;
    let lock = format!("SELECT pg_advisory_xact_lock({})", lock_of(tenant));
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    ensure!(place(&mut transaction, tenant).await?.word() == from.word(), "another move of this tenant was quicker");
    let (tables, moved) = copied(admin, tenant, from, to).await?;
    sqlx::query("UPDATE tenants SET storage = $2 WHERE id = $1")
        .bind(tenant)
        .bind(to.word())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    // From here on the rows that stayed behind are nobody's.
    let removed = from.remove(admin, tenant, &tables).await;
    removed.context("it has moved; its former place could not be cleared")?;
    Ok(moved)
}

/// Where `tenant` is; one that is being erased is nowhere.
async fn place(connection: &mut PgConnection, tenant: Uuid) -> anyhow::Result<&'static dyn Model> {
    let word: Option<String> = sqlx::query_scalar("SELECT storage FROM tenants WHERE id = $1 AND erasing_at IS NULL")
        .bind(tenant)
        .fetch_optional(connection)
        .await?;
    model(&word.with_context(|| format!("there is no tenant {tenant}"))?)
}

/// Copies every tenant table, and compares what arrived; the tables, and how many rows that were.
async fn copied(
    admin: &PgConnectOptions,
    tenant: Uuid,
    from: &dyn Model,
    to: &dyn Model,
) -> anyhow::Result<(Vec<Table>, u64)> {
    let (mut source, mut sink) = (from.connect(admin, tenant).await?, to.connect(admin, tenant).await?);
    // One snapshot of the source for copying and comparing.
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut source).await?;
    let mut target = sink.begin().await?;
    let tables = tables(&mut source).await?;
    ensure!(!tables.is_empty(), "there is no tenant table to move");
    for table in tables.iter().rev() {
        // What an earlier, cut move may have left.
        table.clear(&mut target, tenant).await?;
    }
    let mut moved = 0;
    for Table { name, columns, .. } in &tables {
        let out = format!("COPY (SELECT {columns} FROM {name} WHERE tenant_id = '{tenant}') TO STDOUT (FORMAT binary)");
        let mut rows = source.copy_out_raw(&out).await?;
        let into = format!("COPY {name} ({columns}) FROM STDIN (FORMAT binary)");
        let mut copy = target.copy_in_raw(&into).await?;
        while let Some(bytes) = rows.try_next().await? {
            copy.send(bytes).await?;
        }
        moved += copy.finish().await?;
    }
    for table in &tables {
        same(&mut source, &mut target, table, tenant).await?;
    }
    target.commit().await?;
    Ok((tables, moved))
}

/// Compares a table row by row.
async fn same(source: &mut PgConnection, sink: &mut PgConnection, table: &Table, tenant: Uuid) -> anyhow::Result<()> {
    let Table { name, columns, key } = table;
    let select = format!("SELECT ROW({columns})::text FROM {name} WHERE tenant_id = $1 ORDER BY {key}");
    let mut left = sqlx::query(AssertSqlSafe(select.clone())).bind(tenant).fetch(source);
    let mut right = sqlx::query(AssertSqlSafe(select)).bind(tenant).fetch(sink);
    let mut row = 0_u64;
    loop {
        let (here, there) = (left.try_next().await?, right.try_next().await?);
        match (here, there) {
            (None, None) => return Ok(()),
            (Some(here), Some(there)) if here.get::<&str, _>(0) == there.get::<&str, _>(0) => row += 1,
            _ => bail!("row {row} of {name} did not arrive as it was; nothing was moved"),
        }
    }
}

/// The tenant tables in the first schema of the search path, those that others refer to first: they were made first.
async fn tables(connection: &mut PgConnection) -> anyhow::Result<Vec<Table>> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, \
                (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a \
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns, \
                (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_index i \
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
                  WHERE i.indrelid = c.oid AND i.indisprimary) AS key \
           FROM pg_class c \
          WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
            AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') \
          ORDER BY c.oid",
    )
    .fetch_all(connection)
    .await?;
    let table = |row: &sqlx::postgres::PgRow| -> anyhow::Result<Table> {
        let name: String = row.get("name");
        let key = row.get::<Option<String>, _>("key").with_context(|| format!("{name} has no primary key"))?;
        Ok(Table { name, columns: row.get("columns"), key })
    };
    rows.iter().map(table).collect()
}

/// Moves every tenant of `from` to `to`; how many tenants and rows that were.
///
/// # Errors
/// As [`tenant`]; those that were moved stay moved.
pub async fn all(admin: &PgConnectOptions, from: &str, to: &str) -> anyhow::Result<(u64, u64)> {
    let mut connection = admin.connect().await?;
    let tenants: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM tenants WHERE storage = $1 AND erasing_at IS NULL ORDER BY id")
            .bind(model(from)?.word())
            .fetch_all(&mut connection)
            .await?;
    connection.close().await?;
    let mut rows = 0;
    for id in &tenants {
        rows += tenant(admin, *id, to).await.with_context(|| format!("tenant {id}"))?;
    }
    Ok((tenants.len() as u64, rows))
}
