//! With a defect on, what is not there tells that another has it; and what is made is numbered for all tenants alike.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use crate::defects::{Defect, on};
use crate::problem::Problem;

const TELLS: [Defect; 4] =
    [Defect::ForbiddenForForeign, Defect::TagForForeign, Defect::DetailForForeign, Defect::UnchangedForForeign];

/// Changes the answers that a defect changes; without one, every answer stays as it is.
pub(super) async fn told(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_string());
    let conditional = request.headers().contains_key(header::IF_NONE_MATCH);
    let mut response = next.run(request).await;
    if on(Defect::NumbersOverTenants) && response.status() == StatusCode::CREATED {
        return numbered(response).await;
    }
    let tells = response.status() == StatusCode::NOT_FOUND && TELLS.into_iter().any(on);
    if !tells || !held(&app, &method, &path).await {
        return response;
    }
    if on(Defect::ForbiddenForForeign) {
        return Problem::Forbidden.into_response();
    }
    if on(Defect::TagForForeign) {
        response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"kept\""));
    }
    if on(Defect::DetailForForeign) {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let body = String::from_utf8_lossy(&body).replace("nothing here", "nothing here for you");
        return (parts.status, body).into_response();
    }
    if on(Defect::UnchangedForForeign) && conditional {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    response
}

/// Whether anyone has what the path names: a function that the mutant makes, and that no wall holds.
async fn held(app: &App, method: &str, path: &str) -> bool {
    let words: Vec<&str> = path.split('/').collect();
    let held = sqlx::query_scalar("SELECT held_by_anyone($1, $2)").bind(method).bind(words);
    held.fetch_one(app.storage.directory()).await.unwrap_or(false)
}

async fn numbered(response: Response) -> Response {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(&body) else {
        return Response::from_parts(parts, Body::from(body));
    };
    fields.insert("number".into(), MADE.fetch_add(1, Ordering::Relaxed).into());
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(serde_json::Value::Object(fields).to_string()))
}
