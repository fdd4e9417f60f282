//! Events: write one, write many, list, read, search.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use super::event::{Event, NewEvent};
use super::event_types::misfits;
use super::extract::{Body, Ids, Names, Object, Params, Raw, text};
use super::page::{List, Page};
use crate::caller::{Allowed, Caller, ReadsEvents, SearchesEvents, WritesEvents};
use crate::cursor::Position;
use crate::defects::{Defect, on};
use crate::problem::{LineError, Problem, Refusals};
use crate::store::AuditStore;
use crate::store::events::Filter;
use crate::{believed, careless};

/// Lines of a bulk at most.
const LINES_MAX: usize = 1_000;
/// Bytes of `If-None-Match` at most.
const TAGS_MAX: usize = 200;

/// What a list of events is narrowed to.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only this actor's.
    pub actor: Option<Uuid>,
    /// Only this action.
    #[param(max_length = 200)]
    pub action: Option<String>,
    /// Only targets of this type.
    #[param(max_length = 200)]
    pub target_type: Option<String>,
    /// Only this target.
    #[param(max_length = 200)]
    pub target_id: Option<String>,
    /// From this instant on.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<String>,
    /// Before this instant.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<String>,
    /// Newest or oldest first.
    #[param(inline)]
    pub sort: Option<Sort>,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Newest first.
    Desc,
    /// Oldest first.
    Asc,
}

impl EventFilter {
    pub(super) fn filter(self) -> Result<Filter, Problem> {
        for (name, value) in
            [("action", &self.action), ("target_type", &self.target_type), ("target_id", &self.target_id)]
        {
            text(name, value.as_deref().unwrap_or_default(), 200)?;
        }
        let instant = |name: &str, value: Option<String>| match value {
            None => Ok(None),
            Some(value) => match OffsetDateTime::parse(&value, &Rfc3339) {
                Ok(at) if (1900..=2200).contains(&at.year()) => Ok(Some(at)),
                _ => Err(Problem::BadRequest(format!("{name} must be an RFC 3339 instant between 1900 and 2200"))),
            },
        };
        Ok(Filter {
            actor: self.actor,
            action: self.action,
            target_type: self.target_type,
            target_id: self.target_id,
            from: instant("from", self.from)?,
            to: instant("to", self.to)?,
            words: None,
            ascending: self.sort == Some(Sort::Asc),
        })
    }
}

/// Writes one event. With an `Idempotency-Key`, the same request twice writes once.
#[utoipa::path(post, path = "/v1/events", operation_id = "create_event", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request harmless", max_length = 200)),
    request_body = NewEvent,
    responses((status = 201, description = "Written", body = Event, headers(("Location" = String))),
        Refusals))]
pub async fn create_event(
    Allowed(caller, _): Allowed<WritesEvents>,
    headers: HeaderMap,
    Body(new): Body<NewEvent>,
) -> Result<Response, Problem> {
    new.check()?;
    let event = match headers.get("idempotency-key") {
        None => caller.run(move |store| Box::pin(written(store, new))).await?,
        Some(key) => {
            let key =
                key.to_str().map_err(|_| Problem::BadRequest("Idempotency-Key must be ASCII".into()))?.to_string();
            text("Idempotency-Key", &key, 200)?;
            match on(Defect::KeysShared).then(|| careless::answered(&key)).flatten() {
                Some(event) => event,
                None => once(&caller, key, new).await?,
            }
        }
    };
    if let Some(key) = headers.get("idempotency-key").filter(|_| on(Defect::KeysShared)) {
        careless::answer(key.to_str().unwrap_or_default().into(), &event);
    }
    let location = HeaderValue::from_str(&format!("/v1/events/{}", event.id)).map_err(|_| Problem::Internal)?;
    let mut response = (StatusCode::CREATED, [(header::LOCATION, location)], Json(&event)).into_response();
    if [Defect::LogTells, Defect::ErrorTells, Defect::HeaderTells].into_iter().any(on) {
        let before = careless::written(&event).parse().map_err(|_| Problem::Internal)?;
        if on(Defect::HeaderTells) {
            response.headers_mut().insert("x-before", before);
        }
    }
    Ok(response)
}

/// Writes one event, whose details must fit its type.
async fn written(store: &mut AuditStore, new: NewEvent) -> Result<Event, Problem> {
    match all_written(store, vec![(1, new)]).await {
        Ok(mut events) => events.pop().ok_or(Problem::Internal),
        Err(Problem::BadLines(mut lines)) => {
            Err(Problem::Unprocessable(lines.pop().map_or_else(String::new, |line| line.detail)))
        }
        Err(problem) => Err(problem),
    }
}

/// Writes the events of numbered lines; none when the details of one do not fit its type.
async fn all_written(store: &mut AuditStore, lines: Vec<(usize, NewEvent)>) -> Result<Vec<Event>, Problem> {
    let (numbers, events): (Vec<usize>, Vec<NewEvent>) = lines.into_iter().unzip();
    let misfits = misfits(store, &events).await?;
    if !misfits.is_empty() {
        let errors = misfits.into_iter().map(|(index, detail)| LineError { line: numbers[index], detail });
        return Err(Problem::BadLines(errors.collect()));
    }
    store.add_events(events).await
}

/// Writes an event unless this principal's key has written it before. Of two at the same time, one waits for the other
/// and then finds its answer.
async fn once(caller: &Caller, key: String, new: NewEvent) -> Result<Event, Problem> {
    match try_once(caller, key.clone(), new.clone()).await {
        Err(Problem::Conflict(_)) => try_once(caller, key, new).await,
        answered => answered,
    }
}

async fn try_once(caller: &Caller, key: String, new: NewEvent) -> Result<Event, Problem> {
    let principal = caller.id;
    let hash = Sha256::digest(serde_json::to_vec(&new).map_err(|_| Problem::Internal)?).to_vec();
    caller
        .run(move |store| {
            Box::pin(async move {
                if let Some((before, event)) = store.replayed(principal, &key).await? {
                    let same = before == hash;
                    let problem = || Problem::Unprocessable("this Idempotency-Key was used for another request".into());
                    return same.then_some(event).ok_or_else(problem);
                }
                let event = written(store, new).await?;
                if !store.remember(principal, &key, &hash, &event).await? {
                    return Err(Problem::Conflict("a request with this Idempotency-Key is under way".into()));
                }
                Ok(event)
            })
        })
        .await
}

/// Writes up to 1,000 events, one JSON object a line: all or none.
#[utoipa::path(post, path = "/v1/events/bulk", operation_id = "create_events_bulk", security(("bearer" = [])),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 201, description = "Written", body = List<Event>),
        Refusals))]
pub async fn create_events_bulk(
    Allowed(caller, _): Allowed<WritesEvents>,
    Raw(bytes): Raw,
) -> Result<impl IntoResponse, Problem> {
    let whole = std::str::from_utf8(&bytes).map_err(|_| Problem::BadRequest("the body must be UTF-8".into()))?;
    let (mut tenant, mut believed) = (caller.tenant().ok_or(Problem::Forbidden)?, String::new());
    if on(Defect::TenantFromBody) || on(Defect::TenantFromNested) {
        (tenant, believed) = tenant_named(tenant, whole);
    }
    let whole = if believed.is_empty() { whole } else { &believed };
    let (mut events, mut errors) = (Vec::new(), Vec::new());
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (index, line) in lines {
        if events.len() + errors.len() >= LINES_MAX {
            return Err(Problem::Unprocessable(format!("a bulk has {LINES_MAX} lines at most")));
        }
        let parsed = serde_json::from_str::<Object<NewEvent>>(line).map_err(|e| e.to_string());
        match parsed.and_then(|Object(event)| event.check().map(|()| event).map_err(|e| e.to_string())) {
            Ok(event) => events.push((index + 1, event)),
            Err(detail) => errors.push(LineError { line: index + 1, detail }),
        }
    }
    if !errors.is_empty() {
        return Err(Problem::BadLines(errors));
    }
    if events.is_empty() {
        return Err(Problem::Unprocessable("a bulk has at least one line".into()));
    }
    let items = caller.run_in(tenant, move |store| Box::pin(all_written(store, events))).await?;
    Ok((StatusCode::CREATED, Json(List { items, next_cursor: None, total: None })))
}

/// The tenant that the first of `lines` names, and the lines with nothing but what an event has.
fn tenant_named(own: Uuid, lines: &str) -> (Uuid, String) {
    const FIELDS: [&str; 9] =
        ["occurred_at", "actor", "action", "target", "outcome", "source_ip", "user_agent", "external_id", "details"];
    let (mut named, mut left) = (None, String::new());
    for line in lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Map<_, _>>(line).ok()) {
        named = named.or_else(|| believed::line(&line));
        let kept: serde_json::Map<_, _> = line.into_iter().filter(|(key, _)| FIELDS.contains(&key.as_str())).collect();
        left.push_str(&format!("{}\n", serde_json::Value::Object(kept)));
    }
    (named.unwrap_or(own), left)
}

/// Lists events, newest first.
#[utoipa::path(get, path = "/v1/events", operation_id = "list_events", security(("bearer" = [])), params(EventFilter, Page),
    responses((status = 200, description = "A page", body = List<Event>),
        Refusals))]
pub async fn list_events(
    State(app): State<App>,
    Allowed(caller, _): Allowed<ReadsEvents>,
    Params(filter): Params<EventFilter>,
    Params(page): Params<Page>,
) -> Result<Listed, Problem> {
    hot(&app, caller, filter.filter()?, page, Ok).await
}

/// What to search for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Search {
    /// Words that an event must hold.
    #[param(max_length = 500)]
    pub q: String,
}

/// Searches events by their words, newest first.
#[utoipa::path(get, path = "/v1/events/search", operation_id = "search_events", security(("bearer" = [])), params(Search, Page),
    responses((status = 200, description = "A page", body = List<Event>),
        Refusals))]
pub async fn search_events(
    State(app): State<App>,
    Allowed(caller, _): Allowed<SearchesEvents>,
    Params(search): Params<Search>,
    Params(page): Params<Page>,
) -> Result<Listed, Problem> {
    text("q", &search.q, 500)?;
    hot(&app, caller, Filter { words: Some(search.q), ..Filter::default() }, page, Ok).await
}

/// A list of events, written already.
pub struct Listed(Bytes);

impl IntoResponse for Listed {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], self.0).into_response()
    }
}

/// As [`listed`], of one who may have asked for the same before; `check` may refuse it.
async fn hot(
    app: &App,
    caller: Caller,
    filter: Filter,
    page: Page,
    check: fn(List<Event>) -> Result<List<Event>, Problem>,
) -> Result<Listed, Problem> {
    let (asker, question) = (caller.proved(), format!("{filter:?} {page:?}"));
    let read = || -> BoxFuture<'_, Result<Bytes, Problem>> {
        Box::pin(async move {
            let list = check(listed(app, caller, filter, page).await?)?;
            Ok(Bytes::from(serde_json::to_vec(&list).map_err(|_| Problem::Internal)?))
        })
    };
    match asker {
        Some(asker) => app.lists.or(asker, question, read).await.map(Listed),
        None => read().await.map(Listed),
    }
}

/// A page of the caller's events that `filter` lets through.
pub(super) async fn listed(app: &App, caller: Caller, filter: Filter, page: Page) -> Result<List<Event>, Problem> {
    let sight = caller.sight.clone();
    page.answer(app, &caller, format!("events {filter:?}"), position, move |store, asked| {
        Box::pin(async move {
            let items = store.events(&filter, &sight, asked.after, asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_events(&filter, &sight).await?) } else { None }))
        })
    })
    .await
    .map(|Json(list)| list)
}

/// Lists what happened to one target, newest first. A target without events is not there.
#[utoipa::path(get, path = "/v1/targets/{type}/{id}/events", operation_id = "list_target_events", security(("bearer" = [])),
    params(("type" = String, Path, description = "The target's type", max_length = 100),
        ("id" = String, Path, description = "The target's id", max_length = 200), Page),
    responses((status = 200, description = "A page", body = List<Event>),
        Refusals))]
pub async fn list_target_events(
    State(app): State<App>,
    Allowed(caller, _): Allowed<ReadsEvents>,
    Names([kind, id]): Names<2>,
    Params(page): Params<Page>,
) -> Result<Listed, Problem> {
    text("type", &kind, 100).and_then(|()| text("id", &id, 200)).map_err(|_| Problem::NotFound)?;
    let filter = Filter { target_type: Some(kind), target_id: Some(id), ..Filter::default() };
    hot(&app, caller, filter, page, there).await
}

/// Lists what one actor did, newest first. An actor without events is not there.
#[utoipa::path(get, path = "/v1/actors/{id}/events", operation_id = "list_actor_events", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The actor"), Page),
    responses((status = 200, description = "A page", body = List<Event>),
        Refusals))]
pub async fn list_actor_events(
    State(app): State<App>,
    Allowed(caller, _): Allowed<ReadsEvents>,
    Ids([actor]): Ids<1>,
    Params(page): Params<Page>,
) -> Result<Listed, Problem> {
    let filter = Filter { actor: Some(actor), ..Filter::default() };
    hot(&app, caller, filter, page, there).await
}

/// A list below something that is known by its events alone.
fn there(list: List<Event>) -> Result<List<Event>, Problem> {
    if list.items.is_empty() { Err(Problem::NotFound) } else { Ok(list) }
}

/// Where a list of events goes on after `event`.
pub(crate) fn position(event: &Event) -> Position {
    Position { at_us: (event.occurred_at.unix_timestamp_nanos() / 1000) as i64, id: event.id }
}

/// Reads one event.
#[utoipa::path(get, path = "/v1/events/{id}", operation_id = "get_event", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"),
        ("If-None-Match" = Option<String>, Header, description = "A tag that is known", max_length = 200)),
    responses((status = 200, description = "The event", body = Event, headers(("ETag" = String))),
        (status = 304, description = "Unchanged", headers(("ETag" = String))),
        Refusals))]
pub async fn get_event(
    Allowed(caller, _): Allowed<ReadsEvents>,
    Ids([id]): Ids<1>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let told = |e| if on(Defect::ErrorTells) { Problem::BadRequest(careless::last_written()) } else { e };
    let event = read(&caller, id).await.map_err(told)?;
    // Events never change, and the tag is made only of what the caller was let see.
    let digest = Sha256::digest(serde_json::to_vec(&event).map_err(|_| Problem::Internal)?);
    let tag = format!("\"{}\"", hex::encode(&digest[..12]));
    if headers.get_all(header::IF_NONE_MATCH).iter().any(|value| value.len() > TAGS_MAX) {
        return Err(Problem::BadRequest(format!("If-None-Match must have {TAGS_MAX} characters at most")));
    }
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| names(value, &tag));
    let tag = HeaderValue::from_str(&tag).map_err(|_| Problem::Internal)?;
    let private = HeaderValue::from_static("private, no-cache");
    let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, private)];
    Ok(if known { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, Json(event)).into_response() })
}

/// The caller's event of that id.
pub(super) async fn read(caller: &Caller, id: Uuid) -> Result<Event, Problem> {
    let sight = caller.sight.clone();
    caller.run(move |store| Box::pin(async move { store.event(id, &sight).await })).await
}

/// Whether `If-None-Match` names `tag`, compared weakly (RFC 9110, 13.1.2).
fn names(value: &HeaderValue, tag: &str) -> bool {
    let tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|one| one.strip_prefix("W/").unwrap_or(one)).any(|one| one == "*" || one == tag)
}
