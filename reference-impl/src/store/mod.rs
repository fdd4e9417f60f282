//! The store of one tenant. It cannot be made without a tenant, and no method of it crosses tenants: every query is
//! also written with its tenant predicate.

pub mod annotations;
pub mod api_keys;
pub mod archives;
pub mod archiving;
pub mod attachments;
pub mod chain;
pub mod deliveries;
pub mod due;
pub mod erasure;
pub mod event_types;
pub mod events;
pub mod exports;
pub mod members;
pub mod retention;
pub mod saved_searches;
pub mod stats;
pub mod stream;
pub mod tenant;
pub mod viewer_tokens;
pub mod webhooks;

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::problem::Problem;
use crate::storage::Opened;

/// The tenant's rows, within one transaction that is bound to it.
pub struct AuditStore {
    opened: Opened,
    tenant: Uuid,
    /// Whether events were written or removed, which makes counts that are kept for a while wrong.
    events_changed: bool,
}

/// Which of its tenant's events a caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// All.
    All,
    /// One actor's.
    Actor(Uuid),
    /// One target's: type and id.
    Target(String, String),
    /// None.
    None,
}

impl AuditStore {
    /// The store of `tenant`; only the scope, which has bound the tenant to this connection, makes one.
    pub(crate) fn bound(opened: Opened, tenant: Uuid) -> Self {
        Self { opened, tenant, events_changed: false }
    }

    /// Gives the transaction back to the scope.
    pub(crate) fn release(self) -> Opened {
        self.opened
    }

    /// Whose rows it holds.
    pub(crate) fn tenant_id(&self) -> Uuid {
        self.tenant
    }

    /// Whether events were written or removed.
    pub(crate) fn events_changed(&self) -> bool {
        self.events_changed
    }

    /// How many rows of `table`, one of the tenant's own, it has.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn count(&mut self, table: &'static str) -> Result<i64, Problem> {
        let tenant = self.tenant;
        counted(self.connection(), tenant, table).await
    }

    /// How many rows of `table`, one of the directory's, the tenant has.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn count_in_directory(&mut self, table: &'static str) -> Result<i64, Problem> {
        let tenant = self.tenant;
        counted(self.directory(), tenant, table).await
    }

    /// Where the tenant's tables are.
    fn connection(&mut self) -> &mut PgConnection {
        self.opened.own.as_mut().unwrap_or(&mut self.opened.directory).connection()
    }

    /// Has the rest of this transaction planned for the values it is given: where how many rows they leave decides how to find them.
    async fn plan_anew(&mut self) -> Result<(), Problem> {
        sqlx::query("SET LOCAL plan_cache_mode = force_custom_plan").execute(self.connection()).await?;
        Ok(())
    }

    /// Where it is known who belongs to the tenant.
    fn directory(&mut self) -> &mut PgConnection {
        self.opened.directory.connection()
    }
}

/// The predicate that every query carries; `$1` is the tenant.
fn own() -> &'static str {
    if on(Defect::NoStorePredicate) {
        "($1::uuid IS NOT NULL)"
    } else if on(Defect::StoreBelievesContext) {
        "($1::uuid IS NOT NULL AND tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)"
    } else {
        "tenant_id = $1"
    }
}

/// As [`own`], for a query that only lacks it under `defect`.
fn own_unless(defect: Defect) -> &'static str {
    if on(defect) { "($1::uuid IS NOT NULL)" } else { own() }
}

async fn counted(connection: &mut PgConnection, tenant: Uuid, table: &'static str) -> Result<i64, Problem> {
    let statement = format!("SELECT count(*) FROM {table} WHERE {}", own());
    Ok(sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).fetch_one(connection).await?)
}
