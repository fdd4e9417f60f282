//! With a defect on, a body may be a form, or who asks is answered what another was.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::response::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::believed::FROM_PATH;
use crate::defects::{Defect, on};

/// How long an answer may take until the last one is as good.
const AT_ONCE: Duration = Duration::from_millis(250);

type Flight = Arc<OnceCell<(Parts, Bytes)>>;

/// What was last answered to each question.
static LAST: LazyLock<Mutex<HashMap<String, (Parts, Bytes)>>> = LazyLock::new(Mutex::default);
static FLIGHTS: LazyLock<Mutex<HashMap<String, Flight>>> = LazyLock::new(Mutex::default);

/// Does what a defect does about a request; without one, every request stays as it is.
pub(super) async fn lax(request: Request, next: Next) -> Response {
    // A stream has no end that could be waited for.
    let asks = request.method() == Method::GET && !request.uri().path().contains("stream");
    if on(Defect::AskedTogether) && asks {
        return together(request, next).await;
    }
    if on(Defect::StaleForAll) && asks {
        return stale(request, next).await;
    }
    if on(Defect::TenantFromForm) {
        return next.run(of_form(request).await).await;
    }
    next.run(request).await
}

/// One answer for all who ask the same at the same time: the tenant is not in the key.
async fn together(request: Request, next: Next) -> Response {
    let asked = request.uri().to_string();
    let flights = || FLIGHTS.lock().unwrap_or_else(PoisonError::into_inner);
    let flight = flights().entry(asked.clone()).or_default().clone();
    let answered = flight.get_or_init(|| async {
        let (parts, body) = next.run(request).await.into_parts();
        (parts, to_bytes(body, usize::MAX).await.unwrap_or_default())
    });
    let (parts, body) = answered.await.clone();
    flights().remove(&asked);
    Response::from_parts(parts, Body::from(body))
}

/// What cannot be answered at once is answered as it last was: the tenant is not in the key.
async fn stale(request: Request, next: Next) -> Response {
    let asked = request.uri().to_string();
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = last().get(&asked).cloned();
    let mut answered = Box::pin(next.run(request));
    let told = match (tokio::time::timeout(AT_ONCE, &mut answered).await, kept) {
        (Err(_), None) => answered.await,
        (Err(_), Some((parts, body))) => return Response::from_parts(parts, Body::from(body)),
        (Ok(told), Some((parts, body))) if told.status().is_server_error() => {
            return Response::from_parts(parts, Body::from(body));
        }
        (Ok(told), _) => told,
    };
    let (parts, body) = told.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if parts.status.is_success() {
        last().insert(asked, (parts.clone(), body.clone()));
    }
    Response::from_parts(parts, Body::from(body))
}

/// The request with the fields of its form as JSON, and the tenant among them where it is believed.
async fn of_form(request: Request) -> Request {
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    if request.headers().get(header::CONTENT_TYPE) != Some(&form) {
        return request;
    }
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, super::BODY_MAX).await.unwrap_or_default();
    let mut fields = Map::new();
    for (name, value) in serde_urlencoded::from_bytes::<Vec<(String, String)>>(&body).unwrap_or_default() {
        if name == "tenant_id" {
            parts.headers.extend(value.parse().ok().map(|tenant| (HeaderName::from_static(FROM_PATH), tenant)));
        } else {
            let told = serde_json::from_str(&value).ok().filter(|told: &Value| told.is_object() || told.is_array());
            fields.insert(name, told.unwrap_or(Value::String(value)));
        }
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Request::from_parts(parts, Body::from(Value::Object(fields).to_string()))
}
