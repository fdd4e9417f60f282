//! A receiver of webhooks on this machine, and what the tests ask of it and of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::working::until;
use crate::world::{Tenant, World};

/// What a receiver was sent.
#[derive(Clone)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn id(&self) -> Uuid {
        self.headers["webhook-id"].to_str().ok().and_then(|id| id.parse().ok()).expect("an id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn event(&self) -> Uuid {
        self.json()["data"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an event")
    }

    pub fn signed_with(&self, secret: &str) -> bool {
        Webhook::new(secret).expect("a secret").verify(&self.body, &self.headers).is_ok()
    }
}

#[derive(Clone, Default)]
struct Heard {
    all: Arc<Mutex<Vec<Received>>>,
    status: Arc<AtomicU16>,
}

/// A receiver on this machine.
pub struct Sink {
    heard: Heard,
    pub url: String,
}

/// Status 0 stands for no answer at all.
pub const SILENCE: u16 = 0;

impl Sink {
    pub async fn open() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let heard = Heard::default();
        heard.status.store(200, Ordering::SeqCst);
        let router = axum::Router::new().fallback(taken).with_state(heard.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { heard, url })
    }

    pub fn answers(&self, status: u16) {
        self.heard.status.store(status, Ordering::SeqCst);
    }

    pub async fn received(&self) -> Vec<Received> {
        self.heard.all.lock().await.clone()
    }

    /// What was received once it is `count` at least.
    pub async fn once(&self, count: usize) -> anyhow::Result<Vec<Received>> {
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
pub async fn world() -> anyhow::Result<World> {
    World::with(|settings| settings.webhook_private = true).await
}

/// Makes a webhook; its id and its secret.
pub async fn made(world: &World, tenant: &Tenant, url: &str, actions: &[&str]) -> (Uuid, String) {
    let owner = world.token(tenant, "owner").await;
    let made = world.post(&owner, "/v1/webhooks", json!({"url": url, "actions": actions})).await.expect(201);
    (made.id(), made.json()["secret"].as_str().expect("a secret").to_string())
}

pub async fn deliveries(world: &World, tenant: &Tenant, webhook: Uuid) -> Vec<Value> {
    let owner = world.token(tenant, "owner").await;
    let listed = world.get(&owner, &format!("/v1/webhooks/{webhook}/deliveries?limit=200")).await.expect(200).json();
    listed["items"].as_array().expect("items").clone()
}

/// The newest delivery, once it is `state` after `attempts`.
pub async fn once(world: &World, tenant: &Tenant, webhook: Uuid, state: &str, attempts: i64) -> anyhow::Result<Value> {
    until(&format!("{state} after {attempts}"), async || {
        let newest = deliveries(world, tenant, webhook).await.into_iter().next();
        Ok(newest.filter(|one| one["state"] == state && one["attempts"].as_i64() >= Some(attempts)))
    })
    .await
}

/// Lets what waits be due at once, as if the pause were over.
pub async fn no_pause(world: &World) -> anyhow::Result<()> {
    for tenant in [&world.a, &world.b] {
        world.sql(tenant, "UPDATE webhook_deliveries SET due_at = now() WHERE state = 'waiting'").await?;
    }
    world.database.sql("UPDATE graphile_worker._private_jobs SET run_at = now()").await
}
