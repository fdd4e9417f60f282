//! Drives a plan over HTTP: each lane is one keep-alive connection that runs whole sequences in order. Every outcome
//! is observed, also timeouts, resets and 500s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

use crate::canary::{Scanner, Sighting, layers};
use crate::error::Result;
use crate::history::{Answered, ListFacts, Observation, Outcome, Sent};
use crate::likeness::{self, Likeness};
use crate::plan::{HEADER, Plan, Request, Sequence, Step, Vector};
use crate::target::file::ListShape;
use crate::target::http::{self, Raw, TIMEOUT};
use crate::target::identity::{Identities, Secrets};

/// A step that is told "not now" is tried so often, and so long after.
const TRIES_MAX: u32 = 60;
const AGAIN: Duration = Duration::from_millis(250);
/// Pages that one walk follows at most; a list that never ends must not hold the run.
const PAGES_MAX: u32 = 400;
/// Bytes of a body kept as witness.
const WITNESS_MAX: usize = 64 << 10;
/// Headers whose content may show a row; credentials and cookies are never kept.
const KEPT_HEADERS: [&str; 8] =
    ["content-type", "etag", "location", "link", "content-disposition", "cache-control", "vary", "retry-after"];

/// A field whose name holds one of these holds a secret.
const SECRET_WORDS: [&str; 4] = ["token", "secret", "password", "credential"];

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
            client: &client,
            connection,
            captured: BTreeMap::new(),
            shown: BTreeMap::new(),
            before: Duration::ZERO,
            status: None,
            out: &out,
        };
        for (position, step) in sequence.steps.iter().enumerate() {
            if !run.step(&sequence, position as u32, step).await {
                return Ok(());
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// One sequence under way.
struct Run<'a> {
    door: &'a Door,
    client: &'a Client,
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
            let texts = texts.chain(request.body.iter().map(|(_, body)| body));
            texts
                .flat_map(|t| placeholders(t))
                .find(|name| *name != "password" && !self.captured.contains_key(*name))
                .map(String::from)
        };
        if let Some(name) = missing(&step.request) {
            let why = format!("an earlier step did not yield `{name}`");
            let sent = Sent { url: step.request.path.clone(), body: None };
            return (sent, Outcome::NotSent { why }, None);
        }
        let fill = |text: &str| filled(text, &self.captured, None);
        let url = http::url_of(&step.request, &fill);
        let body = step.request.body.as_ref().map(|(_, body)| body);
        let shown = body.map(|body| filled(body, &self.shown, Some("[redacted]")));
        let real = body.map(|body| filled(body, &self.captured, Some(&self.door.secrets.password)));
        let sent = Sent { url: url.clone(), body: shown };
        let credential = self.door.identities.header(&step.actor, step.request.proof);
        let request = self.filled(&step.request, real.as_ref());
        let exchange = http::exchange(self.client, &self.door.base_url, &request, &url, real, credential.as_ref());
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
                let (answer, next) = self.answered(step, shape, &sent, &request, raw);
                (sent, Outcome::Answered(answer), next)
            }
            Err(outcome) => (sent, outcome, None),
        }
    }

    /// `request` with captured values in their places; a header whose value nobody yielded is left out.
    fn filled(&self, request: &Request, body: Option<&String>) -> Request {
        let fill = |text: &String| filled(text, &self.captured, None);
        let headers = request.headers.iter().map(|(name, value)| (name.clone(), fill(value)));
        Request {
            path: fill(&request.path),
            query: request.query.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            headers: headers.filter(|(_, value)| placeholders(value).next().is_none()).collect(),
            body: request.body.as_ref().zip(body).map(|((kind, _), body)| (kind.clone(), body.clone())),
            ..request.clone()
        }
    }

    fn answered(
        &mut self,
        step: &Step,
        shape: Option<&ListShape>,
        sent: &Sent,
        request: &Request,
        raw: Raw,
    ) -> (Answered, Option<String>) {
        let encoding = raw.headers.iter().find(|(name, _)| name == "content-encoding").map(|(_, v)| v.as_str());
        let body = layers(&raw.body, encoding);
        let (sightings, echoes) = self.sightings(step, sent, &raw.headers, &body);
        let lists = step.expect.lists.is_some() && (200..300).contains(&raw.status);
        let parsed: Option<Value> =
            if lists || !step.captures.is_empty() { serde_json::from_slice(&body).ok() } else { None };
        for (name, pointer) in &step.captures {
            let value = match pointer.strip_prefix(HEADER) {
                Some(wanted) => raw.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()),
                None => parsed.as_ref().and_then(|v| v.pointer(pointer)).and_then(|v| match v {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                }),
            };
            if let Some(value) = value {
                let place = pointer.to_lowercase();
                let shown =
                    if SECRET_WORDS.iter().any(|w| place.contains(w)) { "[redacted]".into() } else { value.clone() };
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
        let compared = step.vector == Vector::Twin;
        let telling = foreign
            || compared
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
            likeness: compared.then(|| Box::new(Likeness::of(&raw.headers, &body, &likeness::sent(request)))),
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
        for (_, value) in headers {
            scanner.scan(value.as_bytes(), &mut meet);
        }
        scanner.scan(body, &mut meet);
        (found, echoes)
    }
}

/// Ends after `time`, to the microsecond: the runtime's timer counts in milliseconds, and a request is over in one.
async fn passed(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        tokio::task::yield_now().await;
    }
}

/// A body as a witness may show it: bounded, its secrets left out.
fn excerpt(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            redact(&mut value);
            value.to_string()
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(WITNESS_MAX).collect()
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.to_lowercase();
                if field.is_string() && SECRET_WORDS.iter().any(|word| name.contains(word)) {
                    *field = Value::String("[redacted]".into());
                } else {
                    redact(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// Names between `⟦` and `⟧`.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('⟦').skip(1).filter_map(|part| part.split('⟧').next())
}

fn filled(text: &str, captured: &BTreeMap<String, String>, password: Option<&str>) -> String {
    if !text.contains('⟦') {
        return text.into();
    }
    let mut out = text.to_string();
    for (name, value) in captured {
        out = out.replace(&format!("⟦{name}⟧"), value);
    }
    match password {
        Some(password) => out.replace("⟦password⟧", password),
        None => out,
    }
}
