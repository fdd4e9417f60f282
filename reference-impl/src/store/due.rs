//! What a retention run is to find: counted, not searched for as the run searches, and counted a step at a time, since
//! no one statement may take as long as the events of a very large tenant do.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::retention::Try;
use super::{AuditStore, own};
use crate::problem::Problem;

/// Events a step.
const STEP: i64 = 2_000;

/// An event's place in the order of recording, which is that of an index.
pub type At = (OffsetDateTime, Uuid);

/// Events after the place `$3`, `$4`, or all, as that index finds them. A statement with this is not to be kept
/// prepared: one plan for all places may look at all events.
pub(super) const AFTER: &str = "(recorded_at, id) > (coalesce($3, '-infinity'::timestamptz), \
                                coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid))";

/// How many events are due by the instants of a run, as far as they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Those to be archived.
    pub archive: i64,
    /// Those to be deleted.
    pub delete: i64,
    /// Whether all are counted.
    pub whole: bool,
    /// The last event that was looked at.
    after: Option<At>,
}

/// The place of an event.
pub(super) fn at(row: &PgRow) -> At {
    (row.get("recorded_at"), row.get("id"))
}

impl AuditStore {
    /// Counts another step of what is due by the instants of `run`.
    ///
    /// # Errors
    /// [`Problem::Conflict`] as long as no try has taken it.
    pub async fn count_due(&mut self, run: Uuid, counted: Due) -> Result<Due, Problem> {
        let taken = self.retention_run(run).await?;
        let (Some(archive_before), Some(delete_before)) = (taken.archive_before, taken.delete_before) else {
            return Err(Problem::Conflict("no try has taken this run".into()));
        };
        let tenant = self.tenant;
        let own = own();
        let (recorded, id) = counted.after.unzip();
        // No event is deleted before it is archived, so that one walk meets both.
        self.plan_anew().await?;
        let statement = format!(
            "SELECT recorded_at, id, \
                    NOT EXISTS (SELECT FROM archived_events WHERE {own} AND event_id = events.id) AS archive, \
                    recorded_at < $5 AND NOT EXISTS (SELECT FROM archived_events JOIN archives USING (tenant_id) \
                                                      WHERE {own} AND event_id = events.id AND archives.id = archive_id \
                                                        AND kept_until > now()) AS delete \
               FROM events WHERE {own} AND recorded_at < $2 AND {AFTER} ORDER BY recorded_at, id LIMIT {STEP}"
        );
        let step = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(archive_before);
        let step = step.bind(recorded).bind(id).bind(delete_before).fetch_all(self.connection()).await?;
        let of = |name: &str| step.iter().filter(|row| row.get(name)).count() as i64;
        Ok(Due {
            archive: counted.archive + of("archive"),
            delete: counted.delete + of("delete"),
            whole: (step.len() as i64) < STEP,
            after: step.last().map(at).or(counted.after),
        })
    }

    /// Notes what a run is to find.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run.
    pub async fn note_due(&mut self, held: Try, due: Due) -> Result<(), Problem> {
        self.hold_run(held).await?;
        let tenant = self.tenant;
        let statement =
            format!("UPDATE retention_runs SET archive_due = $3, delete_due = $4 WHERE {} AND id = $2", own());
        let note = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run);
        note.bind(due.archive).bind(due.delete).execute(self.connection()).await?;
        Ok(())
    }
}
