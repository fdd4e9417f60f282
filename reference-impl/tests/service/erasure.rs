//! Erasing a tenant: who may, what is left, and that a worker that is killed leaves nothing undone for good.

use std::collections::BTreeMap;

use axum::http::Method;
use partywall_reference::serve;
use partywall_reference::storage::moving;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use crate::working::{Halt, Working, count, program, until};
use crate::world::{PASSWORD, Tenant, World};

const ERASE: &str = "/v1/tenant?confirm=acme";

/// How many rows of a tenant each table has that says whose its rows are, here and in the tenant's own database.
async fn rows(world: &World, tenant: &Tenant) -> anyhow::Result<BTreeMap<String, i64>> {
    let directory: PgConnectOptions = world.database.url("postgres").parse()?;
    let own = format!("tenant_{}", tenant.id.simple());
    let mut rows = BTreeMap::new();
    for options in [directory.clone(), directory.database(&own)] {
        let Ok(mut admin) = options.connect().await else { continue };
        let tables = sqlx::query(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
              WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' \
                AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')",
        );
        for table in tables.fetch_all(&mut admin).await? {
            let name: String = table.get("name");
            let count = format!("SELECT count(*) FROM {name} WHERE tenant_id = $1");
            let found: i64 = sqlx::query_scalar(AssertSqlSafe(count)).bind(tenant.id).fetch_one(&mut admin).await?;
            let bare = name.rsplit('.').next().unwrap_or_default().to_string();
            *rows.entry(bare).or_default() += found;
        }
    }
    Ok(rows)
}

/// Rows in every table that a tenant has, and objects of every kind.
async fn fill(world: &World, tenant: &Tenant) -> anyhow::Result<()> {
    let owner = world.token(tenant, "owner").await;
    world.post(&owner, "/v1/webhooks", json!({"url": "https://example.org/"})).await.expect(201);
    let event = world.event(tenant, "member", "d").await;
    world.post(&owner, &format!("/v1/events/{event}/annotations"), json!({"body": "noted"})).await.expect(201);
    world.post(&owner, &format!("/v1/events/{event}/attachments?name=n"), json!({})).await.expect(201);
    world.post(&owner, "/v1/exports", json!({"format": "csv"})).await.expect(201);
    world.post(&owner, "/v1/saved-searches", json!({"name": "s", "query": {}})).await.expect(201);
    let put = |body| Some(body);
    world.call(&owner, Method::PUT, "/v1/event-types/t", put(json!({"schema": {}}))).await.expect(200);
    let keep = json!({"archive_after_days": 1, "delete_after_days": 1, "legal_hold": false});
    world.call(&owner, Method::PUT, "/v1/retention", put(keep)).await.expect(200);
    world.call(&owner, Method::POST, "/v1/retention/runs", None).await.expect(201);
    world.get(&owner, "/v1/proofs/head").await.expect(200);
    let id = tenant.id;
    world
        .sql(tenant, &format!(
            "INSERT INTO archives (tenant_id, id, run_id, rows, recorded_from, recorded_to, size_bytes, sha256, verified_at) \
               VALUES ('{id}', '{id}', '{id}', 1, now(), now(), 1, '', now()); \
             INSERT INTO archived_events (tenant_id, event_id, archive_id, digest) \
               SELECT '{id}', gen_random_uuid(), '{id}', sha256('') FROM generate_series(1, 2500); \
             INSERT INTO idempotency_keys (tenant_id, principal_id, key, request_hash, response) \
               VALUES ('{id}', '{id}', 'k', '', '{{}}')"
        ))
        .await
}

/// Waits until the erasure is done.
async fn erased(world: &World, tenant: &Tenant) -> anyhow::Result<()> {
    let done = format!("SELECT count(*) FROM tenants WHERE id = '{}' AND erased_at IS NOT NULL", tenant.id);
    until("an erasure that is done", async || Ok((count(world, &done).await? == 1).then_some(()))).await
}

#[tokio::test]
async fn a_tenant_is_erased_by_its_owner_who_names_it_and_not_while_a_hold_is_on() -> anyhow::Result<()> {
    let world = World::new().await?;
    fill(&world, &world.a).await?;
    let (owner, intruder) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let admin = world.token(&world.a, "admin").await;
    let before = rows(&world, &world.a).await?;
    let erase = async |token: &str, path: &str| world.call(token, Method::DELETE, path, None).await;
    for (token, path, status) in [
        (&owner, "/v1/tenant", 422),
        (&owner, "/v1/tenant?confirm=", 422),
        (&owner, "/v1/tenant?confirm=globex", 422),
        (&owner, "/v1/tenant?confirm=acme&dry_run=maybe", 400),
        (&intruder, ERASE, 422),
        (&admin, ERASE, 403),
        (&String::new(), ERASE, 401),
    ] {
        erase(token, path).await.expect(status);
    }
    let told = erase(&owner, "/v1/tenant?dry_run=true").await.expect(200).json();
    assert_eq!(told, json!({"tenant_id": world.a.id, "slug": "acme", "erasing": false}));
    let hold = json!({"archive_after_days": 1, "delete_after_days": 1, "legal_hold": true});
    world.call(&owner, Method::PUT, "/v1/retention", Some(hold)).await.expect(200);
    erase(&owner, ERASE).await.expect(409);
    erase(&owner, "/v1/tenant?dry_run=true").await.expect(409);
    assert_eq!(rows(&world, &world.a).await?, before, "nothing is gone");
    Ok(())
}

#[tokio::test]
async fn an_erased_tenant_leaves_nothing_wherever_it_was_and_the_others_keep_everything() -> anyhow::Result<()> {
    for place in ["shared", "schema", "database"] {
        let world = World::new().await?;
        fill(&world, &world.a).await?;
        fill(&world, &world.b).await?;
        // One of its people belongs to the other tenant, too, and one operates.
        let both = json!({"email": world.a.email("admin"), "display_name": "Guest", "role": "member"});
        world.post(&world.token(&world.b, "owner").await, "/v1/members", both).await.expect(201);
        let all = rows(&world, &world.a).await?;
        assert!(all.iter().all(|(table, count)| *count > 0 || table == "former_members"), "{all:?}");
        let admin: PgConnectOptions = world.database.url("postgres").parse()?;
        moving::tenant(&admin, world.a.id, place).await?;
        let theirs = rows(&world, &world.b).await?;
        let (owner, signed) = (world.token(&world.a, "owner").await, world.sign_in(&world.a, "auditor").await);

        let told = world.call(&owner, Method::DELETE, ERASE, None).await.expect(202).json();
        assert_eq!(told, json!({"tenant_id": world.a.id, "slug": "acme", "erasing": true}));
        // Nobody is in any more, at once.
        for token in [&owner, &world.a.api_key, &world.a.viewer_token] {
            world.get(token, "/v1/events").await.expect(401);
        }
        world.call(&owner, Method::DELETE, ERASE, None).await.expect(401);
        let auditor = signed["access_token"].as_str().expect("a token");
        let refresh = json!({"refresh_token": signed["refresh_token"]});
        world.post(auditor, "/v1/token/refresh", refresh).await.expect(401);
        let sign_in = |role: &str| json!({"email": world.a.email(role), "password": PASSWORD});
        world.post("", "/v1/sign-in", sign_in("owner")).await.expect(401);
        assert!(moving::tenant(&admin, world.a.id, "schema").await.is_err(), "it moves nowhere any more");

        let working = Working::on(&world).await?;
        erased(&world, &world.a).await?;
        working.ended().await?;
        let left = rows(&world, &world.a).await?;
        assert!(left.values().all(|count| *count == 0), "{place}: {left:?}");
        assert!(!world.objects.path().join(format!("tenants/{}", world.a.id)).exists(), "{place}");
        assert!(world.objects.path().join(format!("tenants/{}/attachments", world.b.id)).exists(), "{place}");
        let people = format!("SELECT count(*) FROM people WHERE email LIKE '%@{}.example'", world.a.slug);
        assert_eq!(count(&world, &people).await?, 1, "who belongs elsewhere stays");
        world.post("", "/v1/sign-in", sign_in("admin")).await.expect(200);
        let mut theirs_now = rows(&world, &world.b).await?;
        // What its own jobs, and the guest, did meanwhile.
        theirs_now.insert("sessions".into(), theirs["sessions"]);
        assert_eq!(theirs_now, theirs, "{place}");
        let named = "SELECT count(*) FROM tenants WHERE slug = 'acme' OR name = 'acme'";
        assert_eq!(count(&world, named).await?, 0, "{place}");

        let platform = world.token(&world.a, "platform").await;
        let again = json!({"slug": "acme", "name": "Another"});
        world.post(&platform, "/v1/platform/tenants", again).await.expect(201);
        serve::migrate(&world.database.url("postgres")).await?;
        let own = format!("tenant_{}", world.a.id.simple());
        let shells = format!(
            "SELECT (SELECT count(*) FROM tenants WHERE id = '{}') + (SELECT count(*) FROM pg_namespace WHERE nspname = '{own}') \
                  + (SELECT count(*) FROM pg_database WHERE datname = '{own}')",
            world.a.id
        );
        assert_eq!(count(&world, &shells).await?, 0, "{place}: nothing of it is left");
        assert_eq!(count(&world, "SELECT count(*) FROM tenants").await?, 2, "{place}: the other, and the new one");
    }
    Ok(())
}

#[tokio::test]
async fn what_erases_rows_does_so_in_no_tenant_that_is_not_being_erased() -> anyhow::Result<()> {
    let world = World::new().await?;
    fill(&world, &world.a).await?;
    fill(&world, &world.b).await?;
    let before = rows(&world, &world.b).await?;
    world.call(&world.token(&world.a, "owner").await, Method::DELETE, ERASE, None).await.expect(202);
    let mut worker = world.database.connect("audit_worker").await?;
    for (bound, erases) in
        [(None, false), (Some(world.b.id), false), (Some(Uuid::new_v4()), false), (Some(world.a.id), true)]
    {
        let bound = bound.map(|id| id.to_string()).unwrap_or_default();
        sqlx::query("SELECT set_config('app.tenant_id', $1, false)").bind(&bound).execute(&mut worker).await?;
        assert_eq!(worker.execute("SELECT erase_rows(1000)").await.is_ok(), erases, "{bound}");
        worker.execute("SELECT erase_people(10), end_erasure()").await?;
    }
    assert_eq!(rows(&world, &world.b).await?, before);
    assert_eq!(count(&world, "SELECT count(*) FROM tenants WHERE erased_at IS NOT NULL").await?, 1);
    Ok(())
}

/// Kills the worker just before it does `what`, and lets another go on.
async fn killed_before(what: &str) -> anyhow::Result<()> {
    let world = World::new().await?;
    fill(&world, &world.a).await?;
    let mut first = program(&world)?;
    let mut log = BufReader::new(first.stderr.take().expect("piped")).lines();
    while !log.next_line().await?.expect("it works").contains("working") {}
    let mut halt = Halt::at(&world, what).await?;
    world.call(&world.token(&world.a, "owner").await, Method::DELETE, ERASE, None).await.expect(202);
    halt.reached().await?;
    first.kill().await?;
    halt.over().await?;
    let second = program(&world)?;
    erased(&world, &world.a).await?;
    let left = rows(&world, &world.a).await?;
    assert!(left.values().all(|count| *count == 0), "{what}: {left:?}");
    assert!(!world.objects.path().join(format!("tenants/{}", world.a.id)).exists(), "{what}");
    assert_eq!(count(&world, "SELECT count(*) FROM people WHERE NOT is_platform").await?, 4, "{what}: the other's");
    drop(second);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_whose_worker_was_killed_goes_on_where_it_was() -> anyhow::Result<()> {
    let steps = [
        "DELETE ON people",
        "DELETE ON archived_events",
        "DELETE ON events_2026_03",
        "DELETE ON chain_heads",
        "UPDATE OF erased_at ON tenants",
    ];
    futures_util::future::try_join_all(steps.map(killed_before)).await.map(drop)
}
