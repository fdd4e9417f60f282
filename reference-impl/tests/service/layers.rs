//! Each layer holds while the others are gone. What the service itself must leave out for that is in `defects.rs`.

use sqlx::{AssertSqlSafe, Executor};

use crate::world::World;

/// Every table of the tenant, counted without a predicate.
const TABLES: [&str; 14] = [
    "tenants",
    "memberships",
    "events",
    "annotations",
    "api_keys",
    "viewer_tokens",
    "idempotency_keys",
    "chain_links",
    "chain_heads",
    "retention_policies",
    "retention_runs",
    "archives",
    "archived_events",
    "former_members",
];

#[tokio::test]
async fn the_database_alone_shows_a_session_only_the_tenant_bound_to_it_and_nothing_to_one_without()
-> anyhow::Result<()> {
    let world = World::new().await?;
    world.event(&world.a, "member", "a").await;
    world.event(&world.b, "member", "b").await;
    let (mut home, mut app) = (world.at_home(&world.a, "audit_app").await?, world.database.connect("audit_app").await?);
    for bound in [None, Some(""), Some("tenant")] {
        for table in ["memberships", "events", "api_keys"] {
            let app = if table == "events" { &mut home } else { &mut app };
            if let Some(value) = bound {
                let value = if value.is_empty() { String::new() } else { world.a.id.to_string() };
                sqlx::query("SELECT set_config('app.tenant_id', $1, false)").bind(value).execute(&mut *app).await?;
            }
            let statement = format!("SELECT count(*), count(*) FILTER (WHERE tenant_id = $1) FROM {table}");
            let (all, own): (i64, i64) =
                sqlx::query_as(AssertSqlSafe(statement)).bind(world.a.id).fetch_one(app).await?;
            assert_eq!(all, own, "{table} with {bound:?} bound");
            assert_eq!(all > 0, bound == Some("tenant"), "{table} with {bound:?} bound");
        }
    }
    let foreign = format!("UPDATE memberships SET role = 'owner' WHERE tenant_id = '{}'", world.b.id);
    assert_eq!(app.execute(AssertSqlSafe(foreign)).await?.rows_affected(), 0);
    let planted = format!(
        "INSERT INTO api_keys (tenant_id, id, name, secret_hash) VALUES ('{}', gen_random_uuid(), 'k', '')",
        world.b.id
    );
    assert!(app.execute(AssertSqlSafe(planted)).await.is_err(), "a row for another tenant is refused");
    Ok(())
}

#[tokio::test]
async fn the_store_alone_keeps_tenants_apart_when_row_security_is_off() -> anyhow::Result<()> {
    let world = World::new().await?;
    for table in TABLES.iter().chain(&["sessions"]) {
        world.database.sql(&format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")).await?;
    }
    let (own, foreign) = (world.event(&world.a, "member", "d").await, world.event(&world.b, "member", "d").await);
    let owner = world.token(&world.a, "owner").await;
    for path in ["/v1/events?count=true", "/v1/events/search?q=document&count=true"] {
        let list = world.get(&owner, path).await.expect(200);
        assert_eq!((list.ids(), list.json()["total"].as_i64()), (vec![own], Some(1)), "{path}");
    }
    world.get(&owner, &format!("/v1/events/{foreign}")).await.expect(404);
    world.get(&owner, &format!("/v1/proofs/{foreign}")).await.expect(404);
    assert_eq!(world.get(&owner, "/v1/proofs/head").await.expect(200).json()["position"], 1);
    let shown = world.get(&owner, "/v1/events/stream?for_s=0&from=2020-01-01T00:00:00Z").await.expect(200).text;
    assert!(shown.contains(&own.to_string()) && !shown.contains(&foreign.to_string()), "{shown}");
    world.get(&owner, &format!("/v1/events/{foreign}/annotations")).await.expect(404);
    for path in ["/v1/members?count=true", "/v1/api-keys?count=true"] {
        let list = world.get(&owner, path).await.expect(200);
        let theirs = world.get(&world.token(&world.b, "owner").await, path).await.expect(200);
        assert_eq!(list.json()["total"], list.ids().len());
        assert!(list.ids().iter().all(|id| !theirs.ids().contains(id)), "{path}");
    }
    Ok(())
}
