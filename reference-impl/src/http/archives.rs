//! Archives: events that a retention run has put into the object store, and the way back.
//!
//! An archive is NDJSON, compressed with zstd: one line an event, `{"event": …, "annotations": […], "attachments": […]}`.
//! The text of `event` is that of `GET /v1/events/{id}`, byte by byte, so that its proof holds for the archive, too. Of
//! attachments it holds what is known of them; their bytes go when their event is deleted.
//!
//! What is restored is kept for 30 days at least, then deleted again by the next run whose time has come.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Ids, Params};
use super::job_state::JobState;
use super::page::{List, Page};
use crate::caller::{Allowed, Manages, Oversees};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};

/// An archive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Archive {
    /// Its id.
    pub id: Uuid,
    /// The run that wrote it.
    pub run_id: Uuid,
    /// Events in it.
    pub rows: i64,
    /// When the first of them was recorded.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_from: OffsetDateTime,
    /// When the last of them was recorded.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_to: OffsetDateTime,
    /// Its size, bytes.
    pub size_bytes: i64,
    /// The SHA-256 of its bytes, as hex.
    pub sha256: String,
    /// When it was read again and found to be what was written.
    #[serde(with = "time::serde::rfc3339::option")]
    pub verified_at: Option<OffsetDateTime>,
    /// How far its restoring is; null when nobody has asked for it.
    pub restore_state: Option<JobState>,
    /// Events that were put back; those that were still there are not among them.
    pub restored: Option<i64>,
    /// Why it could not be restored.
    pub restore_told: Option<String>,
    /// Its events are not deleted before.
    #[serde(with = "time::serde::rfc3339::option")]
    pub kept_until: Option<OffsetDateTime>,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Lists archives.
#[utoipa::path(get, path = "/v1/archives", operation_id = "list_archives", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<Archive>),
        Refusals))]
pub async fn list_archives(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Params(page): Params<Page>,
) -> Result<Json<List<Archive>>, Problem> {
    let position = |archive: &Archive| Position::of_id(archive.id);
    page.answer(&app, &caller, "archives".into(), position, |store, asked| {
        Box::pin(async move {
            let items = store.archives(asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count("archives").await?) } else { None }))
        })
    })
    .await
}

/// Asks for an archive's events, and their annotations, to be put back under the same ids. What is still there stays as
/// it is, however often this is asked.
#[utoipa::path(post, path = "/v1/archives/{id}/restore", operation_id = "restore_archive", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The archive")),
    responses((status = 202, description = "Queued; the list of archives tells how far it is", body = Archive),
        Refusals))]
pub async fn restore_archive(
    Allowed(caller, _): Allowed<Manages>,
    Ids([id]): Ids<1>,
) -> Result<(StatusCode, Json<Archive>), Problem> {
    let queued = caller.run(move |store| Box::pin(store.ask_to_restore(id))).await?;
    Ok((StatusCode::ACCEPTED, Json(queued)))
}
