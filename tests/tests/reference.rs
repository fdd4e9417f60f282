//! The reference's own wall: its schema, its door, and what it says of itself.

use std::time::Duration;

use partywall_reference::problem::Problem;
use partywall_reference::scope::TenantScope;
use partywall_tests::Migrated;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool, Row};

async fn pool_of_one(url: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(20)).connect(url).await?)
}

/// Whether the pool's one connection lies in an open transaction, and what tenant is bound to it.
async fn leftovers(pool: &PgPool) -> anyhow::Result<(bool, String)> {
    // Outside a transaction, a simple query's transaction begins with it.
    let statement = "SELECT now() <> statement_timestamp(), coalesce(current_setting('app.tenant_id', true), '')";
    let row = sqlx::raw_sql(statement).fetch_one(pool).await?;
    Ok((row.get(0), row.get(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tenant_table_and_partition_forces_row_security_and_leads_its_indexes_with_the_tenant()
-> anyhow::Result<()> {
    let migrated = Migrated::start().await?;
    let mut admin = PgConnection::connect(&migrated.admin_url()).await?;
    let tables = sqlx::query(
        "SELECT c.relname::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced, \
                (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies, \
                pg_get_userbyid(c.relowner) = 'audit_owner' AS owned, \
                has_table_privilege('audit_app', c.oid, 'TRUNCATE') AS truncates, c.relispartition AS partition, \
                has_table_privilege('audit_app', c.oid, 'SELECT') AS selects \
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
          WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'tenant_id' \
            AND c.relname <> 'sessions'",
    )
    .fetch_all(&mut admin)
    .await?;
    assert!(tables.len() > 15, "tables and partitions are there: {}", tables.len());
    for table in &tables {
        let name: &str = table.get("name");
        assert!(table.get::<bool, _>("forced"), "{name} does not force row security");
        assert_eq!(table.get::<i64, _>("policies"), 1, "{name}'s policies");
        assert!(table.get::<bool, _>("owned"), "{name} belongs to another");
        assert!(!table.get::<bool, _>("truncates"), "{name} may be truncated");
        if table.get("partition") {
            assert!(!table.get::<bool, _>("selects"), "{name} may be read past its parent");
        }
    }
    let not_leading: Vec<String> = sqlx::query_scalar(
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
           JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am am ON am.oid = x.relam \
          WHERE c.relnamespace = 'public'::regnamespace AND c.relrowsecurity AND am.amname = 'btree' \
            AND i.indkey[0] <> a.attnum AND x.relname NOT LIKE '%by_hash%'",
    )
    .fetch_all(&mut admin)
    .await?;
    assert_eq!(not_leading, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_that_is_dropped_at_any_point_leaves_nothing_on_its_connection() -> anyhow::Result<()> {
    let migrated = Migrated::start().await?;
    let url = migrated.url_of("audit_app").await?;
    let pool = pool_of_one(&url).await?;
    let tenant: uuid::Uuid = "0190a5d4-0000-7000-8000-000000000001".parse()?;
    let scope = TenantScope::of(pool.clone(), tenant);
    let mut cut = 0;
    for round in 0..300_u64 {
        let wait = Duration::from_micros(round * 7 % 900);
        let scope = scope.clone();
        let request = tokio::spawn(async move {
            let counted = scope.run(|store| Box::pin(async move { store.count_members().await })).await;
            counted.map(drop)
        });
        // Finer than the runtime's timer, which knows milliseconds.
        std::thread::sleep(wait);
        request.abort();
        cut += usize::from(request.await.is_err());
        let (open, bound) = leftovers(&pool).await?;
        assert!(!open, "round {round}: the next borrower stands in an open transaction");
        assert_eq!(bound, "", "round {round}: the next borrower inherits a tenant");
    }
    assert!(cut > 20, "clients went away in the middle: {cut}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_check_sees_a_connection_that_was_left_in_a_transaction() -> anyhow::Result<()> {
    let migrated = Migrated::start().await?;
    let pool = pool_of_one(&migrated.url_of("audit_app").await?).await?;
    sqlx::raw_sql("BEGIN; SELECT set_config('app.tenant_id', 'left behind', true)").execute(&pool).await?;
    assert_eq!(leftovers(&pool).await?, (true, "left behind".to_string()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_that_fails_panics_or_loses_its_transaction_leaves_nothing_either() -> anyhow::Result<()> {
    let migrated = Migrated::start().await?;
    let pool = pool_of_one(&migrated.url_of("audit_app").await?).await?;
    let scope = TenantScope::of(pool.clone(), "0190a5d4-0000-7000-8000-000000000001".parse()?);
    let failed: Result<(), _> = scope.run(|_| Box::pin(async { Err(Problem::NotFound) })).await;
    assert!(matches!(failed, Err(Problem::NotFound)));
    assert_eq!(leftovers(&pool).await?, (false, String::new()));
    let panicked: Result<(), _> = scope.run(|_| Box::pin(async { panic!("on purpose") })).await;
    assert!(matches!(panicked, Err(Problem::Internal)));
    assert_eq!(leftovers(&pool).await?, (false, String::new()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_tenant_the_application_role_sees_nothing_and_cannot_reach_around() -> anyhow::Result<()> {
    let migrated = Migrated::start().await?;
    let mut admin = PgConnection::connect(&migrated.admin_url()).await?;
    sqlx::raw_sql(
        "INSERT INTO tenants (id, slug, name) VALUES ('0190a5d4-0000-7000-8000-000000000001', 'a', 'A'); \
         INSERT INTO api_keys (tenant_id, id, name, secret_hash) \
         VALUES ('0190a5d4-0000-7000-8000-000000000001', gen_random_uuid(), 'k', '\\x00')",
    )
    .execute(&mut admin)
    .await?;
    let mut app = PgConnection::connect(&migrated.url_of("audit_app").await?).await?;
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys").fetch_one(&mut app).await?;
    assert_eq!(seen, 0);
    let own = "SELECT set_config('app.tenant_id', '0190a5d4-0000-7000-8000-000000000001', false)";
    sqlx::query(own).execute(&mut app).await?;
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys").fetch_one(&mut app).await?;
    assert_eq!(seen, 1, "the control: the owner sees it");
    for forbidden in [
        "SELECT * FROM people",
        "SELECT * FROM sessions",
        "SELECT * FROM sign_in_of('x')",
        "SELECT * FROM credential_of('\\x00')",
        "SELECT * FROM platform_usage(NULL, 1)",
        "TRUNCATE events",
        "SELECT * FROM events_other",
        "ALTER TABLE events NO FORCE ROW LEVEL SECURITY",
        "SET ROLE audit_gate",
        "CREATE TABLE mine (id int)",
    ] {
        assert!(sqlx::raw_sql(forbidden).execute(&mut app).await.is_err(), "audit_app may: {forbidden}");
    }
    Ok(())
}

#[test]
fn the_document_lists_every_route_with_an_operation_of_its_own() -> anyhow::Result<()> {
    let (_, document) = partywall_reference::http::routes();
    let json = serde_json::to_string(&document)?;
    let operations = partywall::target::openapi::operations(&json, "the reference's")?;
    let described: std::collections::BTreeSet<String> =
        partywall::target::file::TargetFile::load(None)?.operation.into_iter().map(|o| o.id).collect();
    let listed: std::collections::BTreeSet<String> = operations.iter().map(|o| o.id.clone()).collect();
    assert_eq!(listed.len(), operations.len(), "operation ids are unique");
    assert_eq!(listed, described, "the target file describes every operation, and no other");
    Ok(())
}
