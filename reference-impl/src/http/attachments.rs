//! Attachments: files that belong to events. The bytes go to the object store before the row is committed, and leave it
//! when the row cannot be; who holds a signature may have them for some minutes, as long as the row is there.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Json};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use super::download::download;
use super::extract::{Ids, Params, Raw, text};
use super::log::TenantSeen;
use super::page::{List, Page};
use crate::caller::{Allowed, Caller, Manages, Role, SearchesEvents, WritesEvents};
use crate::cursor::Position;
use crate::objects::{Kind, Object};
use crate::problem::{Problem, Refusals};
use crate::scope::TenantScope;
use crate::store::Sight;
use crate::store::attachments::NewAttachment;

/// An attachment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// Its id.
    pub id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// Who sent it: a person or an API key.
    pub author_id: Uuid,
    /// Its name.
    pub name: String,
    /// Its media type, as it was sent.
    pub content_type: String,
    /// Its size, bytes.
    pub size_bytes: i64,
    /// The SHA-256 of its bytes, as hex.
    pub sha256: String,
    /// When it was sent.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// An attachment, and how to get its bytes.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedAttachment {
    /// The attachment.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// What to ask `/v1/objects/` for.
    pub signed: String,
    /// Until when.
    #[serde(with = "time::serde::rfc3339")]
    pub signed_until: OffsetDateTime,
}

/// What a new attachment is called.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AttachmentName {
    /// Its name.
    #[param(max_length = 200)]
    pub name: String,
}

fn signed(app: &App, caller: &Caller, attachment: Attachment) -> Result<Json<SignedAttachment>, Problem> {
    let tenant = caller.tenant().ok_or(Problem::Forbidden)?;
    let object = Object { tenant, kind: Kind::Attachment, id: attachment.id };
    let (signed, signed_until) = app.objects.sign(object, OffsetDateTime::now_utc());
    Ok(Json(SignedAttachment { attachment, signed, signed_until }))
}

/// Attaches a file to an event.
#[utoipa::path(post, path = "/v1/events/{id}/attachments", operation_id = "create_attachment", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), AttachmentName),
    request_body(content = String, content_type = "application/octet-stream", description = "The file, of any media type"),
    responses((status = 201, description = "Attached", body = SignedAttachment),
        Refusals))]
pub async fn create_attachment(
    State(app): State<App>,
    Allowed(caller, _): Allowed<WritesEvents>,
    Ids([event]): Ids<1>,
    Params(AttachmentName { name }): Params<AttachmentName>,
    headers: HeaderMap,
    Raw(bytes): Raw,
) -> Result<(StatusCode, Json<SignedAttachment>), Problem> {
    text("name", &name, 200)?;
    let content_type = headers.get(header::CONTENT_TYPE).map_or(Ok("application/octet-stream"), |value| value.to_str());
    let content_type = content_type.ok().filter(|value| is_media_type(value));
    let content_type = content_type.ok_or(Problem::UnsupportedMediaType("a media type as Content-Type"))?.to_string();
    // An empty file is one; a request without a body, and so without its type, is none.
    if bytes.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        return Err(Problem::Unprocessable("the body must be a file".into()));
    }
    let size = i64::try_from(bytes.len()).map_err(|_| Problem::TooLarge)?;
    let sha256 = Sha256::digest(&bytes).to_vec();
    let new = NewAttachment { id: Uuid::now_v7(), event, author: caller.id, name, content_type, size, sha256 };
    // Once begun it runs to its end, so that a client that goes away leaves no bytes without a row.
    let keeping = tokio::spawn(keep(app.clone(), caller.clone(), new, bytes).in_current_span());
    let kept = keeping.await.unwrap_or(Err(Problem::Internal))?;
    Ok((StatusCode::CREATED, signed(&app, &caller, kept)?))
}

/// `type/subtype`, whatever follows, in 200 visible characters at most.
fn is_media_type(value: &str) -> bool {
    let token = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    value.len() <= 200 && essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

async fn keep(app: App, caller: Caller, new: NewAttachment, bytes: Bytes) -> Result<Attachment, Problem> {
    let tenant = caller.tenant().ok_or(Problem::Forbidden)?;
    let object = Object { tenant, kind: Kind::Attachment, id: new.id };
    // A key sees no event, and yet adds to those that it knows.
    let sight = if caller.role == Role::Ingest { Sight::All } else { caller.sight.clone() };
    let (event, seen) = (new.event, sight.clone());
    caller.run(move |store| Box::pin(async move { store.event(event, &seen).await.map(drop) })).await?;
    let kept = match app.objects.put(object, bytes).await {
        Ok(()) => caller.run(move |store| Box::pin(async move { store.add_attachment(&new, &sight).await })).await,
        Err(problem) => Err(problem),
    };
    if kept.is_err() {
        forget(&app, object).await;
    }
    kept
}

/// Removes bytes that have no row; a commit whose answer was lost may have left one after all.
async fn forget(app: &App, object: Object) {
    let scope = TenantScope::of(app.storage.clone(), object.tenant);
    let row = scope.run(move |store| Box::pin(async move { store.attachment(object.id, &Sight::All).await })).await;
    let gone = match row {
        // Nor is there one in a tenant that is being erased.
        Err(Problem::NotFound | Problem::Unauthenticated) => app.objects.remove(object).await.is_ok(),
        Ok(_) => true,
        Err(_) => false,
    };
    if !gone {
        tracing::warn!(object = %object.id, "bytes may be left without a row");
    }
}

/// Lists an event's attachments.
#[utoipa::path(get, path = "/v1/events/{id}/attachments", operation_id = "list_attachments", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), Page),
    responses((status = 200, description = "A page", body = List<Attachment>),
        Refusals))]
pub async fn list_attachments(
    State(app): State<App>,
    Allowed(caller, _): Allowed<SearchesEvents>,
    Ids([event]): Ids<1>,
    Params(page): Params<Page>,
) -> Result<Json<List<Attachment>>, Problem> {
    let sight = caller.sight.clone();
    let position = |attachment: &Attachment| Position::of_id(attachment.id);
    page.answer(&app, &caller, format!("attachments {event}"), position, move |store, asked| {
        Box::pin(async move {
            let items = store.attachments(event, &sight, asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_attachments(event).await?) } else { None }))
        })
    })
    .await
}

/// Reads an attachment, with a signature that opens its bytes for some minutes.
#[utoipa::path(get, path = "/v1/attachments/{id}", operation_id = "get_attachment", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The attachment")),
    responses((status = 200, description = "The attachment", body = SignedAttachment),
        Refusals))]
pub async fn get_attachment(
    State(app): State<App>,
    Allowed(caller, _): Allowed<SearchesEvents>,
    Ids([id]): Ids<1>,
) -> Result<Json<SignedAttachment>, Problem> {
    let sight = caller.sight.clone();
    let found = caller.run(move |store| Box::pin(async move { store.attachment(id, &sight).await })).await?;
    signed(&app, &caller, found)
}

/// Deletes an attachment; signatures made before open nothing from now on.
#[utoipa::path(delete, path = "/v1/attachments/{id}", operation_id = "delete_attachment", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The attachment")),
    responses((status = 204, description = "Deleted"),
        Refusals))]
pub async fn delete_attachment(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Manages>,
    Ids([id]): Ids<1>,
) -> Result<StatusCode, Problem> {
    let tenant = caller.tenant().ok_or(Problem::Forbidden)?;
    let deleting = async move {
        caller.run(move |store| Box::pin(store.delete_attachment(id))).await?;
        forget(&app, Object { tenant, kind: Kind::Attachment, id }).await;
        Ok(StatusCode::NO_CONTENT)
    };
    tokio::spawn(deleting.in_current_span()).await.unwrap_or(Err(Problem::Internal))
}

/// Downloads what a signature opens; the signature says whose it is, and that tenant's row whether it is still there.
#[utoipa::path(get, path = "/v1/objects/{signed}", operation_id = "get_object",
    params(("signed" = String, Path, description = "A signature", max_length = 200)),
    responses((status = 200, description = "The bytes", body = String, content_type = "application/octet-stream"),
        Refusals))]
pub(crate) async fn get_object(
    State(app): State<App>,
    Extension(seen): Extension<TenantSeen>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(signed) = path.map_err(|_| Problem::NotFound)?;
    let object = app.objects.opened(&signed, OffsetDateTime::now_utc())?;
    seen.note(object.tenant);
    if object.kind != Kind::Attachment {
        return Err(Problem::NotFound);
    }
    let scope = TenantScope::of(app.storage.clone(), object.tenant);
    let row = scope.run(move |store| Box::pin(async move { store.attachment(object.id, &Sight::All).await })).await;
    // A signature is no credential: that its tenant is being erased is told like any row that is gone.
    let row = row.map_err(|e| if let Problem::Unauthenticated = e { Problem::NotFound } else { e })?;
    download(&row.name, &row.content_type, row.size_bytes, app.objects.read(object).await?)
}
