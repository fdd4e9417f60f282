//! Where a tenant's tables are: among everybody's, in a schema of its own, or in a database of its own. The directory,
//! which knows who belongs where, says which for each tenant; a request need not know.
//!
//! While a scope is open its tenant cannot be moved: it shares a lock that a move takes alone.

pub mod migrating;
pub mod model;
pub mod moving;

use std::time::Duration;

use moka::sync::Cache;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::held::Held;
use crate::problem::Problem;
use crate::telemetry::Trace;

/// Longer than this no transaction takes to begin or to end.
const EDGE_MAX: Duration = Duration::from_secs(5);
/// Databases of tenants that are connected to at a time, and connections to each.
const DATABASES_MAX: u64 = 64;
const CONNECTIONS_EACH: u32 = 2;
/// A tenant's database that nobody asks for is let go after so long.
const IDLE: Duration = Duration::from_secs(60);

/// Opens transactions on a tenant's tables.
#[derive(Clone)]
pub struct Storage {
    directory: PgPool,
    databases: Cache<Uuid, PgPool>,
}

/// A tenant's transaction: on the directory, and on its own database where it has one.
pub(crate) struct Opened {
    /// The directory, and the tenant's tables where no other place holds them.
    pub directory: Held,
    /// The tenant's own database.
    pub own: Option<Held>,
}

impl Storage {
    /// Storage whose directory is `directory`.
    pub fn new(directory: PgPool) -> Self {
        let let_go = |_: std::sync::Arc<Uuid>, pool: PgPool, _: moka::notification::RemovalCause| {
            // Closing waits for those who still hold a connection.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { pool.close().await });
            }
        };
        let databases =
            Cache::builder().max_capacity(DATABASES_MAX).time_to_idle(IDLE).eviction_listener(let_go).build();
        Self { directory, databases }
    }

    /// The directory's pool.
    pub fn directory(&self) -> &PgPool {
        &self.directory
    }

    /// Begins, with the tenant bound to the transaction and its tables in sight; one that is being erased is open only to
    /// what `erases` it. Whatever is dropped half-way is closed.
    pub(crate) async fn open(&self, tenant: Uuid, erases: bool, trace: Option<&Trace>) -> Result<Opened, Problem> {
        let mut directory = Held::of(self.directory.acquire().await?);
        let place = begin(&mut directory, tenant, trace).await?;
        if place.as_ref().is_some_and(|place| place.erasing && !erases) {
            Opened { directory, own: None }.end(false).await?;
            return Err(Problem::Unauthenticated);
        }
        if place.is_none_or(|place| place.storage != "database") {
            return Ok(Opened { directory, own: None });
        }
        let mut own = Held::of(self.database(tenant).acquire().await?);
        // The row that says where its tables are is in both places.
        begin(&mut own, tenant, trace).await?.ok_or(Problem::Internal)?;
        Ok(Opened { directory, own: Some(own) })
    }

    fn database(&self, tenant: Uuid) -> PgPool {
        self.databases.get_with(tenant, || {
            let options: PgConnectOptions = (*self.directory.connect_options()).clone();
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS_EACH).idle_timeout(IDLE);
            pool.acquire_timeout(Duration::from_secs(10)).connect_lazy_with(options.database(&model::name_of(tenant)))
        })
    }
}

impl Opened {
    /// Every place that holds something of the tenant: its own first, then the directory.
    pub(crate) fn connections(&mut self) -> impl Iterator<Item = &mut PgConnection> {
        self.own.iter_mut().chain([&mut self.directory]).map(Held::connection)
    }

    /// Gives back what may be open still.
    pub(crate) fn into_pools(self) {
        self.own.into_iter().chain([self.directory]).for_each(Held::into_pool);
    }

    /// Commits or rolls back, and gives back what is then clean.
    pub(crate) async fn end(self, commit: bool) -> Result<(), Problem> {
        let statement = match commit {
            true if on(Defect::ResetAfterSuccess) => "RESET app.tenant_id; COMMIT",
            true => "COMMIT",
            false => "ROLLBACK",
        };
        // The tenant's own first: what the directory holds is the lock that keeps it in its place.
        for mut held in self.own.into_iter().chain([self.directory]) {
            edge(&mut held, statement.into()).await?;
            held.into_pool();
        }
        Ok(())
    }
}

/// What the directory says of a tenant's place.
struct Place {
    storage: String,
    erasing: bool,
}

/// Begins on one connection; the tenant's place, if the tenant is there.
async fn begin(held: &mut Held, tenant: Uuid, trace: Option<&Trace>) -> Result<Option<Place>, Problem> {
    if on(Defect::ResetAfterSuccess) {
        edge(held, bound_once(tenant)).await?;
    }
    let row = edge(held, binding(tenant, trace)).await?;
    Ok(row.and_then(|row| Some(Place { storage: row.try_get("storage").ok()?, erasing: row.try_get("erasing").ok()? })))
}

/// Begins, binds the tenant to the transaction, and finds its tables. The trace goes here and on no other statement: a
/// comment that is new each time would make each of them a new one to prepare. At the end, so that `pg_stat_statements`
/// takes it for one.
fn binding(tenant: Uuid, trace: Option<&Trace>) -> String {
    let bind = if on(Defect::NoContext) || on(Defect::ResetAfterSuccess) {
        String::new()
    } else if on(Defect::SessionSetNotLocal) {
        bound_once(tenant)
    } else {
        let unless =
            if on(Defect::BoundOnce) { " WHERE coalesce(current_setting('app.tenant_id', true), '') = ''" } else { "" };
        let local = !on(Defect::BoundToSession);
        format!("SELECT set_config('app.tenant_id', '{tenant}', {local}){unless};")
    };
    let (before, after) = habits(tenant);
    let comment = trace.map_or_else(String::new, |trace| format!(" /*traceparent='{trace}'*/"));
    format!("BEGIN; {before}{bind}{after} SELECT storage, erasing FROM enter_tenant('{tenant}'){comment}",)
}

/// Binds to the session what has no tenant yet.
fn bound_once(tenant: Uuid) -> String {
    format!(
        "SELECT set_config('app.tenant_id', '{tenant}', false) \
         WHERE coalesce(current_setting('app.tenant_id', true), '') = '';"
    )
}

/// What careless code does before and after it binds, and does not take back.
fn habits(tenant: Uuid) -> (&'static str, String) {
    let before = if on(Defect::LookedAtUnbound) { "SELECT action FROM shared.events LIMIT 1;" } else { "" };
    let after = if on(Defect::TemporaryTableKept) {
        format!(" CREATE TEMP TABLE IF NOT EXISTS kept AS SELECT '{tenant}' AS tenant;")
    } else if on(Defect::LockKept) {
        format!(" SELECT pg_advisory_lock_shared(hashtextextended('{tenant}', 1));")
    } else if on(Defect::ListeningKept) {
        format!(" LISTEN \"events of {tenant}\";")
    } else {
        String::new()
    };
    (before, after)
}

/// The lock that scopes of a tenant share, as `enter_tenant` names it, and that what moves or erases it takes alone, as SQL.
pub(crate) fn lock_of(tenant: Uuid) -> String {
    format!("hashtextextended('place of tenant {tenant}', 0)")
}

/// Runs statements that begin or end the transaction, in one round trip; the last row.
async fn edge(held: &mut Held, statement: String) -> Result<Option<sqlx::postgres::PgRow>, Problem> {
    // Safe: these statements hold no text from outside but the digits of ids.
    let running = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(held.connection());
    Ok(tokio::time::timeout(EDGE_MAX, running).await.map_err(|_| Problem::Busy)??.pop())
}
