//! Webhooks against receivers that are really there: whose events arrive, how often, signed with what, and what is never
//! sent.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use partywall_reference::storage::moving;
use serde_json::{Value, json};
use sqlx::Executor;
use standardwebhooks::Webhook;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::work::{Working, count, program, until};
use crate::world::{Tenant, World, event};

/// What a receiver was sent.
#[derive(Clone)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

impl Received {
    fn id(&self) -> Uuid {
        self.headers["webhook-id"].to_str().ok().and_then(|id| id.parse().ok()).expect("an id")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn event(&self) -> Uuid {
        self.json()["data"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an event")
    }

    fn signed_with(&self, secret: &str) -> bool {
        Webhook::new(secret).expect("a secret").verify(&self.body, &self.headers).is_ok()
    }
}

#[derive(Clone, Default)]
struct Heard {
    all: Arc<Mutex<Vec<Received>>>,
    status: Arc<AtomicU16>,
}

/// A receiver on this machine.
struct Sink {
    heard: Heard,
    url: String,
}

/// Status 0 stands for no answer at all.
const SILENCE: u16 = 0;

impl Sink {
    async fn open() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let heard = Heard::default();
        heard.status.store(200, Ordering::SeqCst);
        let router = axum::Router::new().fallback(taken).with_state(heard.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { heard, url })
    }

    fn answers(&self, status: u16) {
        self.heard.status.store(status, Ordering::SeqCst);
    }

    async fn received(&self) -> Vec<Received> {
        self.heard.all.lock().await.clone()
    }

    /// What was received once it is `count` at least.
    async fn once(&self, count: usize) -> anyhow::Result<Vec<Received>> {
        until("enough messages", async || {
            let received = self.received().await;
            Ok((received.len() >= count).then_some(received))
        })
        .await
    }
}

async fn taken(State(heard): State<Heard>, headers: HeaderMap, body: Bytes) -> Response {
    heard.all.lock().await.push(Received { headers, body });
    match heard.status.load(Ordering::SeqCst) {
        SILENCE => std::future::pending().await,
        307 => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
        status => (StatusCode::from_u16(status).expect("a status"), "x".repeat(100_000)).into_response(),
    }
}

/// Two tenants, of a service whose webhooks may send to this machine.
async fn world() -> anyhow::Result<World> {
    World::with(|settings| settings.webhook_private = true).await
}

/// Makes a webhook; its id and its secret.
async fn made(world: &World, tenant: &Tenant, url: &str, actions: &[&str]) -> (Uuid, String) {
    let owner = world.token(tenant, "owner").await;
    let made = world.post(&owner, "/v1/webhooks", json!({"url": url, "actions": actions})).await.expect(201);
    (made.id(), made.json()["secret"].as_str().expect("a secret").to_string())
}

async fn deliveries(world: &World, tenant: &Tenant, webhook: Uuid) -> Vec<Value> {
    let owner = world.token(tenant, "owner").await;
    let listed = world.get(&owner, &format!("/v1/webhooks/{webhook}/deliveries?limit=200")).await.expect(200).json();
    listed["items"].as_array().expect("items").clone()
}

/// The newest delivery, once it is `state` after `attempts`.
async fn once(world: &World, tenant: &Tenant, webhook: Uuid, state: &str, attempts: i64) -> anyhow::Result<Value> {
    until(&format!("{state} after {attempts}"), async || {
        let newest = deliveries(world, tenant, webhook).await.into_iter().next();
        Ok(newest.filter(|one| one["state"] == state && one["attempts"].as_i64() >= Some(attempts)))
    })
    .await
}

/// Lets what waits be due at once, as if the pause were over.
async fn no_pause(world: &World) -> anyhow::Result<()> {
    let due = "UPDATE shared.webhook_deliveries SET due_at = now() WHERE state = 'waiting'; \
               UPDATE graphile_worker._private_jobs SET run_at = now()";
    world.database.sql(due).await
}

fn changed(path: Uuid, change: Value) -> (Method, String, Option<Value>) {
    (Method::PATCH, format!("/v1/webhooks/{path}"), Some(change))
}

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
    let waiting = "SELECT count(*) FROM shared.webhook_deliveries WHERE state <> 'delivered' OR attempts <> 1";
    assert_eq!(count(&world, waiting).await?, 0);
    assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0);
    Ok(())
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
    world.database.sql("UPDATE shared.webhook_deliveries SET attempts = 9 WHERE state = 'waiting'").await?;
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
async fn a_webhook_stops_at_once_when_it_is_disabled_deleted_or_kept_by_nobody() -> anyhow::Result<()> {
    let world = world().await?;
    let (owner, admin) = (world.token(&world.a, "owner").await, world.token(&world.a, "admin").await);
    let sink = Sink::open().await?;
    let (disabled, _) = made(&world, &world.a, &sink.url, &["disabled"]).await;
    let (deleted, _) = made(&world, &world.a, &sink.url, &["deleted"]).await;
    let new = json!({"url": sink.url, "actions": ["orphaned"]});
    let orphaned = world.post(&admin, "/v1/webhooks", new).await.expect(201).id();
    for action in ["disabled", "deleted", "orphaned"] {
        let mut new = event(Uuid::new_v4(), "d");
        new["action"] = json!(action);
        world.post(&owner, "/v1/events", new).await.expect(201);
    }
    let (method, path, body) = changed(disabled, json!({"enabled": false}));
    world.call(&owner, method, &path, body).await.expect(200);
    world.call(&owner, Method::DELETE, &format!("/v1/webhooks/{deleted}"), None).await.expect(204);
    let member = world.get(&owner, "/v1/members?limit=200").await.expect(200).json();
    let of = |member: &&Value| member["role"] == "admin";
    let member = member["items"].as_array().expect("items").iter().find(of).expect("an admin")["id"].clone();
    let path = format!("/v1/members/{}", member.as_str().expect("an id"));
    world.call(&owner, Method::PATCH, &path, Some(json!({"role": "auditor"}))).await.expect(200);
    let working = Working::on(&world).await?;
    let told = once(&world, &world.a, disabled, "cancelled", 0).await?;
    assert_eq!((&told["last_error"], &told["attempts"]), (&json!("the webhook is disabled"), &json!(0)));
    let told = once(&world, &world.a, orphaned, "cancelled", 0).await?;
    assert_eq!(told["last_error"], "who kept the webhook manages the tenant no more");
    let mut unheard = event(Uuid::new_v4(), "d");
    unheard["action"] = json!("disabled");
    world.post(&owner, "/v1/events", unheard).await.expect(201);
    assert_eq!(deliveries(&world, &world.a, disabled).await.len(), 1, "a disabled webhook is told nothing new");
    until("an empty queue", async || {
        Ok((count(&world, "SELECT count(*) FROM graphile_worker._private_jobs").await? == 0).then_some(()))
    })
    .await?;
    assert_eq!(count(&world, "SELECT count(*) FROM dead_jobs").await?, 0, "what was deleted was withdrawn");
    assert_eq!(sink.received().await.len(), 0);
    world.get(&owner, &format!("/v1/webhooks/{deleted}/deliveries")).await.expect(404);
    // Whoever changes it keeps it from then on.
    let again = format!("/v1/webhooks/{disabled}/deliveries/{}/redeliver", told["id"].as_str().expect("an id"));
    world.call(&owner, Method::POST, &again, None).await.expect(404);
    let own = |webhook: Uuid, delivery: &Value| {
        format!("/v1/webhooks/{webhook}/deliveries/{}/redeliver", delivery["id"].as_str().expect("an id"))
    };
    let refused = own(disabled, &deliveries(&world, &world.a, disabled).await[0]);
    world.call(&owner, Method::POST, &refused, None).await.expect(409);
    let (method, path, body) = changed(orphaned, json!({}));
    world.call(&owner, method, &path, body).await.expect(200);
    world.call(&owner, Method::POST, &own(orphaned, &told), None).await.expect(202);
    once(&world, &world.a, orphaned, "delivered", 1).await?;
    working.ended().await
}

#[tokio::test]
async fn a_secret_is_shown_when_it_is_made_and_never_again() -> anyhow::Result<()> {
    let world = world().await?;
    let owner = world.token(&world.a, "owner").await;
    let sink = Sink::open().await?;
    let (webhook, first) = made(&world, &world.a, &sink.url, &[]).await;
    let (method, path, body) = changed(webhook, json!({"rotate_secret": true}));
    let rotated = world.call(&owner, method, &path, body).await.expect(200).json();
    let second = rotated["secret"].as_str().expect("a secret").to_string();
    assert!(first != second && first.starts_with("whsec_") && rotated["rotated_at"].is_string());
    let (method, path, body) = changed(webhook, json!({"actions": ["*"]}));
    let unshown = [
        world.call(&owner, method, &path, body).await.expect(200).text,
        world.get(&owner, &path).await.expect(200).text,
        world.get(&owner, "/v1/webhooks").await.expect(200).text,
        world.get(&owner, &format!("{path}/deliveries")).await.expect(200).text,
    ];
    let mut admin = world.database.connect("postgres").await?;
    let kept: Vec<String> = sqlx::query_scalar("SELECT w::text FROM shared.webhooks w").fetch_all(&mut admin).await?;
    for text in unshown.iter().chain(&kept) {
        assert!([&first, &second].iter().all(|secret| !text.contains(&secret[6..])), "{text}");
        assert!(!text.contains("secret\""), "{text}");
    }
    // Both sign for a while, so that no message is lost while the receiver changes over.
    world.event(&world.a, "member", "d").await;
    let working = Working::on(&world).await?;
    let message = sink.once(1).await?.remove(0);
    assert!(message.signed_with(&first) && message.signed_with(&second));
    world.database.sql("UPDATE shared.webhooks SET rotated_at = now() - interval '25 hours'").await?;
    world.event(&world.a, "member", "d").await;
    let message = sink.once(2).await?.remove(1);
    assert!(!message.signed_with(&first) && message.signed_with(&second));
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
    let working = Working::within(&world, false).await?;
    for webhook in webhooks {
        let told = once(&world, &world.a, webhook, "failed", 1).await?;
        assert_eq!((&told["last_error"], &told["last_status"]), (&json!("its address is not public"), &json!(null)));
    }
    assert_eq!(sink.received().await.len(), 0);
    working.ended().await
}

#[tokio::test]
async fn webhooks_that_cannot_be_are_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    let good = "https://example.org/";
    let (webhook, _) = made(&world, &world.a, good, &[]).await;
    for refused in [
        json!({}),
        json!({"url": "nonsense"}),
        json!({"url": "https://user:sesame@example.org/"}),
        json!({"url": format!("{good}{}", "x".repeat(2_000))}),
        json!({"url": format!("{good}\0")}),
        json!({"url": good, "actions": vec!["x"; 51]}),
        json!({"url": good, "actions": ["x".repeat(201)]}),
        json!({"url": good, "actions": ["\0"]}),
        json!({"url": good, "secret": "mine"}),
        json!({"url": good, "tenant_id": world.b.id}),
    ] {
        let told = world.post(&owner, "/v1/webhooks", refused.clone()).await.expect(422).text;
        assert!(!told.contains("sesame"), "{told}");
        if refused != json!({}) {
            let (method, path, body) = changed(webhook, refused);
            world.call(&owner, method, &path, body).await.expect(422);
        }
    }
    Ok(())
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
    let planted = "INSERT INTO shared.webhook_deliveries (tenant_id, id, webhook_id, event_id) VALUES ($1, $2, $3, $4)";
    let planted = sqlx::query(planted).bind(world.a.id).bind(Uuid::now_v7()).bind(webhook).bind(theirs);
    planted.execute(&mut admin).await?;
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

#[tokio::test]
async fn who_serves_wakes_webhooks_and_who_works_lets_them_come_back_each_for_the_bound_tenant() -> anyhow::Result<()> {
    let world = World::new().await?;
    for (role, statement, code) in [
        ("audit_app", "SELECT postpone_webhook(gen_random_uuid(), now())", "42501"),
        ("audit_worker", "SELECT enqueue_webhooks(ARRAY[gen_random_uuid()])", "42501"),
        ("audit_login", "SELECT enqueue_webhooks(ARRAY[gen_random_uuid()])", "42501"),
        ("audit_app", "SELECT enqueue_webhooks(ARRAY[gen_random_uuid()])", "P0001"),
        ("audit_worker", "SELECT postpone_webhook(gen_random_uuid(), now())", "P0001"),
        ("audit_worker", "UPDATE shared.webhooks SET url = ''", "42501"),
        ("audit_worker", "DELETE FROM shared.webhook_deliveries", "42501"),
        ("audit_app", "UPDATE shared.webhook_deliveries SET attempts = 0", "42501"),
        ("audit_platform", "SELECT count(*) FROM shared.webhooks", "42501"),
    ] {
        let error = world.database.connect(role).await?.execute(statement).await.expect_err(statement);
        let told = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        assert_eq!(told, code, "{role}: {statement}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tenant_that_moves_takes_its_webhooks_along_and_they_go_on() -> anyhow::Result<()> {
    let world = world().await?;
    let (sink, other) = (Sink::open().await?, Sink::open().await?);
    let (webhook, secret) = made(&world, &world.a, &sink.url, &[]).await;
    made(&world, &world.b, &other.url, &[]).await;
    let mut written = vec![world.event(&world.a, "member", "d").await];
    let working = Working::on(&world).await?;
    sink.once(1).await?;
    for to in ["schema", "database", "shared"] {
        moving::tenant(&world.database.url("postgres").parse()?, world.a.id, to).await?;
        written.push(world.event(&world.a, "member", "d").await);
        let received = sink.once(written.len()).await?;
        let last = received.last().expect("one");
        assert!(last.event() == written[written.len() - 1] && last.signed_with(&secret), "in {to}");
        once(&world, &world.a, webhook, "delivered", 1).await?;
        assert_eq!(deliveries(&world, &world.a, webhook).await.len(), written.len(), "in {to}");
    }
    assert_eq!(other.received().await.len(), 0);
    working.ended().await
}
