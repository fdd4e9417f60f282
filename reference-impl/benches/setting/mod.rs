//! What the benchmarks share: a database that is full, and a fair comparison.

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/mod.rs"]
pub mod support;

use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use support::Database;
use uuid::Uuid;

/// Rounds of a comparison, after one that warms up.
const ROUNDS: usize = 15;

/// Plants `events` events over `tenants` tenants, in the order in which a service would write them: now of this tenant,
/// now of that one, over the last ten months.
pub async fn plant(database: &Database, tenants: u32, events: u32) -> anyhow::Result<()> {
    database
        .sql(&format!(
            "INSERT INTO tenants (id, slug, name) SELECT md5('tenant ' || n)::uuid, 'tenant-' || n, 'Tenant ' || n \
             FROM generate_series(0, {tenants} - 1) n"
        ))
        .await?;
    database
        .sql(&format!(
            "INSERT INTO shared.events (tenant_id, id, occurred_at, actor_id, actor_email, actor_name, action, \
                                        target_type, target_id, target_name, source_ip, user_agent, external_id, details) \
             SELECT md5('tenant ' || n % {tenants})::uuid, \
                    (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || \
                     left(md5(n::text), 3) || '8' || right(md5(n::text), 15))::uuid, at, \
                    md5('actor ' || n % 7919)::uuid, 'person' || n % 7919 || '@example.com', 'Person ' || n % 7919, \
                    (ARRAY['document.shared', 'session.started', 'key.made', 'member.removed'])[1 + n % 4], \
                    'document', 'doc-' || n % 104729, 'Document ' || n % 104729, '192.0.2.1'::inet + n % 200, \
                    'Mozilla/5.0 (X11; Linux x86_64)', 'req-' || n, jsonb_build_object('attempt', n % 3, 'via', 'web') \
             FROM generate_series(0, {events} - 1) n, \
                  LATERAL (SELECT now() - interval '300 days' * n / {events} AS at) occurred"
        ))
        .await?;
    database.sql("VACUUM (ANALYZE)").await
}

/// The tenant of that number.
pub async fn tenants(pool: &PgPool, most: i64) -> anyhow::Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar("SELECT id FROM tenants ORDER BY md5(id::text) LIMIT $1").bind(most).fetch_all(pool).await?)
}

/// A pool of one connection as `role`.
pub async fn one(database: &Database, role: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(1).connect(&database.url(role)).await?)
}

/// Two ways to do the same, in turns: what each takes a time at the median of its rounds.
pub async fn compared(
    times: usize,
    mut one: impl AsyncFnMut(usize) -> anyhow::Result<()>,
    mut other: impl AsyncFnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<(Duration, Duration)> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let numbers = round * times..(round + 1) * times;
        let began = Instant::now();
        for number in numbers.clone() {
            one(number).await?;
        }
        let half = Instant::now();
        for number in numbers {
            other(number).await?;
        }
        if round > 0 {
            ones.push((half - began) / times as u32);
            others.push(half.elapsed() / times as u32);
        }
    }
    Ok((median(ones), median(others)))
}

/// The one in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Tells how fast `ours` is against `peer`.
pub fn tell(what: &str, (ours, peer): (Duration, Duration), limit: f64) {
    let ratio = peer.as_secs_f64() / ours.as_secs_f64();
    println!("{what}: {ratio:.2} ({ours:.1?} against {peer:.1?}; limit {limit:.2})");
}
