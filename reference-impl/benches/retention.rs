//! What the lists of one tenant feel of the retention of another: a worker of its own archives and deletes a million
//! events while a second tenant's list is read again and again, as before. Its p99 must rise by less than a fifth.
//! Another number of events can be given as an argument. Needs PostgreSQL binaries.

mod setting;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use partywall_reference::scope::TenantScope;
use partywall_reference::storage::Storage;
use partywall_reference::store::Sight;
use partywall_reference::store::events::Filter;
use setting::support::Database;
use setting::{median, plant, tenants};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

const EVENTS: u32 = 1_000_000;
/// Of all the others together.
const OTHERS: u32 = 200_000;
const TENANTS: u32 = 100;
/// Between two lists: a tenant that reads, not one that floods.
const PAUSE: Duration = Duration::from_millis(5);
/// Lists before the run begins.
const BEFORE: usize = 4_000;
const PAGE: i64 = 50;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let events = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(EVENTS);
    let database = Database::migrated().await?;
    plant(&database, TENANTS, OTHERS).await?;
    let admin = setting::one(&database, "postgres").await?;
    let tenants = tenants(&admin, 2).await?;
    let (aged, other) = (tenants[0], tenants[1]);
    database
        .sql(&format!(
            "INSERT INTO shared.events (tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, \
                                        target_type, target_id, target_name) \
             SELECT '{aged}', gen_random_uuid(), at, at, md5('actor ' || n % 97)::uuid, 'p@example.com', 'Person', \
                    'document.shared', 'document', 'doc-' || n, 'Document ' || n \
               FROM generate_series(1, {events}) n, \
                    LATERAL (SELECT now() - interval '100 days' - n * interval '1 s' AS at) occurred; \
             INSERT INTO shared.retention_policies (tenant_id, archive_after_days, delete_after_days, legal_hold) \
             VALUES ('{aged}', 30, 90, false)"
        ))
        .await?;
    database.sql("VACUUM (ANALYZE)").await?;

    let pool = setting::one(&database, "audit_app").await?;
    let scope = TenantScope::of(Storage::new(pool), other);
    let mut before = Vec::new();
    for _ in 0..BEFORE {
        before.push(list(&scope).await?);
    }
    let objects = tempfile::tempdir()?;
    let mut worker = Command::new(env!("CARGO_BIN_EXE_audit-api"))
        .arg("worker")
        .env("AUDIT_WORKER_DATABASE_URL", database.url("audit_worker"))
        .env("AUDIT_OBJECTS", format!("file://{}", objects.path().display()))
        .env("AUDIT_TOKEN_KEY", "00".repeat(32))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let (run, began) = (begin(&admin, aged).await?, Instant::now());
    let mut during = Vec::new();
    let ended = loop {
        for _ in 0..200 {
            during.push(list(&scope).await?);
        }
        let state: String = sqlx::query_scalar("SELECT state FROM shared.retention_runs WHERE id = $1")
            .bind(run)
            .fetch_one(&admin)
            .await?;
        if state == "done" || state == "failed" || worker.try_wait()?.is_some() {
            break state;
        }
    };
    worker.kill()?;
    worker.wait()?;
    let (archived, deleted): (i64, i64) =
        sqlx::query_as("SELECT archived, deleted FROM shared.retention_runs WHERE id = $1")
            .bind(run)
            .fetch_one(&admin)
            .await?;
    println!("a run over {events} events: {ended} in {:.0?}, {archived} archived, {deleted} deleted", began.elapsed());
    println!("lists of another tenant: {} before, {} during", before.len(), during.len());
    let p99 = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times[times.len() * 99 / 100]
    };
    let (quiet, busy) = (p99(&before), p99(&during));
    println!("median {:.1?} before, {:.1?} during", median(before), median(during));
    println!(
        "p99 at {:.2} of what it was ({busy:.1?} against {quiet:.1?}; limit 1.20)",
        busy.as_secs_f64() / quiet.as_secs_f64()
    );
    Ok(())
}

async fn list(scope: &TenantScope) -> anyhow::Result<Duration> {
    tokio::time::sleep(PAUSE).await;
    let began = Instant::now();
    let listed =
        scope.run(|store| Box::pin(async move { store.events(&Filter::default(), &Sight::All, None, PAGE).await }));
    assert_eq!(listed.await?.len() as i64, PAGE + 1);
    Ok(began.elapsed())
}

/// Asks for a run as the service does.
async fn begin(admin: &PgPool, tenant: Uuid) -> anyhow::Result<Uuid> {
    let run = Uuid::now_v7();
    let ask = format!(
        "BEGIN; SELECT set_config('app.tenant_id', '{tenant}', true); \
         INSERT INTO shared.retention_runs (tenant_id, id, requested_by) VALUES ('{tenant}', '{run}', '{tenant}'); \
         SELECT enqueue_job('retention', '{run}'); COMMIT"
    );
    sqlx::raw_sql(AssertSqlSafe(ask)).execute(admin).await?;
    Ok(run)
}
