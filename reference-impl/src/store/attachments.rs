//! Attachments: what is known of a file that belongs to an event.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, Sight, own};
use crate::http::attachments::Attachment;
use crate::problem::Problem;

pub(super) const COLUMNS: &str = "id, event_id, author_id, name, content_type, size_bytes, sha256, created_at";

/// A file whose bytes are written.
#[derive(Clone, Debug)]
pub struct NewAttachment {
    /// The id that its bytes are kept under.
    pub id: Uuid,
    /// The event.
    pub event: Uuid,
    /// Who sends it.
    pub author: Uuid,
    /// Its name.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// Its size, bytes.
    pub size: i64,
    /// The SHA-256 of its bytes.
    pub sha256: Vec<u8>,
}

impl AuditStore {
    /// Adds an attachment to an event that `sight` lets through.
    ///
    /// # Errors
    /// [`Problem::NotFound`] without such an event.
    pub async fn add_attachment(&mut self, new: &NewAttachment, sight: &Sight) -> Result<Attachment, Problem> {
        self.event(new.event, sight).await?;
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO attachments (tenant_id, id, event_id, author_id, name, content_type, size_bytes, sha256) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(new.id)
            .bind(new.event)
            .bind(new.author)
            .bind(&new.name)
            .bind(&new.content_type)
            .bind(new.size)
            .bind(&new.sha256)
            .fetch_one(self.connection())
            .await?;
        Ok(attachment(&row))
    }

    /// A page of an event's attachments, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// [`Problem::NotFound`] without such an event.
    pub async fn attachments(
        &mut self,
        event: Uuid,
        sight: &Sight,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Attachment>, Problem> {
        self.event(event, sight).await?;
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM attachments WHERE {} AND event_id = $2 AND ($3::uuid IS NULL OR id > $3) ORDER BY id LIMIT $4",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(event).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.connection()).await?.iter().map(attachment).collect())
    }

    /// How many attachments an event has.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn count_attachments(&mut self, event: Uuid) -> Result<i64, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT count(*) FROM attachments WHERE {} AND event_id = $2", own());
        let counted = sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(event);
        Ok(counted.fetch_one(self.connection()).await?)
    }

    /// One attachment of an event that `sight` lets through.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn attachment(&mut self, id: Uuid, sight: &Sight) -> Result<Attachment, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM attachments WHERE {} AND id = $2", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        let found = row.as_ref().map(attachment).ok_or(Problem::NotFound)?;
        self.event(found.event_id, sight).await?;
        Ok(found)
    }

    /// Deletes an attachment; its bytes are for the caller to remove once this is committed.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_attachment(&mut self, id: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!("DELETE FROM attachments WHERE {} AND id = $2", own());
        let done = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.connection()).await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Problem::NotFound) }
    }
}

pub(super) fn attachment(row: &PgRow) -> Attachment {
    Attachment {
        id: row.get("id"),
        event_id: row.get("event_id"),
        author_id: row.get("author_id"),
        name: row.get("name"),
        content_type: row.get("content_type"),
        size_bytes: row.get("size_bytes"),
        sha256: hex::encode(row.get::<&[u8], _>("sha256")),
        created_at: row.get("created_at"),
    }
}
