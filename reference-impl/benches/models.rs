//! What 10, 100 and 1,000 tenants cost in each storage model: how long one takes to be given its place and moved into it,
//! how long its list takes, how many connections that keeps open, and what these and this program need in memory. Other
//! numbers of tenants can be given as arguments. Needs PostgreSQL binaries, and some 12 GB of disk for a thousand
//! databases. Linux only: memory is read from /proc.

mod setting;

use std::time::Instant;

use partywall_reference::scope::TenantScope;
use partywall_reference::storage::model::name_of;
use partywall_reference::storage::{Storage, moving};
use partywall_reference::store::Sight;
use partywall_reference::store::events::Filter;
use setting::support::Database;
use setting::{median, one, plant, tenants};
use sqlx::postgres::PgPoolOptions;

const TENANTS: [u32; 3] = [10, 100, 1_000];
const EVENTS_EACH: u32 = 200;
/// Lists that are read at a time, by as many connections.
const AT_A_TIME: u32 = 4;
const LISTS: usize = 2_000;
const PAGE: i64 = 50;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!(
        "| storage  | tenants | provisioning | list, median | list, p99 | connections | server memory | own memory |"
    );
    println!(
        "|----------|--------:|-------------:|-------------:|----------:|------------:|--------------:|-----------:|"
    );
    let given: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let counts = if given.is_empty() { TENANTS.to_vec() } else { given };
    for &count in &counts {
        for model in ["shared", "schema", "database"] {
            measure(model, count).await?;
        }
    }
    Ok(())
}

async fn measure(model: &str, count: u32) -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    plant(&database, count, count * EVENTS_EACH).await?;
    let admin = database.url("postgres").parse()?;
    let pool = one(&database, "postgres").await?;
    let tenants = tenants(&pool, i64::from(count)).await?;
    let mut provisioning = Vec::new();
    for tenant in &tenants {
        let began = Instant::now();
        moving::tenant(&admin, *tenant, model).await?;
        provisioning.push(began.elapsed());
    }
    let before = own_memory();
    let options = PgPoolOptions::new().max_connections(AT_A_TIME);
    let storage = Storage::new(options.connect(&database.url("audit_app")).await?);
    let mut times = Vec::new();
    for first in (0..LISTS).step_by(AT_A_TIME as usize) {
        let lists = (first..first + AT_A_TIME as usize).map(|number| {
            // Each tenant in turn, as far apart as can be: nothing is warm that would not be.
            let scope = TenantScope::of(storage.clone(), tenants[number * 7919 % tenants.len()]);
            async move {
                let began = Instant::now();
                let list = scope.run(|store| {
                    Box::pin(async move { store.events(&Filter::default(), &Sight::All, None, PAGE).await })
                });
                assert_eq!(list.await?.len() as i64, PAGE + 1);
                anyhow::Ok(began.elapsed())
            }
        });
        times.extend(futures_util::future::try_join_all(lists).await?);
    }
    let connections: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = 'audit_app'")
        .fetch_one(&pool)
        .await?;
    let pids: Vec<i32> =
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE usename = 'audit_app'").fetch_all(&pool).await?;
    let server: u64 = pids.iter().map(|pid| memory(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum();
    let own = own_memory().saturating_sub(before);
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "| {model:<8} | {count:>7} | {:>12.1?} | {:>12.1?} | {p99:>9.1?} | {connections:>11} | {:>9.1} MiB | {:>6.1} MiB |",
        median(provisioning),
        median(times),
        mib(server),
        mib(own),
    );
    for tenant in tenants.iter().filter(|_| model == "database") {
        database.sql(&format!("DROP DATABASE {} WITH (FORCE)", name_of(*tenant))).await?;
    }
    Ok(())
}

/// Resident memory of this program, KiB.
fn own_memory() -> u64 {
    memory("/proc/self/status", "VmRSS:")
}

/// A figure of the kernel's, KiB; 0 where it cannot be read.
fn memory(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}
