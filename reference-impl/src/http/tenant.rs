//! The caller's own tenant.

use axum::Json;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::extract::{Body, text};
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
