//! The tenant itself.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::{AuditStore, own};
use crate::http::tenant::Tenant;
use crate::problem::Problem;

const COLUMNS: &str = "id, slug, name, created_at";

/// The tenant predicate of the table whose id is the tenant.
fn this() -> String {
    own().replace("tenant_id =", "id =")
}

impl AuditStore {
    /// The tenant.
    ///
    /// # Errors
    /// [`Problem::NotFound`] once it is erased.
    pub async fn tenant(&mut self) -> Result<Tenant, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM tenants WHERE {}", this());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).fetch_optional(self.directory()).await?;
        row.as_ref().map(described).ok_or(Problem::NotFound)
    }

    /// Gives the tenant another name.
    ///
    /// # Errors
    /// [`Problem::NotFound`] once it is erased.
    pub async fn rename_tenant(&mut self, name: &str) -> Result<Tenant, Problem> {
        let tenant = self.tenant;
        let statement = format!("UPDATE tenants SET name = $2 WHERE {} RETURNING {COLUMNS}", this());
        let row =
            sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(name).fetch_optional(self.directory()).await?;
        row.as_ref().map(described).ok_or(Problem::NotFound)
    }
}

fn described(row: &PgRow) -> Tenant {
    Tenant { id: row.get("id"), slug: row.get("slug"), name: row.get("name"), created_at: row.get("created_at") }
}
