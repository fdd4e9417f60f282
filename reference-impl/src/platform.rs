//! What operates the service, by HTTP or from the command line: tenants and their sizes, never their rows.

use serde::Serialize;
use sqlx::{PgPool, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::extract::text;
use crate::problem::Problem;

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

/// A tenant's size.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// The tenant.
    pub tenant_id: Uuid,
    /// Its short name.
    pub slug: String,
    /// Events kept.
    pub events: i64,
    /// Bytes of their rows.
    pub bytes: i64,
}

/// Makes a tenant; `pool` is `audit_platform`'s.
///
/// # Errors
/// [`Problem::Conflict`] when the short name is taken; a name that cannot be kept.
pub async fn create_tenant(pool: &PgPool, slug: String, name: String) -> Result<MadeTenant, Problem> {
    text("slug", &slug, 100)?;
    text("name", &name, 200)?;
    let id = Uuid::now_v7();
    let made = sqlx::query_scalar("SELECT platform_create_tenant($1, $2, $3)").bind(id).bind(&slug).bind(&name);
    if made.fetch_one(pool).await? {
        Ok(MadeTenant { id, slug, name })
    } else {
        Err(Problem::Conflict("this slug is taken".into()))
    }
}

/// Tenants after `after` with their sizes, in the order of their ids.
///
/// # Errors
/// What the database fails with.
pub async fn usage(pool: &PgPool, after: Option<Uuid>, most: i32) -> Result<Vec<Usage>, Problem> {
    let found = sqlx::query("SELECT tenant_id, slug, events, bytes FROM platform_usage($1, $2)").bind(after).bind(most);
    let usage = |row: &sqlx::postgres::PgRow| Usage {
        tenant_id: row.get("tenant_id"),
        slug: row.get("slug"),
        events: row.get("events"),
        bytes: row.get("bytes"),
    };
    Ok(found.fetch_all(pool).await?.iter().map(usage).collect())
}
