//! API keys of the tenant.

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
use crate::caller::{Allowed, Manages};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};
use crate::token;

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// A key that was just made: the only time its secret is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeApiKey {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKey,
    /// What to send as bearer.
    pub secret: String,
}

/// A new key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
}

/// Makes an API key.
#[utoipa::path(post, path = "/v1/api-keys", operation_id = "create_api_key", security(("bearer" = [])), request_body = NewApiKey,
    responses((status = 201, description = "Made", body = MadeApiKey),
        Refusals))]
pub async fn create_api_key(
    Allowed(caller, _): Allowed<Manages>,
    Body(new): Body<NewApiKey>,
) -> Result<(StatusCode, Json<MadeApiKey>), Problem> {
    text("name", &new.name, 200)?;
    let secret = token::secret("ak_");
    let hash = token::hash(&secret);
    let key = caller.run(move |store| Box::pin(async move { store.add_api_key(&new.name, &hash).await })).await?;
    Ok((StatusCode::CREATED, Json(MadeApiKey { key, secret })))
}

/// Lists API keys.
#[utoipa::path(get, path = "/v1/api-keys", operation_id = "list_api_keys", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<ApiKey>),
        Refusals))]
pub async fn list_api_keys(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Manages>,
    Params(page): Params<Page>,
) -> Result<Json<List<ApiKey>>, Problem> {
    let position = |key: &ApiKey| Position::of_id(key.id);
    page.answer(&app, &caller, "api keys".into(), position, |store, asked| {
        Box::pin(async move {
            let items = store.api_keys(asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_in_directory("api_keys").await?) } else { None }))
        })
    })
    .await
}

/// Reads an API key.
#[utoipa::path(get, path = "/v1/api-keys/{id}", operation_id = "get_api_key", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The key")),
    responses((status = 200, description = "The key", body = ApiKey),
        Refusals))]
pub async fn get_api_key(Allowed(caller, _): Allowed<Manages>, Ids([id]): Ids<1>) -> Result<Json<ApiKey>, Problem> {
    caller.run(move |store| Box::pin(store.api_key(id))).await.map(Json)
}

/// Revokes an API key.
#[utoipa::path(delete, path = "/v1/api-keys/{id}", operation_id = "revoke_api_key", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The key")),
    responses((status = 204, description = "Revoked"),
        Refusals))]
pub async fn revoke_api_key(Allowed(caller, _): Allowed<Manages>, Ids([id]): Ids<1>) -> Result<StatusCode, Problem> {
    caller.run(move |store| Box::pin(store.revoke_api_key(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}
