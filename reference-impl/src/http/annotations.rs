//! Annotations on events.

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
use crate::caller::{Allowed, Annotates, Caller, Role, SearchesEvents};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};

/// An annotation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Annotation {
    /// Its id.
    pub id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// Who wrote it.
    pub author_id: Uuid,
    /// The note.
    pub body: String,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A note.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The note.
    #[schema(max_length = 4000)]
    pub body: String,
}

/// Annotates an event.
#[utoipa::path(post, path = "/v1/events/{id}/annotations", operation_id = "create_annotation", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event")), request_body = Note,
    responses((status = 201, description = "Written", body = Annotation),
        Refusals))]
pub async fn create_annotation(
    Allowed(caller, _): Allowed<Annotates>,
    Ids([event]): Ids<1>,
    Body(note): Body<Note>,
) -> Result<(StatusCode, Json<Annotation>), Problem> {
    text("body", &note.body, 4000)?;
    let (author, sight) = (caller.id, caller.sight.clone());
    let made =
        caller.run(move |store| Box::pin(async move { store.annotate(event, &sight, author, &note.body).await }));
    Ok((StatusCode::CREATED, Json(made.await?)))
}

/// Lists an event's annotations.
#[utoipa::path(get, path = "/v1/events/{id}/annotations", operation_id = "list_annotations", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), Page),
    responses((status = 200, description = "A page", body = List<Annotation>),
        Refusals))]
pub async fn list_annotations(
    State(app): State<App>,
    Allowed(caller, _): Allowed<SearchesEvents>,
    Ids([event]): Ids<1>,
    Params(page): Params<Page>,
) -> Result<Json<List<Annotation>>, Problem> {
    let sight = caller.sight.clone();
    let position = |annotation: &Annotation| Position::of_id(annotation.id);
    page.answer(&app, &caller, format!("annotations {event}"), position, move |store, asked| {
        Box::pin(async move {
            let items = store.annotations(event, &sight, asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_annotations(event).await?) } else { None }))
        })
    })
    .await
}

/// Reads an annotation.
#[utoipa::path(get, path = "/v1/events/{id}/annotations/{aid}", operation_id = "get_annotation", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), ("aid" = Uuid, Path, description = "The annotation")),
    responses((status = 200, description = "The annotation", body = Annotation),
        Refusals))]
pub async fn get_annotation(
    Allowed(caller, _): Allowed<SearchesEvents>,
    Ids([event, id]): Ids<2>,
) -> Result<Json<Annotation>, Problem> {
    let sight = caller.sight.clone();
    caller.run(move |store| Box::pin(async move { store.annotation(event, id, &sight).await })).await.map(Json)
}

/// Members change only what they wrote themselves.
fn author(caller: &Caller) -> Option<Uuid> {
    (caller.role == Role::Member).then_some(caller.id)
}

/// Changes an annotation.
#[utoipa::path(patch, path = "/v1/events/{id}/annotations/{aid}", operation_id = "update_annotation", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), ("aid" = Uuid, Path, description = "The annotation")), request_body = Note,
    responses((status = 200, description = "Changed", body = Annotation),
        Refusals))]
pub async fn update_annotation(
    Allowed(caller, _): Allowed<Annotates>,
    Ids([event, id]): Ids<2>,
    Body(note): Body<Note>,
) -> Result<Json<Annotation>, Problem> {
    text("body", &note.body, 4000)?;
    let author = author(&caller);
    let changed =
        caller.run(move |store| Box::pin(async move { store.change_annotation(event, id, author, &note.body).await }));
    changed.await.map(Json)
}

/// Deletes an annotation.
#[utoipa::path(delete, path = "/v1/events/{id}/annotations/{aid}", operation_id = "delete_annotation", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), ("aid" = Uuid, Path, description = "The annotation")),
    responses((status = 204, description = "Deleted"),
        Refusals))]
pub async fn delete_annotation(
    Allowed(caller, _): Allowed<Annotates>,
    Ids([event, id]): Ids<2>,
) -> Result<StatusCode, Problem> {
    let author = author(&caller);
    caller.run(move |store| Box::pin(store.delete_annotation(event, id, author))).await?;
    Ok(StatusCode::NO_CONTENT)
}
