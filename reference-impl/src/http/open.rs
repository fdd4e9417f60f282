//! What anyone may ask: is it alive, is it ready, how busy is it, what can it do.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::App;
use crate::problem::{Problem, ProblemBody};

/// It is alive.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", responses((status = 200, description = "Alive", body = String)))]
pub async fn healthz() -> &'static str {
    "ok"
}

/// It can serve.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz",
    responses((status = 200, description = "Ready", body = String), (status = 503, description = "Not ready", body = ProblemBody, content_type = "application/problem+json")))]
pub async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    for pool in [app.storage.directory(), &app.login, &app.platform] {
        sqlx::query("SELECT 1").execute(pool).await.map_err(|_| Problem::Busy)?;
    }
    Ok("ready")
}

/// Counters for Prometheus; no tenant in a label.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses((status = 200, description = "Counters", body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.text())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
pub async fn openapi() -> impl IntoResponse {
    Json(super::routes().1)
}
