//! Viewer tokens: a narrowed view of the tenant's events, handed out.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{AuditStore, own};
use crate::http::viewer_tokens::ViewerToken;
use crate::problem::Problem;

const COLUMNS: &str = "id, name, actor_id, target_type, target_id, expires_at, created_at, revoked_at";

impl AuditStore {
    /// Adds a token of which only the hash is kept.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn add_viewer_token(
        &mut self,
        name: &str,
        secret_hash: &[u8],
        actor: Option<Uuid>,
        target: Option<(&str, &str)>,
        expires_at: OffsetDateTime,
    ) -> Result<ViewerToken, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO viewer_tokens (tenant_id, id, name, secret_hash, actor_id, target_type, target_id, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(Uuid::now_v7())
            .bind(name)
            .bind(secret_hash)
            .bind(actor)
            .bind(target.map(|(kind, _)| kind))
            .bind(target.map(|(_, id)| id))
            .bind(expires_at)
            .fetch_one(self.directory())
            .await?;
        Ok(viewer_token(&row))
    }

    /// A page of tokens, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn viewer_tokens(&mut self, after: Option<Uuid>, limit: i64) -> Result<Vec<ViewerToken>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM viewer_tokens WHERE {} AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.directory()).await?.iter().map(viewer_token).collect())
    }

    /// One token.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn viewer_token(&mut self, id: Uuid) -> Result<ViewerToken, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM viewer_tokens WHERE {} AND id = $2", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.directory()).await?;
        row.as_ref().map(viewer_token).ok_or(Problem::NotFound)
    }

    /// Revokes a token; it opens nothing from now on.
    ///
    /// # Errors
    /// [`Problem::NotFound`], also for a token that was revoked before.
    pub async fn revoke_viewer_token(&mut self, id: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement =
            format!("UPDATE viewer_tokens SET revoked_at = now() WHERE {} AND id = $2 AND revoked_at IS NULL", own());
        let done = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.directory()).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Problem::NotFound) }
    }
}

fn viewer_token(row: &PgRow) -> ViewerToken {
    ViewerToken {
        id: row.get("id"),
        name: row.get("name"),
        actor_id: row.get("actor_id"),
        target_type: row.get("target_type"),
        target_id: row.get("target_id"),
        expires_at: row.get("expires_at"),
        created_at: row.get("created_at"),
        revoked_at: row.get("revoked_at"),
    }
}
