//! Exports: events as a file, written by a job and fetched once it is done.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::download::download;
use super::events::{EventFilter, Sort};
use super::extract::{Body, Ids, Params, object};
use super::job_state::JobState;
use super::page::{List, Page};
use crate::caller::{Allowed, Oversees};
use crate::cursor::Position;
use crate::objects::{Kind, Object};
use crate::problem::{Problem, Refusals};
use crate::store::events::Filter;

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated, one row an event, with a header; safe to open in a spreadsheet.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// The word, and the file's extension.
    pub fn word(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// Which events: the parameters of a list of events.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportFilter {
    /// Only this actor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Uuid>,
    /// Only this action.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub action: Option<String>,
    /// Only targets of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub target_type: Option<String>,
    /// Only this target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub target_id: Option<String>,
    /// From this instant on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub from: Option<String>,
    /// Before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub to: Option<String>,
    /// Newest or oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
}

impl ExportFilter {
    /// What the store is asked for.
    ///
    /// # Errors
    /// A value that no list of events takes.
    pub fn filter(self) -> Result<Filter, Problem> {
        let Self { actor, action, target_type, target_id, from, to, sort } = self;
        EventFilter { actor, action, target_type, target_id, from, to, sort }.filter()
    }
}

impl From<EventFilter> for ExportFilter {
    fn from(list: EventFilter) -> Self {
        let EventFilter { actor, action, target_type, target_id, from, to, sort } = list;
        Self { actor, action, target_type, target_id, from, to, sort }
    }
}

/// An export.
#[derive(Debug, Serialize, ToSchema)]
pub struct Export {
    /// Its id.
    pub id: Uuid,
    /// The person who asked for it.
    pub requested_by: Uuid,
    /// How the file is written.
    pub format: Format,
    /// Which events.
    pub filter: ExportFilter,
    /// How far it is.
    pub state: JobState,
    /// Events in the file.
    pub rows: Option<i64>,
    /// The file's size, bytes.
    pub size_bytes: Option<i64>,
    /// The SHA-256 of the file, as hex.
    pub sha256: Option<String>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// What to export.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"format": "csv", "filter": {"action": "document.shared"}}))]
pub struct NewExport {
    /// How the file is written.
    pub format: Format,
    /// Which events; all when absent.
    #[serde(default, deserialize_with = "object")]
    pub filter: ExportFilter,
}

/// Asks for an export.
#[utoipa::path(post, path = "/v1/exports", operation_id = "create_export", security(("bearer" = [])), request_body = NewExport,
    responses((status = 201, description = "Queued", body = Export),
        Refusals))]
pub async fn create_export(
    Allowed(caller, _): Allowed<Oversees>,
    Body(new): Body<NewExport>,
) -> Result<(StatusCode, Json<Export>), Problem> {
    // In a query it is a bad request; in a body, one that cannot be followed.
    new.filter.clone().filter().map_err(|problem| match problem {
        Problem::BadRequest(why) => Problem::Unprocessable(why),
        problem => problem,
    })?;
    let by = caller.id;
    let added =
        caller.run(move |store| Box::pin(async move { store.add_export(by, new.format, &new.filter).await })).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Lists exports.
#[utoipa::path(get, path = "/v1/exports", operation_id = "list_exports", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<Export>),
        Refusals))]
pub async fn list_exports(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Params(page): Params<Page>,
) -> Result<Json<List<Export>>, Problem> {
    let position = |export: &Export| Position::of_id(export.id);
    page.answer(&app, &caller, "exports".into(), position, |store, asked| {
        Box::pin(async move {
            let items = store.exports(asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count("exports").await?) } else { None }))
        })
    })
    .await
}

/// Reads an export: how far it is.
#[utoipa::path(get, path = "/v1/exports/{id}", operation_id = "get_export", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The export")),
    responses((status = 200, description = "The export", body = Export),
        Refusals))]
pub async fn get_export(Allowed(caller, _): Allowed<Oversees>, Ids([id]): Ids<1>) -> Result<Json<Export>, Problem> {
    caller.run(move |store| Box::pin(store.export(id))).await.map(Json)
}

/// Deletes an export and its file.
#[utoipa::path(delete, path = "/v1/exports/{id}", operation_id = "delete_export", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The export")),
    responses((status = 204, description = "Deleted"),
        Refusals))]
pub async fn delete_export(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Ids([id]): Ids<1>,
) -> Result<StatusCode, Problem> {
    let tenant = caller.tenant().ok_or(Problem::Forbidden)?;
    // Once begun it runs to its end, so that a client that goes away leaves no file without a row.
    let deleting = async move {
        let object = caller.run(move |store| Box::pin(store.delete_export(id))).await?;
        if let Some(id) = object
            && app.objects.remove(Object { tenant, kind: Kind::Export, id }).await.is_err()
        {
            tracing::warn!(object = %id, "a file may be left without a row");
        }
        Ok(StatusCode::NO_CONTENT)
    };
    tokio::spawn(deleting.in_current_span()).await.unwrap_or(Err(Problem::Internal))
}

/// Downloads an export that is done; one that is not is a conflict, which says how far it is.
#[utoipa::path(get, path = "/v1/exports/{id}/download", operation_id = "download_export", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The export")),
    responses((status = 200, description = "The file", content((String = "text/csv"), (String = "application/x-ndjson"))),
        Refusals))]
pub async fn download_export(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Ids([id]): Ids<1>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant().ok_or(Problem::Forbidden)?;
    let (export, object) = caller.run(move |store| Box::pin(store.export_object(id))).await?;
    let (JobState::Done, Some(size)) = (export.state, export.size_bytes) else {
        return Err(Problem::Conflict(format!("the export is {}", export.state.word())));
    };
    let bytes = match object {
        // An empty file is told by its row alone.
        _ if size == 0 => futures_util::stream::empty().boxed(),
        Some(id) => app.objects.read(Object { tenant, kind: Kind::Export, id }).await?,
        None => return Err(Problem::Internal),
    };
    let name = format!("events-{}.{}", export.id, export.format.word());
    download(&name, export.format.media_type(), size, bytes)
}
