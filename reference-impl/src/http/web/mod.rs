//! The page: what a person sees of the audit log in a browser. Its routes speak HTML, and are the only ones that the
//! OpenAPI document leaves out.
//!
//! It has no way of its own to a tenant's rows: a page calls the handlers of the API, with a caller that is proved by
//! the same access token. That token travels in a cookie, which opens these routes and no other.

mod answer;
mod chart;
mod docs;
mod events;
mod exports;
mod session;
mod sign_in;
mod text;
mod wanted;

use axum::Router;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tower_http::csrf::{CsrfLayer, ProtectionError};

use super::App;
use crate::problem::Problem;

/// The routes that speak HTML.
pub const ROUTES: [&str; 12] = [
    "GET /",
    "GET /events/{id}",
    "POST /events/{id}/annotations",
    "GET /exports",
    "POST /exports",
    "GET /exports/{id}/download",
    "GET /sign-in",
    "POST /sign-in",
    "POST /sign-in/tenant",
    "POST /tenants/switch",
    "POST /sign-out",
    "GET /docs",
];

/// The page's routes.
pub(super) fn routes(app: &App) -> Router<App> {
    // A form of another site is refused, whether or not the browser sent the cookies with it.
    let foreign = |_: ProtectionError| answer::Refused(Problem::Forbidden).into_response();
    Router::new()
        .route("/", get(events::list))
        .route("/events/{id}", get(events::event))
        .route("/events/{id}/annotations", post(events::annotate))
        .route("/exports", get(exports::list).post(exports::ask))
        .route("/exports/{id}/download", get(exports::download))
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/sign-in/tenant", post(sign_in::choose))
        .route("/tenants/switch", post(sign_in::switch))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/docs", get(docs::docs))
        .layer(middleware::from_fn_with_state(app.clone(), session::held))
        .layer(CsrfLayer::new().with_rejection_response(foreign))
        .layer(middleware::map_response(answer::guarded))
}
