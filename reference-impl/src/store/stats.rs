//! Counts over events: how many, of which kinds, on which days.

use sqlx::postgres::PgRow;
use sqlx::{QueryBuilder, Row};
use time::Date;

use super::events::{Filter, begin, narrow};
use super::{AuditStore, Sight, own, own_unless};
use crate::defects::Defect;
use crate::http::stats::{Day, Facet, Facets, Stats, Value};
use crate::problem::Problem;

impl AuditStore {
    /// How many events `filter` lets through, in all, by outcome and by day (UTC), the latest `days` of them.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn stats(&mut self, filter: &Filter, days: i64) -> Result<Stats, Problem> {
        let mut query = self.over(
            "SELECT count(*), count(*) FILTER (WHERE outcome = 'failure'), count(DISTINCT actor_id), \
                    min(occurred_at), max(occurred_at) FROM events",
            filter,
        );
        let row = query.build().fetch_one(self.connection()).await?;
        let mut stats = Stats {
            total: row.get(0),
            failures: row.get(1),
            actors: row.get(2),
            first_at: row.get(3),
            last_at: row.get(4),
            days: Vec::new(),
        };
        let mut query = self.over_as(
            "SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, count(*) AS events FROM events",
            own_unless(Defect::DaysUnscoped),
            filter,
        );
        query.push(" GROUP BY 1 ORDER BY 1 DESC LIMIT ").push_bind(days);
        let rows = query.build().fetch_all(self.connection()).await?;
        stats.days = rows
            .iter()
            .map(|row| Day { day: row.get::<Date, _>("day").to_string(), events: row.get("events") })
            .collect();
        Ok(stats)
    }

    /// The commonest values of each facet among the events that `filter` lets through, `most` of each.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn facets(&mut self, filter: &Filter, most: i64) -> Result<Facets, Problem> {
        let mut facets = Facets { facets: Vec::new() };
        for (name, expression, label) in [
            ("action", "action", "NULL"),
            ("actor", "actor_id::text", "max(actor_name)"),
            ("target_type", "target_type", "NULL"),
            ("outcome", "outcome", "NULL"),
        ] {
            let select =
                format!("SELECT {expression} AS value, {label}::text AS label, count(*) AS events FROM events");
            let mut query = self.over(&select, filter);
            query.push(" GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT ").push_bind(most);
            let rows = query.build().fetch_all(self.connection()).await?;
            let value =
                |row: &PgRow| Value { value: row.get("value"), label: row.get("label"), events: row.get("events") };
            let values = rows.iter().map(value);
            facets.facets.push(Facet { name: name.into(), values: values.collect() });
        }
        Ok(facets)
    }

    /// `select` over the tenant's events, narrowed to `filter`.
    fn over(&self, select: &str, filter: &Filter) -> QueryBuilder<sqlx::Postgres> {
        self.over_as(select, own(), filter)
    }

    fn over_as(&self, select: &str, own: &str, filter: &Filter) -> QueryBuilder<sqlx::Postgres> {
        let mut query = begin(select, own, self.tenant);
        narrow(&mut query, filter, &Sight::All);
        query
    }
}
