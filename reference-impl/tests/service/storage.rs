//! Tenants that are moved between storage models: nothing is lost, nothing is seen by others, nobody notices.

use partywall_reference::storage::{migrating, moving};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::world::{World, event};

fn admin(world: &World) -> PgConnectOptions {
    world.database.url("postgres").parse().expect("options")
}

/// What the tenant's owner is shown of everything that can be listed.
async fn seen(world: &World, owner: &str, event: Uuid) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in ["/v1/events?count=true", "/v1/saved-searches?count=true", "/v1/members?count=true", "/v1/events/stats"]
    {
        seen.push(world.get(owner, path).await.expect(200).json());
    }
    seen.push(world.get(owner, &format!("/v1/events/{event}/annotations")).await.expect(200).json());
    seen
}

#[tokio::test]
async fn a_tenant_is_the_same_wherever_it_is_and_others_do_not_see_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    moving::tenant(&admin(&world), world.a.id, "shared").await?;
    let (a, b) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let id = world.event(&world.a, "member", "d").await;
    let theirs = world.event(&world.b, "member", "d").await;
    world.post(&a, &format!("/v1/events/{id}/annotations"), json!({"body": "noted"})).await.expect(201);
    world.post(&a, "/v1/saved-searches", json!({"name": "s", "query": {"q": "word"}})).await.expect(201);
    let (before, before_theirs) = (seen(&world, &a, id).await, seen(&world, &b, theirs).await);
    for to in ["schema", "database", "shared", "database", "schema", "shared"] {
        assert_eq!(moving::tenant(&admin(&world), world.a.id, to).await?, 3, "rows moved to {to}");
        assert_eq!(seen(&world, &a, id).await, before, "in {to}");
        assert_eq!(seen(&world, &b, theirs).await, before_theirs, "the other, with one in {to}");
        world.get(&b, &format!("/v1/events/{id}")).await.expect(404);
        world.get(&a, &format!("/v1/events/{theirs}")).await.expect(404);
        let platform = world.token(&world.a, "platform").await;
        let usage = world.get(&platform, "/v1/platform/usage").await.expect(200).json();
        let of = usage["items"].as_array().expect("items").iter().find(|of| of["tenant_id"] == json!(world.a.id));
        let of = of.expect("the tenant");
        assert_eq!((&of["storage"], &of["events"]), (&json!(to), &json!(1)));
    }
    assert_eq!(moving::tenant(&admin(&world), world.a.id, "shared").await?, 0, "it is there");
    assert!(moving::tenant(&admin(&world), Uuid::new_v4(), "schema").await.is_err());
    assert!(moving::tenant(&admin(&world), world.a.id, "elsewhere").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_row_that_arrives_differently_stops_the_move_and_a_cut_one_can_be_run_again() -> anyhow::Result<()> {
    let world = World::new().await?;
    let a = world.token(&world.a, "owner").await;
    let id = world.event(&world.a, "member", "d").await;
    let before = seen(&world, &a, id).await;
    let schema = format!("tenant_{}", world.a.id.simple());
    // The room is there already, and what arrives in it is changed.
    moving::tenant(&admin(&world), world.a.id, "schema").await?;
    moving::tenant(&admin(&world), world.a.id, "shared").await?;
    let damage = format!(
        "CREATE SCHEMA {schema} AUTHORIZATION audit_owner; GRANT USAGE ON SCHEMA {schema} TO audit_app, audit_gate, audit_worker; \
         CREATE FUNCTION public.damage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.action := 'other'; RETURN NEW; END $$; \
         CREATE FUNCTION public.plant() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF to_regclass('{schema}.events_other') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'damage') THEN \
             CREATE TRIGGER damage BEFORE INSERT ON {schema}.events FOR EACH ROW EXECUTE FUNCTION public.damage(); END IF; END $$; \
         CREATE EVENT TRIGGER plant ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.plant()"
    );
    world.database.sql(&damage).await?;
    let error = moving::tenant(&admin(&world), world.a.id, "schema").await.expect_err("it arrived differently");
    assert!(error.to_string().contains("did not arrive as it was"), "{error:#}");
    assert_eq!(seen(&world, &a, id).await, before, "nothing was moved");
    world.database.sql(&format!("DROP EVENT TRIGGER plant; DROP TRIGGER damage ON {schema}.events")).await?;
    // What an earlier, cut move has left.
    let left =
        format!("INSERT INTO {schema}.event_types (tenant_id, name, schema) VALUES ('{}', 'left', '{{}}')", world.a.id);
    world.database.sql(&left).await?;
    assert_eq!(moving::tenant(&admin(&world), world.a.id, "schema").await?, 1);
    assert_eq!(seen(&world, &a, id).await, before);
    world.get(&a, "/v1/event-types/left").await.expect(404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_during_moves_is_there_after_them() -> anyhow::Result<()> {
    let world = std::sync::Arc::new(World::new().await?);
    let a = world.token(&world.a, "owner").await;
    let writer = {
        let (world, a) = (world.clone(), a.clone());
        tokio::spawn(async move {
            let mut written = Vec::new();
            for _ in 0..150 {
                let new = event(Uuid::new_v4(), "d");
                written.push(world.post(&a, "/v1/events", new).await.expect(201).id());
            }
            written
        })
    };
    for to in ["schema", "shared", "database", "shared"] {
        moving::tenant(&admin(&world), world.a.id, to).await?;
    }
    let mut written = writer.await?;
    let mut kept = world.get(&a, "/v1/events?limit=200").await.expect(200).ids();
    written.sort();
    kept.sort();
    assert_eq!(kept, written);
    Ok(())
}

#[tokio::test]
async fn a_migration_goes_on_where_it_was_cut_and_reaches_every_tenant() -> anyhow::Result<()> {
    let world = World::new().await?;
    moving::tenant(&admin(&world), world.a.id, "schema").await?;
    moving::tenant(&admin(&world), world.b.id, "database").await?;
    // As if the tenants were behind: the last migration is forgotten, with what it made.
    let back = |schema: &str| {
        format!(
            "DROP TABLE {schema}.saved_searches, {schema}.event_types; \
             DELETE FROM {schema}._tenant_migrations WHERE version = 3"
        )
    };
    let (a, b) = (format!("tenant_{}", world.a.id.simple()), format!("tenant_{}", world.b.id.simple()));
    world.database.sql(&back(&a)).await?;
    let own = admin(&world).database(&b);
    let mut connection = sqlx::ConnectOptions::connect(&own).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(back(&b))).execute(&mut connection).await?;
    let owner = world.token(&world.a, "owner").await;
    world.get(&owner, "/v1/saved-searches").await.expect(500);
    migrating::everything(&admin(&world)).await?;
    migrating::everything(&admin(&world)).await?;
    for tenant in [&world.a, &world.b] {
        let owner = world.token(tenant, "owner").await;
        let new = json!({"name": "s", "query": {}});
        world.post(&owner, "/v1/saved-searches", new).await.expect(201);
    }
    Ok(())
}
