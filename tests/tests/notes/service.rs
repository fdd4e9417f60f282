//! Notes, kept in memory for several tenants: as small as a service can be that has a wall to lose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// What a tenant is told of a note.
#[derive(Clone, Serialize)]
pub struct Note {
    id: Value,
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
    habit: Habit,
}

/// What is particular about a service.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Habit {
    /// Nothing: its wall stands.
    #[default]
    Sound,
    /// A note is found by its id alone.
    Leaks,
    /// Lists are empty.
    Hides,
    /// Nothing can be made.
    Refuses,
    /// Notes have numbers that count up.
    Counts,
    /// Who made a note is told where it is, and nothing else.
    Points,
}

impl Notes {
    /// A service that knows these tokens, each with its tenant.
    pub fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let tenants = tokens.into_iter().map(|(token, tenant)| (token.into(), tenant.into())).collect();
        Self { tenants: Arc::new(tenants), ..Self::default() }
    }

    /// The same with a habit.
    pub fn with(self, habit: Habit) -> Self {
        Self { habit, ..self }
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

async fn create(Tenant(tenant): Tenant, State(notes): State<Notes>, Json(new): Json<NewNote>) -> Response {
    if notes.habit == Habit::Refuses {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    let mut kept = notes.kept();
    let id = if notes.habit == Habit::Counts { kept.len().into() } else { Uuid::new_v4().to_string().into() };
    let note = Note { id, title: new.title, text: new.text, tenant };
    kept.push(note.clone());
    let location = [(header::LOCATION, format!("/notes/{}", plain(&note.id)))];
    match notes.habit {
        Habit::Points => (StatusCode::CREATED, location).into_response(),
        _ => (StatusCode::CREATED, location, Json(note)).into_response(),
    }
}

async fn list(Tenant(tenant): Tenant, State(notes): State<Notes>) -> Json<Vec<Note>> {
    let shown = |note: &&Note| note.tenant == tenant && notes.habit != Habit::Hides;
    Json(notes.kept().iter().filter(shown).cloned().collect())
}

async fn read(
    Tenant(tenant): Tenant,
    State(notes): State<Notes>,
    Path(id): Path<String>,
) -> Result<Json<Note>, StatusCode> {
    let kept = notes.kept();
    let may_see = |note: &Note| note.tenant == tenant || notes.habit == Habit::Leaks;
    let found = kept.iter().find(|note| plain(&note.id) == id && may_see(note));
    found.cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn delete(Tenant(tenant): Tenant, State(notes): State<Notes>, Path(id): Path<String>) -> StatusCode {
    let mut kept = notes.kept();
    let Some(note) = kept.iter_mut().find(|note| plain(&note.id) == id && note.tenant == tenant) else {
        return StatusCode::NOT_FOUND;
    };
    // Its place stays, so that numbers go on counting.
    note.tenant.clear();
    StatusCode::NO_CONTENT
}

fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), String::from)
}
