//! Deliveries: which events go to which webhooks, and how far they are.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use time::{Duration, OffsetDateTime};
use uuid::{NoContext, Timestamp, Uuid};

use super::events::{COLUMNS as EVENT_COLUMNS, event};
use super::{AuditStore, own};
use crate::courier::Attempt;
use crate::http::deliveries::{Delivery, DeliveryState};
use crate::http::event::Event;
use crate::problem::Problem;
use crate::signing::SecretOf;

const COLUMNS: &str =
    "id, webhook_id, event_id, state, attempts, last_status, last_error, last_attempt_at, due_at, created_at";

/// A delivery that ended is kept for so long, and forgotten once its webhook sends again.
const KEPT: Duration = Duration::days(30);
/// So many are forgotten at a time, which takes longer than adding as many.
const FORGOTTEN_MAX: u32 = 5_000;

/// A delivery that has been due for so long may have no job.
const OVERDUE: Duration = Duration::minutes(1);
/// Webhooks of a tenant that are woken at a time.
const WOKEN_MAX: u32 = 100;

/// What is due at a webhook.
pub struct AllDue {
    /// Where to.
    pub url: String,
    /// What signs it.
    pub secret: SecretOf,
    /// These; none when there is no more.
    pub deliveries: Vec<Due>,
}

/// A delivery that is due.
pub struct Due {
    /// Its id, which is the message's.
    pub id: Uuid,
    /// Attempts made before.
    pub attempts: i32,
    /// Its event, if the tenant has it.
    pub event: Option<Event>,
}

/// An attempt that was made.
pub struct Told {
    /// The delivery.
    pub id: Uuid,
    /// How it ended.
    pub attempt: Attempt,
    /// Seconds until the next, should this one have failed; none when it was the last.
    pub pause_s: Option<i64>,
}

impl AuditStore {
    /// Adds deliveries of events to webhooks, each a webhook and an event, and wakes the jobs that send them.
    ///
    /// # Errors
    /// What the database fails with.
    pub(super) async fn add_deliveries(&mut self, of: &[(Uuid, Uuid)]) -> Result<(), Problem> {
        let tenant = self.tenant;
        let (webhooks, events): (Vec<Uuid>, Vec<Uuid>) = of.iter().copied().unzip();
        let ids: Vec<Uuid> = of.iter().map(|_| Uuid::now_v7()).collect();
        sqlx::query(
            "INSERT INTO webhook_deliveries (tenant_id, id, webhook_id, event_id) \
             SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[])",
        )
        .bind(tenant)
        .bind(ids)
        .bind(&webhooks)
        .bind(events)
        .execute(self.connection())
        .await?;
        self.wake_webhooks(webhooks).await
    }

    /// Lets the jobs of webhooks run now.
    async fn wake_webhooks(&mut self, mut webhooks: Vec<Uuid>) -> Result<(), Problem> {
        webhooks.sort_unstable();
        webhooks.dedup();
        sqlx::query("SELECT enqueue_webhooks($1)").bind(webhooks).execute(self.directory()).await?;
        Ok(())
    }

    /// A page of a webhook's deliveries, newest first, before `after`; one more than `limit` when there are more.
    ///
    /// # Errors
    /// [`Problem::NotFound`] without such a webhook.
    pub async fn deliveries(
        &mut self,
        webhook: Uuid,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Delivery>, Problem> {
        self.webhook(webhook).await?;
        let tenant = self.tenant;
        let statement = format!(
            "SELECT {COLUMNS} FROM webhook_deliveries WHERE {} AND webhook_id = $2 AND ($3::uuid IS NULL OR id < $3) \
             ORDER BY id DESC LIMIT $4",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(webhook).bind(after).bind(limit + 1);
        Ok(rows.fetch_all(self.connection()).await?.iter().map(delivery).collect())
    }

    /// How many deliveries a webhook has.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn count_deliveries(&mut self, webhook: Uuid) -> Result<i64, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT count(*) FROM webhook_deliveries WHERE {} AND webhook_id = $2", own());
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(webhook).fetch_one(self.connection()).await?)
    }

    /// Lets a delivery be sent again, however it ended.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Conflict`] while the webhook is disabled.
    pub async fn redeliver(&mut self, webhook: Uuid, id: Uuid) -> Result<Delivery, Problem> {
        let enabled = self.webhook(webhook).await?.enabled;
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE webhook_deliveries SET state = 'waiting', due_at = now() WHERE {} AND webhook_id = $2 AND id = $3 \
             RETURNING {COLUMNS}",
            own()
        );
        let row = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(webhook).bind(id);
        let again = row.fetch_optional(self.connection()).await?.as_ref().map(delivery).ok_or(Problem::NotFound)?;
        if !enabled {
            return Err(Problem::Conflict("the webhook is disabled".into()));
        }
        self.wake_webhooks(vec![webhook]).await?;
        Ok(again)
    }

    /// What is due at a webhook, `limit` at most. Where nothing may be sent any more, what waits is cancelled instead.
    ///
    /// # Errors
    /// [`Problem::NotFound`] without such a webhook.
    pub async fn take_due(&mut self, webhook: Uuid, limit: i64) -> Result<AllDue, Problem> {
        let tenant = self.tenant;
        let (to, secret) = self.webhook_to_send(webhook).await?;
        let cancelled = if !to.enabled {
            Some("the webhook is disabled")
        } else if !self.manages(to.kept_by).await? {
            Some("who kept the webhook manages the tenant no more")
        } else {
            None
        };
        if let Some(why) = cancelled {
            let statement = format!(
                "UPDATE webhook_deliveries SET state = 'cancelled', last_error = $3 \
                 WHERE {} AND webhook_id = $2 AND state = 'waiting'",
                own()
            );
            let cancel = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(webhook).bind(why);
            cancel.execute(self.connection()).await?;
        }
        let statement = format!(
            "SELECT id, event_id, attempts FROM webhook_deliveries \
             WHERE {} AND webhook_id = $2 AND state = 'waiting' AND due_at <= now() ORDER BY due_at, id LIMIT $3",
            own()
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(webhook).bind(limit);
        let rows = rows.fetch_all(self.connection()).await?;
        let events = self.events_of(rows.iter().map(|row| row.get("event_id")).collect()).await?;
        let due = |row: &PgRow| {
            let (id, attempts, wanted) = (row.get("id"), row.get("attempts"), row.get::<Uuid, _>("event_id"));
            Due { id, attempts, event: events.iter().find(|event| event.id == wanted).cloned() }
        };
        let deliveries = rows.iter().map(due).collect();
        Ok(AllDue { url: to.url, secret, deliveries })
    }

    async fn events_of(&mut self, ids: Vec<Uuid>) -> Result<Vec<Event>, Problem> {
        let tenant = self.tenant;
        let statement = format!("SELECT {EVENT_COLUMNS} FROM events WHERE {} AND id = ANY($2)", own());
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(ids).fetch_all(self.connection()).await?;
        Ok(rows.iter().map(event).collect())
    }

    /// Notes how attempts ended. One whose delivery was cancelled meanwhile is noted all the same: it was made.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn tell(&mut self, told: &[Told]) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "UPDATE webhook_deliveries d SET attempts = attempts + 1, last_attempt_at = now(), last_status = t.status, \
                    last_error = t.error, state = CASE WHEN t.taken THEN 'delivered' WHEN t.pause_s IS NULL THEN 'failed' \
                    ELSE state END, due_at = now() + coalesce(t.pause_s, 0) * interval '1 second' \
               FROM unnest($2::uuid[], $3::bool[], $4::int[], $5::text[], $6::bigint[]) t (told, taken, status, error, pause_s) \
              WHERE {} AND id = told",
            own()
        );
        let (statuses, errors): (Vec<Option<i32>>, Vec<Option<&str>>) = told
            .iter()
            .map(|told| match told.attempt {
                Attempt::Answered(status) => (Some(i32::from(status)), None),
                Attempt::Failed(why) | Attempt::Refused(why) => (None, Some(why)),
            })
            .unzip();
        sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(told.iter().map(|told| told.id).collect::<Vec<_>>())
            .bind(told.iter().map(|told| told.attempt.taken()).collect::<Vec<_>>())
            .bind(statuses)
            .bind(errors)
            .bind(told.iter().map(|told| told.pause_s).collect::<Vec<_>>())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Forgets a webhook's deliveries that ended, those older than `KEPT` and some of them at a time.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn forget_deliveries(&mut self, webhook: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let own = own();
        let oldest = OffsetDateTime::now_utc() - KEPT;
        // Ids are in the order of time, and so is their index; the instant itself decides.
        let first = Timestamp::from_unix(NoContext, u64::try_from(oldest.unix_timestamp()).unwrap_or(0), 0);
        let statement = format!(
            "DELETE FROM webhook_deliveries WHERE {own} AND id IN ( \
               SELECT id FROM webhook_deliveries \
                WHERE {own} AND webhook_id = $2 AND id < $3 AND created_at < $4 AND state <> 'waiting' \
                ORDER BY id LIMIT {FORGOTTEN_MAX})"
        );
        let forget = sqlx::query(AssertSqlSafe(statement)).bind(tenant).bind(webhook);
        forget.bind(Uuid::new_v7(first)).bind(oldest).execute(self.connection()).await?;
        Ok(())
    }

    /// Lets a webhook's job come back once something is due that waits there, if anything does.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn come_back(&mut self, webhook: Uuid) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT min(due_at) FROM webhook_deliveries WHERE {} AND webhook_id = $2 AND state = 'waiting'",
            own()
        );
        let next = sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(webhook);
        let next: Option<OffsetDateTime> = next.fetch_one(self.connection()).await?;
        if let Some(at) = next {
            let postpone = sqlx::query("SELECT postpone_webhook($1, $2)").bind(webhook).bind(at);
            postpone.execute(self.directory()).await?;
        }
        Ok(())
    }

    /// Lets the jobs come back of webhooks where something is overdue, `WOKEN_MAX` at most. One whose job is there is left
    /// to it.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn wake_overdue(&mut self) -> Result<(), Problem> {
        let tenant = self.tenant;
        let statement = format!(
            "SELECT DISTINCT webhook_id FROM webhook_deliveries WHERE {} AND state = 'waiting' AND due_at < $2 LIMIT {WOKEN_MAX}",
            own()
        );
        let overdue =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(tenant).bind(OffsetDateTime::now_utc() - OVERDUE);
        let overdue: Vec<Uuid> = overdue.fetch_all(self.connection()).await?;
        for webhook in overdue {
            self.come_back(webhook).await?;
        }
        Ok(())
    }
}

fn delivery(row: &PgRow) -> Delivery {
    let state = DeliveryState::of_word(row.get("state"));
    Delivery {
        id: row.get("id"),
        webhook_id: row.get("webhook_id"),
        event_id: row.get("event_id"),
        state,
        attempts: row.get("attempts"),
        last_status: row.get("last_status"),
        last_error: row.get("last_error"),
        last_attempt_at: row.get("last_attempt_at"),
        next_attempt_at: (state == DeliveryState::Waiting).then(|| row.get("due_at")),
        created_at: row.get("created_at"),
    }
}
