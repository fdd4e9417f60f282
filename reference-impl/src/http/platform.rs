//! What operates the service: tenants and their sizes, never their rows.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, Params};
use super::page::{List, Page};
use crate::caller::{Allowed, Operates};
use crate::cursor::Position;
use crate::platform::{self, MadeTenant, Usage};
use crate::problem::{Problem, Refusals};

/// A new tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Its short name.
    #[schema(max_length = 100)]
    pub slug: String,
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
}

/// Makes a tenant.
#[utoipa::path(post, path = "/v1/platform/tenants", operation_id = "create_tenant", security(("bearer" = [])), request_body = NewTenant,
    responses((status = 201, description = "Made", body = MadeTenant),
        Refusals))]
pub async fn create_tenant(
    State(app): State<App>,
    _: Allowed<Operates>,
    Body(new): Body<NewTenant>,
) -> Result<(StatusCode, Json<MadeTenant>), Problem> {
    Ok((StatusCode::CREATED, Json(platform::create_tenant(&app.platform, new.slug, new.name).await?)))
}

/// Lists tenants with their sizes.
#[utoipa::path(get, path = "/v1/platform/usage", operation_id = "get_usage", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<Usage>),
        Refusals))]
pub async fn get_usage(
    State(app): State<App>,
    _: Allowed<Operates>,
    Params(page): Params<Page>,
) -> Result<Json<List<Usage>>, Problem> {
    // No tenant has the nil id: a tenant's cursor never opens here.
    let page = page.of(&app, Uuid::nil(), "usage".into())?;
    let most = i32::try_from(page.asked.limit).unwrap_or(i32::MAX).saturating_add(1);
    let items = platform::usage(&app.platform, page.asked.after_id(), most).await?;
    let count = sqlx::query_scalar("SELECT platform_tenants()");
    let total = if page.asked.count { Some(count.fetch_one(&app.platform).await?) } else { None };
    Ok(Json(page.list(items, total, |usage: &Usage| Position::of_id(usage.tenant_id))))
}
