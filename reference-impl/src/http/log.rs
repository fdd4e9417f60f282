//! One line and one span a request: its id, trace, route, status and time, the tenant only as a keyed hash. No other
//! header, no query, no body.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use super::App;
use crate::telemetry::Trace;
use crate::token;

/// Where the request's tenant is noted once its credential is proved.
#[derive(Clone, Default)]
pub(crate) struct TenantSeen(Arc<OnceLock<Uuid>>);

impl TenantSeen {
    pub(crate) fn note(&self, tenant: Uuid) {
        // A request has one credential: what is noted twice is the same.
        let _ = self.0.set(tenant);
    }
}

/// Logs the request, and gives its answer an id that the log knows.
pub(crate) async fn logged(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let seen = TenantSeen::default();
    request.extensions_mut().insert(seen.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_string();
    let began = Instant::now();
    let name = format!("{method} {route}");
    let span =
        tracing::info_span!("request", otel.name = name, otel.kind = "server", request_id = id, trace_id = Empty);
    let trace = Trace::of_request(request.headers(), &span);
    span.record("trace_id", trace.id());
    request.extensions_mut().insert(trace);
    let mut response = next.run(request).instrument(span.clone()).await;
    let tenant = seen.0.get().map(|tenant| token::log_hash(&app.log_key, *tenant));
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(parent: &span, %method, route, status = response.status().as_u16(), latency_ms, tenant, "answered");
    span.set_attribute("http.request.method", method.to_string());
    span.set_attribute("http.route", route);
    span.set_attribute("http.response.status_code", i64::from(response.status().as_u16()));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
