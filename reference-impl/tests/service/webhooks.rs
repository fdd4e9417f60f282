//! Webhooks themselves: what can be one, who is shown its secret, what stops it, and where it goes with its tenant.

use axum::http::Method;
use futures_util::future::join_all;
use partywall_reference::config::WEBHOOKS;
use partywall_reference::storage::moving;
use serde_json::{Value, json};
use sqlx::Executor;
use uuid::Uuid;

use crate::receiver::{Sink, deliveries, made, once, world};
use crate::working::{Working, count, until};
use crate::world::{World, event};

fn changed(path: Uuid, change: Value) -> (Method, String, Option<Value>) {
    (Method::PATCH, format!("/v1/webhooks/{path}"), Some(change))
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
    let mut admin = world.at_home(&world.a, "postgres").await?;
    let kept: Vec<String> = sqlx::query_scalar("SELECT w::text FROM webhooks w").fetch_all(&mut admin).await?;
    for text in unshown.iter().chain(&kept) {
        assert!([&first, &second].iter().all(|secret| !text.contains(&secret[6..])), "{text}");
        assert!(!text.contains("secret\""), "{text}");
    }
    // Both sign for a while, so that no message is lost while the receiver changes over.
    world.event(&world.a, "member", "d").await;
    let working = Working::on(&world).await?;
    let message = sink.once(1).await?.remove(0);
    assert!(message.signed_with(&first) && message.signed_with(&second));
    world.sql(&world.a, "UPDATE webhooks SET rotated_at = now() - interval '25 hours'").await?;
    world.event(&world.a, "member", "d").await;
    let message = sink.once(2).await?.remove(1);
    assert!(!message.signed_with(&first) && message.signed_with(&second));
    working.ended().await
}

#[tokio::test]
async fn a_tenant_has_so_many_webhooks_at_most_also_when_they_are_made_at_once() -> anyhow::Result<()> {
    let most = 7;
    let world = World::with(|settings| settings.webhooks = most).await?;
    let owner = world.token(&world.a, "owner").await;
    let good = || json!({"url": "https://example.org/"});
    let most = usize::try_from(most)?;
    let asked: Vec<_> = (0..most + 5).map(|_| world.post(&owner, "/v1/webhooks", good())).collect();
    let answers = join_all(asked).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, most);
    for refused in answers.into_iter().filter(|answer| answer.status != 201) {
        let told = refused.expect(409).json()["detail"].to_string();
        assert!(told.contains(&format!("{most} webhooks at most")), "{told}");
    }
    let all = world.get(&owner, "/v1/webhooks?limit=200&count=true").await.expect(200);
    assert_eq!((all.ids().len(), &all.json()["total"]), (most, &json!(most)));
    let theirs = world.token(&world.b, "owner").await;
    world.post(&theirs, "/v1/webhooks", good()).await.expect(201);
    world.call(&owner, Method::DELETE, &format!("/v1/webhooks/{}", all.ids()[0]), None).await.expect(204);
    world.post(&owner, "/v1/webhooks", good()).await.expect(201);
    world.post(&owner, "/v1/webhooks", good()).await.expect(409);
    let document = world.get("", "/openapi.json").await.expect(200).json();
    let described = document["paths"]["/v1/webhooks"]["post"]["summary"].to_string();
    assert!(described.contains(&format!("{WEBHOOKS} at most")), "{described}");
    Ok(())
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
async fn who_serves_wakes_webhooks_and_who_works_lets_them_come_back_each_for_the_bound_tenant() -> anyhow::Result<()> {
    let world = World::new().await?;
    for (role, statement, code) in [
        ("audit_app", "SELECT postpone_webhook(gen_random_uuid(), now())", "42501"),
        ("audit_worker", "SELECT enqueue_webhooks(ARRAY[gen_random_uuid()])", "42501"),
        ("audit_login", "SELECT enqueue_webhooks(ARRAY[gen_random_uuid()])", "42501"),
        ("audit_app", "SELECT enqueue_webhooks(ARRAY[gen_random_uuid()])", "P0001"),
        ("audit_worker", "SELECT postpone_webhook(gen_random_uuid(), now())", "P0001"),
        ("audit_worker", "UPDATE shared.webhooks SET url = ''", "42501"),
        ("audit_worker", "INSERT INTO shared.webhook_deliveries DEFAULT VALUES", "42501"),
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

#[tokio::test]
async fn an_event_that_is_written_while_a_webhook_is_deleted_is_kept() -> anyhow::Result<()> {
    let world = world().await?;
    let (webhook, _) = made(&world, &world.a, "https://example.org/", &[]).await;
    let mut deleting = world.at_home(&world.a, "postgres").await?;
    deleting.execute("BEGIN; SELECT FROM webhooks FOR UPDATE").await?;
    let deleted = async {
        until("a writer that waits", async || {
            let waits =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            Ok((world.count(&world.a, waits).await? == 1).then_some(()))
        })
        .await?;
        deleting.execute("DELETE FROM webhooks; COMMIT").await?;
        anyhow::Ok(())
    };
    let (_, deleted) = tokio::join!(world.event(&world.a, "member", "d"), deleted);
    deleted?;
    let owner = world.token(&world.a, "owner").await;
    world.get(&owner, &format!("/v1/webhooks/{webhook}")).await.expect(404);
    assert_eq!(world.get(&owner, "/v1/events?count=true").await.expect(200).json()["total"], 1);
    Ok(())
}
