//! Boards of tasks, kept in memory: the tenant begins every path, ids are numbers, lists come in pages that are counted,
//! and requests name several tasks in their body.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is particular about a service.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Habit {
    /// Nothing: its wall stands.
    #[default]
    Sound,
    /// A comment is found by its own id and its task's, whoever's they are.
    CommentOfAnyone,
    /// Tasks that are asked for by their ids are shown, whoever's they are.
    LookupOfAnyone,
    /// Of tasks that are closed together only the first is looked at.
    FirstAlone,
    /// A page after the first has a task more, of anyone's.
    LaterPages,
    /// A task may follow anyone's.
    FollowsAnyone,
    /// A task goes to the organisation that a document in the body names.
    Moves,
    /// Each organisation numbers its own tasks, as it may.
    NumbersEach,
}

#[derive(Clone)]
struct Row {
    org: u64,
    id: u64,
    under: u64,
    text: String,
    closed: bool,
}

/// The whole service.
#[derive(Clone)]
pub struct Boards {
    tokens: Arc<HashMap<&'static str, u64>>,
    tasks: Arc<Mutex<Vec<Row>>>,
    comments: Arc<Mutex<Vec<Row>>>,
    habit: Habit,
}

type Answer = Result<Json<Value>, StatusCode>;
type Body = Json<HashMap<String, Value>>;

const PAGE: usize = 4;
const DOCUMENT: &str = include_str!("openapi.json");

impl Boards {
    /// A service that knows these tokens, each with its organisation.
    pub fn new(tokens: impl IntoIterator<Item = (&'static str, u64)>, habit: Habit) -> Self {
        let kept = || Arc::new(Mutex::new(Vec::new()));
        Self { tokens: Arc::new(tokens.into_iter().collect()), tasks: kept(), comments: kept(), habit }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT) }))
            .route("/orgs/{org}/tasks", get(list).post(create))
            .route("/orgs/{org}/tasks/lookup", post(lookup))
            .route("/orgs/{org}/tasks/close", post(close))
            .route("/orgs/{org}/tasks/count", get(count))
            .route("/orgs/{org}/tasks/{task}", get(read).patch(change))
            .route("/orgs/{org}/tasks/{task}/comments", post(say))
            .route("/orgs/{org}/tasks/{task}/comments/{comment}", get(said))
            .with_state(self)
    }

    fn make(&self, rows: &Mutex<Vec<Row>>, org: u64, under: u64, body: &HashMap<String, Value>) -> Answer {
        let text = body.get("text").and_then(Value::as_str).ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
        let mut rows = locked(rows);
        let id = match self.habit {
            Habit::NumbersEach => rows.iter().filter(|row| row.org == org).count() as u64 + 1,
            // Numbers that nobody can count by.
            _ => (rows.len() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12,
        };
        let row = Row { org, id, under, text: text.into(), closed: false };
        rows.push(row.clone());
        Ok(Json(json!({ "data": shown(&row) })))
    }
}

fn locked(rows: &Mutex<Vec<Row>>) -> MutexGuard<'_, Vec<Row>> {
    rows.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn shown(row: &Row) -> Value {
    json!({ "id": row.id, "text": row.text, "closed": row.closed })
}

/// The organisation that the request's token proves, which is also the path's.
struct Org(u64);

impl FromRequestParts<Boards> for Org {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, boards: &Boards) -> Result<Self, StatusCode> {
        let key = parts.headers.get("x-api-key").and_then(|value| value.to_str().ok());
        let org = *key.and_then(|key| boards.tokens.get(key)).ok_or(StatusCode::UNAUTHORIZED)?;
        let of_path = parts.uri.path().split('/').nth(2) == Some(org.to_string().as_str());
        of_path.then_some(Self(org)).ok_or(StatusCode::NOT_FOUND)
    }
}

#[derive(Deserialize)]
struct Page {
    skip: Option<usize>,
    take: Option<usize>,
}

async fn list(Org(org): Org, State(boards): State<Boards>, Query(page): Query<Page>) -> Answer {
    let rows = locked(&boards.tasks);
    let skip = page.skip.unwrap_or(0);
    let own: Vec<&Row> = rows.iter().filter(|row| row.org == org).collect();
    let mut part: Vec<Value> =
        own.iter().skip(skip).take(page.take.unwrap_or(PAGE).min(PAGE)).map(|r| shown(r)).collect();
    let more = rows.iter().find(|row| row.org != org).filter(|_| boards.habit == Habit::LaterPages && skip > 0);
    part.extend(more.map(shown));
    Ok(Json(json!({ "data": part, "meta": { "total": rows.iter().filter(|row| row.org == org).count() } })))
}

async fn create(
    Org(org): Org,
    State(boards): State<Boards>,
    Json(body): Body,
) -> Result<(StatusCode, Json<Value>), StatusCode> {
    if let Some(after) = body.get("after").filter(|after| !after.is_null()) {
        let rows = locked(&boards.tasks);
        let may = |row: &Row| row.org == org || boards.habit == Habit::FollowsAnyone;
        rows.iter().find(|row| json!(row.id) == *after && may(row)).ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
    }
    boards.make(&boards.tasks, org, 0, &body).map(|made| (StatusCode::CREATED, made))
}

async fn count(Org(org): Org, State(boards): State<Boards>) -> Json<Value> {
    Json(json!({ "data": { "tasks": locked(&boards.tasks).iter().filter(|row| row.org == org).count() } }))
}

async fn read(Org(org): Org, State(boards): State<Boards>, Path((_, task)): Path<(u64, String)>) -> Answer {
    let rows = locked(&boards.tasks);
    let found = rows.iter().find(|row| row.org == org && row.id.to_string() == task);
    found.map(|row| Json(json!({ "data": shown(row) }))).ok_or(StatusCode::NOT_FOUND)
}

async fn change(
    Org(org): Org,
    State(boards): State<Boards>,
    Path((_, task)): Path<(u64, String)>,
    Json(body): Body,
) -> Answer {
    let mut rows = locked(&boards.tasks);
    let found = rows.iter_mut().find(|row| row.org == org && row.id.to_string() == task);
    let row = found.ok_or(StatusCode::NOT_FOUND)?;
    if let Some(text) = body.get("text").and_then(Value::as_str) {
        row.text = text.into();
    }
    let to = body.get("workspace").and_then(|workspace| workspace.get("id")).and_then(Value::as_u64);
    row.org = to.filter(|_| boards.habit == Habit::Moves).unwrap_or(org);
    Ok(Json(json!({ "data": shown(row) })))
}

fn ids(body: &HashMap<String, Value>) -> Result<Vec<u64>, StatusCode> {
    let ids = body.get("ids").and_then(Value::as_array).ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
    ids.iter().map(|id| id.as_u64().ok_or(StatusCode::UNPROCESSABLE_ENTITY)).collect()
}

async fn lookup(Org(org): Org, State(boards): State<Boards>, Json(body): Body) -> Answer {
    let ids = ids(&body)?;
    let may = |row: &&Row| (row.org == org || boards.habit == Habit::LookupOfAnyone) && ids.contains(&row.id);
    Ok(Json(json!({ "data": locked(&boards.tasks).iter().filter(may).map(shown).collect::<Vec<_>>() })))
}

async fn close(Org(org): Org, State(boards): State<Boards>, Json(body): Body) -> Answer {
    let ids = ids(&body)?;
    let mut rows = locked(&boards.tasks);
    let first = boards.habit == Habit::FirstAlone;
    let own = |id: &u64| rows.iter().any(|row| row.org == org && row.id == *id);
    if !ids.iter().take(if first { 1 } else { ids.len() }).all(own) {
        return Err(StatusCode::NOT_FOUND);
    }
    for row in rows.iter_mut().filter(|row| ids.contains(&row.id) && (first || row.org == org)) {
        row.closed = true;
        if first {
            row.text = format!("closed by {org}");
        }
    }
    Ok(Json(json!({ "data": { "closed": ids.len() } })))
}

/// The task of a path.
fn task_of(boards: &Boards, org: u64, task: &str) -> Result<u64, StatusCode> {
    let anyones = boards.habit == Habit::CommentOfAnyone;
    let rows = locked(&boards.tasks);
    let found = rows.iter().find(|row| (row.org == org || anyones) && row.id.to_string() == task);
    found.map(|row| row.id).ok_or(StatusCode::NOT_FOUND)
}

async fn say(
    Org(org): Org,
    State(boards): State<Boards>,
    Path((_, task)): Path<(u64, String)>,
    Json(body): Body,
) -> Result<(StatusCode, Json<Value>), StatusCode> {
    let own = locked(&boards.tasks).iter().find(|row| row.org == org && row.id.to_string() == task).map(|row| row.id);
    let task = own.ok_or(StatusCode::NOT_FOUND)?;
    boards.make(&boards.comments, org, task, &body).map(|made| (StatusCode::CREATED, made))
}

async fn said(
    Org(org): Org,
    State(boards): State<Boards>,
    Path((_, task, comment)): Path<(u64, String, String)>,
) -> Answer {
    let task = task_of(&boards, org, &task)?;
    let anyones = boards.habit == Habit::CommentOfAnyone;
    let rows = locked(&boards.comments);
    let fits = |row: &&Row| row.under == task && (row.org == org || anyones) && row.id.to_string() == comment;
    rows.iter().find(fits).map(|row| Json(json!({ "data": shown(row) }))).ok_or(StatusCode::NOT_FOUND)
}
