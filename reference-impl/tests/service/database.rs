//! The database's own layer, read in its catalog and tried as each database role.

use sqlx::{AssertSqlSafe, Executor, Row};
use uuid::Uuid;

use crate::support::Database;

#[tokio::test]
async fn every_tenant_table_and_partition_forces_one_policy_and_belongs_to_the_owner() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let mut admin = database.connect("postgres").await?;
    let tables = sqlx::query(
        "SELECT c.relname::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced, \
                pg_get_userbyid(c.relowner)::text AS owner, c.relispartition AS partition, \
                array(SELECT pg_get_expr(polqual, polrelid) || ' / ' || pg_get_expr(polwithcheck, polrelid) \
                        FROM pg_policy p WHERE p.polrelid = c.oid) AS policies, \
                has_any_column_privilege('audit_app', c.oid, 'SELECT, INSERT, UPDATE') AS served, \
                has_table_privilege('audit_app', c.oid, 'TRUNCATE, REFERENCES, TRIGGER') AS excess \
           FROM pg_class c \
          WHERE c.relnamespace IN ('public'::regnamespace, 'shared'::regnamespace) AND c.relkind IN ('r', 'p') \
            AND (c.relname = 'tenants' OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'))",
    )
    .fetch_all(&mut admin)
    .await?;
    assert!(tables.len() >= 8 + 16, "tables and partitions: {}", tables.len());
    for table in tables {
        let name: String = table.get("name");
        let column = if name == "tenants" { "id" } else { "tenant_id" };
        let bound = format!("({column} = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid)");
        assert!(table.get::<bool, _>("forced"), "{name} is not forced");
        assert_eq!(table.get::<Vec<String>, _>("policies"), [format!("{bound} / {bound}")], "{name}");
        assert_eq!(table.get::<String, _>("owner"), "audit_owner", "{name}");
        assert!(!table.get::<bool, _>("excess"), "{name}");
        assert!(
            !(table.get::<bool, _>("served") && table.get::<bool, _>("partition")),
            "{name} is served past its parent"
        );
    }
    let not_leading: Vec<String> = sqlx::query_scalar(
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
           JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am am ON am.oid = x.relam \
          WHERE c.relnamespace IN ('public'::regnamespace, 'shared'::regnamespace) AND c.relrowsecurity AND am.amname = 'btree' \
            AND i.indkey[0] <> a.attnum AND x.relname NOT LIKE '%by_hash%'",
    )
    .fetch_all(&mut admin)
    .await?;
    assert_eq!(not_leading, Vec::<String>::new(), "indexes that do not lead with the tenant");
    Ok(())
}

#[tokio::test]
async fn functions_that_cross_the_wall_are_pinned_and_open_to_one_role_each() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let mut admin = database.connect("postgres").await?;
    let functions = sqlx::query(
        "SELECT p.proname::text AS name, p.prosecdef AS crosses, coalesce(array_to_string(p.proconfig, ';'), '') AS config, \
                array(SELECT r.rolname::text FROM pg_roles r WHERE r.rolname LIKE 'audit%' AND r.rolname <> 'audit_gate' AND r.oid <> p.proowner \
                        AND p.prosecdef AND has_function_privilege(r.oid, p.oid, 'EXECUTE')) AS callers, \
                EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0) AS public \
           FROM pg_proc p WHERE p.pronamespace IN ('public'::regnamespace, 'shared'::regnamespace)",
    )
    .fetch_all(&mut admin)
    .await?;
    assert!(functions.len() >= 10);
    for function in functions {
        let name: String = function.get("name");
        assert!(!function.get::<bool, _>("public"), "{name} is open to all");
        if function.get("crosses") {
            assert!(function.get::<String, _>("config").contains("search_path=pg_catalog, public, pg_temp"), "{name}");
            assert_eq!(function.get::<Vec<String>, _>("callers").len(), 1, "{name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_database_role_that_serves_can_reach_around_the_wall() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let month = time::OffsetDateTime::now_utc();
    let partition = format!("SELECT * FROM events_{:04}_{:02}", month.year(), u8::from(month.month()));
    let all = [
        "SELECT * FROM people",
        "SELECT secret_hash FROM sessions",
        "TRUNCATE annotations",
        "SELECT * FROM events_other",
        &partition,
        "ALTER TABLE events NO FORCE ROW LEVEL SECURITY",
        "CREATE TEMP TABLE mine (id int)",
        "CREATE TABLE mine (id int)",
        "SET ROLE audit_owner",
        "SET ROLE audit_gate",
        "SELECT ensure_event_partitions(now()::date, now()::date)",
        "DELETE FROM chain_links",
        "UPDATE chain_links SET digest = sha256('')",
        "UPDATE archives SET sha256 = ''",
    ];
    let functions = [
        ("audit_login", "SELECT * FROM sign_in_of('x')"),
        ("audit_login", "SELECT * FROM credential_of('')"),
        ("audit_platform", "SELECT * FROM platform_usage(NULL, 1)"),
        ("audit_platform", "SELECT * FROM platform_databases(NULL, 1)"),
        ("audit_worker", "SELECT * FROM worker_databases(NULL, 1)"),
        ("audit_worker", "SELECT * FROM tenants_to_seal(NULL, 1)"),
        ("audit_worker", "SELECT erase_people(1)"),
        ("audit_worker", "SELECT end_erasure()"),
    ];
    for role in ["audit_app", "audit_login", "audit_platform", "audit_worker"] {
        let mut connection = database.connect(role).await?;
        for statement in all {
            let done = connection.execute(AssertSqlSafe(statement)).await;
            assert!(done.is_err(), "{role} may: {statement}");
        }
        for (caller, statement) in functions {
            let done = connection.execute(statement).await;
            assert_eq!(done.is_ok(), caller == role, "{role}: {statement}");
        }
        if role != "audit_app" && role != "audit_worker" {
            assert!(connection.execute("SELECT FROM events").await.is_err(), "{role} reads events");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_came_before_its_partition_moves_into_it() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let tenant = Uuid::new_v4();
    database
        .sql(&format!(
            "INSERT INTO tenants (id, slug, name) VALUES ('{tenant}', 't', 't'); \
             INSERT INTO events (tenant_id, id, occurred_at, actor_id, actor_email, actor_name, action, target_type, \
               target_id, target_name) \
             SELECT '{tenant}', gen_random_uuid(), at, gen_random_uuid(), '', '', 'early', '', '', '' \
               FROM unnest(ARRAY['2031-05-31T23:59:59.999999Z', '2031-06-01T00:00:00Z', '2040-01-01T00:00:00Z']::timestamptz[]) at; \
             SET TimeZone = 'Pacific/Auckland'; SET ROLE audit_owner; \
             SELECT ensure_event_partitions('2031-05-10', '2031-06-10'); \
             SELECT ensure_event_partitions('2031-05-10', '2031-06-10')"
        ))
        .await?;
    let mut admin = database.connect("postgres").await?;
    let places: Vec<String> =
        sqlx::query_scalar("SELECT tableoid::regclass::text FROM events WHERE search @@ 'early' ORDER BY occurred_at")
            .fetch_all(&mut admin)
            .await?;
    assert_eq!(places, ["events_2031_05", "events_2031_06", "events_other"]);
    let walled: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class WHERE relname IN ('events_2031_05', 'events_2031_06', 'events_other') \
            AND relrowsecurity AND relforcerowsecurity",
    )
    .fetch_one(&mut admin)
    .await?;
    assert_eq!(walled, 3);
    Ok(())
}

#[tokio::test]
async fn databases_of_one_cluster_migrate_at_the_same_time_and_again() -> anyhow::Result<()> {
    let databases = [Database::empty().await?, Database::empty().await?, Database::empty().await?];
    for _ in 0..2 {
        let urls = databases.each_ref().map(|database| database.url("postgres"));
        let [a, b, c] = urls.each_ref().map(|url| partywall_reference::serve::migrate(url));
        tokio::try_join!(a, b, c)?;
    }
    Ok(())
}
