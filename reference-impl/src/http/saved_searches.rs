//! Saved searches: members keep their own; who reads all events sees and tends all searches.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, Ids, Params, maybe_object, object, text};
use super::page::{List, Page};
use crate::caller::{Allowed, Caller, Role, Searches};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};

/// A search that is kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct SavedSearch {
    /// Its id.
    pub id: Uuid,
    /// The person who keeps it.
    pub owner_id: Uuid,
    /// Its name.
    pub name: String,
    /// What it looks for.
    pub query: SavedQuery,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// What a search looks for: the parameters of a list of events.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedQuery {
    /// Words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub q: Option<String>,
    /// The actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Uuid>,
    /// The action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub action: Option<String>,
    /// The target's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub target_type: Option<String>,
    /// The target's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub target_id: Option<String>,
}

impl SavedQuery {
    fn check(&self) -> Result<(), Problem> {
        let texts = [
            ("query.q", &self.q, 500),
            ("query.action", &self.action, 200),
            ("query.target_type", &self.target_type, 200),
            ("query.target_id", &self.target_id, 200),
        ];
        texts.into_iter().try_for_each(|(name, value, most)| text(name, value.as_deref().unwrap_or_default(), most))
    }
}

/// A search to keep.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSavedSearch {
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
    /// What it looks for.
    #[serde(deserialize_with = "object")]
    pub query: SavedQuery,
}

/// What to change about a search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedSearchChange {
    /// The name.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    /// What it looks for.
    #[serde(default, deserialize_with = "maybe_object")]
    pub query: Option<SavedQuery>,
}

/// Whose searches the caller tends: a member its own, everyone else all.
fn whose(caller: &Caller) -> Option<Uuid> {
    (caller.role == Role::Member).then_some(caller.id)
}

/// Keeps a search.
#[utoipa::path(post, path = "/v1/saved-searches", operation_id = "create_saved_search", security(("bearer" = [])), request_body = NewSavedSearch,
    responses((status = 201, description = "Kept", body = SavedSearch),
        Refusals))]
pub async fn create_saved_search(
    Allowed(caller, _): Allowed<Searches>,
    Body(new): Body<NewSavedSearch>,
) -> Result<(StatusCode, Json<SavedSearch>), Problem> {
    text("name", &new.name, 200)?;
    new.query.check()?;
    let owner = caller.id;
    let kept = caller
        .run(move |store| Box::pin(async move { store.add_saved_search(owner, &new.name, &new.query).await }))
        .await?;
    Ok((StatusCode::CREATED, Json(kept)))
}

/// Lists searches.
#[utoipa::path(get, path = "/v1/saved-searches", operation_id = "list_saved_searches", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<SavedSearch>),
        Refusals))]
pub async fn list_saved_searches(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Searches>,
    Params(page): Params<Page>,
) -> Result<Json<List<SavedSearch>>, Problem> {
    let owner = whose(&caller);
    let position = |search: &SavedSearch| Position::of_id(search.id);
    page.answer(&app, &caller, format!("saved searches {owner:?}"), position, move |store, asked| {
        Box::pin(async move {
            let items = store.saved_searches(owner, asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_saved_searches(owner).await?) } else { None }))
        })
    })
    .await
}

/// Reads a search.
#[utoipa::path(get, path = "/v1/saved-searches/{id}", operation_id = "get_saved_search", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The search")),
    responses((status = 200, description = "The search", body = SavedSearch),
        Refusals))]
pub async fn get_saved_search(
    Allowed(caller, _): Allowed<Searches>,
    Ids([id]): Ids<1>,
) -> Result<Json<SavedSearch>, Problem> {
    let owner = whose(&caller);
    caller.run(move |store| Box::pin(store.saved_search(id, owner))).await.map(Json)
}

/// Changes a search.
#[utoipa::path(patch, path = "/v1/saved-searches/{id}", operation_id = "update_saved_search", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The search")), request_body = SavedSearchChange,
    responses((status = 200, description = "Changed", body = SavedSearch),
        Refusals))]
pub async fn update_saved_search(
    Allowed(caller, _): Allowed<Searches>,
    Ids([id]): Ids<1>,
    Body(change): Body<SavedSearchChange>,
) -> Result<Json<SavedSearch>, Problem> {
    text("name", change.name.as_deref().unwrap_or_default(), 200)?;
    change.query.as_ref().map_or(Ok(()), SavedQuery::check)?;
    let owner = whose(&caller);
    let changed = caller.run(move |store| {
        Box::pin(
            async move { store.change_saved_search(id, owner, change.name.as_deref(), change.query.as_ref()).await },
        )
    });
    changed.await.map(Json)
}

/// Forgets a search.
#[utoipa::path(delete, path = "/v1/saved-searches/{id}", operation_id = "delete_saved_search", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The search")),
    responses((status = 204, description = "Forgotten"),
        Refusals))]
pub async fn delete_saved_search(
    Allowed(caller, _): Allowed<Searches>,
    Ids([id]): Ids<1>,
) -> Result<StatusCode, Problem> {
    let owner = whose(&caller);
    caller.run(move |store| Box::pin(store.delete_saved_search(id, owner))).await?;
    Ok(StatusCode::NO_CONTENT)
}
