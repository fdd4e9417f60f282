//! What the list is asked for, as it stands in its address: a form leaves fields blank, and a person types a day.

use serde::{Deserialize, Serialize};
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime, PrimitiveDateTime};
use uuid::Uuid;

use super::text::{minute, rfc3339};
use crate::http::event::Event;
use crate::http::events::{EventFilter, Sort};
use crate::http::extract::text;
use crate::http::page::Page;
use crate::problem::Problem;
use crate::store::events::Filter;

/// Rows a page.
const ROWS: i64 = 50;

/// The list's address.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Wanted {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub q: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sort: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cursor: String,
}

impl Wanted {
    /// The filter of the API that this is, but for the words.
    pub fn narrowed(&self) -> Result<EventFilter, Problem> {
        let actor = match self.actor.trim() {
            "" => None,
            id => Some(Uuid::try_parse(id).map_err(|_| Problem::BadRequest("this actor is no id".into()))?),
        };
        Ok(EventFilter {
            actor,
            action: given(&self.action),
            target_type: given(&self.target_type),
            target_id: given(&self.target_id),
            from: instant("from", &self.from)?,
            to: instant("to", &self.to)?,
            sort: (self.sort == "asc").then_some(Sort::Asc),
        })
    }

    /// What the store is asked for.
    pub fn filter(&self) -> Result<Filter, Problem> {
        text("the search", &self.q, 500)?;
        Ok(Filter { words: given(&self.q), ..self.narrowed()?.filter()? })
    }

    /// The page of the API that this is. Only the first is told how many rows there are: counting reads them all.
    pub fn page(&self) -> Page {
        Page { limit: Some(ROWS), cursor: given(&self.cursor), count: Some(self.cursor.is_empty()) }
    }

    /// The same list of this event's actor alone.
    pub fn of_actor(&self, event: &Event) -> String {
        self.with(|other| other.actor = event.actor.id.to_string())
    }

    /// The same list of this event's target alone.
    pub fn of_target(&self, event: &Event) -> String {
        self.with(|other| {
            (other.target_type, other.target_id) = (event.target.kind.clone(), event.target.id.clone());
        })
    }

    /// From when on, as the form's field holds it.
    pub fn since_field(&self) -> String {
        field(&self.from)
    }

    /// Until when, as the form's field holds it.
    pub fn until_field(&self) -> String {
        field(&self.to)
    }

    /// The filters that are set: name, value, and the same list without it.
    pub fn set(&self) -> Vec<(&'static str, &str, String)> {
        let without = |clear: fn(&mut Self) -> &mut String| self.with(|other| clear(other).clear());
        let all = [
            ("Search", self.q.trim(), without(|other| &mut other.q)),
            ("Actor", self.actor.trim(), without(|other| &mut other.actor)),
            ("Action", self.action.trim(), without(|other| &mut other.action)),
            ("Target type", self.target_type.trim(), without(|other| &mut other.target_type)),
            ("Target", self.target_id.trim(), without(|other| &mut other.target_id)),
            ("From", self.from.trim(), without(|other| &mut other.from)),
            ("Before", self.to.trim(), without(|other| &mut other.to)),
        ];
        all.into_iter().filter(|(_, value, _)| !value.is_empty()).collect()
    }

    /// The filters that an export takes over: the form's field, and its value.
    pub fn exported(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("target_type", &self.target_type),
            ("target_id", &self.target_id),
            ("from", &self.from),
            ("to", &self.to),
            ("sort", &self.sort),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, value.as_str())).collect()
    }

    /// The address of this list.
    pub fn address(&self) -> String {
        // Strings alone: nothing that cannot be written.
        format!("/?{}", serde_urlencoded::to_string(self).unwrap_or_default())
    }

    /// The first page of the same list.
    pub fn first(&self) -> String {
        self.with(|_| {})
    }

    /// The same list from its first page, changed by `change`.
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut other = Self { cursor: String::new(), ..self.clone() };
        change(&mut other);
        other.address()
    }
}

fn given(value: &str) -> Option<String> {
    Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_string)
}

fn field(value: &str) -> String {
    parsed(value).map(minute).unwrap_or_default()
}

/// An instant as the API takes it.
fn instant(name: &str, value: &str) -> Result<Option<String>, Problem> {
    if value.trim().is_empty() {
        return Ok(None);
    }
    let wrong = || Problem::BadRequest(format!("{name} must be a day, or a day and a time"));
    parsed(value).map(rfc3339).map(Some).ok_or_else(wrong)
}

/// A day, a day and a time, or an instant; without a zone it is UTC.
fn parsed(value: &str) -> Option<OffsetDateTime> {
    let value = value.trim();
    let local = || PrimitiveDateTime::parse(value, &Iso8601::DEFAULT).ok();
    let day = || Date::parse(value, &Iso8601::DATE).ok().map(Date::midnight);
    OffsetDateTime::parse(value, &Rfc3339).ok().or_else(|| local().or_else(day).map(PrimitiveDateTime::assume_utc))
}
