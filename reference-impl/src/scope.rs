//! The only door to tenant tables: a transaction with the tenant bound to it and to nothing else.
//!
//! The work runs in a task of its own, which no client that goes away can cancel: a dropped `begin()` can therefore
//! never hand an open transaction to the next request (sqlx issues 4385 and 4393). A connection returns to the pool only
//! once the server has acknowledged the end of its transaction; after a panic, a time-out or an error at the end it is
//! closed instead.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::problem::Problem;
use crate::store::AuditStore;

/// Longer than this no request holds a connection.
const HELD_MAX: Duration = Duration::from_secs(15);

/// A tenant's door.
#[derive(Clone)]
pub struct TenantScope {
    pool: PgPool,
    tenant: Uuid,
}

impl TenantScope {
    /// The door of `tenant`, which must come from a verified credential.
    pub fn of(pool: PgPool, tenant: Uuid) -> Self {
        Self { pool, tenant }
    }

    /// Runs `work` with the tenant bound; commits when it succeeds, rolls back when it does not.
    ///
    /// # Errors
    /// What `work` fails with; [`Problem::Busy`] without a connection; [`Problem::Internal`] after a panic or a time-out.
    pub async fn run<T, W>(&self, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>> + Send + 'static,
    {
        let scope = self.clone();
        tokio::spawn(scope.held(work)).await.unwrap_or(Err(Problem::Internal))
    }

    async fn held<T, W>(self, work: W) -> Result<T, Problem>
    where
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>>,
    {
        let mut connection = self.pool.acquire().await?;
        if let Err(error) = bind(&mut connection, self.tenant).await {
            close(connection).await;
            return Err(error.into());
        }
        let mut store = AuditStore::bound(connection, self.tenant);
        let worked = AssertUnwindSafe(tokio::time::timeout(HELD_MAX, work(&mut store))).catch_unwind().await;
        let mut connection = store.release();
        let result = match worked {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => {
                tracing::error!(timed_out = worked_timed_out(&worked), "a scope did not end by itself");
                close(connection).await;
                return Err(Problem::Internal);
            }
        };
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        match sqlx::raw_sql(end).execute(&mut *connection).await {
            Ok(_) => result,
            Err(error) => {
                close(connection).await;
                result.and(Err(error.into()))
            }
        }
    }
}

fn worked_timed_out<T>(worked: &Result<Result<T, tokio::time::error::Elapsed>, Box<dyn std::any::Any + Send>>) -> bool {
    matches!(worked, Ok(Err(_)))
}

/// Begins, and binds the tenant to the transaction, in one round trip.
async fn bind(connection: &mut PoolConnection<Postgres>, tenant: Uuid) -> Result<(), sqlx::Error> {
    let statement = if on(Defect::NoContext) {
        "BEGIN".to_string()
    } else if on(Defect::SessionSetNotLocal) {
        format!(
            "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', false) \
             WHERE coalesce(current_setting('app.tenant_id', true), '') = ''"
        )
    } else {
        format!("BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true)")
    };
    // Safe: a UUID's text holds nothing but hexadecimal digits and hyphens.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut **connection).await.map(drop)
}

/// Ends a connection whose state is not known to be clean.
async fn close(connection: PoolConnection<Postgres>) {
    // It is being thrown away; how the farewell goes does not matter.
    let _ = connection.close().await;
}
