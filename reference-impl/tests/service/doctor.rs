//! Each hole in the wall, made by SQL, is named, and served behind by nobody.

use partywall_reference::doctor::{Connected, Finding, examine};
use partywall_reference::storage::model::name_of;
use partywall_reference::storage::moving;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::program::{command, free_port};
use crate::support::Database;
use crate::working::program;
use crate::world::World;

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-api");

/// What is found as `role`, where `audit_app` belongs.
async fn found(database: &Database, role: &str) -> anyhow::Result<Vec<Finding>> {
    let pool = PgPoolOptions::new().max_connections(1).connect(&database.url(role)).await?;
    let connected = Connected { variable: "AUDIT_DATABASE_URL", expected: "audit_app", pool: &pool };
    let findings = examine(&[connected]).await;
    pool.close().await;
    findings
}

/// What is found when `lister` is there too, where `audit_platform` belongs, who is told which databases tenants have.
async fn found_apart(database: &Database, lister: &str) -> anyhow::Result<Vec<Finding>> {
    let open = async |role: &str| PgPoolOptions::new().max_connections(1).connect(&database.url(role)).await;
    let (app, platform) = (open("audit_app").await?, open(lister).await?);
    let findings = examine(&[
        Connected { variable: "AUDIT_DATABASE_URL", expected: "audit_app", pool: &app },
        Connected { variable: "AUDIT_PLATFORM_DATABASE_URL", expected: "audit_platform", pool: &platform },
    ])
    .await;
    app.close().await;
    platform.close().await;
    findings
}

#[tokio::test]
async fn every_hole_in_the_wall_is_named_where_it_is_and_the_mended_wall_is_whole() -> anyhow::Result<()> {
    let table = [
        ("ALTER TABLE events DISABLE ROW LEVEL SECURITY", "row-security-off", "events"),
        ("ALTER TABLE events_2026_03 DISABLE ROW LEVEL SECURITY", "row-security-off", "events_2026_03"),
        ("ALTER TABLE annotations NO FORCE ROW LEVEL SECURITY", "row-security-not-forced", "annotations"),
        ("DROP POLICY own_tenant ON api_keys", "no-policy", "api_keys"),
        ("CREATE POLICY all_pass ON events USING (true)", "policy-open", "events"),
        ("CREATE POLICY all_pass ON events_other FOR SELECT TO audit_app USING (true)", "policy-open", "events_other"),
        ("ALTER POLICY own_tenant ON tenants WITH CHECK (true)", "policy-open", "tenants"),
        (
            "ALTER POLICY own_tenant ON events USING (coalesce(current_setting('app.tenant_id', true), '') = '' \
               OR tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)",
            "policy-open",
            "events",
        ),
        ("CREATE VIEW shown AS SELECT * FROM events", "view-as-owner", "shown"),
        (
            "CREATE VIEW shown WITH (security_invoker) AS SELECT * FROM events; CREATE VIEW twice AS SELECT * FROM shown",
            "view-as-owner",
            "twice",
        ),
        ("CREATE MATERIALIZED VIEW kept AS SELECT * FROM memberships", "view-as-owner", "kept"),
        ("GRANT TRUNCATE ON annotations TO audit_app", "role-truncates", "annotations"),
        ("GRANT TRUNCATE ON events_2026_03 TO PUBLIC", "role-truncates", "events_2026_03"),
        ("GRANT EXECUTE ON FUNCTION platform_tenants() TO PUBLIC", "definer-has-callers", "platform_tenants()"),
        ("GRANT EXECUTE ON FUNCTION platform_tenants() TO audit_app", "definer-has-callers", "platform_tenants()"),
        ("ALTER FUNCTION role_of(uuid, uuid) RESET search_path", "definer-unpinned", "role_of(uuid,uuid)"),
        ("ALTER FUNCTION role_of(uuid, uuid) SET search_path = public", "definer-unpinned", "role_of(uuid,uuid)"),
        (
            "CREATE SCHEMA apart; CREATE TABLE apart.notes (tenant_id uuid, body text); \
             ALTER TABLE apart.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "no-policy",
            "apart.notes",
        ),
        ("UPDATE _sqlx_migrations SET checksum = '' WHERE version = 4", "schema-behind", "AUDIT_DATABASE_URL"),
        ("DELETE FROM shared._tenant_migrations WHERE version = 7", "schema-behind", "schema shared"),
        ("DELETE FROM _sqlx_migrations WHERE version = 9", "schema-behind", "AUDIT_DATABASE_URL"),
        ("REVOKE SELECT ON _sqlx_migrations FROM audit_app", "schema-behind", "AUDIT_DATABASE_URL"),
    ];
    let whole = Database::migrated().await?;
    assert_eq!(found(&whole, "audit_app").await?, []);
    for (sql, rule, place) in table {
        let database = whole.copied().await?;
        database.sql(sql).await?;
        let findings = found(&database, "audit_app").await?;
        assert!(findings.iter().any(|f| f.rule == rule && f.place.contains(place)), "{sql}: {findings:#?}");
        assert!(findings.iter().all(|f| f.rule == rule), "{sql} breaks one rule: {findings:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_database_role_above_the_wall_is_named_with_the_way_it_got_there() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let name = |word: &str| format!("{word}_{}", uuid::Uuid::now_v7().simple());
    let (group, member, noinherit) = (name("group"), name("member"), name("noinherit"));
    let (bypass, superuser, setrole) = (name("bypass"), name("superuser"), name("setrole"));
    database
        .sql(&format!(
            "CREATE ROLE {group} NOLOGIN IN ROLE audit_owner; \
             CREATE ROLE {member} LOGIN IN ROLE audit_app, {group}; \
             CREATE ROLE {noinherit} LOGIN NOINHERIT IN ROLE audit_app, audit_gate; \
             CREATE ROLE {bypass} LOGIN BYPASSRLS IN ROLE audit_app; \
             CREATE ROLE {superuser} LOGIN SUPERUSER; \
             CREATE ROLE {setrole} LOGIN IN ROLE audit_app; GRANT audit_platform TO {setrole}; \
             GRANT TRUNCATE ON events TO audit_platform; \
             GRANT SELECT (version, success, checksum) ON _sqlx_migrations TO {noinherit}; \
             GRANT USAGE ON SCHEMA public TO {noinherit}; \
             DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO {noinherit}, {superuser}', current_database()); END $$"
        ))
        .await?;
    let table = [
        (&member, "role-owns", "through audit_owner"),
        (&noinherit, "role-bypasses", "through audit_gate"),
        (&bypass, "role-bypasses", ""),
        (&superuser, "role-is-superuser", ""),
        (&setrole, "role-truncates", "events"),
        (&"audit_owner".to_string(), "role-owns", ""),
    ];
    for (role, rule, place) in table {
        let findings = found(&database, role).await?;
        let named = |f: &Finding| f.rule == rule && f.place.contains(place) && f.to_string().contains(role.as_str());
        assert!(findings.iter().any(named), "{role}, {rule}: {findings:#?}");
        assert!(findings.iter().all(|f| f.rule.starts_with("role-") || f.rule == "schema-behind"), "{findings:#?}");
    }
    assert_eq!(found(&database, "audit_login").await?, []);
    Ok(())
}

#[tokio::test]
async fn the_doctor_prints_all_that_it_finds_and_serving_refuses_with_the_first() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let run = async |words: &[&str], port: u16| {
        let mut command = command(PROGRAM, &database, port);
        let output = command.env_remove("AUDIT_TOKEN_KEY").args(words).output().await?;
        let told = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        anyhow::Ok((output.status.code(), told.0, told.1))
    };
    let closed = database.url_through(free_port()?, "audit_login");
    let doctor = |words: &[&'static str]| [&["doctor"], words].concat();
    assert_eq!(run(&doctor(&[]), 0).await?, (Some(0), "the wall is whole\n".into(), String::new()));
    let (code, told, _) = run(&doctor(&["--format", "json"]), 0).await?;
    assert_eq!((code, serde_json::from_str(&told)?), (Some(0), serde_json::json!({"findings": []})));
    let (code, _, why) = run(&["doctor", "--login-database-url", &closed], 0).await?;
    assert_eq!(code, Some(4), "{why}");
    assert!(why.contains("no database for AUDIT_LOGIN_DATABASE_URL"), "{why}");
    database.sql("ALTER TABLE events DISABLE ROW LEVEL SECURITY; GRANT TRUNCATE ON events TO audit_platform").await?;
    let (code, told, why) = run(&doctor(&[]), 0).await?;
    assert_eq!((code, told.lines().count()), (Some(2), 2), "{told}{why}");
    assert!(told.contains("row-security-off") && told.contains("database role audit_platform may TRUNCATE"), "{told}");
    let (code, told, _) = run(&doctor(&["--format", "json"]), 0).await?;
    let findings: serde_json::Value = serde_json::from_str(&told)?;
    assert_eq!((code, findings["findings"].as_array().map(Vec::len)), (Some(2), Some(2)), "{told}");
    assert_eq!(findings["findings"][0]["place"], "shared.events");
    let mut serve = command(PROGRAM, &database, free_port()?);
    let output = tokio::time::timeout(std::time::Duration::from_secs(20), serve.arg("serve").output()).await??;
    let why = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{why}");
    assert!(why.starts_with("error: shared.events [row-security-off]") && why.contains("1 more"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_hole_in_a_tenants_own_database_is_named_with_it_and_served_behind_by_nobody() -> anyhow::Result<()> {
    let world = World::new().await?;
    let admin: PgConnectOptions = world.database.url("postgres").parse()?;
    moving::tenant(&admin, world.b.id, "schema").await?;
    let name = name_of(world.a.id);
    let table = [
        ("ALTER TABLE annotations NO FORCE ROW LEVEL SECURITY", "row-security-not-forced", "annotations"),
        ("DROP POLICY own_tenant ON tenants", "no-policy", "public.tenants"),
        ("CREATE VIEW public.shown AS SELECT * FROM events", "view-as-owner", "public.shown"),
        ("GRANT TRUNCATE ON annotations TO audit_app", "role-truncates", "annotations"),
        ("DELETE FROM _tenant_migrations WHERE version = 7", "schema-behind", "schema tenant_"),
        ("DELETE FROM public._sqlx_migrations WHERE version = 7", "schema-behind", "database tenant_"),
    ];
    for (index, (sql, rule, place)) in table.into_iter().enumerate() {
        moving::tenant(&admin, world.a.id, "database").await?;
        assert_eq!(found_apart(&world.database, "audit_platform").await?, []);
        world.sql(&world.a, sql).await?;
        let findings = found_apart(&world.database, "audit_platform").await?;
        assert_eq!(findings.len(), 1, "{sql}: {findings:#?}");
        assert!(findings[0].rule == rule && findings[0].place.contains(place), "{sql}: {findings:#?}");
        assert!(findings[0].place.contains(&format!("database {name}")), "{sql}: {findings:#?}");
        if index == 0 {
            let mut serve = command(PROGRAM, &world.database, free_port()?);
            let output =
                tokio::time::timeout(std::time::Duration::from_secs(20), serve.arg("serve").output()).await??;
            let why = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(2), "{why}");
            assert!(
                why.starts_with(&format!("error: {name}.annotations in database {name} [row-security-not-forced]"))
            );
            let output = program(&world)?.wait_with_output().await?;
            assert!(!output.status.success() && String::from_utf8(output.stderr)?.contains(&name), "the worker too");
        }
        // The database goes, and its hole with it.
        moving::tenant(&admin, world.a.id, "shared").await?;
    }
    assert_eq!(found_apart(&world.database, "audit_platform").await?, []);
    Ok(())
}

#[tokio::test]
async fn a_tenants_own_database_that_is_out_of_reach_is_found_and_names_the_tenant() -> anyhow::Result<()> {
    let world = World::new().await?;
    moving::tenant(&world.database.url("postgres").parse()?, world.a.id, "database").await?;
    let name = name_of(world.a.id);
    let find = async || found_apart(&world.database, "audit_platform").await;
    for (sql, undo) in [
        (
            format!("REVOKE CONNECT ON DATABASE {name} FROM audit_app"),
            format!("GRANT CONNECT ON DATABASE {name} TO audit_app"),
        ),
        (
            format!("ALTER DATABASE {name} RENAME TO {name}_away"),
            format!("ALTER DATABASE {name}_away RENAME TO {name}"),
        ),
    ] {
        world.database.sql(&sql).await?;
        let findings = find().await?;
        assert_eq!(
            findings.iter().map(|f| f.rule).collect::<Vec<_>>(),
            ["database-unreachable"],
            "{sql}: {findings:#?}"
        );
        assert!(findings[0].to_string().contains(&world.a.id.to_string()), "{findings:#?}");
        world.database.sql(&undo).await?;
        assert_eq!(find().await?, []);
    }
    let findings = found_apart(&world.database, "audit_login").await?;
    assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), ["databases-unlisted"], "{findings:#?}");
    Ok(())
}

#[tokio::test]
async fn tenants_are_made_and_listed_from_the_command_line_and_refusals_end_with_2() -> anyhow::Result<()> {
    let database = Database::migrated().await?;
    let run = async |words: &[&str]| {
        let output = command(PROGRAM, &database, 0).arg("tenants").args(words).output().await?;
        anyhow::Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    let create = ["create", "--slug", "acme", "--name", "Acme", "--format", "json"];
    let (code, made, why) = run(&create).await?;
    assert_eq!(code, Some(0), "{why}");
    let made: serde_json::Value = serde_json::from_str(&made)?;
    let (code, _, why) = run(&create).await?;
    assert_eq!((code, why.as_str()), (Some(2), "error: this slug is taken\n"));
    let long = "x".repeat(101);
    let (code, _, why) = run(&["create", "--slug", &long, "--name", "Long"]).await?;
    assert_eq!((code, why.as_str()), (Some(2), "error: slug must have 100 characters at most\n"));
    run(&["create", "--slug", "globex", "--name", "Globex"]).await?;
    let (code, listed, why) = run(&["list"]).await?;
    assert_eq!((code, listed.lines().count()), (Some(0), 2), "{listed}{why}");
    assert!(listed.starts_with(made["id"].as_str().expect("an id")) && listed.contains("acme events=0"), "{listed}");
    let app = database.url("audit_app");
    let (code, _, why) = run(&["list", "--platform-database-url", &app]).await?;
    assert_eq!(code, Some(2), "{why}");
    assert!(
        why.lines().last().is_some_and(|line| line.contains("is AUDIT_PLATFORM_DATABASE_URL audit_platform's")),
        "{why}"
    );
    Ok(())
}
