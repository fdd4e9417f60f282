//! Events: write one, write many, list, read, search.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use super::event_types::misfits;
use super::extract::{Body, Ids, Names, Object, Params, Raw, object, text};
use super::page::{List, Page};
use crate::caller::{Allowed, Caller, ReadsEvents, SearchesEvents, WritesEvents};
use crate::cursor::Position;
use crate::defects::{Defect, on};
use crate::problem::{LineError, Problem, Refusals};
use crate::store::AuditStore;
use crate::store::events::{Filter, id_of};
use crate::{believed, careless};

/// Lines of a bulk at most.
const LINES_MAX: usize = 1_000;
/// Bytes of `If-None-Match` at most.
const TAGS_MAX: usize = 200;

/// Who did it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Its id.
    pub id: Uuid,
    /// Its address, as the sender knows it.
    #[schema(max_length = 320)]
    pub email: String,
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
}

/// To what it was done.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its type.
    #[serde(rename = "type")]
    #[schema(max_length = 100)]
    pub kind: String,
    /// Its id.
    #[schema(max_length = 200)]
    pub id: String,
    /// Its name.
    #[schema(max_length = 200)]
    pub name: String,
}

/// How it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    #[default]
    Success,
    /// It was not.
    Failure,
}

impl Outcome {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// An event as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "actor": {"id": "0190a5d4-0000-7000-8000-000000000001", "email": "ada@example.org", "name": "Ada"},
    "action": "document.shared",
    "target": {"type": "document", "id": "d-17", "name": "Budget"},
    "details": {"with": "everyone"}
}))]
pub struct NewEvent {
    /// When it happened; now, when absent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub occurred_at: Option<OffsetDateTime>,
    /// Who did it.
    #[serde(deserialize_with = "object")]
    pub actor: Actor,
    /// What was done.
    #[schema(max_length = 200)]
    pub action: String,
    /// To what.
    #[serde(deserialize_with = "object")]
    pub target: Target,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// From where.
    #[serde(default)]
    #[schema(schema_with = address)]
    pub source_ip: Option<std::net::IpAddr>,
    /// With what.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub user_agent: Option<String>,
    /// The sender's own id of it.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub external_id: Option<String>,
    /// What else is known.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

/// An event as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its id.
    pub id: Uuid,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub occurred_at: OffsetDateTime,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
    /// Who did it.
    pub actor: Actor,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: Target,
    /// How it ended.
    pub outcome: Outcome,
    /// From where.
    #[schema(schema_with = address)]
    pub source_ip: Option<std::net::IpAddr>,
    /// With what.
    pub user_agent: Option<String>,
    /// The sender's own id of it.
    pub external_id: Option<String>,
    /// What else is known.
    #[schema(value_type = Object)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

/// An IP address of either kind, or null.
fn address() -> Schema {
    let one = |format: &str| {
        ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom(format.into()))).build()
    };
    let null = ObjectBuilder::new().schema_type(Type::Null).build();
    AnyOfBuilder::new().item(one("ipv4")).item(one("ipv6")).item(null).build().into()
}

impl NewEvent {
    /// Refuses what cannot be kept.
    fn check(&self) -> Result<(), Problem> {
        text("actor.email", &self.actor.email, 320)?;
        text("actor.name", &self.actor.name, 200)?;
        text("action", &self.action, 200)?;
        text("target.type", &self.target.kind, 100)?;
        text("target.id", &self.target.id, 200)?;
        text("target.name", &self.target.name, 200)?;
        text("user_agent", self.user_agent.as_deref().unwrap_or_default(), 500)?;
        text("external_id", self.external_id.as_deref().unwrap_or_default(), 200)?;
        if let Some(at) = self.occurred_at
            && !(1900..=2200).contains(&at.year())
        {
            return Err(Problem::Unprocessable("occurred_at must lie between 1900 and 2200".into()));
        }
        if self.details.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
            Err(Problem::Unprocessable("details must not contain NUL".into()))
        } else {
            Ok(())
        }
    }

    /// The event as it is kept from now on.
    pub fn recorded(self) -> Event {
        // Postgres keeps microseconds and the instant alone; what is answered is what is kept.
        let kept =
            |at: OffsetDateTime| at.replace_microsecond(at.microsecond()).unwrap_or(at).to_offset(UtcOffset::UTC);
        let now = kept(OffsetDateTime::now_utc());
        let at = self.occurred_at.map_or(now, kept);
        Event {
            id: id_of(at),
            occurred_at: at,
            recorded_at: now,
            actor: self.actor,
            action: self.action,
            target: self.target,
            outcome: self.outcome,
            source_ip: self.source_ip,
            user_agent: self.user_agent,
            external_id: self.external_id,
            details: self.details,
        }
    }
}

/// Postgres keeps every character but NUL.
pub(super) fn has_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(values) => values.iter().any(has_nul),
        serde_json::Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

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
) -> Result<Json<List<Event>>, Problem> {
    listed(&app, caller, filter.filter()?, page).await
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
) -> Result<Json<List<Event>>, Problem> {
    text("q", &search.q, 500)?;
    listed(&app, caller, Filter { words: Some(search.q), ..Filter::default() }, page).await
}

/// A page of the caller's events that `filter` lets through.
pub(super) async fn listed(
    app: &App,
    caller: Caller,
    filter: Filter,
    page: Page,
) -> Result<Json<List<Event>>, Problem> {
    let sight = caller.sight.clone();
    page.answer(app, &caller, format!("events {filter:?}"), position, move |store, asked| {
        Box::pin(async move {
            let items = store.events(&filter, &sight, asked.after, asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_events(&filter, &sight).await?) } else { None }))
        })
    })
    .await
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
) -> Result<Json<List<Event>>, Problem> {
    text("type", &kind, 100).and_then(|()| text("id", &id, 200)).map_err(|_| Problem::NotFound)?;
    let filter = Filter { target_type: Some(kind), target_id: Some(id), ..Filter::default() };
    there(listed(&app, caller, filter, page).await)
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
) -> Result<Json<List<Event>>, Problem> {
    let filter = Filter { actor: Some(actor), ..Filter::default() };
    there(listed(&app, caller, filter, page).await)
}

/// A list below something that is known by its events alone.
fn there(listed: Result<Json<List<Event>>, Problem>) -> Result<Json<List<Event>>, Problem> {
    listed.and_then(|list| if list.0.items.is_empty() { Err(Problem::NotFound) } else { Ok(list) })
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
