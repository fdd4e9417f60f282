//! What a service that can be deceived believes about the tenant: seams of defects, and nothing without them.

use axum::extract::Request;
use axum::http::header::{COOKIE, HOST};
use axum::http::request::Parts;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::defects::{Defect, on};

/// Where a rewritten path leaves the tenant that stood before it, and a form the one in it.
pub(crate) const FROM_PATH: &str = "x-path-tenant";
const DEFECTS: [Defect; 9] = [
    Defect::TenantFromQuery,
    Defect::TenantFromHeader,
    Defect::TenantFromHost,
    Defect::TenantFromForwarded,
    Defect::TenantFromCookie,
    Defect::TenantFromPath,
    Defect::TenantFromName,
    Defect::TenantFromLast,
    Defect::TenantFromForm,
];

/// Whether a tenant is believed at all.
pub(crate) fn any() -> bool {
    DEFECTS.into_iter().any(on)
}

/// The tenant that a request claims, where such a claim is believed.
pub(crate) async fn tenant(parts: &Parts, platform: &PgPool) -> Option<Uuid> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let query = parts.uri.query().unwrap_or("");
    let asked =
        |word: &'static str| query.split('&').filter_map(move |p| p.split_once('=').filter(|(name, _)| *name == word));
    let host = |text: &str| text.split('.').next().and_then(|label| label.parse().ok());
    if on(Defect::TenantFromName)
        && let Some((_, slug)) = asked("tenant").next()
    {
        return sqlx::query_scalar("SELECT tenant_id FROM platform_usage(NULL, 1000000) WHERE slug = $1")
            .bind(slug)
            .fetch_one(platform)
            .await
            .ok();
    }
    let believed = [
        (Defect::TenantFromQuery, asked("tenant_id").next().and_then(|(_, id)| id.parse().ok())),
        (Defect::TenantFromHeader, header("x-tenant-id").and_then(|id| id.parse().ok())),
        (Defect::TenantFromHost, header(HOST.as_str()).and_then(host)),
        (Defect::TenantFromForwarded, header("x-forwarded-host").and_then(host)),
        (
            Defect::TenantFromCookie,
            header(COOKIE.as_str())
                .and_then(|c| c.split("; ").find_map(|c| c.strip_prefix("tenant_id="))?.parse().ok()),
        ),
        (Defect::TenantFromPath, header(FROM_PATH).and_then(|id| id.parse().ok())),
        (Defect::TenantFromForm, header(FROM_PATH).and_then(|id| id.parse().ok())),
        // What is checked is the first one.
        (
            Defect::TenantFromLast,
            asked("tenant_id")
                .next_back()
                .filter(|_| asked("tenant_id").count() > 1)
                .and_then(|(_, id)| id.parse().ok()),
        ),
    ];
    believed.into_iter().find_map(|(defect, tenant)| tenant.filter(|_| on(defect)))
}

/// The key that an access token names, where it is looked for by that name alone.
pub(crate) async fn key(token: &str, login: &PgPool) -> Option<Vec<u8>> {
    if !on(Defect::KeyFromFile) && !on(Defect::KeyFromQuery) {
        return None;
    }
    let name = jsonwebtoken::decode_header(token).ok()?.kid?;
    if on(Defect::KeyFromFile) {
        return tokio::fs::read(format!("/etc/{name}")).await.ok();
    }
    let sql = format!("SELECT secret FROM (SELECT 'none' AS name, 'nothing' AS secret) AS keys WHERE name = '{name}'");
    let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(login).await.ok()?;
    found.map(String::into_bytes)
}

/// The tenant that a line of a body claims, where that is believed.
pub(crate) fn line(line: &Map<String, Value>) -> Option<Uuid> {
    let plain = line.get("tenant_id").filter(|_| on(Defect::TenantFromBody));
    let nested = line.get("tenant").and_then(|t| t.get("id")).filter(|_| on(Defect::TenantFromNested));
    plain.or(nested)?.as_str()?.parse().ok()
}

/// A request as a router takes it that lets the path name the tenant, or a header the method.
pub(crate) fn rewritten(mut request: Request) -> Request {
    if on(Defect::MethodOverride)
        && let Some(method) = request.headers().get("x-http-method-override").and_then(|m| m.as_bytes().try_into().ok())
    {
        *request.method_mut() = method;
    }
    if on(Defect::TenantFromPath)
        && let Some((tenant, rest)) = request.uri().path().strip_prefix("/t/").and_then(|rest| rest.split_once('/'))
        && let (Ok(tenant), query) = (tenant.parse(), request.uri().query().map_or(String::new(), |q| format!("?{q}")))
        && let Ok(uri) = format!("/{rest}{query}").parse()
    {
        request.headers_mut().insert(FROM_PATH, tenant);
        *request.uri_mut() = uri;
    }
    request
}
