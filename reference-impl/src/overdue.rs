//! Deliveries that wait and have no job. A tenant with a database of its own has its deliveries there and their jobs in
//! the directory's queue: where the directory is lost between the two commits, only looking finds what was left.

use std::convert::Infallible;
use std::time::Duration;

use uuid::Uuid;

use crate::scope::TenantScope;
use crate::storage::Storage;

/// Looks into the tenants' own databases, one at a time, again and again with a pause of `every`.
pub(crate) async fn look_every(every: Duration, storage: &Storage) -> Infallible {
    loop {
        tokio::time::sleep(every).await;
        if look(storage).await.is_err() {
            tracing::warn!("the tenants with databases of their own are out of reach");
        }
    }
}

/// Lets the jobs come back of webhooks where something is overdue.
async fn look(storage: &Storage) -> sqlx::Result<()> {
    let mut done = None;
    while let Some(tenant) = next(storage, done).await? {
        let scope = TenantScope::of(storage.clone(), tenant);
        if scope.run(|store| Box::pin(store.wake_overdue())).await.is_err() {
            tracing::warn!("a tenant's deliveries are out of reach");
        }
        done = Some(tenant);
    }
    Ok(())
}

async fn next(storage: &Storage, done: Option<Uuid>) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar("SELECT * FROM worker_databases($1, 1)").bind(done).fetch_optional(storage.directory()).await
}
