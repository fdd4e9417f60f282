//! Exports and the queue that writes them: whose events they hold, what becomes of a job that is killed, refused,
//! withdrawn or never committed.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use partywall_reference::scope::TenantScope;
use partywall_reference::store::exports::Written;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use crate::working::{Working, count, program, until};
use crate::world::{World, event};

async fn ended(world: &World, token: &str, id: Uuid) -> anyhow::Result<Value> {
    until("an end of the export", async || {
        let told = world.get(token, &format!("/v1/exports/{id}")).await.expect(200).json();
        Ok((told["state"] == "done" || told["state"] == "failed").then_some(told))
    })
    .await
}

/// The files of a tenant's exports that are finished; what is being written has a `#` in its name.
fn files(world: &World, tenant: Uuid) -> Vec<PathBuf> {
    let folder = world.objects.path().join(format!("tenants/{tenant}/exports"));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| !path.to_string_lossy().contains('#')).collect()
}

#[tokio::test]
async fn an_export_holds_the_events_that_were_asked_for_of_its_tenant_alone() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (a, b) = (world.token(&world.a, "owner").await, world.token(&world.b, "owner").await);
    let mut formula = event(Uuid::new_v4(), "d");
    formula["target"]["name"] = json!("=HYPERLINK(\"http://x\",\"y\"),\"quoted\"\nand on");
    world.post(&a, "/v1/events", formula).await.expect(201);
    for _ in 0..3 {
        world.event(&world.a, "member", "ours").await;
        world.event(&world.b, "member", "theirs").await;
    }
    let csv = world.post(&a, "/v1/exports", json!({"format": "csv"})).await.expect(201).id();
    let filter = json!({"format": "ndjson", "filter": {"target_id": "ours", "sort": "asc"}});
    let ndjson = world.post(&a, "/v1/exports", filter).await.expect(201).id();
    let early = world.get(&a, &format!("/v1/exports/{csv}/download")).await.expect(409);
    assert!(early.text.contains("queued"), "{}", early.text);
    let working = Working::on(&world).await?;
    for (id, rows) in [(csv, 4), (ndjson, 3)] {
        let told = ended(&world, &a, id).await?;
        assert_eq!((&told["state"], &told["rows"]), (&json!("done"), &json!(rows)));
        let file = world.get(&a, &format!("/v1/exports/{id}/download")).await.expect(200);
        assert_eq!(told["sha256"], hex::encode(Sha256::digest(&file.text)));
        assert_eq!(told["size_bytes"], file.text.len());
        assert_eq!(file.headers["cache-control"], "private, no-store");
        assert!(file.text.contains("ours") && !file.text.contains("theirs"), "{}", file.text);
        if id == csv {
            assert!(file.text.starts_with("id,occurred_at,"), "{}", file.text);
            assert!(
                file.text.contains("\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\"),\"\"quoted\"\"\nand on\""),
                "{}",
                file.text
            );
        } else {
            let lines: Vec<Value> = file.text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            assert!(lines.iter().all(|line| line["target"]["id"] == "ours") && lines.len() == 3);
        }
        for path in [format!("/v1/exports/{id}"), format!("/v1/exports/{id}/download")] {
            world.get(&b, &path).await.expect(404);
        }
        world.call(&b, Method::DELETE, &format!("/v1/exports/{id}"), None).await.expect(404);
    }
    assert_eq!(world.get(&b, "/v1/exports?count=true").await.expect(200).json()["total"], 0);
    assert_eq!(files(&world, world.a.id).len(), 2);
    for id in [csv, ndjson] {
        world.call(&a, Method::DELETE, &format!("/v1/exports/{id}"), None).await.expect(204);
        world.get(&a, &format!("/v1/exports/{id}/download")).await.expect(404);
    }
    assert_eq!(files(&world, world.a.id).len(), 0);
    working.ended().await
}

#[tokio::test]
async fn an_export_that_no_list_of_events_would_take_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    for (refused, status) in [
        (json!({}), 422),
        (json!({"format": "xlsx"}), 422),
        (json!({"format": "csv", "filter": {"acton": "x"}}), 422),
        (json!({"format": "csv", "filter": {"action": "\0"}}), 422),
        (json!({"format": "csv", "filter": {"action": "x".repeat(201)}}), 422),
        (json!({"format": "csv", "filter": {"from": "yesterday"}}), 422),
        (json!({"format": "csv", "tenant_id": world.b.id}), 422),
    ] {
        world.post(&owner, "/v1/exports", refused).await.expect(status);
    }
    assert_eq!(count(&world, "SELECT count(*) FROM graphile_worker._private_jobs").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_job_is_there_exactly_when_its_row_is() -> anyhow::Result<()> {
    const JOBS: &str = "SELECT count(*) FROM graphile_worker._private_jobs";
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let mut app = world.database.connect("audit_app").await?;
    for (end, jobs) in [("ROLLBACK", 0), ("COMMIT", 1)] {
        let id = Uuid::now_v7();
        app.execute("BEGIN").await?;
        sqlx::query("SELECT set_config('app.tenant_id', $1, true)")
            .bind(world.a.id.to_string())
            .execute(&mut app)
            .await?;
        let insert = "INSERT INTO exports (tenant_id, id, requested_by, format) VALUES ($1, $2, $2, 'csv')";
        sqlx::query(insert).bind(world.a.id).bind(id).execute(&mut app).await?;
        sqlx::query("SELECT enqueue_job('export', $1)").bind(id).execute(&mut app).await?;
        app.execute(end).await?;
        assert_eq!(count(&world, JOBS).await?, jobs, "{end}");
    }
    let id = world.post(&owner, "/v1/exports", json!({"format": "csv"})).await.expect(201).id();
    assert_eq!(count(&world, JOBS).await?, 2);
    world.call(&owner, Method::DELETE, &format!("/v1/exports/{id}"), None).await.expect(204);
    assert_eq!(count(&world, JOBS).await?, 1, "the job of a deleted export is withdrawn");
    Ok(())
}

#[tokio::test]
async fn who_serves_only_enqueues_and_who_works_does_not() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bound = format!("SELECT set_config('app.tenant_id', '{}', false)", world.a.id);
    let refused = async |role: &str, statement: &str| -> anyhow::Result<String> {
        let mut connection: PgConnection = world.database.connect(role).await?;
        connection.execute(AssertSqlSafe(bound.clone())).await?;
        let error = connection.execute(AssertSqlSafe(statement.to_string())).await.expect_err(statement);
        connection.close().await?;
        Ok(error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned())
    };
    for (role, statement) in [
        ("audit_app", "SELECT count(*) FROM graphile_worker._private_jobs"),
        ("audit_app", "SELECT count(*) FROM graphile_worker.jobs"),
        ("audit_app", "SELECT graphile_worker.add_job('tenant_job')"),
        ("audit_app", "DELETE FROM graphile_worker._private_jobs"),
        ("audit_app", "SELECT * FROM dead_jobs"),
        ("audit_app", "UPDATE exports SET state = 'done'"),
        ("audit_app", "UPDATE retention_runs SET state = 'done'"),
        ("audit_app", "UPDATE archives SET verified_at = now()"),
        ("audit_app", "DELETE FROM archives"),
        ("audit_app", "DELETE FROM events"),
        ("audit_app", "SELECT * FROM archived_events"),
        ("audit_app", "SELECT erase_rows(1)"),
        ("audit_worker", "UPDATE retention_policies SET legal_hold = false"),
        ("audit_worker", "SELECT response FROM idempotency_keys"),
        ("audit_worker", "SELECT begin_erasure()"),
        ("audit_worker", "SELECT enqueue_job('export', gen_random_uuid())"),
        ("audit_worker", "SELECT graphile_worker.add_job('tenant_job')"),
        ("audit_worker", "SELECT * FROM dead_jobs"),
        ("audit_worker", "DELETE FROM exports"),
        ("audit_worker", "UPDATE exports SET requested_by = gen_random_uuid()"),
        ("audit_worker", "SELECT * FROM memberships, people"),
        ("audit_login", "SELECT enqueue_job('export', gen_random_uuid())"),
        ("audit_platform", "SELECT count(*) FROM graphile_worker._private_jobs"),
    ] {
        assert_eq!(refused(role, statement).await?, "42501", "{role}: {statement}");
    }
    let mut app = world.database.connect("audit_app").await?;
    let unbound = app.execute("SELECT enqueue_job('export', gen_random_uuid())").await;
    assert!(unbound.is_err(), "without a tenant nothing is enqueued");
    Ok(())
}

#[tokio::test]
async fn a_job_that_its_tenant_does_not_vouch_for_is_refused_and_told_to_the_operators() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let id = world.post(&owner, "/v1/exports", json!({"format": "csv"})).await.expect(201).id();
    let (a, b, stranger) = (world.a.id, world.b.id, Uuid::new_v4());
    let table = [
        (json!({"kind": "export", "id": id}), "malformed", "export"),
        (json!({"kind": "export", "tenant": null, "id": id}), "malformed", "export"),
        (json!({"kind": "export", "tenant": "'; --", "id": id}), "malformed", "export"),
        (json!({"kind": "export", "tenant": a, "id": id, "more": 1}), "malformed", "export"),
        (json!([]), "malformed", "unknown"),
        (json!({"kind": "no such", "tenant": a, "id": id}), "unknown kind", "unknown"),
        (json!({"kind": "export", "tenant": stranger, "id": id}), "unknown tenant", "export"),
        (json!({"kind": "export", "tenant": b, "id": id}), "no such row", "export"),
        (json!({"kind": "export", "tenant": a, "id": stranger}), "no such row", "export"),
    ];
    let mut admin = world.database.connect("postgres").await?;
    admin.execute("DELETE FROM graphile_worker._private_jobs").await?;
    let working = Working::on(&world).await?;
    for (number, (payload, reason, kind)) in (1..).zip(&table) {
        let add = "SELECT graphile_worker.add_job('tenant_job', $1::json)";
        sqlx::query(add).bind(payload.to_string()).execute(&mut admin).await?;
        let (told, named): (String, String) = until("a dead letter", async || {
            if count(&world, "SELECT count(*) FROM dead_jobs").await? < number {
                return Ok(None);
            }
            let latest = "SELECT reason, kind FROM dead_jobs ORDER BY at DESC LIMIT 1";
            let mut platform = world.database.connect("audit_platform").await?;
            Ok(Some(sqlx::query_as(latest).fetch_one(&mut platform).await?))
        })
        .await?;
        assert_eq!((told.as_str(), named.as_str()), (*reason, *kind), "{payload}");
    }
    working.ended().await?;
    assert_eq!(count(&world, "SELECT count(*) FROM graphile_worker._private_jobs").await?, 0, "none is tried again");
    assert_eq!(world.get(&owner, &format!("/v1/exports/{id}")).await.expect(200).json()["state"], "queued");
    let letters: Vec<String> =
        sqlx::query_scalar("SELECT dead_jobs::text FROM dead_jobs").fetch_all(&mut admin).await?;
    for secret in [a, b, stranger, id] {
        assert!(letters.iter().all(|letter| !letter.contains(&secret.to_string())), "{letters:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_export_whose_worker_was_killed_is_taken_up_again_and_complete_once() -> anyhow::Result<()> {
    const ROWS: i64 = 3_000;
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    for tenant in [&world.a, &world.b] {
        let rows = format!(
            "INSERT INTO events (tenant_id, id, occurred_at, actor_id, actor_email, actor_name, action, target_type, target_id, target_name) \
             SELECT t, gen_random_uuid(), now() - n * interval '1 minute', gen_random_uuid(), '', '', 'planted', '', n, t \
               FROM generate_series(1, {ROWS}) n, CAST('{}' AS uuid) t",
            tenant.id
        );
        world.sql(tenant, &rows).await?;
    }
    // The first worker, once it has seen that the wall is whole, gets as far as its first page, and no further.
    let mut first = program(&world)?;
    let mut log = BufReader::new(first.stderr.take().expect("piped")).lines();
    while !log.next_line().await?.expect("it works").contains("working") {}
    let mut lock = world.at_home(&world.a, "postgres").await?;
    lock.execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await?;
    let id = world.post(&owner, "/v1/exports", json!({"format": "ndjson"})).await.expect(201).id();
    let state = format!("/v1/exports/{id}");
    until("the export under way", async || {
        Ok((world.get(&owner, &state).await.expect(200).json()["state"] == "running").then_some(()))
    })
    .await?;
    first.kill().await?;
    lock.execute("ROLLBACK").await?;
    let second = program(&world)?;
    let told = ended(&world, &owner, id).await?;
    assert_eq!((&told["state"], &told["rows"]), (&json!("done"), &json!(ROWS)));
    let file = world.get(&owner, &format!("{state}/download")).await.expect(200).text;
    let mut ids: Vec<Value> = Vec::new();
    for line in file.lines() {
        let event: Value = serde_json::from_str(line)?;
        assert_eq!(event["target"]["name"], json!(world.a.id));
        ids.push(event["id"].clone());
    }
    ids.sort_by_key(ToString::to_string);
    ids.dedup();
    assert_eq!(ids.len() as i64, ROWS, "each event once");
    assert_eq!(files(&world, world.a.id).len(), 1);
    assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(second.id().expect("it runs"))?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let output = tokio::time::timeout(Duration::from_secs(20), second.wait_with_output()).await??;
    let log = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("job done") && !log.contains(&world.a.id.to_string()), "{log}");
    Ok(())
}

#[tokio::test]
async fn of_two_tries_that_overlap_one_becomes_the_export() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let id = world.post(&owner, "/v1/exports", json!({"format": "csv"})).await.expect(201).id();
    let pool = PgPoolOptions::new().connect(&world.database.url("audit_worker")).await?;
    let scope = TenantScope::of(partywall_reference::storage::Storage::new(pool), world.a.id);
    let (slow, quick) = (Uuid::now_v7(), Uuid::now_v7());
    for (object, before) in [(slow, None), (quick, Some(slow))] {
        let taken = scope.run(move |store| Box::pin(store.take_export(id, object))).await?;
        assert_eq!(taken.expect("taken").before, before);
    }
    for (object, ended) in [(slow, false), (quick, true), (slow, false)] {
        let written = Written { rows: 0, size: 0, sha256: vec![0] };
        let finish = scope.run(move |store| Box::pin(async move { store.finish_export(id, object, &written).await }));
        assert_eq!(finish.await?, ended);
    }
    assert!(scope.run(move |store| Box::pin(store.take_export(id, slow))).await?.is_none(), "it has ended");
    Ok(())
}
