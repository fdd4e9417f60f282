//! Retention: how long events are kept, and the runs that archive and delete them. A run is done only when it found what
//! was due when it began.
//!
//! Age counts from when an event was recorded. Who sends an event says when it occurred, and must not decide thereby how
//! long it is kept.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, Ids, Params};
use super::job_state::JobState;
use super::page::{List, Page};
use crate::caller::{Allowed, Manages, Oversees};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};

/// Days at most: a hundred years.
const DAYS_MAX: i32 = 36_500;

/// How long events are kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retention {
    /// Events are archived so many days after they were recorded; never, as long as nobody has said.
    pub archive_after_days: Option<i32>,
    /// Archived events are deleted so many days after they were recorded.
    pub delete_after_days: Option<i32>,
    /// Whether nothing is deleted, however old it is.
    pub legal_hold: bool,
    /// When this was said.
    #[serde(with = "time::serde::rfc3339::option")]
    pub updated_at: Option<OffsetDateTime>,
}

/// How long to keep events.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"archive_after_days": 30, "delete_after_days": 365, "legal_hold": false}))]
pub struct PutRetention {
    /// Archive events so many days after they were recorded.
    #[schema(minimum = 1, maximum = 36_500)]
    pub archive_after_days: i32,
    /// Delete archived events so many days after they were recorded: no sooner than they are archived.
    #[schema(minimum = 1, maximum = 36_500)]
    pub delete_after_days: i32,
    /// Delete nothing, however old it is; archiving goes on.
    pub legal_hold: bool,
}

/// A run: what was due when it began, and what it did.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionRun {
    /// Its id.
    pub id: Uuid,
    /// The person who asked for it.
    pub requested_by: Uuid,
    /// How far it is.
    pub state: JobState,
    /// Events recorded before were to be archived.
    #[serde(with = "time::serde::rfc3339::option")]
    pub archive_before: Option<OffsetDateTime>,
    /// Events recorded before were to be deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub delete_before: Option<OffsetDateTime>,
    /// Events that were due to be archived.
    pub archive_due: Option<i64>,
    /// Events that were due to be deleted.
    pub delete_due: Option<i64>,
    /// Events archived.
    pub archived: i64,
    /// Events deleted.
    pub deleted: i64,
    /// Why it failed, or what it left undone.
    pub told: Option<String>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// Tells how long events are kept.
#[utoipa::path(get, path = "/v1/retention", operation_id = "get_retention", security(("bearer" = [])),
    responses((status = 200, description = "How long events are kept", body = Retention),
        Refusals))]
pub async fn get_retention(Allowed(caller, _): Allowed<Oversees>) -> Result<Json<Retention>, Problem> {
    caller.run(|store| Box::pin(store.retention())).await.map(Json)
}

/// Says how long events are kept. Once a legal hold is answered, nothing more is deleted.
#[utoipa::path(put, path = "/v1/retention", operation_id = "put_retention", security(("bearer" = [])), request_body = PutRetention,
    responses((status = 200, description = "Changed", body = Retention),
        Refusals))]
pub async fn put_retention(
    Allowed(caller, _): Allowed<Manages>,
    Body(put): Body<PutRetention>,
) -> Result<Json<Retention>, Problem> {
    if !(1..=put.delete_after_days).contains(&put.archive_after_days) || put.delete_after_days > DAYS_MAX {
        return Err(Problem::Unprocessable(format!(
            "archive_after_days must be 1 or more, delete_after_days no less than that and {DAYS_MAX} at most"
        )));
    }
    caller.run(move |store| Box::pin(async move { store.put_retention(&put).await })).await.map(Json)
}

/// Asks for a run; while one is queued or running, another is a conflict.
#[utoipa::path(post, path = "/v1/retention/runs", operation_id = "create_retention_run", security(("bearer" = [])),
    responses((status = 201, description = "Queued", body = RetentionRun),
        Refusals))]
pub async fn create_retention_run(
    Allowed(caller, _): Allowed<Manages>,
) -> Result<(StatusCode, Json<RetentionRun>), Problem> {
    let by = caller.id;
    let added = caller.run(move |store| Box::pin(store.add_retention_run(by))).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Lists runs.
#[utoipa::path(get, path = "/v1/retention/runs", operation_id = "list_retention_runs", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<RetentionRun>),
        Refusals))]
pub async fn list_retention_runs(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Params(page): Params<Page>,
) -> Result<Json<List<RetentionRun>>, Problem> {
    let position = |run: &RetentionRun| Position::of_id(run.id);
    page.answer(&app, &caller, "retention runs".into(), position, |store, asked| {
        Box::pin(async move {
            let items = store.retention_runs(asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count("retention_runs").await?) } else { None }))
        })
    })
    .await
}

/// Reads a run: how far it is, how many events it archived and deleted.
#[utoipa::path(get, path = "/v1/retention/runs/{id}", operation_id = "get_retention_run", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The run")),
    responses((status = 200, description = "The run", body = RetentionRun),
        Refusals))]
pub async fn get_retention_run(
    Allowed(caller, _): Allowed<Oversees>,
    Ids([id]): Ids<1>,
) -> Result<Json<RetentionRun>, Problem> {
    caller.run(move |store| Box::pin(store.retention_run(id))).await.map(Json)
}
