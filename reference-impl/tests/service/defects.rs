//! Each deliberate defect leaks once the layers that would catch it are out, and is caught while they are in. Where a
//! layer is out and no defect is on, what is left holds.

use serde_json::Value;

use crate::program::{Program, command, exchange, free_port, get};
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
        ("store-believes-context", NO_ROW_SECURITY, LIST, false),
        ("store-believes-context,tenant-from-query", NO_ROW_SECURITY, "/v1/events?tenant_id={b}", true),
        ("store-believes-context,no-context", NO_ROW_SECURITY, LIST, false),
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

/// What a forged tenant gets a caller: whether it read the other tenant's event, and whether it wrote into its log.
#[derive(Debug, PartialEq, Eq)]
struct Forged {
    read: bool,
    written: bool,
}

/// Names the second tenant in every place but the credential, as an owner's session and as a key of the first.
async fn forged(defects: &str, sql: &str) -> anyhow::Result<Forged> {
    let world = World::new().await?;
    let foreign = world.event(&world.b, "member", "theirs").await;
    world.database.sql(sql).await?;
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    command.env("AUDIT_DEFECTS", defects).env("AUDIT_POOL_SIZE", "1");
    let _program = Program::start(command, port).await?;
    let owner = world.token(&world.a, "owner").await;
    let b = world.b.id;
    let send = async |method: &str, path: &str, token: &str, body: &str| {
        exchange(
            port,
            format!(
                "{method} {path} HTTP/1.1\r\nHost: globex.example\r\nAuthorization: Bearer {token}\r\nX-Tenant-Id: {b}\r\n\
                 Tenant-Id: {b}\r\nX-Forwarded-Host: globex.example\r\nCookie: tenant_id={b}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            ),
        )
        .await
    };
    let mut read = false;
    for path in [
        format!("/v1/events?tenant_id={b}"),
        format!("/v1/events/search?q=theirs&tenant_id={b}"),
        format!("/v1/events/{foreign}?tenant_id={b}"),
        format!("/v1/actors/{}/events?tenant_id={b}", world.b.people["member"]),
        format!("/v1/targets/document/theirs/events?tenant_id={b}"),
    ] {
        read |= send("GET", &path, &owner, "").await?.1.contains("theirs");
    }
    let event = crate::world::event(world.a.people["member"], "planted").to_string();
    for token in [&owner, &world.a.api_key] {
        // Refused or written for the caller's own tenant: the database tells.
        send("POST", &format!("/v1/events?tenant_id={b}"), token, &event).await?;
    }
    let mut admin = world.database.connect("postgres").await?;
    let planted = sqlx::query_scalar("SELECT count(*) FROM events WHERE tenant_id = $1 AND target_id = 'planted'");
    let planted: i64 = planted.bind(b).fetch_one(&mut admin).await?;
    Ok(Forged { read, written: planted > 0 })
}

/// The service's part of each layer's removal, and the database's.
const NO_STORE: &str = "no-store-predicate";
/// As [`NO_STORE`], where something is left that compares what is bound with what is read.
const BELIEVING: &str = "store-believes-context";
const NO_BINDING: &str = "no-context";
const FORGEABLE: &str = "tenant-from-query";

#[tokio::test]
async fn with_two_layers_gone_the_third_still_stops_a_forged_tenant_and_with_three_gone_nothing_does()
-> anyhow::Result<()> {
    let table = [
        (
            "the database alone",
            format!("{FORGEABLE},{NO_BINDING},{NO_STORE}"),
            "",
            Forged { read: false, written: false },
        ),
        (
            "the store alone",
            format!("{NO_BINDING},serve-unwalled"),
            NO_ROW_SECURITY,
            Forged { read: false, written: false },
        ),
        (
            "the context alone",
            format!("{BELIEVING},serve-unwalled"),
            NO_ROW_SECURITY,
            Forged { read: false, written: false },
        ),
        (
            "none",
            format!("{FORGEABLE},{NO_BINDING},{NO_STORE},serve-unwalled"),
            NO_ROW_SECURITY,
            Forged { read: true, written: true },
        ),
        (
            "none, though a context is bound and believed",
            format!("{FORGEABLE},{BELIEVING},serve-unwalled"),
            NO_ROW_SECURITY,
            Forged { read: true, written: true },
        ),
    ];
    for (left, defects, sql, expected) in table {
        assert_eq!(forged(&defects, sql).await?, expected, "{left} is left");
    }
    Ok(())
}

#[tokio::test]
async fn the_context_alone_takes_no_forged_credential_and_no_cursor_of_another_tenant() -> anyhow::Result<()> {
    use base64::Engine;
    let encoding = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let world = World::new().await?;
    for index in 0..2 {
        world.event(&world.b, "member", &format!("d{index}")).await;
    }
    world.database.sql(NO_ROW_SECURITY).await?;
    let (ours, theirs) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let page: Value = world.get(&theirs, "/v1/events?limit=1").await.expect(200).json();
    let cursor = page["next_cursor"].as_str().expect("it goes on");
    let parts: Vec<&str> = ours.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&encoding.decode(parts[1])?)?;
    claims["tenant"] = serde_json::json!(world.b.id);
    let claims = encoding.encode(claims.to_string());
    let unsigned = encoding.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let other = theirs.split('.').nth(1).expect("claims");
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    command.env("AUDIT_DEFECTS", format!("{BELIEVING},serve-unwalled"));
    let _program = Program::start(command, port).await?;
    for token in [
        format!("{}.{claims}.{}", parts[0], parts[2]),
        format!("{}.{other}.{}", parts[0], parts[2]),
        format!("{unsigned}.{claims}."),
        format!("{unsigned}.{claims}.{}", parts[2]),
    ] {
        assert_eq!(get(port, "/v1/events", &token).await?.0, 401, "{token}");
    }
    assert_eq!(get(port, "/v1/events", &ours).await?.0, 200, "the true one is taken");
    assert_eq!(get(port, &format!("/v1/events?limit=1&cursor={cursor}"), &ours).await?.0, 400);
    Ok(())
}
