//! Pages of lists: where they go on, how long they are, how many rows there are in all.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use crate::cursor::{Position, Sealer};
use crate::problem::Problem;

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

/// A page that was asked for, its cursor opened.
pub(super) struct Paging {
    /// The tenant to read: the caller's own, since a cursor of another does not open.
    pub tenant: Uuid,
    /// The last row shown.
    pub after: Option<Position>,
    /// Rows a page.
    pub limit: i64,
    /// Whether to count all rows.
    pub count: bool,
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
        Ok(Paging { tenant, after, limit, count: self.count == Some(true), purpose, sealer: app.sealer.clone() })
    }
}

impl Paging {
    /// The id of the last row shown.
    pub(super) fn after_id(&self) -> Option<Uuid> {
        self.after.map(|at| at.id)
    }

    /// The page, made of `items`, of which there is one more than fits when the list goes on.
    pub(super) fn list<T>(self, mut items: Vec<T>, total: Option<i64>, position: fn(&T) -> Position) -> List<T> {
        let fits = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > fits;
        items.truncate(fits);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|row| self.sealer.seal(self.tenant, &self.purpose, position(row)));
        List { items, next_cursor, total }
    }
}
