//! The storage models: how each makes room for a tenant, finds its tables, and clears them away. What runs here runs
//! as administrator; a service that serves never does.

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

use super::migrating;
use super::moving::Table;

/// The word for a tenant among everybody's tables, and the schema that these are in.
pub const SHARED: &str = "shared";

/// A storage model.
pub(super) trait Model: Sync {
    /// Its word.
    fn word(&self) -> &'static str;

    /// Makes room for `tenant`, or brings the room that is there up to date.
    fn provision<'a>(&'a self, admin: &'a PgConnectOptions, tenant: Uuid) -> BoxFuture<'a, anyhow::Result<()>>;

    /// A connection that finds the tables of `tenant` by their bare names.
    fn connect<'a>(&'a self, admin: &'a PgConnectOptions, tenant: Uuid) -> BoxFuture<'a, anyhow::Result<PgConnection>>;

    /// Clears away what a tenant that has moved out had in `tables`.
    fn remove<'a>(
        &'a self,
        admin: &'a PgConnectOptions,
        tenant: Uuid,
        tables: &'a [Table],
    ) -> BoxFuture<'a, anyhow::Result<()>>;
}

/// The model of that word.
///
/// # Errors
/// There is none.
pub(super) fn model(word: &str) -> anyhow::Result<&'static dyn Model> {
    let all: [&'static dyn Model; 3] = [&Shared, &Schema, &Database];
    let found = all.into_iter().find(|model| model.word() == word);
    found.with_context(|| format!("no storage model `{word}`: choose shared, schema or database"))
}

/// The name of a tenant's own schema, and of its own database.
pub fn name_of(tenant: Uuid) -> String {
    format!("tenant_{}", tenant.simple())
}

/// One table for all, with a tenant column.
struct Shared;
/// A schema for each tenant.
struct Schema;
/// A database for each tenant.
struct Database;

impl Model for Shared {
    fn word(&self) -> &'static str {
        SHARED
    }

    fn provision<'a>(&'a self, _: &'a PgConnectOptions, _: Uuid) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn connect<'a>(&'a self, admin: &'a PgConnectOptions, _: Uuid) -> BoxFuture<'a, anyhow::Result<PgConnection>> {
        async { Ok(within(admin, SHARED).connect().await?) }.boxed()
    }

    fn remove<'a>(
        &'a self,
        admin: &'a PgConnectOptions,
        tenant: Uuid,
        tables: &'a [Table],
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let mut connection = self.connect(admin, tenant).await?;
            // Those that refer to others first.
            for table in tables.iter().rev() {
                table.clear(&mut connection, tenant).await?;
            }
            Ok(connection.close().await?)
        }
        .boxed()
    }
}

impl Model for Schema {
    fn word(&self) -> &'static str {
        "schema"
    }

    fn provision<'a>(&'a self, admin: &'a PgConnectOptions, tenant: Uuid) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            make_schema(admin, tenant).await?;
            migrating::tenant_tables(admin, &name_of(tenant)).await
        }
        .boxed()
    }

    fn connect<'a>(&'a self, admin: &'a PgConnectOptions, tenant: Uuid) -> BoxFuture<'a, anyhow::Result<PgConnection>> {
        async move { Ok(within(admin, &name_of(tenant)).connect().await?) }.boxed()
    }

    fn remove<'a>(
        &'a self,
        admin: &'a PgConnectOptions,
        tenant: Uuid,
        _: &'a [Table],
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        async move { run(admin, &format!("DROP SCHEMA IF EXISTS {} CASCADE", name_of(tenant))).await }.boxed()
    }
}

impl Model for Database {
    fn word(&self) -> &'static str {
        "database"
    }

    fn provision<'a>(&'a self, admin: &'a PgConnectOptions, tenant: Uuid) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let name = name_of(tenant);
            let mut directory = admin.connect().await?;
            let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(&name)
                .fetch_one(&mut directory)
                .await?;
            if !there {
                sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut directory).await?;
            }
            let (slug, called): (String, String) = sqlx::query_as("SELECT slug, name FROM tenants WHERE id = $1")
                .bind(tenant)
                .fetch_one(&mut directory)
                .await?;
            directory.close().await?;
            let own = admin.clone().database(&name);
            migrating::directory(&own).await?;
            make_schema(&own, tenant).await?;
            let mut connection = own.connect().await?;
            // The one row of the directory that this place needs: it says what the tables hang on, and where they are.
            sqlx::query(
                "INSERT INTO tenants (id, slug, name, storage) VALUES ($1, $2, $3, 'database') ON CONFLICT DO NOTHING",
            )
            .bind(tenant)
            .bind(slug)
            .bind(called)
            .execute(&mut connection)
            .await?;
            connection.close().await?;
            migrating::tenant_tables(&own, &name).await
        }
        .boxed()
    }

    fn connect<'a>(&'a self, admin: &'a PgConnectOptions, tenant: Uuid) -> BoxFuture<'a, anyhow::Result<PgConnection>> {
        let name = name_of(tenant);
        async move { Ok(within(&admin.clone().database(&name), &name).connect().await?) }.boxed()
    }

    fn remove<'a>(
        &'a self,
        admin: &'a PgConnectOptions,
        tenant: Uuid,
        _: &'a [Table],
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        // The service may still hold idle connections to it.
        async move { run(admin, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name_of(tenant))).await }.boxed()
    }
}

/// Connections that find what is in `schema` first. One that row security applies to fails: it must not copy a part.
pub(super) fn within(admin: &PgConnectOptions, schema: &str) -> PgConnectOptions {
    let path = if schema == "public" { "public,pg_temp".into() } else { format!("{schema},public,pg_temp") };
    admin.clone().options([("search_path", path.as_str()), ("row_security", "off")])
}

async fn make_schema(admin: &PgConnectOptions, tenant: Uuid) -> anyhow::Result<()> {
    let schema = name_of(tenant);
    let statement = format!(
        "CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION audit_owner; \
         GRANT USAGE ON SCHEMA {schema} TO audit_app, audit_worker, audit_gate"
    );
    run(admin, &statement).await
}

/// Runs statements that hold no text from outside but a UUID's digits.
async fn run(admin: &PgConnectOptions, statements: &str) -> anyhow::Result<()> {
    let mut connection = admin.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_string())).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
