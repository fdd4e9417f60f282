//! API keys: what writes events without a person.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, own};
use crate::http::api_keys::ApiKey;
use crate::problem::Problem;

const COLUMNS: &str = "id, name, created_at, revoked_at";

impl AuditStore {
    /// Adds a key of which only the hash is kept.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn add_api_key(&mut self, name: &str, secret_hash: &[u8]) -> Result<ApiKey, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO api_keys (tenant_id, id, name, secret_hash) VALUES ($1, $2, $3, $4) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(Uuid::now_v7()).bind(name).bind(secret_hash);
        Ok(api_key(&row.fetch_one(self.directory()).await?))
    }

    /// A page of keys, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn api_keys(&mut self, after: Option<Uuid>, limit: i64) -> Result<Vec<ApiKey>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM api_keys WHERE {} AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.directory()).await?.iter().map(api_key).collect())
    }

    /// One key.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn api_key(&mut self, id: Uuid) -> Result<ApiKey, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM api_keys WHERE {} AND id = $2", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.directory()).await?;
        row.as_ref().map(api_key).ok_or(Problem::NotFound)
    }

    /// Revokes a key; it opens nothing from now on.
    ///
    /// # Errors
    /// [`Problem::NotFound`], also for a key that was revoked before.
    pub async fn revoke_api_key(&mut self, id: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement =
            format!("UPDATE api_keys SET revoked_at = now() WHERE {} AND id = $2 AND revoked_at IS NULL", own());
        let done = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.directory()).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Problem::NotFound) }
    }
}

fn api_key(row: &PgRow) -> ApiKey {
    ApiKey {
        id: row.get("id"),
        name: row.get("name"),
        created_at: row.get("created_at"),
        revoked_at: row.get("revoked_at"),
    }
}
