//! The only door to tenant tables: a transaction with the tenant bound to it and to nothing else.
//!
//! The work runs in a task of its own, which no client that goes away can cancel: a dropped `begin()` can therefore
//! never hand an open transaction to the next request (sqlx issues 4385 and 4393). Should the task be dropped all the
//! same, or the work panic or take too long, [`crate::held::Held`] throws the connection away: only one whose transaction
//! the server has acknowledged to be over goes back to the pool.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::Instrument;
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::hot;
use crate::problem::Problem;
use crate::storage::Storage;
use crate::store::AuditStore;
use crate::telemetry::Trace;

/// Longer than this no work holds a connection.
const WORK_MAX: Duration = Duration::from_secs(15);

/// A tenant's door.
#[derive(Clone)]
pub struct TenantScope {
    storage: Storage,
    tenant: Uuid,
    trace: Option<Trace>,
    /// Whether it opens also while the tenant is being erased.
    erases: bool,
}

impl TenantScope {
    /// The door of `tenant`, which must come from a verified credential.
    pub fn of(storage: Storage, tenant: Uuid) -> Self {
        Self { storage, tenant, trace: None, erases: false }
    }

    /// As [`TenantScope::of`], also while the tenant is being erased: for what erases it, and nothing else.
    pub(crate) fn erasing(storage: Storage, tenant: Uuid) -> Self {
        Self { erases: true, ..Self::of(storage, tenant) }
    }

    /// As part of `trace`, which the database is told.
    pub fn traced(self, trace: Option<Trace>) -> Self {
        Self { trace, ..self }
    }

    /// Runs `work` with the tenant bound; commits when it succeeds, rolls back when it does not. Once begun it runs to
    /// its end, also when the returned future is dropped.
    ///
    /// # Errors
    /// What `work` fails with; [`Problem::Unauthenticated`] once the tenant is being erased; [`Problem::Busy`] without a
    /// connection; [`Problem::Internal`] after a panic or a time-out.
    pub async fn run<T, W>(&self, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>> + Send + 'static,
    {
        let span = tracing::info_span!("scope", otel.kind = "client", db.system.name = "postgresql");
        let trace = Trace::of_span(&span).or_else(|| self.trace.clone());
        let scope = self.clone().traced(trace);
        if on(Defect::ScopeCancelled) {
            return scope.within(work).instrument(span).await;
        }
        tokio::spawn(scope.within(work).instrument(span)).await.unwrap_or(Err(Problem::Internal))
    }

    async fn within<T, W>(self, work: W) -> Result<T, Problem>
    where
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>>,
    {
        // Every early return drops what is open, and so closes it.
        let opened = self.storage.open(self.tenant, self.erases, self.trace.as_ref()).await?;
        let mut store = AuditStore::bound(opened, self.tenant);
        let worked = AssertUnwindSafe(tokio::time::timeout(WORK_MAX, work(&mut store))).catch_unwind().await;
        // Forgets counts on every way out, once the transaction has ended.
        let _changed = store.events_changed().then(|| hot::Changed::of(self.tenant));
        let result = match worked {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                tracing::error!("a scope took too long");
                return Err(Problem::Busy);
            }
            Err(_) => return Err(Problem::Internal),
        };
        let opened = store.release();
        let failed = matches!(result, Err(Problem::Internal | Problem::Busy));
        if failed && on(Defect::FailedGivenBack) {
            opened.into_pools();
            return result;
        }
        // Whose reset goes with the transaction has to commit it.
        let commit = result.is_ok() || (!failed && on(Defect::ResetAfterSuccess));
        match opened.end(commit).await {
            Ok(()) => result,
            Err(error) => result.and(Err(error)),
        }
    }
}
