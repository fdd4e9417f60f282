//! A stock of items, kept in memory: its people sign in and out, items have codes that every tenant may use, lots lie below
//! items, and what shows items takes parameters that nothing is said of but that they are text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use uuid::Uuid;

/// What is particular about a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    /// Nothing: its wall stands.
    Sound,
    /// A list shows the items of the tenant that its `scope` names.
    ListsByScope,
    /// Items of the tenant that `scope` names are counted.
    CountsByScope,
    /// Who signs out is told so, and goes on.
    SignsOutInName,
    /// Who signs out may renew its session.
    RenewsForEver,
    /// A deletion takes every item of that code.
    DeletesByCode,
    /// With an item go the lots below every item of that code.
    LotsGoByCode,
    /// An item is filed where its code is known.
    FilesByCode,
    /// An item replaces the one of that code.
    ReplacesByCode,
    /// A change is made to every item of that code.
    ChangesByCode,
}

#[derive(Clone)]
struct Item {
    tenant: &'static str,
    id: Uuid,
    code: String,
    label: String,
}

struct Lot {
    id: Uuid,
    /// The item, and its code.
    below: (Uuid, String),
    tenant: &'static str,
    note: String,
}

/// A session: what opens it, what renews it, and whose it is.
struct Session {
    token: String,
    refresh: String,
    tenant: &'static str,
}

#[derive(Default)]
struct Kept {
    items: Vec<Item>,
    lots: Vec<Lot>,
    sessions: Vec<Session>,
}

/// The whole service.
#[derive(Clone)]
pub struct Stock {
    passwords: Arc<HashMap<&'static str, &'static str>>,
    kept: Arc<Mutex<Kept>>,
    habit: Habit,
}

type Answer = Result<Json<Value>, StatusCode>;
type Made = Result<(StatusCode, Json<Value>), StatusCode>;
type Body = Json<HashMap<String, String>>;
type Asked = Query<HashMap<String, String>>;

const DOCUMENT: &str = include_str!("openapi.json");

impl Stock {
    /// A service that knows these passwords, each with its tenant.
    pub fn new(passwords: impl IntoIterator<Item = (&'static str, &'static str)>, habit: Habit) -> Self {
        Self { passwords: Arc::new(passwords.into_iter().collect()), kept: Arc::default(), habit }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT) }))
            .route("/sign-in", post(sign_in))
            .route("/sign-out", post(sign_out))
            .route("/renew", post(renew))
            .route("/me", get(me))
            .route("/items", get(list).post(create))
            .route("/items/count", get(count))
            .route("/items/{item}", get(read).patch(change).delete(delete))
            .route("/items/{item}/lots", post(add_lot))
            .route("/items/{item}/lots/{lot}", get(read_lot))
            .with_state(self)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn begin(&self, tenant: &'static str) -> Json<Value> {
        let session =
            Session { token: format!("t-{}", Uuid::new_v4()), refresh: format!("r-{}", Uuid::new_v4()), tenant };
        let told = json!({ "token": session.token, "refresh": session.refresh });
        self.kept().sessions.push(session);
        Json(told)
    }
}

/// Who the request's session proves, and what opened it.
struct Caller(&'static str, String);

impl FromRequestParts<Stock> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, stock: &Stock) -> Result<Self, StatusCode> {
        let told =
            parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let kept = stock.kept();
        let session = kept.sessions.iter().find(|session| Some(session.token.as_str()) == told);
        session.map(|session| Self(session.tenant, session.token.clone())).ok_or(StatusCode::UNAUTHORIZED)
    }
}

async fn sign_in(State(stock): State<Stock>, Json(body): Body) -> Answer {
    let tenant = body.get("password").and_then(|password| stock.passwords.get(password.as_str()));
    Ok(stock.begin(tenant.ok_or(StatusCode::UNAUTHORIZED)?))
}

async fn sign_out(Caller(_, token): Caller, State(stock): State<Stock>) -> StatusCode {
    match stock.habit {
        Habit::SignsOutInName => {}
        // What renews it stays.
        Habit::RenewsForEver => {
            stock.kept().sessions.iter_mut().filter(|s| s.token == token).for_each(|s| s.token.clear());
        }
        _ => stock.kept().sessions.retain(|session| session.token != token),
    }
    StatusCode::NO_CONTENT
}

async fn renew(State(stock): State<Stock>, Json(body): Body) -> Answer {
    let refresh = body.get("refresh").cloned().ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
    let tenant = stock.kept().sessions.iter().find(|session| session.refresh == refresh).map(|session| session.tenant);
    Ok(stock.begin(tenant.ok_or(StatusCode::UNAUTHORIZED)?))
}

async fn me(Caller(tenant, _): Caller) -> Json<Value> {
    Json(json!({ "tenant": tenant }))
}

fn shown(item: &Item) -> Value {
    json!({ "id": item.id, "code": item.code, "label": item.label })
}

async fn list(Caller(tenant, _): Caller, State(stock): State<Stock>, Query(asked): Asked) -> Json<Value> {
    let scope = asked.get("scope").map(String::as_str).filter(|_| stock.habit == Habit::ListsByScope);
    let kept = stock.kept();
    let text = asked.get("text").map_or("", String::as_str);
    let fits = |item: &&Item| item.tenant == scope.unwrap_or(tenant) && item.label.contains(text);
    Json(json!({ "items": kept.items.iter().filter(fits).map(shown).collect::<Vec<_>>() }))
}

async fn count(Caller(tenant, _): Caller, State(stock): State<Stock>, Query(asked): Asked) -> Json<Value> {
    let scope = asked.get("scope").map(String::as_str).filter(|_| stock.habit == Habit::CountsByScope);
    let of = scope.unwrap_or(tenant);
    Json(json!({ "items": stock.kept().items.iter().filter(|item| item.tenant == of).count() }))
}

async fn create(Caller(tenant, _): Caller, State(stock): State<Stock>, Json(body): Body) -> Made {
    let text = |name: &str| body.get(name).cloned().ok_or(StatusCode::UNPROCESSABLE_ENTITY);
    let mut item = Item { tenant, id: Uuid::new_v4(), code: text("code")?, label: text("label")? };
    let mut kept = stock.kept();
    let known = kept.items.iter_mut().find(|known| known.code == item.code && known.tenant != tenant);
    match (stock.habit, known) {
        (Habit::FilesByCode, Some(known)) => item.tenant = known.tenant,
        (Habit::ReplacesByCode, Some(known)) => {
            (known.tenant, known.label) = (tenant, item.label);
            return Ok((StatusCode::CREATED, Json(shown(known))));
        }
        _ => {}
    }
    kept.items.push(item.clone());
    Ok((StatusCode::CREATED, Json(shown(&item))))
}

async fn read(Caller(tenant, _): Caller, State(stock): State<Stock>, Path(id): Path<String>) -> Answer {
    let kept = stock.kept();
    let found = kept.items.iter().find(|item| item.tenant == tenant && item.id.to_string() == id);
    found.map(|item| Json(shown(item))).ok_or(StatusCode::NOT_FOUND)
}

async fn change(
    Caller(tenant, _): Caller,
    State(stock): State<Stock>,
    Path(id): Path<String>,
    Json(body): Body,
) -> Answer {
    let mut kept = stock.kept();
    let found = kept.items.iter().find(|item| item.tenant == tenant && item.id.to_string() == id).cloned();
    let item = found.ok_or(StatusCode::NOT_FOUND)?;
    let label = body.get("label").unwrap_or(&item.label);
    let all = stock.habit == Habit::ChangesByCode;
    let fits = |known: &&mut Item| known.id == item.id || (all && known.code == item.code);
    kept.items.iter_mut().filter(fits).for_each(|known| known.label.clone_from(label));
    Ok(Json(shown(&Item { label: label.clone(), ..item })))
}

async fn delete(
    Caller(tenant, _): Caller,
    State(stock): State<Stock>,
    Path(id): Path<String>,
) -> Result<StatusCode, StatusCode> {
    let mut kept = stock.kept();
    let found = kept.items.iter().find(|item| item.tenant == tenant && item.id.to_string() == id).cloned();
    let item = found.ok_or(StatusCode::NOT_FOUND)?;
    let alike = |code: &str, wanted| stock.habit == wanted && code == item.code;
    kept.items.retain(|known| known.id != item.id && !alike(&known.code, Habit::DeletesByCode));
    kept.lots.retain(|lot| lot.below.0 != item.id && !alike(&lot.below.1, Habit::LotsGoByCode));
    Ok(StatusCode::NO_CONTENT)
}

async fn add_lot(
    Caller(tenant, _): Caller,
    State(stock): State<Stock>,
    Path(id): Path<String>,
    Json(body): Body,
) -> Made {
    let mut kept = stock.kept();
    let found = kept.items.iter().find(|item| item.tenant == tenant && item.id.to_string() == id);
    let below = found.map(|item| (item.id, item.code.clone())).ok_or(StatusCode::NOT_FOUND)?;
    let note = body.get("note").cloned().ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
    let lot = Lot { id: Uuid::new_v4(), below, tenant, note };
    let told = json!({ "id": lot.id, "note": lot.note });
    kept.lots.push(lot);
    Ok((StatusCode::CREATED, Json(told)))
}

async fn read_lot(
    Caller(tenant, _): Caller,
    State(stock): State<Stock>,
    Path((item, id)): Path<(String, String)>,
) -> Answer {
    let kept = stock.kept();
    let fits = |lot: &&Lot| lot.tenant == tenant && lot.below.0.to_string() == item && lot.id.to_string() == id;
    let found = kept.lots.iter().find(fits);
    found.map(|lot| Json(json!({ "id": lot.id, "note": lot.note }))).ok_or(StatusCode::NOT_FOUND)
}
