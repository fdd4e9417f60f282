//! The list, and one event with its annotations: the API's own answers, as pages.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::WithRejection;
use time::format_description::well_known::Rfc3339;
use time::{Date, Duration, OffsetDateTime};
use uuid::Uuid;

use super::answer::{Page, Refused, STYLE, Told, see};
use super::chart::Chart;
use super::session::SignedIn;
use super::sign_in::{Membership, memberships};
use super::text::{clock, grouped, minute, rfc3339, spoken, stamp};
use super::wanted::Wanted;
use crate::caller::{Allowed, Annotates, Caller, Oversees, ReadsEvents, SearchesEvents};
use crate::http::App;
use crate::http::annotations::{Annotation, Note, create_annotation, list_annotations};
use crate::http::event::{Event, Outcome};
use crate::http::events::{EventFilter, listed, read};
use crate::http::extract::{Body, Fields, Ids, Params};
use crate::http::page::{self, List};
use crate::http::stats::{Facet, Most, Value, get_facets, get_stats};
use crate::problem::Problem;

/// Values offered where a filter is chosen.
const OFFERED: i64 = 100;
/// How far back values are looked for, and days are drawn, when no instant is given.
const BACK: Duration = Duration::days(30);

/// What stands above each page of one who is signed in.
pub(super) struct Top {
    pub tenant: Uuid,
    pub here: Membership,
    pub all: Vec<Membership>,
}

impl Top {
    /// For one whose session was just seen to stand.
    pub async fn of(app: &App, caller: &Caller) -> Result<Self, Problem> {
        let tenant = caller.tenant().ok_or(Problem::Forbidden)?;
        let mut all = memberships(app, caller.id).await?;
        let at = all.iter().position(|one| one.tenant == tenant).ok_or(Problem::Unauthenticated)?;
        let here = all[at].clone();
        if all.len() == 1 {
            all.clear();
        }
        Ok(Self { tenant, here, all })
    }
}

#[derive(Template)]
#[template(path = "events.html")]
struct ListPage {
    style: &'static str,
    top: Top,
    wanted: Wanted,
    wrong: Option<String>,
    days: Vec<(String, Vec<Event>)>,
    shown: usize,
    total: Option<i64>,
    older: Option<String>,
    offered: Option<Offered>,
    chart: Option<Chart>,
    ranges: Vec<(&'static str, String)>,
}

/// What the filters offer to choose from, to those who see all events.
struct Offered {
    actors: Vec<Value>,
    actions: Vec<Value>,
    types: Vec<Value>,
}

impl ListPage {
    /// What a filter's value is called: an actor by its name.
    fn called<'p>(&'p self, name: &str, value: &'p str) -> &'p str {
        let actors = self.offered.iter().flat_map(|offered| &offered.actors);
        let known = actors.filter(|actor| name == "Actor" && actor.value == value);
        known.filter_map(|actor| actor.label.as_deref()).next().unwrap_or(value)
    }
}

/// Lists events.
pub(super) async fn list(
    State(app): State<App>,
    SignedIn(Allowed(caller, _)): SignedIn<SearchesEvents>,
    WithRejection(Params(wanted), _): Told<Params<Wanted>>,
) -> Result<Response, Refused> {
    let found = match wanted.filter() {
        Ok(filter) => listed(&app, caller.clone(), filter, wanted.page()).await,
        // The store is not asked, so the session is.
        Err(problem) => caller.run(|_| Box::pin(async { Err(problem) })).await,
    };
    let (status, found, wrong) = match found {
        Ok(list) => (StatusCode::OK, list, None),
        Err(problem @ (Problem::BadRequest(_) | Problem::Unprocessable(_))) => {
            let none = List { items: Vec::new(), next_cursor: None, total: None };
            (problem.status(), none, Some(problem.to_string()))
        }
        Err(problem) => return Err(problem.into()),
    };
    let (offered, chart) = match Allowed::<Oversees>::of(caller.clone()) {
        // A list is worth showing also where counting takes too long.
        Ok(_) if wrong.is_none() => match around(&caller, &wanted).await {
            Err(Problem::Busy | Problem::Internal) => (None, None),
            counted => counted?,
        },
        _ => (None, None),
    };
    let ranges = [("24 hours", 1), ("7 days", 7), ("30 days", 30)].map(|(name, days)| {
        let from = OffsetDateTime::now_utc() - Duration::days(days);
        (name, wanted.with(|other| (other.from, other.to) = (minute(from), String::new())))
    });
    let page = ListPage {
        style: STYLE,
        top: Top::of(&app, &caller).await?,
        wrong,
        shown: found.items.len(),
        total: found.total,
        older: found.next_cursor.map(|cursor| Wanted { cursor, ..wanted.clone() }.address()),
        days: by_day(found.items),
        offered,
        chart,
        ranges: ranges.into(),
        wanted,
    };
    Ok((status, Page(page)).into_response())
}

/// What the filters offer, and the events of each day.
async fn around(caller: &Caller, wanted: &Wanted) -> Result<(Option<Offered>, Option<Chart>), Problem> {
    let mut narrowed = wanted.narrowed()?;
    let parsed = |at: &Option<String>| at.as_ref().and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
    let to = parsed(&narrowed.to).unwrap_or_else(OffsetDateTime::now_utc);
    let from = parsed(&narrowed.from).unwrap_or(to - BACK);
    narrowed.from = Some(rfc3339(from));
    let range = EventFilter { from: narrowed.from.clone(), to: narrowed.to.clone(), ..EventFilter::default() };
    let most = Most { most: Some(OFFERED) };
    let facets = get_facets(Allowed::of(caller.clone())?, Params(range), Params(most)).await?.0.facets;
    let of = |name: &str| {
        let named = |facet: &&Facet| facet.name == name;
        facets.iter().find(named).map(|facet| facet.values.clone()).unwrap_or_default()
    };
    let mut actors = of("actor");
    actors.sort_by_key(|actor| actor.label.clone().unwrap_or_default().to_lowercase());
    if !wanted.actor.is_empty() && !actors.iter().any(|actor| actor.value == wanted.actor) {
        actors.push(Value { value: wanted.actor.clone(), label: None, events: 0 });
    }
    let offered = Offered { actors, actions: of("action"), types: of("target_type") };
    // Words are not counted by day.
    let chart = if wanted.q.trim().is_empty() {
        let stats = get_stats(Allowed::of(caller.clone())?, Params(narrowed)).await?.0;
        // What ends at midnight does not reach into the day.
        Chart::of(&stats.days, from.date(), (to - Duration::NANOSECOND).date(), wanted)
    } else {
        None
    };
    Ok((Some(offered), chart))
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    style: &'static str,
    top: Top,
    event: Event,
    details: String,
    notes: List<Annotation>,
    may_note: bool,
    me: Uuid,
    same_actor: String,
    same_target: String,
    same_action: String,
}

/// Shows one event.
pub(super) async fn event(
    State(app): State<App>,
    SignedIn(Allowed(caller, _)): SignedIn<ReadsEvents>,
    WithRejection(Ids([id]), _): Told<Ids<1>>,
) -> Result<Response, Refused> {
    let event = read(&caller, id).await?;
    let all = page::Page { limit: Some(200), cursor: None, count: None };
    let notes = list_annotations(State(app.clone()), Allowed::of(caller.clone())?, Ids([id]), Params(all)).await?.0;
    let none = Wanted::default();
    let page = EventPage {
        style: STYLE,
        top: Top::of(&app, &caller).await?,
        details: if event.details.is_empty() { String::new() } else { indented(&event.details) },
        notes,
        may_note: Allowed::<Annotates>::of(caller.clone()).is_ok(),
        me: caller.id,
        same_actor: none.of_actor(&event),
        same_target: none.of_target(&event),
        same_action: none.with(|other| other.action = event.action.clone()),
        event,
    };
    Ok(Page(page).into_response())
}

/// Annotates an event.
pub(super) async fn annotate(
    SignedIn(allowed): SignedIn<Annotates>,
    WithRejection(Ids([id]), _): Told<Ids<1>>,
    WithRejection(Fields(note), _): Told<Fields<Note>>,
) -> Result<Response, Refused> {
    if note.body.trim().is_empty() {
        return Err(Problem::Unprocessable("an annotation says something".into()).into());
    }
    let _written = create_annotation(allowed, Ids([id]), Body(note)).await?;
    Ok(see(&format!("/events/{id}#annotations")))
}

fn indented(details: &serde_json::Map<String, serde_json::Value>) -> String {
    serde_json::to_string_pretty(details).unwrap_or_default()
}

/// The events of each day (UTC) that has some, in the order given.
fn by_day(events: Vec<Event>) -> Vec<(String, Vec<Event>)> {
    let mut days: Vec<(Date, Vec<Event>)> = Vec::new();
    for event in events {
        let day = event.occurred_at.date();
        match days.last_mut() {
            Some((last, events)) if *last == day => events.push(event),
            _ => days.push((day, vec![event])),
        }
    }
    days.into_iter().map(|(day, events)| (spoken(day), events)).collect()
}

/// How grave the sender calls the event, and how that is painted.
fn severity(event: &Event) -> Option<(&str, &'static str)> {
    let word = event.details.get("severity")?.as_str()?;
    let paint = match word.to_ascii_lowercase().as_str() {
        "critical" | "fatal" | "high" => "high",
        "medium" => "medium",
        "low" => "low",
        _ => return None,
    };
    Some((word, paint))
}
