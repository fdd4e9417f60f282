//! Counts over events, for those who read all of them.

use axum::Json;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::events::EventFilter;
use super::extract::Params;
use crate::caller::{Allowed, Oversees};
use crate::hot::{self, Key};
use crate::problem::{Problem, Refusals};
use crate::store::Sight;

/// Days that are told one by one.
const DAYS_MAX: i64 = 366;

/// Counts over the events of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Stats {
    /// Events in all.
    pub total: i64,
    /// Of them, those that failed.
    pub failures: i64,
    /// How many actors they have.
    pub actors: i64,
    /// When the first happened.
    #[serde(with = "time::serde::rfc3339::option")]
    pub first_at: Option<OffsetDateTime>,
    /// When the last happened.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_at: Option<OffsetDateTime>,
    /// Events by day (UTC), the latest first, a year of days with events at most.
    pub days: Vec<Day>,
}

/// The events of one day.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Day {
    /// The day.
    #[schema(format = "date")]
    pub day: String,
    /// Its events.
    pub events: i64,
}

/// The commonest values of some columns.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Facets {
    /// One a column.
    pub facets: Vec<Facet>,
}

/// The commonest values of one column.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Facet {
    /// The column.
    pub name: String,
    /// Its values, the commonest first.
    pub values: Vec<Value>,
}

/// One value of a column.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Value {
    /// The value.
    pub value: String,
    /// Its name, where it has one: an actor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The events that have it.
    pub events: i64,
}

/// Counts events.
#[utoipa::path(get, path = "/v1/events/stats", operation_id = "get_stats", security(("bearer" = [])), params(EventFilter),
    responses((status = 200, description = "Counts", body = Stats),
        Refusals))]
pub async fn get_stats(
    Allowed(caller, _): Allowed<Oversees>,
    Params(filter): Params<EventFilter>,
) -> Result<Json<Stats>, Problem> {
    let filter = filter.filter()?;
    let question = format!("stats {filter:?}");
    let read = caller.run(move |store| {
        Box::pin(async move {
            let key = Key::of(store, &Sight::All, question);
            hot::STATS.or(key, store.stats(&filter, DAYS_MAX)).await
        })
    });
    read.await.map(Json)
}

/// How many values of each column are told.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Most {
    /// Values a column.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub most: Option<i64>,
}

/// Tells the commonest values among events.
#[utoipa::path(get, path = "/v1/events/facets", operation_id = "get_facets", security(("bearer" = [])), params(EventFilter, Most),
    responses((status = 200, description = "Values", body = Facets),
        Refusals))]
pub async fn get_facets(
    Allowed(caller, _): Allowed<Oversees>,
    Params(filter): Params<EventFilter>,
    Params(most): Params<Most>,
) -> Result<Json<Facets>, Problem> {
    let filter = filter.filter()?;
    let most = most.most.unwrap_or(20);
    if !(1..=100).contains(&most) {
        return Err(Problem::BadRequest("most must be between 1 and 100".into()));
    }
    let question = format!("facets {most} {filter:?}");
    let read = caller.run(move |store| {
        Box::pin(async move {
            let key = Key::of(store, &Sight::All, question);
            hot::FACETS.or(key, store.facets(&filter, most)).await
        })
    });
    read.await.map(Json)
}
