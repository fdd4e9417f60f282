//! Seals the events of all tenants, one tenant at a time through its own door: once by command, or every so often beside
//! the queue.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::bail;
use sqlx::Row;
use uuid::Uuid;

use crate::http::proofs::BATCH;
use crate::problem::Problem;
use crate::scope::TenantScope;
use crate::serve;
use crate::storage::Storage;

/// Tenants a page.
const TENANTS: i32 = 100;

/// Seals what waits in every tenant; one that fails does not stop the others.
///
/// # Errors
/// No database, a wall with holes, or tenants that could not be sealed.
pub async fn seal_all(url: &str) -> anyhow::Result<()> {
    let pool = serve::worker_pool(2, url).await?;
    let failed = seal_each(&Storage::new(pool.clone())).await?;
    pool.close().await;
    if failed > 0 {
        bail!("{failed} tenants could not be sealed: the log says why; run it again");
    }
    Ok(())
}

/// Seals what waits in every tenant, again and again with a pause of `every`. Of several that do, each takes a tenant's
/// head in turn.
pub(crate) async fn seal_every(every: Duration, storage: &Storage) -> Infallible {
    loop {
        tokio::time::sleep(every).await;
        if seal_each(storage).await.is_err() {
            tracing::warn!("the tenants to seal are out of reach");
        }
    }
}

/// Seals what waits in every tenant; how many could not be sealed.
async fn seal_each(storage: &Storage) -> anyhow::Result<usize> {
    let (mut after, mut sealed_total, mut failed) = (None::<Uuid>, 0, 0);
    loop {
        let page = sqlx::query("SELECT tenant_id FROM tenants_to_seal($1, $2)").bind(after).bind(TENANTS);
        let page = page.fetch_all(storage.directory()).await?;
        let tenants: Vec<Uuid> = page.iter().map(|row| row.get("tenant_id")).collect();
        let Some(last) = tenants.last() else { break };
        after = Some(*last);
        for tenant in tenants {
            match seal_one(storage, tenant).await {
                Ok(count) => sealed_total += count,
                Err(_) => failed += 1,
            }
        }
    }
    tracing::info!(sealed_total, failed, "sealed");
    Ok(failed)
}

async fn seal_one(storage: &Storage, tenant: Uuid) -> Result<usize, Problem> {
    let scope = TenantScope::of(storage.clone(), tenant);
    let mut total = 0;
    loop {
        let count = scope.run(|store| Box::pin(store.seal(BATCH))).await?;
        total += count;
        if i64::try_from(count).is_ok_and(|count| count < BATCH) {
            return Ok(total);
        }
    }
}
