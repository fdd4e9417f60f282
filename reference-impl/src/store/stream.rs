//! Events in the order in which they become visible: what a stream shows, each once.
//!
//! Transactions commit in another order than they record, so a stream cannot go on after the last event it has shown.
//! It goes on after a snapshot: an event is new when the snapshot before did not see its transaction. The time of
//! recording only bounds where to look.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use time::OffsetDateTime;

use super::events::{COLUMNS, begin, event};
use super::{AuditStore, own};
use crate::cursor::Position;
use crate::http::event::Event;
use crate::problem::Problem;

/// Longer than any transaction that writes events, and than clocks of servers lie apart, microseconds.
const MARGIN_US: i64 = 60_000_000;

/// The transaction that wrote an event. Where no column tells, or it tells of another server that this one was restored
/// from, the row itself does: by the lower 32 bits, so that the upper ones are those of the latest it can be.
const WRITTEN_BY: &str = "(CASE WHEN written_by < pg_snapshot_xmax(pg_current_snapshot()) THEN written_by ELSE \
    (SELECT (top - (top - xmin::text::bigint) % 4294967296)::text::xid8 \
       FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS top) latest) END)";

/// How far a stream has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The snapshot whose events are all shown; none at the beginning.
    seen: Option<String>,
    /// Nothing recorded before is shown, microseconds since the Unix epoch.
    from_us: i64,
    /// In the middle of what the next snapshot sees.
    within: Option<Within>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Within {
    /// The snapshot.
    sees: String,
    /// When it was taken, microseconds since the Unix epoch.
    at_us: i64,
    /// The last event shown.
    after: Position,
}

/// Events, each with the place after it, and the place after all.
pub struct Shown {
    /// The events.
    pub events: Vec<(Event, Place)>,
    /// Where to go on.
    pub place: Place,
    /// Whether more is there already.
    pub more: bool,
}

impl Place {
    /// Before everything recorded at `from` or later.
    pub fn from(from: OffsetDateTime) -> Self {
        Self { seen: None, from_us: micros(from), within: None }
    }

    fn after(sees: String, at_us: i64) -> Self {
        Self { seen: Some(sees), from_us: at_us - MARGIN_US, within: None }
    }
}

impl AuditStore {
    /// The place after everything that is there now.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn place(&mut self) -> Result<Place, Problem> {
        let (sees, at_us) = self.snapshot().await?;
        Ok(Place::after(sees, at_us))
    }

    /// What there is after `place`, `limit` events at most.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn shown(&mut self, place: Place, limit: usize) -> Result<Shown, Problem> {
        let (sees, at_us, after) = match place.within.clone() {
            Some(within) => (within.sees, within.at_us, Some(within.after)),
            None => {
                let (sees, at_us) = self.snapshot().await?;
                (sees, at_us, None)
            }
        };
        let instant = |us: i64| {
            let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000);
            at.map_err(|_| Problem::BadRequest("this cursor does not belong to this list".into()))
        };
        let visible = format!("pg_visible_in_snapshot({WRITTEN_BY}, ");
        let mut query = begin(&format!("SELECT {COLUMNS} FROM events"), own(), self.tenant);
        query.push(" AND recorded_at >= ").push_bind(instant(place.from_us)?);
        query.push(format!(" AND {visible}")).push_bind(sees.clone()).push("::pg_snapshot)");
        if let Some(seen) = &place.seen {
            query.push(format!(" AND NOT {visible}")).push_bind(seen.clone()).push("::pg_snapshot)");
        }
        if let Some(after) = after {
            query.push(" AND (recorded_at, id) > (").push_bind(instant(after.at_us)?).push(", ").push_bind(after.id);
            query.push(")");
        }
        query.push(" ORDER BY recorded_at, id LIMIT ").push_bind(i64::try_from(limit + 1).unwrap_or(i64::MAX));
        let mut events: Vec<Event> = query.build().fetch_all(self.connection()).await?.iter().map(event).collect();
        let more = events.len() > limit;
        events.truncate(limit);
        let mut shown = Shown { events: Vec::new(), place: Place::after(sees.clone(), at_us), more };
        let last = events.len();
        for (index, event) in events.into_iter().enumerate() {
            let after = Position { at_us: micros(event.recorded_at), id: event.id };
            let within = Within { sees: sees.clone(), at_us, after };
            let next = if index + 1 == last && !more {
                shown.place.clone()
            } else {
                Place { within: Some(within), ..place.clone() }
            };
            shown.events.push((event, next));
        }
        if more && let Some((_, next)) = shown.events.last() {
            shown.place = next.clone();
        }
        Ok(shown)
    }

    /// What is visible now, and the time.
    async fn snapshot(&mut self) -> Result<(String, i64), Problem> {
        let row = sqlx::query("SELECT pg_current_snapshot()::text, now()").fetch_one(self.connection()).await?;
        Ok((row.get(0), micros(row.get(1))))
    }
}

fn micros(at: OffsetDateTime) -> i64 {
    (at.unix_timestamp_nanos() / 1000) as i64
}
