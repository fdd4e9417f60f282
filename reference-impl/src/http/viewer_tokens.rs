//! Viewer tokens: who holds one sees the events of one actor, or of one target, until it ends.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, Ids, Params, maybe_object, text};
use super::page::{List, Page};
use crate::caller::{Allowed, Manages};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};
use crate::token;

/// A token lives for so long at most, and when nothing else is asked for.
const LIFE_MAX: Duration = Duration::days(30);

/// A viewer token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewerToken {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Whose events it shows.
    pub actor_id: Option<Uuid>,
    /// Or: the type of the target whose events it shows.
    pub target_type: Option<String>,
    /// And that target's id.
    pub target_id: Option<String>,
    /// When it ends by itself.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// A token that was just made: the only time its secret is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeViewerToken {
    /// The token.
    #[serde(flatten)]
    pub token: ViewerToken,
    /// What to send as bearer.
    pub secret: String,
}

/// A new token: for one actor, or for one target.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "for the customer's own page", "actor_id": "0190a5d4-0000-7000-8000-000000000001"}))]
pub struct NewViewerToken {
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
    /// Whose events it shows.
    #[serde(default)]
    pub actor_id: Option<Uuid>,
    /// Or: of which target.
    #[serde(default, deserialize_with = "maybe_object")]
    pub target: Option<Narrowing>,
    /// How long it lives, seconds; 30 days when absent, and at most.
    #[serde(default)]
    #[schema(minimum = 60, maximum = 2_592_000)]
    pub life_s: Option<i64>,
}

/// The target that a token is narrowed to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// Its type.
    #[serde(rename = "type")]
    #[schema(max_length = 100)]
    pub kind: String,
    /// Its id.
    #[schema(max_length = 200)]
    pub id: String,
}

/// Makes a viewer token.
#[utoipa::path(post, path = "/v1/viewer-tokens", operation_id = "create_viewer_token", security(("bearer" = [])), request_body = NewViewerToken,
    responses((status = 201, description = "Made", body = MadeViewerToken),
        Refusals))]
pub async fn create_viewer_token(
    Allowed(caller, _): Allowed<Manages>,
    Body(new): Body<NewViewerToken>,
) -> Result<(StatusCode, Json<MadeViewerToken>), Problem> {
    text("name", &new.name, 200)?;
    if new.actor_id.is_some() == new.target.is_some() {
        return Err(Problem::Unprocessable("name either actor_id or target".into()));
    }
    if let Some(target) = &new.target {
        text("target.type", &target.kind, 100)?;
        text("target.id", &target.id, 200)?;
    }
    let life = new.life_s.map_or(LIFE_MAX, Duration::seconds);
    if !(Duration::minutes(1)..=LIFE_MAX).contains(&life) {
        return Err(Problem::Unprocessable("life_s must be between a minute and 30 days".into()));
    }
    let secret = token::secret("vt_");
    let hash = token::hash(&secret);
    let made = caller.run(move |store| {
        Box::pin(async move {
            let target = new.target.as_ref().map(|target| (target.kind.as_str(), target.id.as_str()));
            let expires_at = OffsetDateTime::now_utc() + life;
            store.add_viewer_token(&new.name, &hash, new.actor_id, target, expires_at).await
        })
    });
    Ok((StatusCode::CREATED, Json(MadeViewerToken { token: made.await?, secret })))
}

/// Lists viewer tokens.
#[utoipa::path(get, path = "/v1/viewer-tokens", operation_id = "list_viewer_tokens", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<ViewerToken>),
        Refusals))]
pub async fn list_viewer_tokens(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Manages>,
    Params(page): Params<Page>,
) -> Result<Json<List<ViewerToken>>, Problem> {
    let position = |token: &ViewerToken| Position::of_id(token.id);
    page.answer(&app, &caller, "viewer tokens".into(), position, |store, asked| {
        Box::pin(async move {
            let items = store.viewer_tokens(asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_in_directory("viewer_tokens").await?) } else { None }))
        })
    })
    .await
}

/// Reads a viewer token.
#[utoipa::path(get, path = "/v1/viewer-tokens/{id}", operation_id = "get_viewer_token", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The token")),
    responses((status = 200, description = "The token", body = ViewerToken),
        Refusals))]
pub async fn get_viewer_token(
    Allowed(caller, _): Allowed<Manages>,
    Ids([id]): Ids<1>,
) -> Result<Json<ViewerToken>, Problem> {
    caller.run(move |store| Box::pin(store.viewer_token(id))).await.map(Json)
}

/// Revokes a viewer token.
#[utoipa::path(delete, path = "/v1/viewer-tokens/{id}", operation_id = "revoke_viewer_token", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The token")),
    responses((status = 204, description = "Revoked"),
        Refusals))]
pub async fn revoke_viewer_token(
    Allowed(caller, _): Allowed<Manages>,
    Ids([id]): Ids<1>,
) -> Result<StatusCode, Problem> {
    caller.run(move |store| Box::pin(store.revoke_viewer_token(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}
