//! Seals the events of all tenants, one tenant at a time through its own door.

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
    let (mut after, mut sealed_total, mut failed) = (None::<Uuid>, 0, 0);
    let storage = Storage::new(pool.clone());
    loop {
        let page = sqlx::query("SELECT tenant_id FROM tenants_to_seal($1, $2)").bind(after).bind(TENANTS);
        let tenants: Vec<Uuid> = page.fetch_all(&pool).await?.iter().map(|row| row.get("tenant_id")).collect();
        let Some(last) = tenants.last() else { break };
        after = Some(*last);
        for tenant in tenants {
            match seal_one(&storage, tenant).await {
                Ok(count) => sealed_total += count,
                Err(_) => failed += 1,
            }
        }
    }
    pool.close().await;
    tracing::info!(sealed_total, "sealed");
    if failed > 0 {
        bail!("{failed} tenants could not be sealed: the log says why; run it again");
    }
    Ok(())
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
