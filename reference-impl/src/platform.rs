//! What operates the service, by HTTP or from the command line: tenants and their sizes, never their rows.

use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{Connection, PgConnection, PgExecutor, PgPool, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::extract::text;
use crate::problem::Problem;
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

/// Tenants after `after` with their sizes, in the order of their ids; `pool` is `audit_platform`'s.
///
/// # Errors
/// What the database fails with.
pub async fn usage(pool: &PgPool, after: Option<Uuid>, most: i32) -> Result<Vec<Usage>, Problem> {
    let mut page = counted(pool, after, most).await?;
    for of in page.iter_mut().filter(|of| of.storage == "database") {
        let options = PgConnectOptions::clone(&pool.connect_options()).database(&name_of(of.tenant_id));
        let mut own = PgConnection::connect_with(&options).await?;
        // One row: the tenant's own database knows no other tenant.
        if let Some(counted) = counted(&mut own, None, 1).await?.pop() {
            *of = counted;
        }
        own.close().await?;
    }
    Ok(page)
}

/// As [`usage`], of what is in this one database.
async fn counted(platform: impl PgExecutor<'_>, after: Option<Uuid>, most: i32) -> Result<Vec<Usage>, Problem> {
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
