//! Pages of lists: where they go on, how long they are, how many rows there are in all.

use axum::Json;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use crate::caller::Caller;
use crate::cursor::{Position, Sealer};
use crate::problem::Problem;
use crate::store::AuditStore;

/// Where a page goes on, and how long it is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Rows a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<i64>,
    /// Where to go on: the `next_cursor` of the page before.
    #[param(max_length = 1000)]
    pub cursor: Option<String>,
    /// Also answer how many rows there are in all.
    pub count: Option<bool>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where to go on; null at the end.
    pub next_cursor: Option<String>,
    /// Rows in all, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

/// Which rows of a list the store is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The last row shown.
    pub after: Option<Position>,
    /// Rows a page; the store answers one more when there are more.
    pub limit: i64,
    /// Whether to count all rows.
    pub count: bool,
}

impl Asked {
    /// The id of the last row shown, in a list that is ordered by id alone.
    pub fn after_id(&self) -> Option<Uuid> {
        self.after.map(|at| at.id)
    }
}

/// What the store answers: rows, and how many there are in all when that was asked.
pub type Found<T> = (Vec<T>, Option<i64>);

/// A page that was asked for, its cursor opened.
pub(super) struct Paging {
    /// The tenant to read: the caller's own, since a cursor of another does not open.
    pub tenant: Uuid,
    /// Which rows.
    pub asked: Asked,
    purpose: String,
    sealer: Sealer,
}

impl Page {
    /// Reads what was asked for; `purpose` names the operation and its filters.
    pub(super) fn of(self, app: &App, tenant: Uuid, purpose: String) -> Result<Paging, Problem> {
        let limit = self.limit.unwrap_or(50);
        if !(1..=200).contains(&limit) {
            return Err(Problem::BadRequest("limit must be between 1 and 200".into()));
        }
        let (tenant, after) = match self.cursor {
            Some(cursor) => app.sealer.open(tenant, &purpose, &cursor).map(|(tenant, at)| (tenant, Some(at)))?,
            None => (tenant, None),
        };
        let asked = Asked { after, limit, count: self.count == Some(true) };
        Ok(Paging { tenant, asked, purpose, sealer: app.sealer.clone() })
    }
}

impl Page {
    /// Answers a page of the caller's tenant; `purpose` names the operation and its filters, `read` asks the store.
    pub(super) async fn answer<T, R>(
        self,
        app: &App,
        caller: &Caller,
        purpose: String,
        position: fn(&T) -> Position,
        read: R,
    ) -> Result<Json<List<T>>, Problem>
    where
        T: Send + 'static,
        R: for<'s> FnOnce(&'s mut AuditStore, Asked) -> BoxFuture<'s, Result<Found<T>, Problem>> + Send + 'static,
    {
        let paging = self.of(app, caller.tenant().ok_or(Problem::Forbidden)?, purpose)?;
        let asked = paging.asked;
        let (items, total) = caller.run_in(paging.tenant, move |store| read(store, asked)).await?;
        Ok(Json(paging.list(items, total, position)))
    }
}

impl Paging {
    /// The page, made of `items`, of which there is one more than fits when the list goes on.
    pub(super) fn list<T>(self, mut items: Vec<T>, total: Option<i64>, position: fn(&T) -> Position) -> List<T> {
        let fits = usize::try_from(self.asked.limit).unwrap_or(usize::MAX);
        let more = items.len() > fits;
        items.truncate(fits);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|row| self.sealer.seal(self.tenant, &self.purpose, position(row)));
        List { items, next_cursor, total }
    }
}
