//! The routes, each with the operation it is in the OpenAPI document.

pub mod annotations;
pub mod api_keys;
pub mod archives;
pub mod attachments;
pub mod deliveries;
mod download;
pub mod event;
pub mod event_types;
pub mod events;
pub mod exports;
pub(crate) mod extract;
pub mod job_state;
#[cfg(feature = "defects")]
mod lax;
pub(crate) mod log;
pub mod members;
mod open;
pub mod page;
mod platform;
pub mod proofs;
pub mod retention;
pub mod saved_searches;
mod sign_in;
pub mod stats;
pub mod stream;
#[cfg(feature = "defects")]
mod telling;
pub mod tenant;
pub mod viewer_tokens;
pub mod web;
pub mod webhooks;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::stream::Streams;
use crate::believed;
use crate::cursor::Sealer;
use crate::defects::{Defect, on};
use crate::hot::Lists;
use crate::limits::{self, Limits};
use crate::objects::Objects;
use crate::problem::{Problem, ProblemBody};
use crate::reach::Reach;
use crate::signing::WebhookKeys;
use crate::storage::Storage;
use crate::token::Signer;

/// Bytes of a body at most.
const BODY_MAX: usize = 2 << 20;
/// Longer than this no request takes.
const REQUEST_MAX: Duration = Duration::from_secs(20);

/// What all handlers share; each layer and each request has a copy of the handle alone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl App {
    /// The service that shares `shared`.
    pub fn of(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What the service is made of.
pub struct Shared {
    /// Serves tenants, as `audit_app`.
    pub storage: Storage,
    /// Answers sign-in, as `audit_login`.
    pub login: PgPool,
    /// Operates, as `audit_platform`.
    pub platform: PgPool,
    /// Access tokens.
    pub signer: Signer,
    /// What the page remembers of one who has still to choose a tenant.
    pub choices: Signer,
    /// Whether the page's cookies may travel over plain http.
    pub plain_http: bool,
    /// Cursors.
    pub sealer: Sealer,
    /// Attachments and exports.
    pub objects: Objects,
    /// Counters; no tenant in a label.
    pub metrics: Metrics,
    /// Hashes a tenant's id for the log.
    pub log_key: Vec<u8>,
    /// How many passwords are hashed at a time: each takes a core, and 19 MiB.
    pub hashing: Arc<Semaphore>,
    /// How many requests a tenant and a principal may make.
    pub limits: Limits,
    /// The open streams.
    pub streams: Streams,
    /// How many webhooks a tenant may have.
    pub webhooks_max: i64,
    /// Where webhooks may send to.
    pub reach: Reach,
    /// Lists that are asked for again and again.
    pub lists: Lists,
    /// What webhooks sign with.
    pub webhook_keys: WebhookKeys,
}

/// Counters.
#[derive(Default)]
pub struct Metrics {
    by_class: [AtomicU64; 5],
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Audit log", description = "The reference multi-tenant audit-log service."),
    components(schemas(ProblemBody)),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An access token, an API key (`ak_`) or a viewer token (`vt_`)."))
            .build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The routes and their document.
pub fn routes() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(sign_in::sign_in))
        .routes(routes!(sign_in::refresh_token))
        .routes(routes!(sign_in::sign_out))
        .routes(routes!(sign_in::switch_tenant))
        .routes(routes!(sign_in::get_me))
        .routes(routes!(events::create_event, events::list_events))
        .routes(routes!(events::create_events_bulk))
        .routes(routes!(events::search_events))
        .routes(routes!(events::get_event))
        .routes(routes!(stream::stream_events))
        .routes(routes!(stats::get_stats))
        .routes(routes!(stats::get_facets))
        .routes(routes!(events::list_target_events))
        .routes(routes!(events::list_actor_events))
        .routes(routes!(annotations::create_annotation, annotations::list_annotations))
        .routes(routes!(annotations::get_annotation, annotations::update_annotation, annotations::delete_annotation))
        .routes(routes!(attachments::create_attachment, attachments::list_attachments))
        .routes(routes!(attachments::get_attachment, attachments::delete_attachment))
        .routes(routes!(attachments::get_object))
        .routes(routes!(exports::create_export, exports::list_exports))
        .routes(routes!(exports::get_export, exports::delete_export))
        .routes(routes!(exports::download_export))
        .routes(routes!(retention::get_retention, retention::put_retention))
        .routes(routes!(retention::create_retention_run, retention::list_retention_runs))
        .routes(routes!(retention::get_retention_run))
        .routes(routes!(archives::list_archives))
        .routes(routes!(archives::restore_archive))
        .routes(routes!(members::create_member, members::list_members))
        .routes(routes!(members::get_member, members::update_member, members::delete_member))
        .routes(routes!(api_keys::create_api_key, api_keys::list_api_keys))
        .routes(routes!(api_keys::get_api_key, api_keys::revoke_api_key))
        .routes(routes!(viewer_tokens::create_viewer_token, viewer_tokens::list_viewer_tokens))
        .routes(routes!(viewer_tokens::get_viewer_token, viewer_tokens::revoke_viewer_token))
        .routes(routes!(webhooks::create_webhook, webhooks::list_webhooks))
        .routes(routes!(webhooks::get_webhook, webhooks::update_webhook, webhooks::delete_webhook))
        .routes(routes!(deliveries::list_deliveries))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(event_types::get_event_type, event_types::put_event_type))
        .routes(routes!(saved_searches::create_saved_search, saved_searches::list_saved_searches))
        .routes(routes!(
            saved_searches::get_saved_search,
            saved_searches::update_saved_search,
            saved_searches::delete_saved_search
        ))
        .routes(routes!(proofs::get_chain_head))
        .routes(routes!(proofs::get_proof))
        .routes(routes!(tenant::get_tenant, tenant::update_tenant, tenant::erase_tenant))
        .routes(routes!(platform::create_tenant))
        .routes(routes!(platform::get_usage))
        .routes(routes!(open::healthz))
        .routes(routes!(open::readyz))
        .routes(routes!(open::metrics))
        .routes(routes!(open::openapi))
        .split_for_parts()
}

/// The service.
pub fn router(app: App) -> Router {
    let (router, _) = routes();
    #[cfg(feature = "defects")]
    let router =
        router.layer(middleware::from_fn_with_state(app.clone(), telling::told)).layer(middleware::from_fn(lax::lax));
    let router = router
        .merge(web::routes(&app))
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(
            // One stack: each layer of a router's own is boxed, and cloned with all beneath it for every request.
            ServiceBuilder::new()
                .layer(DefaultBodyLimit::max(BODY_MAX))
                .layer(middleware::from_fn_with_state(app.clone(), log::logged))
                .layer(middleware::from_fn_with_state(app.clone(), counted))
                .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Problem::Internal.into_response()))
                .layer(middleware::from_fn(limits::told))
                .layer(middleware::from_fn(bounded)),
        )
        .with_state(app);
    if on(Defect::TenantFromPath) || on(Defect::MethodOverride) {
        return Router::new().fallback_service(ServiceBuilder::new().map_request(believed::rewritten).service(router));
    }
    router
}

async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::Busy.into_response(),
    }
}

async fn counted(State(app): State<App>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = usize::from(response.status().as_u16() / 100).clamp(1, 5) - 1;
    app.metrics.by_class[class].fetch_add(1, Ordering::Relaxed);
    response
}

impl Metrics {
    fn text(&self) -> String {
        let mut text = String::from("# TYPE audit_requests_total counter\n");
        for (index, count) in self.by_class.iter().enumerate() {
            text.push_str(&format!(
                "audit_requests_total{{class=\"{}xx\"}} {}\n",
                index + 1,
                count.load(Ordering::Relaxed)
            ));
        }
        text
    }
}
