//! Retention: how long the tenant's events are kept, and how far its runs are. What a run does to events is in
//! `archiving.rs`.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::due::Due;
use super::{AuditStore, own};
use crate::defects::{Defect, on};
use crate::http::job_state::JobState;
use crate::http::retention::{PutRetention, Retention, RetentionRun};
use crate::problem::Problem;

const POLICY: &str = "archive_after_days, delete_after_days, legal_hold, updated_at";
const RUN: &str = "id, requested_by, state, archive_before, delete_before, archive_due, delete_due, archived, deleted, \
                   told, created_at, finished_at";

/// One try at a run. Another that takes the run over ends what this one may do.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// The run.
    pub run: Uuid,
    /// The try.
    pub id: Uuid,
}

/// A run that a try has taken.
#[derive(Clone, Debug)]
pub struct TakenRun {
    /// Events recorded before are to be archived.
    pub archive_before: OffsetDateTime,
    /// Events recorded before are to be deleted.
    pub delete_before: OffsetDateTime,
    /// Objects of earlier tries that have no row.
    pub left: Vec<Uuid>,
    /// Whether an earlier try has noted what is due.
    pub counted: bool,
}

impl AuditStore {
    /// How long events are kept.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn retention(&mut self) -> Result<Retention, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {POLICY} FROM retention_policies WHERE {}", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).fetch_optional(self.connection()).await?;
        let unsaid =
            Retention { archive_after_days: None, delete_after_days: None, legal_hold: false, updated_at: None };
        Ok(row.as_ref().map_or(unsaid, policy))
    }

    /// Says how long events are kept. Once a legal hold is committed, no deletion commits.
    ///
    /// # Errors
    /// [`Problem::Busy`] while something is deleted for too long.
    pub async fn put_retention(&mut self, put: &PutRetention) -> Result<Retention, Problem> {
        self.lock_retention().await?;
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO retention_policies (tenant_id, archive_after_days, delete_after_days, legal_hold) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id) DO UPDATE SET archive_after_days = $2, \
             delete_after_days = $3, legal_hold = $4, updated_at = now() RETURNING {POLICY}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(put.archive_after_days)
            .bind(put.delete_after_days)
            .bind(put.legal_hold)
            .fetch_one(self.connection())
            .await?;
        Ok(policy(&row))
    }

    /// Whether nothing may be deleted, which stays so until the transaction ends.
    ///
    /// # Errors
    /// [`Problem::Busy`] while the policy is changed for too long.
    pub async fn held(&mut self) -> Result<bool, Problem> {
        self.lock_retention().await?;
        Ok(self.retention().await?.legal_hold && !on(Defect::HoldIgnored))
    }

    /// Keeps policy and deletion apart until the transaction ends. A lock of its own: a row's would take the right to
    /// change the policy, which who works has not.
    async fn lock_retention(&mut self) -> Result<(), Problem> {
        let lock = format!(
            "SET LOCAL lock_timeout = '5s'; SELECT pg_advisory_xact_lock(hashtextextended('retention of tenant {}', 0))",
            self.tenant
        );
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(self.connection()).await?;
        Ok(())
    }

    /// Adds a run, and its job: both or neither.
    ///
    /// # Errors
    /// [`Problem::Conflict`] while another is open, and as long as nobody has said how long events are kept.
    pub async fn add_retention_run(&mut self, requested_by: Uuid) -> Result<RetentionRun, Problem> {
        if self.retention().await?.archive_after_days.is_none() {
            return Err(Problem::Conflict("say first how long events are kept: PUT /v1/retention".into()));
        }
        let tenant = self.tenant;
        let statement = format!(
            "INSERT INTO retention_runs (tenant_id, id, requested_by) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING RETURNING {RUN}"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(Uuid::now_v7())
            .bind(requested_by)
            .fetch_optional(self.connection())
            .await?;
        let row = row.ok_or_else(|| Problem::Conflict("a run is under way already".into()))?;
        let added = run(&row);
        sqlx::query("SELECT enqueue_job('retention', $1)").bind(added.id).execute(self.directory()).await?;
        Ok(added)
    }

    /// A page of runs, after `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn retention_runs(&mut self, after: Option<Uuid>, limit: i64) -> Result<Vec<RetentionRun>, Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {RUN} FROM retention_runs WHERE {} AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.connection()).await?.iter().map(run).collect())
    }

    /// One run.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn retention_run(&mut self, id: Uuid) -> Result<RetentionRun, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {RUN} FROM retention_runs WHERE {} AND id = $2", own());
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).fetch_optional(self.connection()).await?;
        row.as_ref().map(run).ok_or(Problem::NotFound)
    }

    /// Takes a run over for a try; none when it has ended before. By when what is due is fixed by the first.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn take_retention_run(&mut self, held: Try) -> Result<Option<TakenRun>, Problem> {
        let tenant = self.tenant;
        let own = own();
        let statement = format!("SELECT state, archive_before FROM retention_runs WHERE {own} AND id = $2 FOR UPDATE");
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run);
        let row = row.fetch_optional(self.connection()).await?.ok_or(Problem::NotFound)?;
        if JobState::of_word(row.get("state")).has_ended() {
            return Ok(None);
        }
        if row.get::<Option<OffsetDateTime>, _>("archive_before").is_none() {
            let statement = format!(
                "UPDATE retention_runs SET (archive_before, delete_before) = \
                   (SELECT now() - make_interval(days => archive_after_days), now() - make_interval(days => delete_after_days) \
                      FROM retention_policies WHERE {own}) WHERE {own} AND id = $2"
            );
            sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run).execute(self.connection()).await?;
        }
        let statement = format!(
            "UPDATE retention_runs SET state = 'running', try_id = $3 WHERE {own} AND id = $2 \
             RETURNING archive_before, delete_before, archive_due IS NOT NULL AS counted"
        );
        let taking = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run).bind(held.id);
        let taken = taking.fetch_one(self.connection()).await?;
        // Also those of runs that were given up: this is the only one that is open.
        let statement = format!("SELECT object_id FROM retention_runs WHERE {own} AND object_id IS NOT NULL");
        let left = sqlx::query(AssertSqlSafe(statement)).bind(tenant).fetch_all(self.connection()).await?;
        let left = left.iter().map(|row| row.get("object_id")).collect();
        Ok(Some(TakenRun {
            archive_before: taken.get("archive_before"),
            delete_before: taken.get("delete_before"),
            left,
            counted: taken.get("counted"),
        }))
    }

    /// Makes sure that a try still has its run, until the transaction ends.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another has it.
    pub(super) async fn hold_run(&mut self, held: Try) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT FROM retention_runs WHERE {} AND id = $2 AND try_id = $3 AND state = 'running' FOR UPDATE",
            own()
        );
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run).bind(held.id);
        let row = row.fetch_optional(self.connection()).await?;
        row.map(drop).ok_or_else(|| Problem::Conflict("another try has this run".into()))
    }

    /// Forgets objects that had no row, and that are removed.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run.
    pub async fn objects_removed(&mut self, held: Try) -> Result<(), Problem> {
        self.hold_run(held).await?;
        let tenant = self.tenant;
        let statement = format!("UPDATE retention_runs SET object_id = NULL WHERE {} AND object_id IS NOT NULL", own());
        sqlx::query(AssertSqlSafe(statement)).bind(tenant).execute(self.connection()).await?;
        Ok(())
    }

    /// Notes an object that will be there without a row, so that whoever takes the run over removes it.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run.
    pub async fn announce_object(&mut self, held: Try, object: Uuid) -> Result<(), Problem> {
        self.hold_run(held).await?;
        let tenant = self.tenant;
        let statement = format!("UPDATE retention_runs SET object_id = $3 WHERE {} AND id = $2", own());
        let update = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(held.run).bind(object);
        update.execute(self.connection()).await?;
        Ok(())
    }

    /// Ends a run after which `left` are still due: failed when there are any, or none of those that were due was found;
    /// `told` says what else is wrong. What a legal hold keeps is not due. Answers how it ended.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once another try has the run.
    pub async fn end_retention_run(&mut self, held: Try, left: Due, told: Option<String>) -> Result<JobState, Problem> {
        self.hold_run(held).await?;
        let kept = self.held().await?;
        let run = self.retention_run(held.run).await?;
        let missed = |word: &str, due: Option<i64>, found: i64, left: i64| match due {
            Some(due) if left > 0 || (due > 0 && found == 0) => {
                Some(format!("{due} events were due to be {word}, {found} were, and {left} still are due"))
            }
            _ => None,
        };
        let failures = [
            told,
            missed("archived", run.archive_due, run.archived, left.archive),
            missed("deleted", run.delete_due, run.deleted, left.delete).filter(|_| !kept && !on(Defect::RetentionIdle)),
        ];
        let failures: Vec<String> = failures.into_iter().flatten().collect();
        let (state, told) = if !failures.is_empty() {
            (JobState::Failed, Some(failures.join("; ")))
        } else if kept && left.delete > 0 {
            (JobState::Done, Some(format!("a legal hold keeps {} events that were due to be deleted", left.delete)))
        } else {
            (JobState::Done, None)
        };
        self.close_run(held.run, state, told).await?;
        Ok(state)
    }

    /// Gives a run up.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn fail_retention_run(&mut self, id: Uuid) -> Result<(), Problem> {
        self.close_run(id, JobState::Failed, Some("it was tried again and again, and failed".into())).await
    }

    async fn close_run(&mut self, id: Uuid, state: JobState, told: Option<String>) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE retention_runs SET state = $3, told = $4, finished_at = now() \
             WHERE {} AND id = $2 AND state IN ('queued', 'running')",
            own()
        );
        let update = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(id).bind(state.word()).bind(told);
        update.execute(self.connection()).await?;
        Ok(())
    }
}

fn policy(row: &PgRow) -> Retention {
    Retention {
        archive_after_days: row.get("archive_after_days"),
        delete_after_days: row.get("delete_after_days"),
        legal_hold: row.get("legal_hold"),
        updated_at: row.get("updated_at"),
    }
}

fn run(row: &PgRow) -> RetentionRun {
    RetentionRun {
        id: row.get("id"),
        requested_by: row.get("requested_by"),
        state: JobState::of_word(row.get("state")),
        archive_before: row.get("archive_before"),
        delete_before: row.get("delete_before"),
        archive_due: row.get("archive_due"),
        delete_due: row.get("delete_due"),
        archived: row.get("archived"),
        deleted: row.get("deleted"),
        told: row.get("told"),
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
    }
}
