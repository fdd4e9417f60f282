//! Drives a plan over HTTP: each lane is one keep-alive connection that runs whole sequences in order. Every outcome
//! is observed, also timeouts, resets and 500s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

use crate::canary::{Post, Scanner, Sighting, layers};
use crate::error::Result;
use crate::history::{Answered, ListFacts, Observation, Outcome, Sent};
use crate::placeholder;
use crate::plan::{Plan, Request, Sequence, Step};
use crate::redaction::{excerpt, is_secret};
use crate::target::file::ListShape;
use crate::target::http::{self, Raw, TIMEOUT};
use crate::target::identity::{Identities, Secrets};

/// The placeholder of the run's password.
const PASSWORD: &str = "password";
/// A step that is told "not now" is tried so often, and so long after.
const TRIES_MAX: u32 = 60;
const AGAIN: Duration = Duration::from_millis(250);
/// A connection beside another is numbered so much higher.
const BESIDE: u32 = 1 << 16;
/// Pages that one walk follows at most; a list that never ends must not hold the run.
const PAGES_MAX: u32 = 400;
/// Headers whose content may show a row; credentials and cookies are never kept.
const KEPT_HEADERS: [&str; 8] =
    ["content-type", "etag", "location", "link", "content-disposition", "cache-control", "vary", "retry-after"];

/// What all lanes share.
pub struct Door {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Where the target answers.
    pub base_url: String,
    /// Everyone's credentials.
    pub identities: Identities,
    /// The run's secrets, for bodies that need one.
    pub secrets: Arc<Secrets>,
    /// The run's scanner.
    pub scanner: Arc<Scanner>,
    /// When driving began.
    pub began: Instant,
}

/// The sequences that lanes draw from, one at a time.
pub type Sequences = Arc<Mutex<Box<dyn Iterator<Item = Result<Sequence>> + Send>>>;

/// Runs lane `connection` until the sequences end, the receiver is gone, or `until` has passed.
///
/// # Errors
/// The plan cannot be drawn: the target file does not fit the document.
pub async fn lane(
    door: Arc<Door>,
    connection: u32,
    sequences: Sequences,
    out: mpsc::Sender<Observation>,
    until: Option<Instant>,
    pause: Option<Duration>,
) -> Result<()> {
    let client = http::client(TIMEOUT)?;
    loop {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(());
        }
        let next = sequences.lock().await.next();
        let Some(sequence) = next else { return Ok(()) };
        let sequence = sequence?;
        let mut run = Run {
            door: &door,
            client: client.clone(),
            connection,
            captured: BTreeMap::new(),
            shown: BTreeMap::new(),
            before: Duration::ZERO,
            status: None,
            out: &out,
        };
        let mut rest = sequence.steps.as_slice();
        while !rest.is_empty() {
            let beside = rest[1..].iter().take_while(|step| step.beside_ms.is_some()).count();
            let (group, later) = rest.split_at(1 + beside);
            if !run.group(&sequence, sequence.steps.len() - rest.len(), group).await? {
                return Ok(());
            }
            rest = later;
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// One sequence under way.
#[derive(Clone)]
struct Run<'a> {
    door: &'a Door,
    client: Client,
    connection: u32,
    captured: BTreeMap<String, String>,
    /// The same, as it may be shown: what came from a place whose name says that it is a secret is left out.
    shown: BTreeMap<String, String>,
    /// How long the exchange before took.
    before: Duration,
    /// What the exchange before was answered.
    status: Option<u16>,
    out: &'a mpsc::Sender<Observation>,
}

impl Run<'_> {
    /// Runs steps that belong together: the first on this connection, those beside it each on one of its own, at their
    /// time. False when nobody listens any more.
    async fn group(&mut self, sequence: &Sequence, first: usize, steps: &[Step]) -> Result<bool> {
        let mut runs = vec![self.clone()];
        for index in 1..steps.len() as u32 {
            let connection = self.connection + index * BESIDE;
            runs.push(Self { client: http::client(TIMEOUT)?, connection, ..self.clone() });
        }
        let each = runs.iter_mut().zip(steps).enumerate().map(|(index, (run, step))| async move {
            tokio::time::sleep(Duration::from_millis(step.beside_ms.unwrap_or(0).into())).await;
            run.step(sequence, (first + index) as u32, step).await
        });
        let heard = futures_util::future::join_all(each).await;
        for run in &mut runs[1..] {
            self.captured.append(&mut run.captured);
            self.shown.append(&mut run.shown);
        }
        let own = runs.swap_remove(0);
        self.captured.extend(own.captured);
        self.shown.extend(own.shown);
        (self.before, self.status) = (own.before, own.status);
        Ok(heard.into_iter().all(|heard| heard))
    }

    /// Runs one step, again and again while it must succeed and is told "not now"; false when nobody listens any more.
    async fn step(&mut self, sequence: &Sequence, position: u32, step: &Step) -> bool {
        let busy = self.door.plan.target.access(&step.cell.operation).map_or_else(Vec::new, |a| a.busy.clone());
        for _ in 0..TRIES_MAX {
            if !self.walk(sequence, position, step).await {
                return false;
            }
            let told = self.status.is_some_and(|status| busy.contains(&status));
            if !told || step.expect.answer != crate::plan::Answer::Success {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        true
    }

    /// Runs one step once, page by page where it walks; false when nobody listens any more.
    async fn walk(&mut self, sequence: &Sequence, position: u32, step: &Step) -> bool {
        let shape = self.door.plan.target.access(&step.cell.operation).and_then(|a| a.list.as_ref());
        let mut cursor: Option<String> = None;
        for page in 0..PAGES_MAX {
            let mut step = step.clone();
            if let (Some(cursor), Some(name)) = (&cursor, shape.and_then(|s| s.cursor.as_ref())) {
                step.request.query.push((name.clone(), cursor.clone()));
            }
            let sent_at = Instant::now();
            let (sent, outcome, next) = self.exchange(&step, shape).await;
            let more = step.walk && next.is_some() && page + 1 < PAGES_MAX;
            cursor = next;
            let mut outcome = outcome;
            if let Outcome::Answered(Answered { list: Some(list), .. }) = &mut outcome {
                list.last = !more;
            }
            let observation = Observation {
                number: 0,
                sequence: sequence.number,
                position,
                page,
                step,
                connection: self.connection,
                sent_at_us: sent_at.duration_since(self.door.began).as_micros() as u64,
                took_us: sent_at.elapsed().as_micros() as u64,
                sent,
                outcome,
            };
            if self.out.send(observation).await.is_err() {
                return false;
            }
            if !more {
                break;
            }
        }
        true
    }

    async fn exchange(&mut self, step: &Step, shape: Option<&ListShape>) -> (Sent, Outcome, Option<String>) {
        self.status = None;
        let missing = |request: &Request| {
            let texts = std::iter::once(&request.path).chain(request.query.iter().map(|(_, v)| v));
            let texts = texts.chain(request.headers.iter().map(|(_, v)| v)).chain(request.body.iter().map(|(_, b)| b));
            texts
                .flat_map(|t| placeholder::names(t))
                .find(|name| *name != PASSWORD && !self.captured.contains_key(*name))
                .map(String::from)
        };
        if let Some(name) = missing(&step.request) {
            let why = format!("an earlier step did not yield `{name}`");
            let sent = Sent { url: step.request.path.clone(), body: None };
            return (sent, Outcome::NotSent { why }, None);
        }
        let mut known = self.captured.clone();
        known.insert(PASSWORD.into(), self.door.secrets.password.clone());
        let mut request = step.request.clone();
        for (_, value) in &mut request.headers {
            *value = placeholder::filled(value, &known);
        }
        let url = http::url_of(&request, &|text| placeholder::filled(text, &known));
        // What is shown is filled in with what may be shown.
        let mut shown = self.shown.clone();
        shown.insert(PASSWORD.into(), "[redacted]".into());
        let sent = Sent {
            url: http::url_of(&request, &|text| placeholder::filled(text, &shown)),
            body: request.body.as_ref().map(|(_, body)| placeholder::filled(body, &shown)),
        };
        if let Some((_, body)) = &mut request.body {
            *body = placeholder::filled(body, &known);
        }
        let credential = self.door.identities.header(&step.actor, step.request.proof);
        let cut = step.cut_after_ms.map(|ms| Duration::from_millis(ms.into()));
        let exchange = http::exchange(&self.client, &self.door.base_url, &request, &url, credential.as_ref(), cut);
        let begun = Instant::now();
        let raw = match step.abandon_after {
            Some(percent) => tokio::select! {
                raw = exchange => raw,
                () = passed(self.before * u32::from(percent) / 100) => return (sent, Outcome::Abandoned, None),
            },
            None => exchange.await,
        };
        self.before = begun.elapsed();
        self.status = raw.as_ref().ok().map(|raw| raw.status);
        match raw {
            Ok(raw) => {
                let (answer, next) = self.answered(step, shape, &sent, raw);
                (sent, Outcome::Answered(answer), next)
            }
            Err(outcome) => (sent, outcome, None),
        }
    }

    fn answered(
        &mut self,
        step: &Step,
        shape: Option<&ListShape>,
        sent: &Sent,
        raw: Raw,
    ) -> (Answered, Option<String>) {
        let encoding = raw.headers.iter().find(|(name, _)| name == "content-encoding").map(|(_, v)| v.as_str());
        let body = layers(&raw.body, encoding);
        let (sightings, echoes) = self.sightings(step, sent, &raw.headers, &body);
        let lists = step.expect.lists.is_some() && (200..300).contains(&raw.status);
        let parsed: Option<Value> = if lists || !step.captures.is_empty() || step.case.is_some() {
            serde_json::from_slice(&body).ok()
        } else {
            None
        };
        for (name, place) in &step.captures {
            if let Some(value) = taken(place, &raw, parsed.as_ref(), &body) {
                let shown = if is_secret(place) { "[redacted]".into() } else { value.clone() };
                self.shown.insert(name.clone(), shown);
                self.captured.insert(name.clone(), value);
            }
        }
        let at = |pointer: &Option<String>| parsed.as_ref().and_then(|v| v.pointer(pointer.as_deref()?));
        let list = shape.filter(|_| lists).map(|shape| ListFacts {
            items: at(&Some(shape.items.clone())).and_then(Value::as_array).map_or(0, |rows| rows.len() as u64),
            total: at(&shape.total).and_then(Value::as_i64),
            last: true,
        });
        let next = shape.and_then(|shape| at(&shape.next)).and_then(Value::as_str).map(String::from);
        let foreign = sightings.iter().any(|s| Some(s.owner) != step.actor.tenant);
        let success = (200..300).contains(&raw.status);
        let telling = foreign
            || (success && matches!(step.expect.answer, crate::plan::Answer::Denied | crate::plan::Answer::Refused));
        let excerpt = telling.then(|| excerpt(&body));
        let headers = raw.headers.iter().filter(|(name, _)| KEPT_HEADERS.contains(&name.as_str())).cloned().collect();
        let answer = Answered {
            status: raw.status,
            headers,
            body_bytes: raw.body.len() as u64,
            sightings,
            echoes,
            list,
            shape: parsed.as_ref().filter(|_| step.case.is_some()).map(crate::plan::shape),
            body: excerpt,
        };
        (answer, next)
    }

    /// Each canary of the answer once: first those that the request did not contain, then those that it did.
    fn sightings(
        &self,
        step: &Step,
        sent: &Sent,
        headers: &[(String, String)],
        body: &[u8],
    ) -> (Vec<Sighting>, Vec<Sighting>) {
        let scanner = &self.door.scanner;
        let key = |s: &Sighting| (s.owner, s.row, s.column);
        let mut known = Vec::new();
        let mut learn = |s: Sighting| known.push(key(&s));
        scanner.scan(sent.url.as_bytes(), &mut learn);
        scanner.scan(sent.body.as_deref().unwrap_or_default().as_bytes(), &mut learn);
        for (_, value) in &step.request.headers {
            scanner.scan(value.as_bytes(), &mut learn);
        }
        let (mut found, mut echoes) = (Vec::new(), Vec::new());
        let mut seen = std::collections::HashSet::new();
        let mut meet = |s: Sighting| {
            if seen.insert(key(&s)) {
                if known.contains(&key(&s)) { echoes.push(s) } else { found.push(s) }
            }
        };
        scanner.scan(body, &mut meet);
        for (_, value) in headers {
            scanner.scan(value.as_bytes(), &mut |s| meet(Sighting { post: Post::Header, ..s }));
        }
        (found, echoes)
    }
}

/// The value at `place` of an answer: a JSON pointer, `header:NAME`, or `sse:id`, the last one.
fn taken(place: &str, raw: &Raw, parsed: Option<&Value>, body: &[u8]) -> Option<String> {
    if let Some(wanted) = place.strip_prefix("header:") {
        return raw.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    }
    if place == "sse:id" {
        let text = std::str::from_utf8(body).ok()?;
        return text.lines().rev().find_map(|line| line.strip_prefix("id:")).map(|id| id.trim().to_string());
    }
    match parsed?.pointer(place)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Ends after `time`, to the microsecond: the runtime's timer counts in milliseconds, and a request is over in one.
async fn passed(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        tokio::task::yield_now().await;
    }
}
