//! Webhooks: where a tenant's events are sent, and which of them.

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, own};
use crate::http::webhooks::{NewWebhook, Webhook, WebhookChange};
use crate::problem::Problem;
use crate::signing::SecretOf;

const COLUMNS: &str =
    "id, url, actions, enabled, created_by, kept_by, secret_version, rotated_at, created_at, updated_at";

/// What a webhook wants.
pub(super) struct Wants {
    pub webhook: Uuid,
    pub actions: Vec<String>,
}

impl Wants {
    /// Whether events of `action` are among it.
    pub(super) fn wants(&self, action: &str) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(beginning) => action.starts_with(beginning),
            None => action == wanted,
        };
        self.actions.is_empty() || self.actions.iter().any(fits)
    }
}

impl AuditStore {
    /// Adds a webhook that `by` made, to fewer than `most`.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when the tenant has `most`.
    pub async fn add_webhook(&mut self, by: Uuid, new: &NewWebhook, most: i64) -> Result<(Webhook, SecretOf), Problem> {
        let tenant = self.tenant;
        // Those that are added at the same time are counted one after the other.
        let lock = format!(
            "SET LOCAL lock_timeout = '5s'; SELECT pg_advisory_xact_lock(hashtextextended('webhooks of tenant {tenant}', 0))"
        );
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(self.connection()).await?;
        if self.count("webhooks").await? >= most {
            return Err(Problem::Conflict(format!("a tenant has {most} webhooks at most: delete one first")));
        }
        let statement = format!(
            "INSERT INTO webhooks (tenant_id, id, url, actions, enabled, created_by, kept_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(Uuid::now_v7())
            .bind(&new.url)
            .bind(Json(&new.actions))
            .bind(new.enabled)
            .bind(by)
            .fetch_one(self.connection())
            .await?;
        Ok((webhook(&row), secret(tenant, &row)))
    }

    /// A page of webhooks, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn webhooks(&mut self, after: Option<Uuid>, limit: i64) -> Result<Vec<Webhook>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM webhooks WHERE {} AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.connection()).await?.iter().map(webhook).collect())
    }

    /// One webhook.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn webhook(&mut self, id: Uuid) -> Result<Webhook, Problem> {
        self.webhook_to_send(id).await.map(|(webhook, _)| webhook)
    }

    /// One webhook, and what signs what is sent to it.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn webhook_to_send(&mut self, id: Uuid) -> Result<(Webhook, SecretOf), Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM webhooks WHERE {} AND id = $2", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        row.map(|row| (webhook(&row), secret(tenant, &row))).ok_or(Problem::NotFound)
    }

    /// Changes a webhook, which `by` keeps from now on; what is not given stays.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn change_webhook(
        &mut self,
        id: Uuid,
        by: Uuid,
        change: &WebhookChange,
    ) -> Result<(Webhook, SecretOf), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE webhooks SET url = coalesce($3, url), actions = coalesce($4, actions), \
                    enabled = coalesce($5, enabled), kept_by = $6, secret_version = secret_version + $7::bool::int, \
                    rotated_at = CASE WHEN $7 THEN now() ELSE rotated_at END, updated_at = now() \
             WHERE {} AND id = $2 RETURNING {COLUMNS}",
            own()
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(id)
            .bind(&change.url)
            .bind(change.actions.as_ref().map(Json))
            .bind(change.enabled)
            .bind(by)
            .bind(change.rotate_secret)
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| (webhook(&row), secret(tenant, &row))).ok_or(Problem::NotFound)
    }

    /// Deletes a webhook, its deliveries, and its job unless that has begun.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_webhook(&mut self, id: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let (own, mut deleted) = (own(), 0);
        for statement in [
            // Taken first: nobody adds a delivery any more.
            format!("SELECT FROM webhooks WHERE {own} AND id = $2 FOR UPDATE"),
            format!("DELETE FROM webhook_deliveries WHERE {own} AND webhook_id = $2"),
            format!("DELETE FROM webhooks WHERE {own} AND id = $2"),
        ] {
            let done = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.connection()).await?;
            deleted = done.rows_affected();
        }
        if deleted != 1 {
            return Err(Problem::NotFound);
        }
        sqlx::query("SELECT withdraw_job('webhook', $1)").bind(id).execute(self.directory()).await?;
        Ok(())
    }
}

fn secret(tenant: Uuid, row: &PgRow) -> SecretOf {
    SecretOf { tenant, webhook: row.get("id"), version: row.get("secret_version"), rotated_at: row.get("rotated_at") }
}

fn webhook(row: &PgRow) -> Webhook {
    Webhook {
        id: row.get("id"),
        url: row.get("url"),
        actions: row.get::<Json<_>, _>("actions").0,
        enabled: row.get("enabled"),
        created_by: row.get("created_by"),
        kept_by: row.get("kept_by"),
        rotated_at: row.get("rotated_at"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_wants_whole_actions_how_they_begin_or_all() {
        let wants = |actions: &[&str], action: &str| {
            let actions = actions.iter().map(ToString::to_string).collect();
            Wants { webhook: Uuid::nil(), actions }.wants(action)
        };
        assert!(wants(&[], "document.shared") && wants(&["*"], "document.shared"));
        assert!(wants(&["x", "document.shared"], "document.shared") && wants(&["document.*"], "document.shared"));
        for unwanted in ["document", "document.share", "Document.shared", "*.shared", "doc*ment.shared", "documents.*"]
        {
            assert!(!wants(&[unwanted], "document.shared"), "{unwanted}");
        }
    }
}
