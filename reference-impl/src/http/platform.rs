//! What operates the service: tenants and their sizes, never their rows.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{Connection, PgConnection, PgExecutor, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, Params, text};
use super::page::{List, Page};
use crate::caller::{Allowed, Operates};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};
use crate::storage::model::name_of;

/// A tenant, to those who operate.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeTenant {
    /// Its id.
    pub id: Uuid,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
}

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

/// A tenant's size.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// The tenant.
    pub tenant_id: Uuid,
    /// Its short name.
    pub slug: String,
    /// Where its tables are: shared, schema or database.
    pub storage: String,
    /// Events kept.
    pub events: i64,
    /// Bytes of their rows.
    pub bytes: i64,
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
    text("slug", &new.slug, 100)?;
    text("name", &new.name, 200)?;
    let id = Uuid::now_v7();
    let made: bool = sqlx::query_scalar("SELECT platform_create_tenant($1, $2, $3)")
        .bind(id)
        .bind(&new.slug)
        .bind(&new.name)
        .fetch_one(&app.platform)
        .await?;
    if !made {
        return Err(Problem::Conflict("this slug is taken".into()));
    }
    Ok((StatusCode::CREATED, Json(MadeTenant { id, slug: new.slug, name: new.name })))
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
    let mut items = usage(&app.platform, page.asked.after_id(), most).await?;
    for of in items.iter_mut().filter(|of| of.storage == "database") {
        let options = PgConnectOptions::clone(&app.platform.connect_options()).database(&name_of(of.tenant_id));
        let mut own = PgConnection::connect_with(&options).await?;
        // One row: the tenant's own database knows no other tenant.
        if let Some(counted) = usage(&mut own, None, 1).await?.pop() {
            *of = counted;
        }
        own.close().await?;
    }
    let count = sqlx::query_scalar("SELECT platform_tenants()");
    let total = if page.asked.count { Some(count.fetch_one(&app.platform).await?) } else { None };
    Ok(Json(page.list(items, total, |usage: &Usage| Position::of_id(usage.tenant_id))))
}

async fn usage(platform: impl PgExecutor<'_>, after: Option<Uuid>, most: i32) -> Result<Vec<Usage>, Problem> {
    let rows = sqlx::query("SELECT tenant_id, slug, storage, events, bytes FROM platform_usage($1, $2)");
    let rows = rows.bind(after).bind(most).fetch_all(platform).await?;
    let of = |row: &PgRow| Usage {
        tenant_id: row.get("tenant_id"),
        slug: row.get("slug"),
        storage: row.get("storage"),
        events: row.get("events"),
        bytes: row.get("bytes"),
    };
    Ok(rows.iter().map(of).collect())
}
