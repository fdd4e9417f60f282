//! Annotations: what people note on an event.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, Sight, own, own_unless};
use crate::defects::Defect;
use crate::http::annotations::Annotation;
use crate::problem::Problem;

pub(super) const COLUMNS: &str = "id, event_id, author_id, body, created_at, updated_at";

impl AuditStore {
    /// Annotates an event that `sight` lets through.
    ///
    /// # Errors
    /// [`Problem::NotFound`] without such an event.
    pub async fn annotate(
        &mut self,
        event: Uuid,
        sight: &Sight,
        author: Uuid,
        body: &str,
    ) -> Result<Annotation, Problem> {
        self.event(event, sight).await?;
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO annotations (tenant_id, id, event_id, author_id, body) VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(Uuid::now_v7())
            .bind(event)
            .bind(author)
            .bind(body)
            .fetch_one(self.connection())
            .await?;
        Ok(annotation(&row))
    }

    /// A page of an event's annotations, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// [`Problem::NotFound`] without such an event.
    pub async fn annotations(
        &mut self,
        event: Uuid,
        sight: &Sight,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Annotation>, Problem> {
        self.event(event, sight).await?;
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM annotations WHERE {} AND event_id = $2 AND ($3::uuid IS NULL OR id > $3) ORDER BY id LIMIT $4",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(event)
            .bind(after)
            .bind(limit + 1)
            .fetch_all(self.connection())
            .await?;
        Ok(rows.iter().map(annotation).collect())
    }

    /// How many annotations an event has.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn count_annotations(&mut self, event: Uuid) -> Result<i64, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT count(*) FROM annotations WHERE {} AND event_id = $2", own());
        let counted = sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(event);
        Ok(counted.fetch_one(self.connection()).await?)
    }

    /// One annotation of an event that `sight` lets through.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn annotation(&mut self, event: Uuid, id: Uuid, sight: &Sight) -> Result<Annotation, Problem> {
        self.event(event, sight).await?;
        let tenant = self.tenant;
        let statement = format!("SELECT {COLUMNS} FROM annotations WHERE {} AND event_id = $2 AND id = $3", own());
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(event)
            .bind(id)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(annotation).ok_or(Problem::NotFound)
    }

    /// Changes an annotation; `author` restricts it to that person's own.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn change_annotation(
        &mut self,
        event: Uuid,
        id: Uuid,
        author: Option<Uuid>,
        body: &str,
    ) -> Result<Annotation, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE annotations SET body = $5, updated_at = now() \
             WHERE {} AND event_id = $2 AND id = $3 AND ($4::uuid IS NULL OR author_id = $4) RETURNING {COLUMNS}",
            own_unless(Defect::AnnotationById)
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(event)
            .bind(id)
            .bind(author)
            .bind(body)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(annotation).ok_or(Problem::NotFound)
    }

    /// Deletes an annotation; `author` restricts it to that person's own.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_annotation(&mut self, event: Uuid, id: Uuid, author: Option<Uuid>) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "DELETE FROM annotations WHERE {} AND event_id = $2 AND id = $3 AND ($4::uuid IS NULL OR author_id = $4)",
            own_unless(Defect::AnnotationById)
        );
        let done = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(event)
            .bind(id)
            .bind(author)
            .execute(self.connection())
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Problem::NotFound) }
    }
}

pub(super) fn annotation(row: &PgRow) -> Annotation {
    Annotation {
        id: row.get("id"),
        event_id: row.get("event_id"),
        author_id: row.get("author_id"),
        body: row.get("body"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    }
}
