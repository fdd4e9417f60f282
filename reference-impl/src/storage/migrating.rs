//! Brings every place up to date: the directory, the tables that tenants share, then each tenant's own. Every place
//! remembers what it has, so that a migration that was cut goes on where it stopped, also for tenants made meanwhile.

use anyhow::Context;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use uuid::Uuid;

use super::model;

/// Who belongs where: once a database.
pub static DIRECTORY: Migrator = sqlx::migrate!("../migrations");
/// What a tenant has: once a place that holds tenants' rows.
pub static TENANT: Migrator = sqlx::migrate!("../migrations/tenant");

/// Brings everything up to date.
///
/// # Errors
/// No database, or rights that do not suffice.
pub async fn everything(admin: &PgConnectOptions) -> anyhow::Result<()> {
    directory(admin).await?;
    tenant_tables(admin, model::SHARED).await?;
    clear_erased(admin).await?;
    let mut done: Option<Uuid> = None;
    // By id, one at a time: a tenant that is made meanwhile is provisioned by whoever makes it.
    while let Some((tenant, word)) = next(admin, done).await? {
        let provisioned = model::model(&word)?.provision(admin, tenant).await;
        provisioned.with_context(|| format!("tenant {tenant}: run migrate again once this is mended"))?;
        done = Some(tenant);
    }
    Ok(())
}

/// Takes away what is left of erased tenants: an id, and an empty schema or database. Not when they are erased: dropping
/// tables takes a lock on the directory that every request would wait for.
async fn clear_erased(admin: &PgConnectOptions) -> anyhow::Result<()> {
    let mut connection = admin.connect().await?;
    let erased: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, storage FROM tenants WHERE erased_at IS NOT NULL ORDER BY id")
            .fetch_all(&mut connection)
            .await?;
    for (tenant, word) in erased {
        let removed = model::model(&word)?.remove(admin, tenant, &[]).await;
        removed.with_context(|| format!("what is left of the erased tenant {tenant} could not be taken away"))?;
        sqlx::query("DELETE FROM tenants WHERE id = $1").bind(tenant).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

async fn next(admin: &PgConnectOptions, after: Option<Uuid>) -> anyhow::Result<Option<(Uuid, String)>> {
    let mut connection = admin.connect().await?;
    let row = sqlx::query(
        "SELECT id, storage FROM tenants WHERE storage <> 'shared' AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT 1",
    )
    .bind(after)
    .fetch_optional(&mut connection)
    .await?;
    connection.close().await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Brings the directory of one database up to date.
pub(super) async fn directory(admin: &PgConnectOptions) -> anyhow::Result<()> {
    let mut connection = model::within(admin, "public").connect().await?;
    DIRECTORY.run_direct(None, &mut connection, false).await.context("migration failed")?;
    Ok(connection.close().await?)
}

/// Brings the tenant tables in `schema` up to date, partitions included.
pub(super) async fn tenant_tables(admin: &PgConnectOptions, schema: &str) -> anyhow::Result<()> {
    let mut connection: PgConnection = model::within(admin, schema).connect().await?;
    let mut tenant = Migrator { migrations: TENANT.migrations.clone(), ..Migrator::DEFAULT };
    // Never the directory's own record, which is on the path too.
    tenant.dangerous_set_table_name(format!("{schema}._tenant_migrations"));
    tenant.run_direct(None, &mut connection, false).await.with_context(|| format!("migration of {schema} failed"))?;
    sqlx::raw_sql(
        "SET ROLE audit_owner; \
         SELECT ensure_event_partitions((now() - interval '13 months')::date, (now() + interval '2 months')::date)",
    )
    .execute(&mut connection)
    .await
    .context("partitions could not be made")?;
    Ok(connection.close().await?)
}
