//! What the benchmarks share: a database that is full.

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/mod.rs"]
pub mod support;

use std::time::Duration;

use partywall_reference::serve::bounded;
use sqlx::PgPool;
use support::Database;
use uuid::Uuid;

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

/// A pool of one connection as `role`, as the service has them.
pub async fn one(database: &Database, role: &str) -> anyhow::Result<PgPool> {
    Ok(bounded(1).connect(&database.url(role)).await?)
}

/// The one in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
