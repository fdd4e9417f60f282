//! The caller's own tenant.

use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::extract::{Body, Params, text};
use crate::caller::{Allowed, Oversees, Owns};
use crate::problem::{Problem, Refusals};

/// A tenant, to its own people.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenant {
    /// Its id.
    pub id: Uuid,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What to change about the tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantChange {
    /// The name.
    #[schema(max_length = 200)]
    pub name: String,
}

/// How sure one is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Confirmed {
    /// The tenant's short name: without it nothing is erased.
    #[param(max_length = 100)]
    pub confirm: Option<String>,
    /// Only tell what would be erased.
    pub dry_run: Option<bool>,
}

/// What is erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct Erasure {
    /// The tenant.
    pub tenant_id: Uuid,
    /// Its short name, which another may have once the erasure is done.
    pub slug: String,
    /// Whether it is being erased from now on.
    pub erasing: bool,
}

/// Reads the tenant.
#[utoipa::path(get, path = "/v1/tenant", operation_id = "get_tenant", security(("bearer" = [])),
    responses((status = 200, description = "The tenant", body = Tenant),
        Refusals))]
pub async fn get_tenant(Allowed(caller, _): Allowed<Oversees>) -> Result<Json<Tenant>, Problem> {
    caller.run(|store| Box::pin(store.tenant())).await.map(Json)
}

/// Gives the tenant another name.
#[utoipa::path(patch, path = "/v1/tenant", operation_id = "update_tenant", security(("bearer" = [])), request_body = TenantChange,
    responses((status = 200, description = "Changed", body = Tenant),
        Refusals))]
pub async fn update_tenant(
    Allowed(caller, _): Allowed<Owns>,
    Body(change): Body<TenantChange>,
) -> Result<Json<Tenant>, Problem> {
    text("name", &change.name, 200)?;
    caller.run(move |store| Box::pin(async move { store.rename_tenant(&change.name).await })).await.map(Json)
}

/// Erases the tenant: every row and every object of it. Nobody is signed in to it from here on, and no key or token opens
/// it; the rest is done by a job, and cannot be undone. While a legal hold is on, it is a conflict.
#[utoipa::path(delete, path = "/v1/tenant", operation_id = "erase_tenant", security(("bearer" = [])), params(Confirmed),
    responses((status = 200, description = "What would be erased", body = Erasure),
        (status = 202, description = "It is being erased", body = Erasure),
        Refusals))]
pub async fn erase_tenant(
    Allowed(caller, _): Allowed<Owns>,
    Params(Confirmed { confirm, dry_run }): Params<Confirmed>,
) -> Result<(StatusCode, Json<Erasure>), Problem> {
    let begins = dry_run != Some(true);
    let erasing = move |tenant: Tenant| Erasure { tenant_id: tenant.id, slug: tenant.slug, erasing: begins };
    let tenant = caller
        .run(move |store| {
            Box::pin(async move {
                let tenant = store.erasable_tenant().await?;
                if begins && confirm.as_deref() != Some(tenant.slug.as_str()) {
                    return Err(Problem::Unprocessable("confirm must be the tenant's slug".into()));
                }
                if begins {
                    store.begin_erasure().await?;
                }
                Ok(tenant)
            })
        })
        .await?;
    Ok((if begins { StatusCode::ACCEPTED } else { StatusCode::OK }, Json(erasing(tenant))))
}
