//! Deliveries to receivers that are really there: whose events arrive, how often, signed with what, and what is never
//! sent.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::Method;
use partywall_reference::storage::moving;
use serde_json::json;
use sqlx::Executor;
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use crate::receiver::{Received, SILENCE, Sink, deliveries, made, no_pause, once, world};
use crate::working::{Halt, Working, count, program, until};
use crate::world::{World, event};

#[tokio::test]
async fn each_tenant_is_sent_all_of_its_own_events_and_nobody_elses_signed_with_its_own_secret() -> anyhow::Result<()> {
    let world = world().await?;
    let sinks = [Sink::open().await?, Sink::open().await?];
    let mut secrets = Vec::new();
    for (tenant, sink) in [&world.a, &world.b].into_iter().zip(&sinks) {
        secrets.push(made(&world, tenant, &sink.url, &[]).await.1);
    }
    let mut written = [HashSet::new(), HashSet::new()];
    for _ in 0..3 {
        written[0].insert(world.event(&world.a, "member", "ours").await);
        written[1].insert(world.event(&world.b, "member", "theirs").await);
    }
    let working = Working::on(&world).await?;
    for (index, tenant) in [&world.a, &world.b].into_iter().enumerate() {
        let received = sinks[index].once(3).await?;
        let owner = world.token(tenant, "owner").await;
        assert_eq!(received.iter().map(Received::event).collect::<HashSet<_>>(), written[index]);
        for message in received {
            assert!(message.signed_with(&secrets[index]) && !message.signed_with(&secrets[1 - index]));
            let event = world.get(&owner, &format!("/v1/events/{}", message.event())).await.expect(200).json();
            let json = message.json();
            assert_eq!((&json["data"], &json["type"]), (&event, &event["action"]));
            assert_eq!(json["timestamp"], event["occurred_at"]);
            assert_eq!(message.headers["content-type"], "application/json");
        }
    }
    working.ended().await?;
    assert!(sinks[0].received().await.len() == 3 && sinks[1].received().await.len() == 3, "each once");
    let waiting = "SELECT count(*) FROM webhook_deliveries WHERE state <> 'delivered' OR attempts <> 1";
    for tenant in [&world.a, &world.b] {
        assert_eq!(world.count(tenant, waiting).await?, 0);
    }
    assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_delivery_whose_job_was_lost_between_two_commits_is_found_and_sent() -> anyhow::Result<()> {
    let world = world().await?;
    moving::tenant(&world.database.url("postgres").parse()?, world.a.id, "database").await?;
    let sink = Sink::open().await?;
    let (webhook, _) = made(&world, &world.a, &sink.url, &[]).await;
    let mut halt = Halt::at_commit_of_jobs(&world).await?;
    let written = event(world.a.people["member"], "d");
    let writing = world.post(&world.a.api_key, "/v1/events", written);
    let cutting = async {
        halt.reached().await?;
        halt.cut().await
    };
    let (answer, cut) = tokio::join!(writing, cutting);
    cut?;
    assert!(answer.status.is_server_error(), "{}", answer.text);
    halt.over().await?;
    assert_eq!(count(&world, "SELECT count(*) FROM graphile_worker._private_jobs").await?, 0, "the job is lost");
    assert_eq!(deliveries(&world, &world.a, webhook).await.len(), 1, "and the delivery is not");
    world.sql(&world.a, "UPDATE webhook_deliveries SET due_at = now() - interval '2 minutes'").await?;
    let often = Duration::from_millis(200);
    let working = Working::made(&world, |_| {}, |workshop| workshop.look_every = often).await?;
    once(&world, &world.a, webhook, "delivered", 1).await?;
    tokio::time::sleep(often * 3).await;
    assert_eq!(sink.received().await.len(), 1, "once");
    assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0);
    working.ended().await
}

#[tokio::test]
async fn what_fails_is_tried_again_under_its_id_until_it_is_taken_or_given_up() -> anyhow::Result<()> {
    let world = world().await?;
    let sink = Sink::open().await?;
    let (webhook, secret) = made(&world, &world.a, &sink.url, &[]).await;
    let owner = world.token(&world.a, "owner").await;
    sink.answers(500);
    world.event(&world.a, "member", "d").await;
    let working = Working::on(&world).await?;
    let told = once(&world, &world.a, webhook, "waiting", 1).await?;
    assert_eq!((&told["last_status"], &told["last_error"]), (&json!(500), &json!(null)));
    assert!(told["next_attempt_at"].as_str() > told["last_attempt_at"].as_str(), "{told}");
    sink.answers(SILENCE);
    let told = once(&world, &world.a, webhook, "waiting", 2).await?;
    assert_eq!((&told["last_status"], &told["last_error"]), (&json!(null), &json!("it did not answer in time")));
    // A redirect is an answer as any other, and nobody goes where it points.
    sink.answers(307);
    no_pause(&world).await?;
    let told = once(&world, &world.a, webhook, "waiting", 3).await?;
    assert_eq!(told["last_status"], 307);
    sink.answers(204);
    no_pause(&world).await?;
    let told = once(&world, &world.a, webhook, "delivered", 4).await?;
    let received = sink.received().await;
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|message| json!(message.id()) == told["id"] && message.signed_with(&secret)));
    // The last of its tries.
    sink.answers(503);
    world.event(&world.a, "member", "d").await;
    once(&world, &world.a, webhook, "waiting", 1).await?;
    world.sql(&world.a, "UPDATE webhook_deliveries SET attempts = 9 WHERE state = 'waiting'").await?;
    no_pause(&world).await?;
    let failed = once(&world, &world.a, webhook, "failed", 10).await?;
    assert_eq!((&failed["last_status"], &failed["next_attempt_at"]), (&json!(503), &json!(null)));
    assert_eq!(count(&world, "SELECT count(*) FROM graphile_worker._private_jobs").await?, 0, "nothing comes back");
    // It is sent again for who asks, as the same message.
    sink.answers(200);
    let again = format!("/v1/webhooks/{webhook}/deliveries/{}/redeliver", failed["id"].as_str().expect("an id"));
    world.call(&owner, Method::POST, &again, None).await.expect(202);
    once(&world, &world.a, webhook, "delivered", 11).await?;
    assert_eq!(json!(sink.received().await.last().map(Received::id)), failed["id"]);
    assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0, "a receiver's fault is not the operators'");
    working.ended().await
}

#[tokio::test]
async fn what_a_killed_worker_was_sending_is_sent_again_under_the_same_id() -> anyhow::Result<()> {
    let world = world().await?;
    let sink = Sink::open().await?;
    let (webhook, secret) = made(&world, &world.a, &sink.url, &[]).await;
    let mut first = program(&world)?;
    let mut log = BufReader::new(first.stderr.take().expect("piped")).lines();
    while !log.next_line().await?.expect("it works").contains("working") {}
    sink.answers(SILENCE);
    world.event(&world.a, "member", "secret-target").await;
    sink.once(1).await?;
    first.kill().await?;
    sink.answers(200);
    let second = program(&world)?;
    let told = once(&world, &world.a, webhook, "delivered", 1).await?;
    let received = sink.received().await;
    assert!(received.len() == 2 && received.iter().all(|message| json!(message.id()) == told["id"]));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(second.id().expect("it runs"))?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let output = tokio::time::timeout(Duration::from_secs(20), second.wait_with_output()).await??;
    let log = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("job done"), "{log}");
    for word in [&world.a.id.to_string(), "secret-target", &secret, &secret[6..], &sink.url, "whsec_"] {
        assert!(!log.contains(word), "the log says {word}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bulk_reaches_exactly_the_webhooks_that_want_its_actions() -> anyhow::Result<()> {
    const EVENTS: usize = 300;
    let world = world().await?;
    let (shared, rest) = (Sink::open().await?, Sink::open().await?);
    let (all, _) = made(&world, &world.a, &shared.url, &["document.s*", "user.added"]).await;
    made(&world, &world.a, &rest.url, &["document.removed"]).await;
    let (silent, _) = made(&world, &world.a, &rest.url, &["nothing"]).await;
    let line = |index: usize| {
        let mut event = event(Uuid::new_v4(), "d");
        event["action"] = json!(["document.shared", "user.added", "document.removed"][index % 3]);
        event.to_string()
    };
    let lines: Vec<String> = (0..EVENTS).map(line).collect();
    let request = axum::http::Request::post("/v1/events/bulk")
        .header("authorization", format!("Bearer {}", world.a.api_key))
        .header("content-type", "application/x-ndjson");
    let written = world.send(request.body(lines.join("\n").into())?).await.expect(201).ids();
    assert_eq!(count(&world, "SELECT count(*) FROM graphile_worker._private_jobs").await?, 2, "one job a webhook");
    let working = Working::on(&world).await?;
    let shared = shared.once(EVENTS / 3 * 2).await?.iter().map(Received::event).collect::<HashSet<_>>();
    let rest = rest.once(EVENTS / 3).await?.iter().map(Received::event).collect::<HashSet<_>>();
    assert!(shared.is_disjoint(&rest));
    assert_eq!(shared.union(&rest).copied().collect::<HashSet<_>>(), written.into_iter().collect());
    assert!(deliveries(&world, &world.a, silent).await.is_empty());
    let owner = world.token(&world.a, "owner").await;
    let first = world.get(&owner, &format!("/v1/webhooks/{all}/deliveries?limit=150&count=true")).await.expect(200);
    assert_eq!((first.ids().len(), &first.json()["total"]), (150, &json!(200)));
    let cursor = first.json()["next_cursor"].as_str().expect("a cursor").to_string();
    let page = world.get(&owner, &format!("/v1/webhooks/{all}/deliveries?limit=150&cursor={cursor}")).await.expect(200);
    let mut ids = first.ids();
    ids.extend(page.ids());
    assert!(ids.len() == 200 && ids.is_sorted_by(|newer, older| newer > older), "newest first, each once");
    working.ended().await
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_that_is_not_public() -> anyhow::Result<()> {
    // The service may be told of such addresses, and the worker not: what was let in once is judged again.
    let world = world().await?;
    let strict = World::new().await?;
    let owner = strict.token(&strict.a, "owner").await;
    for url in
        ["http://127.0.0.1:9/", "http://[::1]/", "http://169.254.169.254/", "http://2130706433/", "ftp://x.example/"]
    {
        let told = strict.post(&owner, "/v1/webhooks", json!({"url": url})).await.expect(422).text;
        assert!(told.contains("url: "), "{told}");
    }
    let sink = Sink::open().await?;
    let port = sink.url.trim_start_matches("http://127.0.0.1").to_string();
    let mut webhooks = Vec::new();
    for host in ["127.0.0.1", "localhost"] {
        webhooks.push(made(&world, &world.a, &format!("http://{host}{port}"), &[]).await.0);
    }
    world.event(&world.a, "member", "d").await;
    let working = Working::with(&world, |work| work.webhook_private = false).await?;
    for webhook in webhooks {
        let told = once(&world, &world.a, webhook, "failed", 1).await?;
        assert_eq!((&told["last_error"], &told["last_status"]), (&json!("its address is not public"), &json!(null)));
    }
    assert_eq!(sink.received().await.len(), 0);
    working.ended().await
}

#[tokio::test]
async fn slow_receivers_of_one_tenant_hold_up_no_other() -> anyhow::Result<()> {
    let world = world().await?;
    let (slow, quick) = (Sink::open().await?, Sink::open().await?);
    slow.answers(SILENCE);
    for _ in 0..6 {
        made(&world, &world.a, &slow.url, &[]).await;
    }
    made(&world, &world.b, &quick.url, &[]).await;
    world.event(&world.a, "member", "d").await;
    let working = Working::on(&world).await?;
    slow.once(1).await?;
    world.event(&world.b, "member", "d").await;
    tokio::time::timeout(Duration::from_secs(4), quick.once(1)).await??;
    assert_eq!(slow.received().await.len(), 1, "the others of its tenant wait for their turn");
    working.ended().await
}

#[tokio::test]
async fn deliveries_that_ended_long_ago_are_forgotten_and_those_that_wait_are_not() -> anyhow::Result<()> {
    let world = world().await?;
    let sink = Sink::open().await?;
    let (webhook, _) = made(&world, &world.a, &sink.url, &[]).await;
    let mut admin = world.at_home(&world.a, "postgres").await?;
    let plant = "INSERT INTO webhook_deliveries (tenant_id, id, webhook_id, event_id, state, due_at, created_at) \
                 VALUES ($1, $2, $3, $2, $4, now() + interval '1 day', $5)";
    for (days, state) in [(31, "delivered"), (31, "waiting"), (29, "delivered")] {
        let then = time::OffsetDateTime::now_utc() - time::Duration::days(days);
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, then.unix_timestamp().try_into()?, 0));
        let plant = sqlx::query(plant).bind(world.a.id).bind(id).bind(webhook).bind(state).bind(then);
        plant.execute(&mut admin).await?;
    }
    world.event(&world.a, "member", "d").await;
    let working = Working::on(&world).await?;
    let kept = until("one forgotten", async || {
        let kept = deliveries(&world, &world.a, webhook).await;
        Ok((kept.len() < 4).then_some(kept))
    })
    .await?;
    assert_eq!(kept.iter().map(|one| &one["state"]).collect::<Vec<_>>(), ["delivered", "delivered", "waiting"]);
    working.ended().await
}

#[tokio::test]
async fn a_job_for_a_webhook_or_an_event_of_another_tenant_is_refused_and_sends_nothing() -> anyhow::Result<()> {
    let world = world().await?;
    let sink = Sink::open().await?;
    let (webhook, _) = made(&world, &world.a, &sink.url, &[]).await;
    let theirs = world.event(&world.b, "member", "theirs").await;
    let mut admin = world.database.connect("postgres").await?;
    // As if something had gone wrong: another's webhook named by a job, another's event by a delivery.
    let job = json!({"kind": "webhook", "tenant": world.b.id, "id": webhook});
    sqlx::query("SELECT graphile_worker.add_job('tenant_job', $1::json)")
        .bind(job.to_string())
        .execute(&mut admin)
        .await?;
    let planted = "INSERT INTO webhook_deliveries (tenant_id, id, webhook_id, event_id) VALUES ($1, $2, $3, $4)";
    let planted = sqlx::query(planted).bind(world.a.id).bind(Uuid::now_v7()).bind(webhook).bind(theirs);
    planted.execute(&mut world.at_home(&world.a, "postgres").await?).await?;
    let bind = format!("SELECT set_config('app.tenant_id', '{}', false)", world.a.id);
    admin.execute(sqlx::AssertSqlSafe(bind)).await?;
    sqlx::query("SELECT enqueue_webhooks(ARRAY[$1])").bind(webhook).execute(&mut admin).await?;
    let working = Working::on(&world).await?;
    until("two dead letters", async || {
        let letters = "SELECT count(*) FROM dead_jobs WHERE kind = 'webhook' AND reason = 'no such row'";
        Ok((count(&world, letters).await? == 2).then_some(()))
    })
    .await?;
    let told = once(&world, &world.a, webhook, "failed", 1).await?;
    assert_eq!(told["last_error"], "its event is gone");
    assert_eq!(sink.received().await.len(), 0);
    working.ended().await
}
