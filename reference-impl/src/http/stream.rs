//! Events as they come, by server-sent events.
//!
//! A stream reads through the caller's door once a second, and holds no connection in between. Each reading sees anew
//! that the membership and the session stand, so the stream ends with them, and with the access token.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use super::extract::Params;
use crate::caller::{Allowed, Caller, Oversees};
use crate::careless;
use crate::cursor::Sealer;
use crate::defects::{Defect, on};
use crate::problem::{Problem, Refusals};
use crate::store::stream::{Place, Shown};

/// Between two readings.
const PAUSE: Duration = Duration::from_secs(1);
/// Between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events a reading.
const READING: usize = 200;
/// A stream's life at most, seconds; its access token ends sooner.
const LIFE_MAX_S: u64 = 3_600;
/// What its cursors are sealed for.
const PURPOSE: &str = "stream";

/// The open streams of all tenants, counted.
#[derive(Clone)]
pub struct Streams {
    most: u32,
    open: Arc<Mutex<HashMap<Uuid, u32>>>,
    ending: CancellationToken,
}

/// One of them, until it is dropped.
struct Open {
    streams: Streams,
    tenant: Uuid,
}

impl Streams {
    /// So many a tenant.
    pub fn of(most: u32) -> Self {
        Self { most, open: Arc::default(), ending: CancellationToken::new() }
    }

    /// Ends all, and those that are still to come.
    pub fn end(&self) {
        self.ending.cancel();
    }

    fn open(&self, tenant: Uuid) -> Result<Open, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(tenant).or_default();
        if *count >= self.most {
            return Err(Problem::TooMany(PAUSE.as_secs()));
        }
        *count += 1;
        Ok(Open { streams: self.clone(), tenant })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

/// Which part of the log is streamed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// What was recorded from this instant on, too; only what comes from now on, when absent.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<String>,
    /// Seconds until the stream ends, at most as long as the access token is good for. 0: one reading of what is there,
    /// 200 events at most.
    #[param(minimum = 0, maximum = 3600)]
    pub for_s: Option<u64>,
}

/// A message, as those who read streams take it apart.
#[derive(ToSchema)]
pub struct Message {
    /// Where the stream goes on after it.
    pub id: Option<String>,
    /// Its kind.
    pub event: Option<String>,
    /// The event, as JSON.
    pub data: Option<String>,
    /// Milliseconds to wait before the stream is taken up again.
    pub retry: Option<u32>,
}

/// Streams events as they are written: each an SSE message of its JSON. A stream that is taken up again with the last
/// message's id misses none and repeats none.
#[utoipa::path(get, path = "/v1/events/stream", operation_id = "stream_events", security(("bearer" = [])),
    params(Part, ("Last-Event-ID" = Option<String>, Header, description = "Where to go on: the id of the last message", max_length = 10000)),
    responses((status = 200, description = "Messages", body = Message, content_type = "text/event-stream"),
        Refusals))]
pub async fn stream_events(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Params(part): Params<Part>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tenant = caller.tenant().ok_or(Problem::Forbidden)?;
    let life_s = part.for_s.unwrap_or(LIFE_MAX_S);
    if life_s > LIFE_MAX_S {
        return Err(Problem::BadRequest(format!("for_s must be between 0 and {LIFE_MAX_S}")));
    }
    let (tenant, place) = match (headers.get("last-event-id"), part.from) {
        (Some(id), _) => {
            let id = id.to_str().unwrap_or_default();
            app.sealer.open(tenant, PURPOSE, id).map(|(tenant, place)| (tenant, Some(place)))?
        }
        (None, Some(from)) => match OffsetDateTime::parse(&from, &Rfc3339) {
            Ok(at) if (1900..=2200).contains(&at.year()) => (tenant, Some(Place::from(at))),
            _ => return Err(Problem::BadRequest("from must be an RFC 3339 instant between 1900 and 2200".into())),
        },
        (None, None) => (tenant, None),
    };
    let open = app.streams.open(tenant)?;
    if on(Defect::StreamsShared) {
        careless::streams(tenant);
    }
    let left_s = caller.expires_s().map_or(i64::MAX, |at| at - OffsetDateTime::now_utc().unix_timestamp());
    let ends = Instant::now() + Duration::from_secs(life_s.min(u64::try_from(left_s).unwrap_or(0)));
    let place = match place {
        Some(place) => place,
        None => caller.run_in(tenant, |store| Box::pin(store.place())).await?,
    };
    let mut live =
        Live { caller, tenant, sealer: app.sealer.clone(), place, frames: VecDeque::new(), more: false, ends, open };
    // One who sees no message can still take the stream up again here.
    live.frames.push_back(Frame::default().id(live.sealed(&live.place)).retry(PAUSE));
    live.read().await?;
    if on(Defect::StreamOutlives) {
        live.caller = live.caller.unasked();
    }
    let frames = stream::unfold(live, |live| live.next());
    let mut response = Sse::new(frames).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    response.headers_mut().insert("cache-control", HeaderValue::from_static("private, no-store"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// An open stream.
struct Live {
    caller: Caller,
    tenant: Uuid,
    sealer: Sealer,
    place: Place,
    frames: VecDeque<Frame>,
    more: bool,
    ends: Instant,
    open: Open,
}

impl Live {
    fn sealed(&self, place: &Place) -> String {
        self.sealer.seal(self.tenant, PURPOSE, place)
    }

    /// Reads what there is now.
    async fn read(&mut self) -> Result<(), Problem> {
        let place = self.place.clone();
        let tenant = if on(Defect::StreamsShared) { careless::streamed() } else { self.tenant };
        let shown = self.caller.run_in(tenant, move |store| Box::pin(store.shown(place, READING))).await?;
        let Shown { events, place, more } = shown;
        for (event, after) in events {
            let frame = Frame::default().id(self.sealed(&after)).json_data(event).map_err(|_| Problem::Internal)?;
            self.frames.push_back(frame);
        }
        (self.place, self.more) = (place, more);
        Ok(())
    }

    /// The next message, once there is one; none when the stream has ended.
    async fn next(mut self) -> Option<(Result<Frame, Infallible>, Self)> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some((Ok(frame), self));
            }
            let pause = if self.more { Instant::now() } else { Instant::now() + PAUSE };
            let ending = self.open.streams.ending.clone();
            tokio::select! {
                biased;
                () = ending.cancelled() => return None,
                () = tokio::time::sleep_until(self.ends) => return None,
                () = tokio::time::sleep_until(pause) => {}
            }
            match self.read().await {
                // The next reading shows what this one could not.
                Ok(()) | Err(Problem::Busy) => {}
                Err(_) => return None,
            }
        }
    }
}
