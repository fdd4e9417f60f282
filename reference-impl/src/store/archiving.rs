//! Archiving and deleting, as a retention run does it, a batch a transaction. Each transaction begins by making sure that
//! its try still has the run, so that of two that overlap one alone goes on.

use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::due::{AFTER, At, at};
use super::events::{COLUMNS, event};
use super::retention::Try;
use super::{AuditStore, annotations, attachments, own};
use crate::archive::{Line, Whole};
use crate::http::event::Event;
use crate::problem::Problem;

/// Events to archive.
#[derive(Debug)]
pub struct Batch {
    /// Their lines; those that are not what was sealed are left out.
    pub lines: Vec<Line>,
    /// When the first and the last of them were recorded.
    pub recorded: (OffsetDateTime, OffsetDateTime),
    /// How many are not what was sealed.
    pub changed: usize,
    /// Where the next batch goes on.
    pub after: At,
}

/// An archive whose object is written.
#[derive(Debug)]
pub struct Written {
    /// Its id, and its object's.
    pub id: Uuid,
    /// What it holds.
    pub batch: Batch,
    /// Its size, bytes.
    pub size: i64,
    /// The SHA-256 of its bytes.
    pub sha256: Vec<u8>,
}

/// What came of a batch to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Some were looked at.
    Of {
        /// How many of them are not what their archive holds: these stay, and are in no archive from now on.
        changed: usize,
        /// How many were deleted.
        deleted: usize,
        /// Where the next batch goes on; none at the end.
        after: Option<At>,
    },
    /// A legal hold is on.
    Held,
}

impl AuditStore {
    /// Those of the next `limit` events recorded before `before` that are in no archive, sealed if they were not; none at
    /// the end. Those that are in one are looked at too: where many wait to be deleted, no statement may pass over all.
    ///
    /// # Errors
    /// [`Problem::Busy`] while another seals for too long.
    pub async fn to_archive(
        &mut self,
        before: OffsetDateTime,
        after: Option<At>,
        limit: i64,
    ) -> Result<Option<Batch>, Problem> {
        let tenant = self.tenant;
        let own = own();
        let (from, id) = after.unzip();
        self.plan_anew().await?;
        let statement = format!(
            "SELECT {COLUMNS}, EXISTS (SELECT FROM archived_events WHERE {own} AND event_id = events.id) AS archived \
               FROM events WHERE {own} AND recorded_at < $2 AND {AFTER} ORDER BY recorded_at, id LIMIT {limit}"
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(before);
        let rows = rows.bind(from).bind(id).fetch_all(self.connection()).await?;
        let Some(after) = rows.last().map(at) else { return Ok(None) };
        let mut events: Vec<Event> = rows.iter().filter(|row| !row.get::<bool, _>("archived")).map(event).collect();
        let recorded_at = |event: Option<&Event>| event.map_or(after.0, |event| event.recorded_at);
        let recorded = (recorded_at(events.first()), recorded_at(events.last()));
        let changed = self.seal_these(&events).await?;
        events.retain(|event| !changed.contains(&event.id));
        let lines = self.whole(events).await?.iter().map(Whole::line).collect::<Result<_, _>>()?;
        Ok(Some(Batch { lines, recorded, changed: changed.len(), after }))
    }

    /// Records an archive whose object is written.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run; [`Problem::Internal`] when an event is in an archive already.
    pub async fn record_archive(&mut self, held: Try, written: &Written) -> Result<(), Problem> {
        self.hold_run(held).await?;
        let tenant = self.tenant;
        let rows = written.batch.lines.len() as i64;
        let (ids, digests): (Vec<Uuid>, Vec<&[u8]>) =
            written.batch.lines.iter().map(|line| (line.event, line.digest.as_slice())).unzip();
        sqlx::query(
            "INSERT INTO archives (tenant_id, id, run_id, rows, recorded_from, recorded_to, size_bytes, sha256) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(tenant)
        .bind(written.id)
        .bind(held.run)
        .bind(rows)
        .bind(written.batch.recorded.0)
        .bind(written.batch.recorded.1)
        .bind(written.size)
        .bind(&written.sha256)
        .execute(self.connection())
        .await?;
        let inserted = sqlx::query(
            "INSERT INTO archived_events (tenant_id, archive_id, event_id, digest) \
             SELECT $1, $2, * FROM unnest($3::uuid[], $4::bytea[]) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(written.id)
        .bind(ids)
        .bind(digests)
        .execute(self.connection())
        .await?;
        if inserted.rows_affected() != rows as u64 {
            return Err(Problem::Internal);
        }
        let statement =
            format!("UPDATE retention_runs SET object_id = NULL, archived = archived + $3 WHERE {} AND id = $2", own());
        let update = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run).bind(rows);
        update.execute(self.connection()).await?;
        Ok(())
    }

    /// An archive that nobody has read again yet, with the checksum of its object.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn unverified(&mut self) -> Result<Option<(Uuid, Vec<u8>)>, Problem> {
        let tenant = self.tenant;
        let statement =
            format!("SELECT id, sha256 FROM archives WHERE {} AND verified_at IS NULL ORDER BY id LIMIT 1", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).fetch_optional(self.connection()).await?;
        Ok(row.map(|row| (row.get("id"), row.get("sha256"))))
    }

    /// Takes an archive for what was written when `lines`, read from its object, are those of its events: all of them
    /// and no other. False, and nothing done, when they are not.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run.
    pub async fn verify_archive(&mut self, held: Try, id: Uuid, lines: &[Line]) -> Result<bool, Problem> {
        self.hold_run(held).await?;
        let tenant = self.tenant;
        let own = own();
        let (ids, digests): (Vec<Uuid>, Vec<&[u8]>) =
            lines.iter().map(|line| (line.event, line.digest.as_slice())).unzip();
        let statement = format!(
            "UPDATE archives SET verified_at = now() WHERE {own} AND id = $2 AND rows = $3 \
                AND rows = (SELECT count(*) FROM archived_events WHERE {own} AND archive_id = $2) \
                AND rows = (SELECT count(*) FROM archived_events \
                              JOIN unnest($4::uuid[], $5::bytea[]) AS line (event_id, digest) USING (event_id, digest) \
                             WHERE {own} AND archive_id = $2)"
        );
        let update = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).bind(lines.len() as i64);
        Ok(update.bind(ids).bind(digests).execute(self.connection()).await?.rows_affected() == 1)
    }

    /// Gives an archive up that is not what was written: its events are in no archive, its object is to be removed.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run.
    pub async fn discard_archive(&mut self, held: Try, id: Uuid) -> Result<(), Problem> {
        self.announce_object(held, id).await?;
        let tenant = self.tenant;
        let own = own();
        let statement = format!(
            "UPDATE retention_runs SET archived = archived - (SELECT rows FROM archives WHERE {own} AND id = $2) \
              WHERE {own} AND id = (SELECT run_id FROM archives WHERE {own} AND id = $2)"
        );
        sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.connection()).await?;
        for (table, column) in [("archived_events", "archive_id"), ("archives", "id")] {
            let statement = format!("DELETE FROM {table} WHERE {own} AND {column} = $2");
            sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Deletes those of the next `limit` events recorded before `before` that are in a verified archive, with what hangs on
    /// them. As [`AuditStore::to_archive`], it looks at the others too.
    /// Whatever is deleted is what the archive holds: what has changed since stays, and is in no archive any more. An
    /// annotation that is committed just after is not deleted either; it is seen again once its event is restored.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run; [`Problem::Busy`] when what hangs on an event changed in this
    /// very moment.
    pub async fn delete_archived(
        &mut self,
        held: Try,
        before: OffsetDateTime,
        after: Option<At>,
        limit: i64,
    ) -> Result<Deletion, Problem> {
        self.hold_run(held).await?;
        if self.held().await? {
            return Ok(Deletion::Held);
        }
        let tenant = self.tenant;
        let own = own();
        let (from, id) = after.unzip();
        self.plan_anew().await?;
        let statement = format!(
            "SELECT {COLUMNS}, \
                    EXISTS (SELECT FROM archived_events JOIN archives USING (tenant_id) \
                             WHERE {own} AND event_id = events.id AND archives.id = archive_id \
                               AND verified_at IS NOT NULL AND (kept_until IS NULL OR kept_until <= now())) AS ready \
               FROM events WHERE {own} AND recorded_at < $2 AND {AFTER} ORDER BY recorded_at, id LIMIT {limit}"
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(before);
        let rows = rows.bind(from).bind(id).fetch_all(self.connection()).await?;
        let after = rows.last().map(at);
        let events: Vec<Event> = rows.iter().filter(|row| row.get("ready")).map(event).collect();
        let (mut same, mut others) = (Vec::new(), Vec::new());
        let archived = self.archived_digests(&events).await?;
        for whole in self.whole(events).await? {
            let line = whole.line()?;
            let fits = archived.contains(&(line.event, line.digest));
            if fits { same.push(whole.event) } else { others.push(whole.event.id) }
        }
        let changed = others.len();
        if changed > 0 {
            let statement = format!("DELETE FROM archived_events WHERE {own} AND event_id = ANY ($2)");
            sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(others).execute(self.connection()).await?;
        }
        let deleted = self.delete_whole(&same).await?;
        // Between looking and deleting somebody may have changed an annotation: then nothing of this is done.
        if !deleted.iter().map(Whole::line).all(|line| line.is_ok_and(|l| archived.contains(&(l.event, l.digest)))) {
            return Err(Problem::Busy);
        }
        let statement = format!("UPDATE retention_runs SET deleted = deleted + $3 WHERE {own} AND id = $2");
        let count = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run).bind(deleted.len() as i64);
        count.execute(self.connection()).await?;
        Ok(Deletion::Of { changed, deleted: deleted.len(), after })
    }

    /// Deletes up to `limit` answers kept before `before` for repeated requests: each holds the text of an event.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run.
    pub async fn delete_answers(&mut self, held: Try, before: OffsetDateTime, limit: i64) -> Result<Deletion, Problem> {
        self.hold_run(held).await?;
        if self.held().await? {
            return Ok(Deletion::Held);
        }
        let tenant = self.tenant;
        let own = own();
        let statement = format!(
            "DELETE FROM idempotency_keys WHERE {own} AND (principal_id, key) IN ( \
               SELECT principal_id, key FROM idempotency_keys WHERE {own} AND created_at < $2 ORDER BY created_at LIMIT $3)"
        );
        let delete = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(before).bind(limit);
        let deleted = delete.execute(self.connection()).await?.rows_affected() as usize;
        Ok(Deletion::Of { changed: 0, deleted, after: None })
    }

    /// What the lines of `events` are in their archives.
    async fn archived_digests(&mut self, events: &[Event]) -> Result<Vec<(Uuid, Vec<u8>)>, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT event_id, digest FROM archived_events WHERE {} AND event_id = ANY ($2)", own());
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(ids(events));
        Ok(rows.fetch_all(self.connection()).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// `events` with what hangs on them.
    async fn whole(&mut self, events: Vec<Event>) -> Result<Vec<Whole>, Problem> {
        let tenant = self.tenant;
        let own = own();
        let noted = format!("SELECT {} FROM annotations WHERE {own} AND event_id = ANY ($2)", annotations::COLUMNS);
        let noted = sqlx::query(AssertSqlSafe(noted)).bind(tenant).bind(ids(&events));
        let noted = noted.fetch_all(self.connection()).await?.iter().map(annotations::annotation).collect();
        let attached = format!("SELECT {} FROM attachments WHERE {own} AND event_id = ANY ($2)", attachments::COLUMNS);
        let attached = sqlx::query(AssertSqlSafe(attached)).bind(tenant).bind(ids(&events));
        let attached = attached.fetch_all(self.connection()).await?.iter().map(attachments::attachment).collect();
        Ok(Whole::of(events, noted, attached))
    }

    /// Deletes events with what hangs on them, and answers what that was. The bytes of
    /// attachments stay where they are: the archive tells which they are, as it holds none itself.
    async fn delete_whole(&mut self, events: &[Event]) -> Result<Vec<Whole>, Problem> {
        let occurred = events.iter().map(|event| event.occurred_at);
        let (Some(from), Some(to)) = (occurred.clone().min(), occurred.max()) else { return Ok(Vec::new()) };
        let tenant = self.tenant;
        let own = own();
        self.events_changed = true;
        let gone = format!(
            "DELETE FROM events WHERE {own} AND id = ANY ($2) AND occurred_at BETWEEN $3 AND $4 RETURNING {COLUMNS}"
        );
        let gone = sqlx::query(AssertSqlSafe(gone)).bind(tenant).bind(ids(events)).bind(from).bind(to);
        let gone: Vec<Event> = gone.fetch_all(self.connection()).await?.iter().map(event).collect();
        let noted =
            format!("DELETE FROM annotations WHERE {own} AND event_id = ANY ($2) RETURNING {}", annotations::COLUMNS);
        let noted = sqlx::query(AssertSqlSafe(noted)).bind(tenant).bind(ids(&gone));
        let noted = noted.fetch_all(self.connection()).await?.iter().map(annotations::annotation).collect();
        let attached =
            format!("DELETE FROM attachments WHERE {own} AND event_id = ANY ($2) RETURNING {}", attachments::COLUMNS);
        let attached = sqlx::query(AssertSqlSafe(attached)).bind(tenant).bind(ids(&gone));
        let attached = attached.fetch_all(self.connection()).await?;
        Ok(Whole::of(gone, noted, attached.iter().map(attachments::attachment).collect()))
    }
}

fn ids(events: &[Event]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}
