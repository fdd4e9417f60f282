//! Events: written once, read in many ways, never changed.

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder, Row};
use time::{Duration, OffsetDateTime};
use uuid::{NoContext, Timestamp, Uuid};

use super::webhooks::Wants;
use super::{AuditStore, Sight, own, own_unless};
use crate::cursor::Position;
use crate::defects::{Defect, on};
use crate::http::event::{Actor, Event, NewEvent, Outcome, Target};
use crate::problem::Problem;

pub(super) const COLUMNS: &str = "id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, target_type, target_id, \
                       target_name, outcome, source_ip, user_agent, external_id, details";

/// How far back a page is looked for before all the time there is.
const RECENT: Duration = Duration::days(62);

/// What a list is narrowed to.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The actor.
    pub actor: Option<Uuid>,
    /// The action.
    pub action: Option<String>,
    /// The target's type.
    pub target_type: Option<String>,
    /// The target's id.
    pub target_id: Option<String>,
    /// From this instant on.
    pub from: Option<OffsetDateTime>,
    /// Before this instant.
    pub to: Option<OffsetDateTime>,
    /// Words that it must hold.
    pub words: Option<String>,
    /// Oldest first.
    pub ascending: bool,
}

impl AuditStore {
    /// Writes events, each as it is answered, and what webhooks are to be sent of them.
    ///
    /// # Errors
    /// A value that the database cannot store.
    pub async fn add_events(&mut self, events: Vec<NewEvent>) -> Result<Vec<Event>, Problem> {
        let events: Vec<Event> = events.into_iter().map(NewEvent::recorded).collect();
        let mut query = inserting("WITH written AS (", self.tenant, &events);
        query.push(") SELECT id, actions FROM webhooks");
        whose(&mut query, own(), self.tenant);
        // Held, so that none is deleted before its deliveries are written.
        query.push(" AND enabled FOR KEY SHARE");
        self.events_changed = true;
        let wants = |row: &PgRow| Wants { webhook: row.get("id"), actions: row.get::<Json<_>, _>("actions").0 };
        let wants: Vec<Wants> = query.build().fetch_all(self.connection()).await?.iter().map(wants).collect();
        let wanted = |event: &Event| {
            let by = wants.iter().filter(|wants| wants.wants(&event.action));
            by.map(|wants| (wants.webhook, event.id)).collect::<Vec<_>>()
        };
        let deliveries: Vec<(Uuid, Uuid)> = events.iter().flat_map(wanted).collect();
        if !deliveries.is_empty() {
            self.add_deliveries(&deliveries).await?;
        }
        Ok(events)
    }

    /// Writes events as they once were; no webhook is sent what it has been sent before.
    pub(super) async fn put_back_events(&mut self, events: &[Event]) -> Result<(), Problem> {
        self.events_changed = true;
        inserting("", self.tenant, events).build().execute(self.connection()).await?;
        Ok(())
    }

    /// One event that `sight` lets through.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn event(&mut self, id: Uuid, sight: &Sight) -> Result<Event, Problem> {
        // The id mostly tells the one month to look in; all months are asked only when it does not.
        for month in told(id).map(Some).into_iter().chain([None]) {
            let late = on(Defect::FilteredLate);
            let own = own_unless(if late { Defect::FilteredLate } else { Defect::IdorById });
            let whose = if late { ", tenant_id" } else { "" };
            let mut query = begin(&format!("SELECT {COLUMNS}{whose} FROM events"), own, self.tenant);
            query.push(" AND id = ").push_bind(id);
            if let Some(at) = month {
                query.push(" AND occurred_at >= ").push_bind(at);
                query.push(" AND occurred_at < ").push_bind(at + Duration::MILLISECOND);
            }
            see(&mut query, sight);
            let tenant = self.tenant;
            let found = query.build().fetch_optional(self.connection()).await?;
            if let Some(row) = found.filter(|row| !late || row.get::<Uuid, _>("tenant_id") == tenant) {
                return Ok(event(&row));
            }
        }
        Err(Problem::NotFound)
    }

    /// One page of events, newest first unless told otherwise; one row more than `limit` when there are more.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn events(
        &mut self,
        filter: &Filter,
        sight: &Sight,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Vec<Event>, Problem> {
        let own = own();
        let from = self.relation(filter).await?;
        if filter.words.is_some() {
            self.plan_anew().await?;
        }
        let after = after.map(|after| Ok::<_, Problem>((instant(after.at_us)?, after.id))).transpose()?;
        let (order, sign) = if filter.ascending { ("ASC", " > ") } else { ("DESC", " < ") };
        let mut events = Vec::new();
        for window in windows(filter, after.map(|(at, _)| at)) {
            let mut query = begin(&format!("SELECT {COLUMNS} FROM {from}"), own, self.tenant);
            narrow(&mut query, filter, sight);
            if let Some((at, id)) = after {
                query.push(format!(" AND (occurred_at, id){sign}(")).push_bind(at).push(", ").push_bind(id).push(")");
            }
            match window {
                Window::All => {}
                Window::Since(at) => _ = query.push(" AND occurred_at >= ").push_bind(at),
                Window::Before(at) => _ = query.push(" AND occurred_at < ").push_bind(at),
            }
            query.push(format!(" ORDER BY occurred_at {order}, id {order} LIMIT "));
            query.push_bind(limit + 1 - events.len() as i64);
            events.extend(query.build().fetch_all(self.connection()).await?.iter().map(event));
            if events.len() as i64 > limit {
                break;
            }
        }
        Ok(events)
    }

    /// How many events a list holds in all.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn count_events(&mut self, filter: &Filter, sight: &Sight) -> Result<i64, Problem> {
        let own = own_unless(Defect::CountUnscoped);
        if filter.words.is_some() {
            self.plan_anew().await?;
        }
        let mut query = begin("SELECT count(*) FROM events", own, self.tenant);
        narrow(&mut query, filter, sight);
        Ok(query.build().fetch_one(self.connection()).await?.get(0))
    }

    /// The relation to list from: `events`, which carries the policy.
    async fn relation(&mut self, filter: &Filter) -> Result<String, Problem> {
        if let (true, Some(from), Some(to)) = (on(Defect::PartitionDirect), filter.from, filter.to) {
            let month = |at: OffsetDateTime| (at.year(), u8::from(at.month()));
            if month(from) == month(to) {
                let name = format!("events_{:04}_{:02}", from.year(), u8::from(from.month()));
                let there: bool = sqlx::query_scalar("SELECT has_table_privilege(to_regclass($1), 'SELECT') IS TRUE")
                    .bind(&name)
                    .fetch_one(self.connection())
                    .await?;
                if there {
                    return Ok(name);
                }
            }
        }
        Ok("events".into())
    }

    /// The answer given before to this principal's key, if any, with the hash of its request.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn replayed(&mut self, principal: Uuid, key: &str) -> Result<Option<(Vec<u8>, Event)>, Problem> {
        let statement = format!(
            "SELECT request_hash, response FROM idempotency_keys WHERE {} AND principal_id = $2 AND key = $3",
            own()
        );
        let tenant = self.tenant;
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(tenant)
            .bind(principal)
            .bind(key)
            .fetch_optional(self.connection())
            .await?;
        Ok(row.map(|row| (row.get(0), row.get::<Json<Event>, _>(1).0)))
    }

    /// Remembers the answer to a key; false when another request with this key was quicker.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn remember(&mut self, principal: Uuid, key: &str, hash: &[u8], event: &Event) -> Result<bool, Problem> {
        let tenant = self.tenant;
        let done = sqlx::query(
            "INSERT INTO idempotency_keys (tenant_id, principal_id, key, request_hash, response) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(principal)
        .bind(key)
        .bind(hash)
        .bind(Json(event))
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// The statement, after `before`, that writes events.
fn inserting(before: &str, tenant: Uuid, events: &[Event]) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!(
        "{before}INSERT INTO events (tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, \
         target_type, target_id, target_name, outcome, source_ip, user_agent, external_id, details) "
    ));
    query.push_values(events, |mut row, event| {
        row.push_bind(tenant)
            .push_bind(event.id)
            .push_bind(event.occurred_at)
            .push_bind(event.recorded_at)
            .push_bind(event.actor.id)
            .push_bind(&event.actor.email)
            .push_bind(&event.actor.name)
            .push_bind(&event.action)
            .push_bind(&event.target.kind)
            .push_bind(&event.target.id)
            .push_bind(&event.target.name)
            .push_bind(event.outcome.word())
            .push_bind(event.source_ip.map(ipnetwork::IpNetwork::from))
            .push_bind(&event.user_agent)
            .push_bind(&event.external_id)
            .push_bind(Json(&event.details));
    });
    query
}

/// `select` with the tenant predicate, whose parameter the builder binds itself.
pub(super) fn begin(select: &str, own: &str, tenant: Uuid) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(select);
    whose(&mut query, own, tenant);
    query
}

fn whose(query: &mut QueryBuilder<Postgres>, own: &str, tenant: Uuid) {
    let (before, after) = own.split_once("$1").unwrap_or((own, ""));
    query.push(format!(" WHERE {before}")).push_bind(tenant).push(after);
}

/// The id of an event that occurred at `at`: it begins with that millisecond, so that it leads to the month it is in.
pub fn id_of(at: OffsetDateTime) -> Uuid {
    let seconds = u64::try_from(at.unix_timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, at.nanosecond()))
}

/// The millisecond that an id made by [`id_of`] begins with; what others have made may tell another, or none.
fn told(id: Uuid) -> Option<OffsetDateTime> {
    let (seconds, nanoseconds) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    at.replace_nanosecond(nanoseconds).ok()
}

/// When the last event of a page occurred, as its cursor tells it.
fn instant(at_us: i64) -> Result<OffsetDateTime, Problem> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1000)
        .map_err(|_| Problem::BadRequest("this cursor does not belong to this list".into()))
}

/// A part of time that a page is looked for in.
#[derive(Debug, PartialEq)]
enum Window {
    All,
    Since(OffsetDateTime),
    Before(OffsetDateTime),
}

/// The parts of time to look in, one after the other. The latest months mostly fill a page: then all the months before
/// them, each a table with its own index and policy, need not be opened.
fn windows(filter: &Filter, after: Option<OffsetDateTime>) -> Vec<Window> {
    let newest = [after, filter.to].into_iter().flatten().fold(OffsetDateTime::now_utc(), OffsetDateTime::min);
    match newest.checked_sub(RECENT) {
        // Words are looked for by an index that knows no order.
        Some(at) if !filter.ascending && filter.words.is_none() && filter.from.is_none_or(|from| from < at) => {
            vec![Window::Since(at), Window::Before(at)]
        }
        _ => vec![Window::All],
    }
}

fn see(query: &mut QueryBuilder<Postgres>, sight: &Sight) {
    match sight {
        _ if on(Defect::SightIgnored) => {}
        Sight::All => {}
        Sight::Actor(actor) => {
            query.push(" AND actor_id = ").push_bind(*actor);
        }
        Sight::Target(kind, id) => {
            query.push(" AND target_type = ").push_bind(kind.clone()).push(" AND target_id = ").push_bind(id.clone());
        }
        Sight::None => {
            query.push(" AND false");
        }
    }
}

pub(super) fn narrow(query: &mut QueryBuilder<Postgres>, filter: &Filter, sight: &Sight) {
    see(query, sight);
    if let Some(actor) = filter.actor {
        query.push(" AND actor_id = ").push_bind(actor);
    }
    for (column, value) in
        [("action", &filter.action), ("target_type", &filter.target_type), ("target_id", &filter.target_id)]
    {
        if let Some(value) = value {
            query.push(format!(" AND {column} = ")).push_bind(value.clone());
        }
    }
    if let Some(from) = filter.from {
        query.push(" AND occurred_at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        query.push(" AND occurred_at < ").push_bind(to);
    }
    if let Some(words) = &filter.words {
        query.push(" AND search @@ plainto_tsquery('simple', ").push_bind(words.clone()).push(")");
    }
}

pub(super) fn event(row: &PgRow) -> Event {
    Event {
        id: row.get("id"),
        occurred_at: row.get("occurred_at"),
        recorded_at: row.get("recorded_at"),
        actor: Actor { id: row.get("actor_id"), email: row.get("actor_email"), name: row.get("actor_name") },
        action: row.get("action"),
        target: Target { kind: row.get("target_type"), id: row.get("target_id"), name: row.get("target_name") },
        outcome: if row.get::<&str, _>("outcome") == "failure" { Outcome::Failure } else { Outcome::Success },
        source_ip: row.get::<Option<ipnetwork::IpNetwork>, _>("source_ip").map(|network| network.ip()),
        user_agent: row.get("user_agent"),
        external_id: row.get("external_id"),
        details: row.get::<Json<_>, _>("details").0,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_page_is_looked_for_in_recent_months_first_and_nothing_is_left_out() {
        let at = datetime!(2026-03-01 10:00 UTC);
        let until = |to| Filter { to: Some(to), ..Filter::default() };
        assert_eq!(windows(&until(at), None), [Window::Since(at - RECENT), Window::Before(at - RECENT)]);
        assert_eq!(windows(&Filter::default(), Some(at)), windows(&until(at), None));
        let within = Filter { from: Some(at - Duration::DAY), ..until(at) };
        let words = Filter { words: Some("shared".into()), ..until(at) };
        for all in [within, words, Filter { ascending: true, ..until(at) }, until(datetime!(-9999-01-01 0:00 UTC))] {
            assert_eq!(windows(&all, None), [Window::All]);
        }
    }

    #[test]
    fn an_id_tells_the_millisecond_of_its_event_and_those_of_others_are_looked_for_everywhere() {
        for at in [datetime!(2026-03-01 10:00:00.123456 UTC), datetime!(1970-01-01 0:00 UTC)] {
            let from = told(id_of(at)).expect("an instant");
            assert!(from <= at && at < from + Duration::MILLISECOND, "{from} {at}");
        }
        assert_eq!(told(Uuid::new_v4()), None);
        // What lies outside the range of such ids is found by the second look.
        for at in [datetime!(1900-01-01 0:00 UTC), datetime!(9999-12-31 23:59:59.999 UTC)] {
            let _ = told(id_of(at));
        }
        assert_ne!(id_of(datetime!(2026-03-01 10:00 UTC)), id_of(datetime!(2026-03-01 10:00 UTC)));
    }
}
