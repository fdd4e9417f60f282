//! Exports: what was asked for, and how far it is.

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, own, own_unless};
use crate::defects::Defect;
use crate::http::exports::{Export, ExportFilter, Format};
use crate::http::job_state::JobState;
use crate::problem::Problem;

const COLUMNS: &str = "id, requested_by, format, filter, state, rows, size_bytes, sha256, created_at, finished_at";

/// An export that a job has taken.
#[derive(Debug)]
pub struct TakenExport {
    /// The file to write.
    pub format: Format,
    /// Which events.
    pub filter: ExportFilter,
    /// The object of an earlier try, if there was one.
    pub before: Option<Uuid>,
}

/// A file that is written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Events in it.
    pub rows: i64,
    /// Its size, bytes.
    pub size: i64,
    /// The SHA-256 of its bytes.
    pub sha256: Vec<u8>,
}

impl AuditStore {
    /// Adds an export, and the job that writes it: both or neither.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn add_export(
        &mut self,
        requested_by: Uuid,
        format: Format,
        filter: &ExportFilter,
    ) -> Result<Export, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO exports (tenant_id, id, requested_by, format, filter) VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(Uuid::now_v7())
            .bind(requested_by)
            .bind(format.word())
            .bind(Json(filter))
            .fetch_one(self.connection())
            .await?;
        let added = export(&row);
        sqlx::query("SELECT enqueue_job('export', $1)").bind(added.id).execute(self.directory()).await?;
        Ok(added)
    }

    /// A page of exports, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn exports(&mut self, after: Option<Uuid>, limit: i64) -> Result<Vec<Export>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM exports WHERE {} AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.connection()).await?.iter().map(export).collect())
    }

    /// One export.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn export(&mut self, id: Uuid) -> Result<Export, Problem> {
        self.export_object(id).await.map(|(export, _)| export)
    }

    /// One export, and the object that it is in once it is done.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn export_object(&mut self, id: Uuid) -> Result<(Export, Option<Uuid>), Problem> {
        let tenant = self.tenant;
        let statement =
            format!("SELECT {COLUMNS}, object_id FROM exports WHERE {} AND id = $2", own_unless(Defect::ExportById));
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        row.map(|row| (export(&row), row.get("object_id"))).ok_or(Problem::NotFound)
    }

    /// Deletes an export, and its job if that has not begun; its object, which is answered, is for the caller to remove
    /// once this is committed.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_export(&mut self, id: Uuid) -> Result<Option<Uuid>, Problem> {
        let tenant = self.tenant;
        let statement = format!("DELETE FROM exports WHERE {} AND id = $2 RETURNING object_id", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        let object = row.ok_or(Problem::NotFound)?.get("object_id");
        sqlx::query("SELECT withdraw_job('export', $1)").bind(id).execute(self.directory()).await?;
        Ok(object)
    }

    /// Takes an export up, to be written to `object`; none when it has ended before.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn take_export(&mut self, id: Uuid, object: Uuid) -> Result<Option<TakenExport>, Problem> {
        let tenant = self.tenant;
        let statement =
            format!("SELECT format, filter, state, object_id FROM exports WHERE {} AND id = $2 FOR UPDATE", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        let row = row.ok_or(Problem::NotFound)?;
        if JobState::of_word(row.get("state")).has_ended() {
            return Ok(None);
        }
        let statement = format!("UPDATE exports SET state = 'running', object_id = $3 WHERE {} AND id = $2", own());
        let taking = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).bind(object);
        taking.execute(self.connection()).await?;
        let filter = row.get::<Json<_>, _>("filter").0;
        Ok(Some(TakenExport { format: format(&row), filter, before: row.get("object_id") }))
    }

    /// Ends an export that is still to be written to `object`; false when it is gone, or another try has it.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn finish_export(&mut self, id: Uuid, object: Uuid, written: &Written) -> Result<bool, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE exports SET state = 'done', rows = $4, size_bytes = $5, sha256 = $6, finished_at = now() \
             WHERE {} AND id = $2 AND object_id = $3 AND state = 'running'",
            own()
        );
        let done = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(id)
            .bind(object)
            .bind(written.rows)
            .bind(written.size)
            .bind(&written.sha256)
            .execute(self.connection())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives an export up.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn fail_export(&mut self, id: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE exports SET state = 'failed', object_id = NULL, finished_at = now() WHERE {} AND id = $2 AND state <> 'done'",
            own()
        );
        sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.connection()).await?;
        Ok(())
    }
}

fn format(row: &PgRow) -> Format {
    if row.get::<&str, _>("format") == "csv" { Format::Csv } else { Format::Ndjson }
}

fn export(row: &PgRow) -> Export {
    Export {
        id: row.get("id"),
        requested_by: row.get("requested_by"),
        format: format(row),
        filter: row.get::<Json<_>, _>("filter").0,
        state: JobState::of_word(row.get("state")),
        rows: row.get("rows"),
        size_bytes: row.get("size_bytes"),
        sha256: row.get::<Option<&[u8]>, _>("sha256").map(hex::encode),
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
    }
}
