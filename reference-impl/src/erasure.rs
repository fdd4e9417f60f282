//! Erases a tenant: its people, its rows, its objects, its names. Cut off anywhere, it begins again and finds less to do.

use std::time::Duration;

use uuid::Uuid;

use crate::objects::Objects;
use crate::problem::Problem;
use crate::scope::TenantScope;

/// Rows a transaction.
const ROWS: i32 = 1_000;
/// People a transaction.
const PEOPLE: i32 = 50;
/// How often it is asked whether the last request has left, and how long between.
const LOOKS: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(250);

/// Erases `tenant`, whose erasure has begun.
///
/// # Errors
/// [`Problem::Busy`] while somebody is still at work in it; what the database or the object store fails with.
pub(crate) async fn finish(scope: &TenantScope, objects: &Objects, tenant: Uuid) -> Result<(), Problem> {
    desert(scope).await?;
    while scope.run(|store| Box::pin(store.erase_people(PEOPLE))).await? > 0 {}
    while scope.run(|store| Box::pin(store.erase_rows(ROWS))).await? > 0 {}
    objects.remove_all(tenant).await?;
    scope.run(|store| Box::pin(store.end_erasure())).await
}

async fn desert(scope: &TenantScope) -> Result<(), Problem> {
    for _ in 0..LOOKS {
        if scope.run(|store| Box::pin(store.deserted())).await? {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(Problem::Busy)
}
