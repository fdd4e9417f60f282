//! Notes, kept in memory for several tenants: as small as a service can be that has a wall to lose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a tenant is told of a note.
#[derive(Clone, Serialize)]
pub struct Note {
    id: Uuid,
    title: String,
    text: String,
    #[serde(skip)]
    tenant: String,
}

/// A note as it is sent.
#[derive(Deserialize)]
pub struct NewNote {
    title: String,
    text: String,
}

/// The whole service.
#[derive(Clone, Default)]
pub struct Notes {
    tenants: Arc<HashMap<String, String>>,
    kept: Arc<Mutex<Vec<Note>>>,
    leaks: bool,
}

impl Notes {
    /// A service that knows these tokens, each with its tenant.
    pub fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let tenants = tokens.into_iter().map(|(token, tenant)| (token.into(), tenant.into())).collect();
        Self { tenants: Arc::new(tenants), ..Self::default() }
    }

    /// The same with a hole: a note is found by its id alone.
    pub fn leaking(self) -> Self {
        Self { leaks: true, ..self }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT) }))
            .route("/notes", get(list).post(create))
            .route("/notes/{id}", get(read).delete(delete))
            .with_state(self)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Note>> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn may_see(&self, tenant: &str, note: &Note) -> bool {
        self.leaks || note.tenant == tenant
    }
}

const DOCUMENT: &str = include_str!("openapi.json");

/// The tenant that the request's token proves.
struct Tenant(String);

impl FromRequestParts<Notes> for Tenant {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, notes: &Notes) -> Result<Self, StatusCode> {
        let token =
            parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        token.and_then(|token| notes.tenants.get(token)).cloned().map(Self).ok_or(StatusCode::UNAUTHORIZED)
    }
}

async fn create(
    Tenant(tenant): Tenant,
    State(notes): State<Notes>,
    Json(new): Json<NewNote>,
) -> (StatusCode, Json<Note>) {
    let note = Note { id: Uuid::new_v4(), title: new.title, text: new.text, tenant };
    notes.kept().push(note.clone());
    (StatusCode::CREATED, Json(note))
}

async fn list(Tenant(tenant): Tenant, State(notes): State<Notes>) -> Json<Vec<Note>> {
    Json(notes.kept().iter().filter(|note| note.tenant == tenant).cloned().collect())
}

async fn read(
    Tenant(tenant): Tenant,
    State(notes): State<Notes>,
    Path(id): Path<Uuid>,
) -> Result<Json<Note>, StatusCode> {
    let kept = notes.kept();
    let found = kept.iter().find(|note| note.id == id && notes.may_see(&tenant, note));
    found.cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn delete(Tenant(tenant): Tenant, State(notes): State<Notes>, Path(id): Path<Uuid>) -> StatusCode {
    let mut kept = notes.kept();
    let before = kept.len();
    kept.retain(|note| note.id != id || note.tenant != tenant);
    if kept.len() < before { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}
