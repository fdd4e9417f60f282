//! Archives: what is kept outside the database, and how it comes back.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{AuditStore, own};
use crate::archive::{Line, Restorable};
use crate::http::archives::Archive;
use crate::http::job_state::JobState;
use crate::problem::Problem;

const COLUMNS: &str = "id, run_id, rows, recorded_from, recorded_to, size_bytes, sha256, verified_at, restore_state, \
                       restored, restore_told, kept_until, created_at";
/// How long what is restored is kept at least.
const KEPT: &str = "interval '30 days'";

impl AuditStore {
    /// A page of archives, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn archives(&mut self, after: Option<Uuid>, limit: i64) -> Result<Vec<Archive>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM archives WHERE {} AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.connection()).await?.iter().map(archive).collect())
    }

    /// Asks for an archive to be restored, and adds the job: both or neither. Its events are kept from now on.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Conflict`] for one that is not verified.
    pub async fn ask_to_restore(&mut self, id: Uuid) -> Result<Archive, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE archives SET restore_state = 'queued', restored = NULL, restore_told = NULL, \
                    kept_until = greatest(kept_until, now() + {KEPT}) WHERE {} AND id = $2 RETURNING {COLUMNS}",
            own()
        );
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        let asked = row.as_ref().map(archive).ok_or(Problem::NotFound)?;
        if asked.verified_at.is_none() {
            return Err(Problem::Conflict("the archive is not verified yet".into()));
        }
        sqlx::query("SELECT enqueue_job('restore', $1)").bind(id).execute(self.directory()).await?;
        Ok(asked)
    }

    /// Takes the restoring of an archive up: the checksum of its object; none when it has ended before.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn take_restore(&mut self, id: Uuid) -> Result<Option<Vec<u8>>, Problem> {
        let tenant = self.tenant;
        let own = own();
        let statement = format!("SELECT restore_state, sha256 FROM archives WHERE {own} AND id = $2 FOR UPDATE");
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        let row = row.ok_or(Problem::NotFound)?;
        if row.get::<Option<&str>, _>("restore_state").is_none_or(|word| JobState::of_word(word).has_ended()) {
            return Ok(None);
        }
        let statement = format!("UPDATE archives SET restore_state = 'running' WHERE {own} AND id = $2");
        sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.connection()).await?;
        Ok(Some(row.get("sha256")))
    }

    /// Puts back the events of an archive that are not there, with what hung on them, and ends the restoring; false, and
    /// nothing done, when they are not the tenant's own, as they were sealed.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn put_back(&mut self, id: Uuid, lines: &[Line]) -> Result<bool, Problem> {
        let tenant = self.tenant;
        let own = own();
        // Of two that put back the same, one finds what the other has put back.
        let statement = format!("SELECT FROM archives WHERE {own} AND id = $2 FOR UPDATE");
        sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.connection()).await?;
        let ids: Vec<Uuid> = lines.iter().map(|line| line.event).collect();
        // Of an event that changed before it could be deleted, a later archive holds what became of it.
        let statement = format!(
            "SELECT event_id FROM archived_events WHERE {own} AND archive_id = $2 AND event_id = ANY ($3) \
                AND NOT EXISTS (SELECT FROM events WHERE {own} AND events.id = event_id)"
        );
        let absent = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).bind(ids);
        let absent: Vec<Uuid> =
            absent.fetch_all(self.connection()).await?.iter().map(|row| row.get("event_id")).collect();
        let (mut events, mut annotations, mut attachments) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines.iter().filter(|line| absent.contains(&line.event)) {
            let Ok(back) = serde_json::from_slice::<Restorable>(&line.text) else { return Ok(false) };
            events.push(back.event);
            annotations.extend(back.annotations);
            attachments.extend(back.attachments);
        }
        if !self.are_sealed(&events).await? {
            return Ok(false);
        }
        if !events.is_empty() {
            self.put_back_events(&events).await?;
        }
        for annotation in &annotations {
            sqlx::query(
                "INSERT INTO annotations (tenant_id, id, event_id, author_id, body, created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .bind(tenant)
            .bind(annotation.id)
            .bind(annotation.event_id)
            .bind(annotation.author_id)
            .bind(&annotation.body)
            .bind(annotation.created_at)
            .bind(annotation.updated_at)
            .execute(self.connection())
            .await?;
        }
        for attachment in &attachments {
            sqlx::query(
                "INSERT INTO attachments (tenant_id, id, event_id, author_id, name, content_type, size_bytes, sha256, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, decode($8, 'hex'), $9) ON CONFLICT DO NOTHING",
            )
            .bind(tenant)
            .bind(attachment.id)
            .bind(attachment.event_id)
            .bind(attachment.author_id)
            .bind(&attachment.name)
            .bind(&attachment.content_type)
            .bind(attachment.size_bytes)
            .bind(&attachment.sha256)
            .bind(attachment.created_at)
            .execute(self.connection())
            .await?;
        }
        let statement = format!("UPDATE archives SET restore_state = 'done', restored = $3 WHERE {own} AND id = $2");
        let done = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).bind(events.len() as i64);
        done.execute(self.connection()).await?;
        Ok(true)
    }

    /// Gives the restoring of an archive up.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn fail_restore(&mut self, id: Uuid, told: &str) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE archives SET restore_state = 'failed', restore_told = $3 WHERE {} AND id = $2 \
                AND restore_state IN ('queued', 'running')",
            own()
        );
        sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).bind(told).execute(self.connection()).await?;
        Ok(())
    }
}

fn archive(row: &PgRow) -> Archive {
    Archive {
        id: row.get("id"),
        run_id: row.get("run_id"),
        rows: row.get("rows"),
        recorded_from: row.get("recorded_from"),
        recorded_to: row.get("recorded_to"),
        size_bytes: row.get("size_bytes"),
        sha256: hex::encode(row.get::<&[u8], _>("sha256")),
        verified_at: row.get("verified_at"),
        restore_state: row.get::<Option<&str>, _>("restore_state").map(JobState::of_word),
        restored: row.get("restored"),
        restore_told: row.get("restore_told"),
        kept_until: row.get("kept_until"),
        created_at: row.get("created_at"),
    }
}
