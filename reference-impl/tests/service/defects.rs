//! Each deliberate defect leaks once the layers that would catch it are out, and is caught while they are in. Where a
//! layer is out and no defect is on, what is left holds.

use serde_json::Value;

use crate::program::{Program, command, free_port, get};
use crate::world::World;

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-api-defects");
const NO_ROW_SECURITY: &str = "
DO $$ DECLARE relation regclass; BEGIN
  FOR relation IN SELECT oid::regclass FROM pg_class WHERE relrowsecurity LOOP
    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', relation);
  END LOOP;
END $$";
const OPEN_PARTITION: &str = "
ALTER TABLE events_2026_03 DISABLE ROW LEVEL SECURITY; GRANT SELECT ON events_2026_03 TO audit_app";

/// What of the second tenant an owner's key of the first sees at `path`, under `defects` and after `sql`.
async fn leaks(defects: &str, sql: &str, path: &str) -> anyhow::Result<bool> {
    let world = World::new().await?;
    let foreign = world.event(&world.b, "member", "theirs").await;
    world.event(&world.a, "member", "ours").await;
    if !sql.is_empty() {
        world.database.sql(sql).await?;
    }
    // It would not serve behind such a wall unasked.
    let defects = if sql.is_empty() { defects.to_string() } else { format!("{defects},serve-unwalled") };
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    command.env("AUDIT_DEFECTS", defects).env("AUDIT_POOL_SIZE", "1");
    let _program = Program::start(command, port).await?;
    // The one connection has served the other tenant before.
    assert_eq!(get(port, "/v1/events", &world.b.viewer_token).await?.0, 200);
    let cursor =
        serde_json::json!({"tenant": world.b.id, "position": {"at_us": 4_000_000_000_000_000_i64, "id": foreign}});
    let cursor = {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(cursor.to_string())
    };
    let path = path.replace("{foreign}", &foreign.to_string()).replace("{b}", &world.b.id.to_string());
    let path = path.replace("{cursor}", &cursor);
    // An owner sees all of its tenant: nothing narrows but the wall.
    let token = world.token(&world.a, "owner").await;
    let (_, body) = get(port, &path, &token).await?;
    let total = serde_json::from_str::<Value>(&body).ok().and_then(|body| body["total"].as_i64());
    Ok(body.contains("theirs") || total.is_some_and(|total| total > 1))
}

#[tokio::test]
async fn a_defect_leaks_only_where_no_other_layer_stands_behind_it() -> anyhow::Result<()> {
    const LIST: &str = "/v1/events?count=true";
    const MONTH: &str = "/v1/events?from=2026-03-01T00:00:00Z&to=2026-03-31T00:00:00Z";
    let table = [
        ("tenant-from-query", "", "/v1/events?tenant_id={b}", true),
        ("cursor-unbound", "", "/v1/events?cursor={cursor}", true),
        ("idor-by-id", "", "/v1/events/{foreign}", false),
        ("idor-by-id", NO_ROW_SECURITY, "/v1/events/{foreign}", true),
        ("count-unscoped", "", LIST, false),
        ("count-unscoped", NO_ROW_SECURITY, LIST, true),
        ("no-store-predicate", "", LIST, false),
        ("no-store-predicate", NO_ROW_SECURITY, LIST, true),
        ("no-context", "", LIST, false),
        ("no-context,no-store-predicate", "", LIST, false),
        ("session-set-not-local", "", LIST, false),
        ("partition-direct", OPEN_PARTITION, MONTH, false),
        ("partition-direct,no-store-predicate", OPEN_PARTITION, MONTH, true),
    ];
    for (defects, sql, path, expected) in table {
        let sql_is_on = !sql.is_empty();
        assert_eq!(leaks(defects, sql, path).await?, expected, "{defects}, patched: {sql_is_on}, {path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_context_left_on_the_session_shows_the_next_tenant_the_last_ones_rows() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.event(&world.b, "member", "theirs").await;
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    command.env("AUDIT_DEFECTS", "session-set-not-local,no-store-predicate").env("AUDIT_POOL_SIZE", "1");
    let _program = Program::start(command, port).await?;
    // Both are narrowed to an actor: the same one, so that only the wall stands between them.
    world.database.sql(&format!("UPDATE viewer_tokens SET actor_id = '{}'", world.b.people["member"])).await?;
    assert!(get(port, "/v1/events", &world.b.viewer_token).await?.1.contains("theirs"));
    assert!(get(port, "/v1/events", &world.a.viewer_token).await?.1.contains("theirs"));
    Ok(())
}

#[tokio::test]
async fn a_defect_that_is_not_known_is_refused_and_serving_as_owner_must_be_asked_for() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.database.url("audit_owner");
    for (defects, url, starts) in
        [("nonsense", None, false), ("", Some(&owner), false), ("as-owner", Some(&owner), true)]
    {
        let port = free_port()?;
        let mut command = command(PROGRAM, &world.database, port);
        command.env("AUDIT_DEFECTS", defects);
        if let Some(url) = url {
            command.env("AUDIT_DATABASE_URL", url);
        }
        assert_eq!(Program::start(command, port).await.is_ok(), starts, "{defects}");
    }
    Ok(())
}
