//! Webhooks: a tenant's events, sent to receivers of its own. Each event arrives at least once and in no particular
//! order, signed as Standard Webhooks has it (<https://www.standardwebhooks.com>): a receiver drops what it has seen by
//! `webhook-id`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, Ids, Params, text};
use super::page::{List, Page};
use crate::caller::{Allowed, Manages, Oversees};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};
use crate::reach::{Reach, URL_MAX};

/// Actions that a webhook names at most.
const ACTIONS_MAX: usize = 50;

/// A webhook, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Webhook {
    /// Its id.
    pub id: Uuid,
    /// Where events are sent.
    pub url: String,
    /// Which: whole actions, or how they begin, before a `*`; all when there is none.
    pub actions: Vec<String>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// The person who made it.
    pub created_by: Uuid,
    /// The person who made or last changed it: once this one manages the tenant no more, nothing is sent.
    pub kept_by: Uuid,
    /// When its secret was last replaced.
    #[serde(with = "time::serde::rfc3339::option")]
    pub rotated_at: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A webhook whose secret was just made: the only time that it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownWebhook {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// What its signatures are verified with; absent when the secret stays as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A new webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.org/hook", "actions": ["document.*"]}))]
pub struct NewWebhook {
    /// Where to send events: http or https, to a public address, without credentials or a fragment.
    #[schema(max_length = 2000, format = "uri")]
    pub url: String,
    /// Which: whole actions, or how they begin, before a `*`; all when there is none.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub actions: Vec<String>,
    /// Whether to send anything yet.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// What to change about a webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookChange {
    /// Where to send events.
    #[serde(default)]
    #[schema(max_length = 2000, format = "uri")]
    pub url: Option<String>,
    /// Which.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub actions: Option<Vec<String>>,
    /// Whether anything is sent; what comes due while nothing is, is cancelled.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Whether to make a new secret; the one before signs besides it for 24 hours.
    #[serde(default)]
    pub rotate_secret: bool,
}

/// Refuses what cannot be kept, or sent to.
fn check(reach: Reach, url: Option<&str>, actions: Option<&[String]>) -> Result<(), Problem> {
    if let Some(url) = url {
        text("url", url, URL_MAX)?;
        reach.url(url).map_err(|what| Problem::Unprocessable(format!("url: {what}")))?;
    }
    let actions = actions.unwrap_or_default();
    if actions.len() > ACTIONS_MAX {
        return Err(Problem::Unprocessable(format!("a webhook names {ACTIONS_MAX} actions at most")));
    }
    actions.iter().try_for_each(|action| text("actions", action, 200))
}

/// Makes a webhook. A tenant has 20 at most unless the operator allows another number; 409 beyond.
#[utoipa::path(post, path = "/v1/webhooks", operation_id = "create_webhook", security(("bearer" = [])), request_body = NewWebhook,
    responses((status = 201, description = "Made", body = ShownWebhook),
        Refusals))]
pub async fn create_webhook(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Manages>,
    Body(new): Body<NewWebhook>,
) -> Result<(StatusCode, Json<ShownWebhook>), Problem> {
    check(app.reach, Some(&new.url), Some(&new.actions))?;
    let (by, most) = (caller.id, app.webhooks_max);
    let adding = caller.run(move |store| Box::pin(async move { store.add_webhook(by, &new, most).await }));
    let (webhook, of) = adding.await?;
    Ok((StatusCode::CREATED, Json(ShownWebhook { webhook, secret: Some(app.webhook_keys.shown(of)) })))
}

/// Lists webhooks.
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "list_webhooks", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<Webhook>),
        Refusals))]
pub async fn list_webhooks(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Params(page): Params<Page>,
) -> Result<Json<List<Webhook>>, Problem> {
    let position = |webhook: &Webhook| Position::of_id(webhook.id);
    page.answer(&app, &caller, "webhooks".into(), position, |store, asked| {
        Box::pin(async move {
            let items = store.webhooks(asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count("webhooks").await?) } else { None }))
        })
    })
    .await
}

/// Reads a webhook.
#[utoipa::path(get, path = "/v1/webhooks/{id}", operation_id = "get_webhook", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The webhook")),
    responses((status = 200, description = "The webhook", body = Webhook),
        Refusals))]
pub async fn get_webhook(Allowed(caller, _): Allowed<Oversees>, Ids([id]): Ids<1>) -> Result<Json<Webhook>, Problem> {
    caller.run(move |store| Box::pin(store.webhook(id))).await.map(Json)
}

/// Changes a webhook, or replaces its secret; who changes it keeps it from now on.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", operation_id = "update_webhook", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The webhook")), request_body = WebhookChange,
    responses((status = 200, description = "Changed", body = ShownWebhook),
        Refusals))]
pub async fn update_webhook(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Manages>,
    Ids([id]): Ids<1>,
    Body(change): Body<WebhookChange>,
) -> Result<Json<ShownWebhook>, Problem> {
    check(app.reach, change.url.as_deref(), change.actions.as_deref())?;
    let (by, rotated) = (caller.id, change.rotate_secret);
    let changing = caller.run(move |store| Box::pin(async move { store.change_webhook(id, by, &change).await }));
    let (webhook, of) = changing.await?;
    Ok(Json(ShownWebhook { webhook, secret: rotated.then(|| app.webhook_keys.shown(of)) }))
}

/// Deletes a webhook and its deliveries: what is not sent yet never is.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", operation_id = "delete_webhook", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The webhook")),
    responses((status = 204, description = "Deleted"),
        Refusals))]
pub async fn delete_webhook(Allowed(caller, _): Allowed<Manages>, Ids([id]): Ids<1>) -> Result<StatusCode, Problem> {
    caller.run(move |store| Box::pin(store.delete_webhook(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}
