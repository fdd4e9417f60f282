//! Retention: what is archived, verified and deleted, and what is left when a worker is killed in between.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::http::Method;
use partywall_reference::archive::unpacked;
use partywall_reference::problem::Problem;
use partywall_reference::scope::TenantScope;
use partywall_reference::storage::{Storage, moving};
use partywall_reference::store::due::Due;
use partywall_reference::store::retention::Try;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use crate::working::{Halt, Working, count, program, until};
use crate::world::{Tenant, World};

/// Plants `rows` events of `tenant` that were recorded so many days ago.
pub async fn plant(world: &World, tenant: &Tenant, rows: u32, days: u32) -> anyhow::Result<()> {
    let insert = format!(
        "INSERT INTO events (tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, \
           target_type, target_id, target_name, details) \
         SELECT '{}', gen_random_uuid(), at, at, gen_random_uuid(), '', '', 'planted', '', n, '{}', '{{\"n\": 1.50}}' \
           FROM generate_series(1, {rows}) n, LATERAL (SELECT now() - interval '{days} days' - n * interval '1 s' AS at) aged",
        tenant.id, tenant.slug
    );
    world.sql(tenant, &insert).await
}

pub async fn keep(world: &World, token: &str, archive_after: u32, delete_after: u32, hold: bool) {
    let put = json!({"archive_after_days": archive_after, "delete_after_days": delete_after, "legal_hold": hold});
    world.call(token, Method::PUT, "/v1/retention", Some(put)).await.expect(200);
}

async fn begun(world: &World, token: &str) -> Uuid {
    world.call(token, Method::POST, "/v1/retention/runs", None).await.expect(201).id()
}

/// The run once it has ended.
async fn ended(world: &World, token: &str, id: Uuid) -> anyhow::Result<Value> {
    until("an end of the run", async || {
        let told = world.get(token, &format!("/v1/retention/runs/{id}")).await.expect(200).json();
        Ok((told["state"] == "done" || told["state"] == "failed").then_some(told))
    })
    .await
}

/// A run from its beginning to its end.
pub async fn run(world: &World, token: &str) -> anyhow::Result<Value> {
    ended(world, token, begun(world, token).await).await
}

/// State, archived and deleted.
pub fn outcome(run: &Value) -> (&str, i64, i64) {
    let number = |name: &str| run[name].as_i64().unwrap_or(-1);
    (run["state"].as_str().unwrap_or_default(), number("archived"), number("deleted"))
}

pub async fn restored(world: &World, token: &str, id: &str) -> anyhow::Result<Value> {
    world.call(token, Method::POST, &format!("/v1/archives/{id}/restore"), None).await.expect(202);
    until("an end of the restoring", async || {
        let listed = archives(world, token).await;
        let one = listed.into_iter().find(|one| one["id"] == id).expect("it is listed");
        Ok((one["restore_state"] == "done" || one["restore_state"] == "failed").then_some(one))
    })
    .await
}

pub async fn archives(world: &World, token: &str) -> Vec<Value> {
    let list = world.get(token, "/v1/archives?count=true&limit=200").await.expect(200).json();
    assert_eq!(list["total"].as_u64(), list["items"].as_array().map(|items| items.len() as u64));
    list["items"].as_array().expect("items").clone()
}

pub async fn total(world: &World, token: &str) -> i64 {
    world.get(token, "/v1/events?count=true&limit=1").await.expect(200).json()["total"].as_i64().expect("a total")
}

pub fn folder(world: &World, tenant: &Tenant, kind: &str) -> PathBuf {
    world.objects.path().join(format!("tenants/{}/{kind}", tenant.id))
}

/// The lines of every archive file of a tenant whose bytes are what its row says, by event.
pub fn lines(world: &World, tenant: &Tenant, archives: &[Value]) -> BTreeMap<Uuid, Vec<String>> {
    let mut lines = BTreeMap::<Uuid, Vec<String>>::new();
    for archive in archives {
        let id = archive["id"].as_str().expect("an id");
        let sha256 = hex::decode(archive["sha256"].as_str().expect("a checksum")).expect("hex");
        let bytes = std::fs::read(folder(world, tenant, "archives").join(id)).expect("the object");
        assert_eq!(archive["size_bytes"], bytes.len());
        for line in unpacked(&bytes, &sha256).expect("what was written") {
            lines.entry(line.event).or_default().push(String::from_utf8(line.text).expect("UTF-8"));
        }
    }
    lines
}

fn files(world: &World, tenant: &Tenant, kind: &str) -> usize {
    std::fs::read_dir(folder(world, tenant, kind)).into_iter().flatten().count()
}

#[tokio::test]
async fn events_are_archived_verified_and_deleted_wherever_the_tenant_is_and_the_others_stay() -> anyhow::Result<()> {
    for place in ["shared", "schema", "database"] {
        let world = World::new().await?;
        let (a, b) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
        plant(&world, &world.a, 700, 100).await?;
        plant(&world, &world.a, 20, 40).await?;
        plant(&world, &world.b, 10, 100).await?;
        let oldest = world.get(&a, "/v1/events?sort=asc&limit=1").await.expect(200);
        let (oldest, text) = (oldest.ids()[0], oldest.json()["items"][0].to_string());
        let repeated = crate::world::request(
            &world.a.api_key,
            Method::POST,
            "/v1/events",
            Some(crate::world::event(Uuid::new_v4(), "fresh")),
        );
        let (mut parts, body) = repeated.into_parts();
        parts.headers.insert("idempotency-key", "once".parse()?);
        world.send(axum::http::Request::from_parts(parts, body)).await.expect(201);
        world.sql(&world.a, "UPDATE idempotency_keys SET created_at = now() - interval '100 days'").await?;
        world.post(&a, &format!("/v1/events/{oldest}/annotations"), json!({"body": "noted"})).await.expect(201);
        let attach = format!("/v1/events/{oldest}/attachments?name=file.txt");
        world.post(&a, &attach, json!({})).await.expect(201);
        keep(&world, &a, 30, 90, false).await;
        moving::tenant(&world.database.url("postgres").parse::<PgConnectOptions>()?, world.a.id, place).await?;
        world.get(&a, "/v1/events/stats").await.expect(200);

        let working = Working::on(&world).await?;
        let told = run(&world, &a).await?;
        assert_eq!(outcome(&told), ("done", 720, 700), "{place}: {told}");
        assert_eq!(
            (&told["archive_due"], &told["delete_due"], &told["told"]),
            (&json!(720), &json!(700), &json!(null))
        );
        assert_eq!((total(&world, &a).await, total(&world, &b).await), (21, 10), "{place}");
        until("counts that follow", async || {
            Ok((world.get(&a, "/v1/events/stats").await.expect(200).json()["total"] == 21).then_some(()))
        })
        .await?;
        world.get(&a, &format!("/v1/events/{oldest}")).await.expect(404);
        assert_eq!(files(&world, &world.a, "attachments"), 1, "bytes stay with the archive that names them");
        let written = archives(&world, &a).await;
        assert!(written.iter().all(|archive| archive["verified_at"].is_string()));
        let kept = lines(&world, &world.a, &written);
        assert_eq!((kept.len(), kept.values().map(Vec::len).max()), (720, Some(1)), "each event once");
        let line = &kept[&oldest][0];
        assert!(line.contains(&text) && line.contains("noted") && line.contains("file.txt"), "{line}");
        // The proof of what is deleted holds for the text in the archive.
        let proof = world.get(&a, &format!("/v1/proofs/{oldest}")).await.expect(200).json();
        assert_eq!(proof["digest"], hex::encode(Sha256::digest(&text)));
        assert_eq!(world.get(&a, "/v1/proofs/head").await.expect(200).json()["position"], 721);

        assert_eq!(outcome(&run(&world, &a).await?), ("done", 0, 0), "nothing is due any more");
        assert_eq!(archives(&world, &b).await, Vec::<Value>::new());
        let foreign = format!("/v1/archives/{}/restore", written[0]["id"].as_str().expect("an id"));
        world.call(&b, Method::POST, &foreign, None).await.expect(404);
        for archive in &written {
            let back = restored(&world, &a, archive["id"].as_str().expect("an id")).await?;
            assert_eq!(back["restore_state"], "done", "{place}: {back}");
        }
        assert_eq!((total(&world, &a).await, total(&world, &b).await), (721, 10), "{place}");
        assert_eq!(world.get(&a, &format!("/v1/events/{oldest}")).await.expect(200).text, text, "as it was");
        let notes = world.get(&a, &format!("/v1/events/{oldest}/annotations")).await.expect(200).json();
        assert_eq!(notes["items"][0]["body"], "noted");
        assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0);
        if place == "shared" {
            assert_eq!(count(&world, "SELECT count(*) FROM idempotency_keys").await?, 0, "answers go, too");
        }
        working.ended().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_kept_so_is_refused_and_one_run_is_open_at_a_time() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (a, b) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let unsaid = world.get(&a, "/v1/retention").await.expect(200).json();
    assert_eq!((&unsaid["archive_after_days"], &unsaid["legal_hold"]), (&json!(null), &json!(false)));
    world.call(&a, Method::POST, "/v1/retention/runs", None).await.expect(409);
    let days = |archive: i64, delete: i64| json!({"archive_after_days": archive, "delete_after_days": delete, "legal_hold": false});
    for refused in [
        days(0, 1),
        days(-1, 1),
        days(2, 1),
        days(1, 36_501),
        days(1, i64::from(i32::MAX) + 1),
        json!({"archive_after_days": 1, "delete_after_days": 2}),
        json!({"archive_after_days": 1, "delete_after_days": 2, "legal_hold": false, "tenant_id": world.b.id}),
    ] {
        world.call(&a, Method::PUT, "/v1/retention", Some(refused)).await.expect(422);
    }
    keep(&world, &a, 1, 1, false).await;
    assert_eq!(world.get(&b, "/v1/retention").await.expect(200).json()["archive_after_days"], json!(null));
    let id = begun(&world, &a).await;
    world.call(&a, Method::POST, "/v1/retention/runs", None).await.expect(409);
    world.get(&b, &format!("/v1/retention/runs/{id}")).await.expect(404);
    keep(&world, &b, 1, 1, false).await;
    begun(&world, &b).await;
    Ok(())
}

#[tokio::test]
async fn a_legal_hold_lets_events_be_archived_and_none_deleted_also_when_it_comes_in_between() -> anyhow::Result<()> {
    let world = World::new().await?;
    let a = world.token(&world.a, "owner").await;
    plant(&world, &world.a, 1_200, 100).await?;
    keep(&world, &a, 1, 1, true).await;
    let working = Working::on(&world).await?;
    let told = run(&world, &a).await?;
    assert_eq!(outcome(&told), ("done", 1_200, 0));
    assert!(told["told"].as_str().is_some_and(|told| told.contains("legal hold keeps 1200")), "{told}");
    keep(&world, &a, 1, 1, false).await;
    // The first batch is under way when the hold comes.
    let mut halt = Halt::at(&world, "DELETE ON events").await?;
    let id = begun(&world, &a).await;
    halt.reached().await?;
    let holding = keep(&world, &a, 1, 1, true);
    let going = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        halt.over().await
    };
    let (_, going) = tokio::join!(holding, going);
    going?;
    let left = total(&world, &a).await;
    let told = ended(&world, &a, id).await?;
    assert_eq!((outcome(&told), left), (("done", 0, 500), 700), "{told}");
    assert_eq!(total(&world, &a).await, 700, "nothing more once the hold was answered");
    keep(&world, &a, 1, 1, false).await;
    assert_eq!(outcome(&run(&world, &a).await?), ("done", 0, 700));
    working.ended().await
}

#[tokio::test]
async fn a_run_that_should_have_found_events_and_did_not_has_failed() -> anyhow::Result<()> {
    let table = [
        // A database that says it deletes, and does not.
        (
            "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER nothing BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION public.nothing()",
            ("failed", 3, 0),
            "3 events were due to be deleted, 0 were",
        ),
        // History that was changed is neither archived as if it were what happened, nor deleted.
        ("UPDATE events SET action = 'harmless' WHERE target_id = '2'", ("failed", 2, 2), "not what was sealed"),
        (
            "UPDATE events SET action = 'harmless'",
            ("failed", 0, 0),
            "3 events were due to be archived, 0 were, and 3 still are due",
        ),
    ];
    for (wrong, expected, says) in table {
        let world = World::new().await?;
        let a = world.token(&world.a, "owner").await;
        plant(&world, &world.a, 3, 100).await?;
        world.get(&a, "/v1/proofs/head").await.expect(200);
        keep(&world, &a, 1, 1, false).await;
        world.sql(&world.a, wrong).await?;
        let working = Working::on(&world).await?;
        let told = run(&world, &a).await?;
        assert_eq!(outcome(&told), expected, "{told}");
        assert!(told["told"].as_str().is_some_and(|told| told.contains(says)), "{says}: {told}");
        working.ended().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_over_more_events_than_one_statement_may_look_at_ends_and_tells_them_all() -> anyhow::Result<()> {
    const ROWS: u32 = 5_000;
    let world = World::new().await?;
    let a = world.token(&world.a, "owner").await;
    plant(&world, &world.a, ROWS, 100).await?;
    keep(&world, &a, 1, 1, false).await;
    // A statement that looks at more events than this is cancelled, as one that takes too long is. Nothing is sorted, as nothing is where tables are large.
    world
        .sql(
            &world.a,
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_sort = off', current_database()); END $$;
             CREATE FUNCTION public.patience() RETURNS boolean LANGUAGE plpgsql AS $$
             DECLARE
               key text := 'patience.s' || (extract(epoch FROM statement_timestamp()) * 1000000)::bigint;
               looks int := coalesce(nullif(current_setting(key, true), ''), '0')::int + 1;
             BEGIN
               IF looks > 4000 THEN RAISE query_canceled; END IF;
               PERFORM set_config(key, looks::text, true);
               RETURN true;
             END $$;
             CREATE POLICY patience ON events AS RESTRICTIVE USING (public.patience() IS NOT NULL)",
        )
        .await?;
    let whole = format!("SET app.tenant_id = '{}'; SELECT count(*) FROM events", world.a.id);
    let mut worker = world.at_home(&world.a, "audit_worker").await?;
    let error = sqlx::raw_sql(sqlx::AssertSqlSafe(whole)).execute(&mut worker).await.expect_err("it takes too long");
    assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("57014"), "{error}");
    let working = Working::on(&world).await?;
    let told = run(&world, &a).await?;
    assert_eq!(outcome(&told), ("done", i64::from(ROWS), i64::from(ROWS)), "{told}");
    assert_eq!((&told["archive_due"], &told["delete_due"]), (&json!(ROWS), &json!(ROWS)));
    working.ended().await
}

#[tokio::test]
async fn a_try_that_another_has_overtaken_changes_nothing_any_more() -> anyhow::Result<()> {
    let world = World::new().await?;
    let a = world.token(&world.a, "owner").await;
    plant(&world, &world.a, 3, 100).await?;
    keep(&world, &a, 1, 1, false).await;
    let run = begun(&world, &a).await;
    let pool = PgPoolOptions::new().connect(&world.database.url("audit_worker")).await?;
    let scope = TenantScope::of(Storage::new(pool), world.a.id);
    let (slow, quick) = (Try { run, id: Uuid::now_v7() }, Try { run, id: Uuid::now_v7() });
    let object = Uuid::now_v7();
    let taken = scope.run(move |store| Box::pin(store.take_retention_run(slow))).await?.expect("taken");
    scope.run(move |store| Box::pin(store.announce_object(slow, object))).await?;
    let again = scope.run(move |store| Box::pin(store.take_retention_run(quick))).await?.expect("taken over");
    assert_eq!((again.left, again.archive_before), (vec![object], taken.archive_before));
    let (before, none) = (taken.delete_before, Due::default());
    let overtaken = [
        scope.run(move |store| Box::pin(store.note_due(slow, none))).await,
        scope.run(move |store| Box::pin(store.announce_object(slow, object))).await,
        scope
            .run(move |store| Box::pin(async move { store.delete_archived(slow, before, None, 9).await.map(drop) }))
            .await,
        scope.run(move |store| Box::pin(async move { store.verify_archive(slow, object, &[]).await.map(drop) })).await,
        scope.run(move |store| Box::pin(store.discard_archive(slow, object))).await,
        scope
            .run(move |store| Box::pin(async move { store.end_retention_run(slow, none, None).await.map(drop) }))
            .await,
    ];
    assert!(overtaken.iter().all(|one| matches!(one, Err(Problem::Conflict(_)))), "{overtaken:?}");
    scope.run(move |store| Box::pin(store.end_retention_run(quick, none, None))).await?;
    assert!(scope.run(move |store| Box::pin(store.take_retention_run(slow))).await?.is_none(), "it has ended");
    Ok(())
}

/// Kills the worker just before it does `what`, and lets another take the run up.
async fn killed_before(what: &str) -> anyhow::Result<()> {
    const ROWS: u32 = 600;
    let world = World::new().await?;
    let a = world.token(&world.a, "owner").await;
    plant(&world, &world.a, ROWS, 100).await?;
    plant(&world, &world.b, 5, 100).await?;
    let events = world.get(&a, "/v1/events?sort=asc&limit=2").await.expect(200).ids();
    for event in &events {
        world.post(&a, &format!("/v1/events/{event}/annotations"), json!({"body": "noted"})).await.expect(201);
        world.post(&a, &format!("/v1/events/{event}/attachments?name=n"), json!({})).await.expect(201);
    }
    keep(&world, &a, 1, 1, false).await;
    let mut first = program(&world)?;
    let mut log = BufReader::new(first.stderr.take().expect("piped")).lines();
    while !log.next_line().await?.expect("it works").contains("working") {}
    let mut halt = Halt::at(&world, what).await?;
    let id = begun(&world, &a).await;
    halt.reached().await?;
    first.kill().await?;

    // Nothing is lost: what is in no table any more is in an archive that was verified, and can be read.
    let verified: Vec<Value> = archives(&world, &a).await;
    let verified: Vec<Value> = verified.into_iter().filter(|one| one["verified_at"].is_string()).collect();
    let archived = lines(&world, &world.a, &verified);
    let gone = i64::from(ROWS) - total(&world, &a).await;
    assert!(archived.len() as i64 >= gone, "{what}: {gone} are gone, and {} archived", archived.len());
    let present = world.get(&a, "/v1/events?sort=asc&limit=200").await.expect(200).ids();
    assert!(events.iter().all(|event| present.contains(event) || archived.contains_key(event)), "{what}");
    halt.over().await?;

    let second = program(&world)?;
    let told = ended(&world, &a, id).await?;
    assert_eq!(outcome(&told), ("done", i64::from(ROWS), i64::from(ROWS)), "{what}: {told}");
    let written = archives(&world, &a).await;
    let kept = lines(&world, &world.a, &written);
    assert_eq!((kept.len(), kept.values().map(Vec::len).max()), (ROWS as usize, Some(1)), "{what}: each event once");
    assert!(events.iter().all(|event| kept[event][0].contains("noted")), "{what}");
    assert_eq!(files(&world, &world.a, "archives"), written.len(), "{what}: no object without a row");
    assert_eq!(files(&world, &world.a, "attachments"), events.len(), "{what}");
    assert_eq!(total(&world, &world.token(&world.b, "owner").await).await, 5, "{what}: the other's");
    assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0, "{what}");
    drop(second);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_before_any_step_loses_nothing_and_another_ends_the_run() -> anyhow::Result<()> {
    let steps = [
        "UPDATE OF delete_due ON retention_runs",
        "INSERT ON chain_links",
        "UPDATE OF object_id ON retention_runs",
        "INSERT ON archives",
        "INSERT ON archived_events",
        "UPDATE OF archived ON retention_runs",
        "UPDATE OF verified_at ON archives",
        "DELETE ON events",
        "DELETE ON annotations",
        "DELETE ON attachments",
        "UPDATE OF deleted ON retention_runs",
        "UPDATE OF finished_at ON retention_runs",
    ];
    futures_util::future::try_join_all(steps.map(killed_before)).await.map(drop)
}
