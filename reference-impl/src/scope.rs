//! The only door to tenant tables: a transaction with the tenant bound to it and to nothing else.
//!
//! The work runs in a task of its own, which no client that goes away can cancel: a dropped `begin()` can therefore
//! never hand an open transaction to the next request (sqlx issues 4385 and 4393). Should the task be dropped all the
//! same, or the work panic or take too long, [`Held`] throws the connection away: only one whose transaction the server
//! has acknowledged to be over goes back to the pool.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, PgPool};
use tracing::Instrument;
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::held::Held;
use crate::problem::Problem;
use crate::store::AuditStore;
use crate::telemetry::Trace;

/// Longer than this no work holds a connection.
const WORK_MAX: Duration = Duration::from_secs(15);
/// Longer than this no transaction takes to begin or to end.
const EDGE_MAX: Duration = Duration::from_secs(5);

/// A tenant's door.
#[derive(Clone)]
pub struct TenantScope {
    pool: PgPool,
    tenant: Uuid,
    trace: Option<Trace>,
}

impl TenantScope {
    /// The door of `tenant`, which must come from a verified credential.
    pub fn of(pool: PgPool, tenant: Uuid) -> Self {
        Self { pool, tenant, trace: None }
    }

    /// As part of `trace`, which the database is told.
    pub fn traced(self, trace: Option<Trace>) -> Self {
        Self { trace, ..self }
    }

    /// Runs `work` with the tenant bound; commits when it succeeds, rolls back when it does not. Once begun it runs to
    /// its end, also when the returned future is dropped.
    ///
    /// # Errors
    /// What `work` fails with; [`Problem::Busy`] without a connection; [`Problem::Internal`] after a panic or a time-out.
    pub async fn run<T, W>(&self, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>> + Send + 'static,
    {
        let span = tracing::info_span!("scope", otel.kind = "client", db.system.name = "postgresql");
        let trace = Trace::of_span(&span).or_else(|| self.trace.clone());
        let scope = self.clone().traced(trace);
        tokio::spawn(scope.within(work).instrument(span)).await.unwrap_or(Err(Problem::Internal))
    }

    async fn within<T, W>(self, work: W) -> Result<T, Problem>
    where
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>>,
    {
        let mut held = Held::of(self.pool.acquire().await?);
        // From here on every early return drops what is held, and so closes it.
        edge(&mut held, begin(self.tenant, self.trace.as_ref())).await?;
        let mut store = AuditStore::bound(held, self.tenant);
        let worked = AssertUnwindSafe(tokio::time::timeout(WORK_MAX, work(&mut store))).catch_unwind().await;
        let mut held = store.release();
        let result = match worked {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                tracing::error!("a scope took too long");
                return Err(Problem::Busy);
            }
            Err(_) => return Err(Problem::Internal),
        };
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        match edge(&mut held, end.to_string()).await {
            Ok(()) => held.into_pool(),
            Err(error) => return result.and(Err(error)),
        }
        result
    }
}

/// Runs a statement that begins or ends the transaction, in one round trip.
async fn edge(held: &mut Held, statement: String) -> Result<(), Problem> {
    // Safe: the statements of this file hold no text from outside but the digits of ids.
    let running = sqlx::raw_sql(AssertSqlSafe(statement)).execute(held.connection());
    tokio::time::timeout(EDGE_MAX, running).await.map_err(|_| Problem::Busy)??;
    Ok(())
}

/// Begins, and binds the tenant to the transaction. The trace goes here and on no other statement: a comment that is new
/// each time would make each of them a new one to prepare. At the end, so that `pg_stat_statements` takes it for one.
fn begin(tenant: Uuid, trace: Option<&Trace>) -> String {
    let begin = if on(Defect::NoContext) {
        "BEGIN".to_string()
    } else if on(Defect::SessionSetNotLocal) {
        format!(
            "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', false) \
             WHERE coalesce(current_setting('app.tenant_id', true), '') = ''"
        )
    } else {
        format!("BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true)")
    };
    trace.map_or_else(|| begin.clone(), |trace| format!("{begin} /*traceparent='{trace}'*/"))
}
