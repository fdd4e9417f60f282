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
use crate::ledger::Ledger;
use crate::likeness::{self, Likeness};
use crate::patience::Patience;
use crate::placeholder::{self, SINK};
use crate::plan::{Answer, HEADER, Plan, Proof, Request, STREAM_ID, Sequence, Step, Vector};
use crate::redaction::{PARSED_MAX, excerpt, is_secret};
use crate::target::file::ListShape;
use crate::target::http::{self, Raw};
use crate::target::identity::{Identities, Secrets};
use crate::target::sink::Sinks;

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
    /// What was learnt of given tenants.
    pub ledger: Arc<Ledger>,
    /// Where the target may send news to.
    pub sinks: Option<Arc<Sinks>>,
    /// How long a target that says "later" is still waited for.
    pub patience: Patience,
    /// When driving began.
    pub began: Instant,
    /// Whether every body is kept, or only those that a finding may need.
    pub keeps_bodies: bool,
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
    let client = http::client(door.plan.target.timeout())?;
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
            later: None,
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
    /// How long it asks to be left alone, where it was 429.
    later: Option<Duration>,
    out: &'a mpsc::Sender<Observation>,
}

impl Run<'_> {
    /// Runs steps that belong together: the first on this connection, those beside it each on one of its own, at their
    /// time. False when nobody listens any more.
    async fn group(&mut self, sequence: &Sequence, first: usize, steps: &[Step]) -> Result<bool> {
        let mut runs = vec![self.clone()];
        for index in 1..steps.len() as u32 {
            let connection = self.connection + index * BESIDE;
            runs.push(Self { client: http::client(self.door.plan.target.timeout())?, connection, ..self.clone() });
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
        (self.before, self.status, self.later) = (own.before, own.status, own.later);
        Ok(heard.into_iter().all(|heard| heard))
    }

    /// Runs one step, again and again while it must succeed and is told "not now", or is told "later"; false when nobody
    /// listens any more.
    async fn step(&mut self, sequence: &Sequence, position: u32, step: &Step) -> bool {
        let busy = self.door.plan.target.access(&step.cell.operation).map_or_else(Vec::new, |a| a.busy.clone());
        for _ in 0..TRIES_MAX {
            if !self.walk(sequence, position, step).await {
                return false;
            }
            let told = self.status.is_some_and(|status| busy.contains(&status));
            let wait = match self.later {
                Some(later) if self.door.patience.spend(later) => later,
                None if told && step.expect.answer == Answer::Success => AGAIN,
                _ => break,
            };
            tokio::time::sleep(wait).await;
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
            let ended = !step.walk || next.is_none();
            let more = !ended && page + 1 < PAGES_MAX;
            cursor = next;
            let mut outcome = outcome;
            if let Outcome::Answered(Answered { list: Some(list), .. }) = &mut outcome {
                // A walk that is given up has not ended: what it did not show may come yet.
                list.last = ended;
            }
            let observation = Observation {
                number: 0,
                sequence: sequence.number,
                position,
                page,
                step,
                world: None,
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
        (self.status, self.later) = (None, None);
        let unmade = self.tables(step).into_iter().find_map(|table| Some((table, self.door.ledger.unmade(table)?)));
        if let Some((table, why)) = unmade {
            let why = format!("not all rows of {table} could be made: {why}");
            return (Sent { url: step.request.path.clone(), body: None }, Outcome::NotSent { why }, None);
        }
        if let Some(name) = self.missing(step) {
            let why = format!("an earlier step did not yield `{name}`");
            let sent = Sent { url: step.request.path.clone(), body: None };
            return (sent, Outcome::NotSent { why }, None);
        }
        let identities = &self.door.identities;
        let fill = |text: &str| placeholder::filled(text, &|name| self.value(name, &self.captured));
        // What is shown is filled in with what may be shown.
        let show = |text: &str| placeholder::filled(text, &|name| self.value(name, &self.shown));
        let body = step.request.body.as_ref().map(|(_, body)| self.door.ledger.filled_body(body));
        let filled_body = |captured: &BTreeMap<String, String>, secret: &dyn Fn(&str) -> Option<String>| {
            let value = |name: &str| match name {
                PASSWORD => secret(&self.door.secrets.password),
                SINK => secret(&self.door.sinks.as_ref()?.tell(step.actor.tenant?)?),
                name => self.value(name, captured).or_else(|| secret(identities.given(name)?)),
            };
            body.as_ref().map(|body| placeholder::filled(body, &|name| value(name).map(|text| escaped(&text))))
        };
        let shown = filled_body(&self.shown, &|_| Some("[redacted]".into()));
        let real = filled_body(&self.captured, &|secret| Some(secret.into()));
        let sent = Sent { url: http::url_of(&step.request, &show), body: shown };
        let proof = match &step.request.proof {
            Proof::Reclaimed(own, other) => Proof::Reclaimed(fill(own), fill(other)),
            proof => proof.clone(),
        };
        let credential = identities.presented(&step.actor, &proof);
        let request = self.filled(&step.request, real.as_ref());
        let url = http::url_of(&step.request, &fill);
        let cut = step.cut_after_ms.map(|ms| Duration::from_millis(ms.into()));
        let exchange = http::exchange(&self.client, &self.door.base_url, &request, &url, &credential, cut);
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
                self.later = (raw.status == 429).then(|| http::retry_after(&raw));
                let (answer, next) = self.answered(step, shape, &sent, &request, raw);
                (sent, Outcome::Answered(answer), next)
            }
            Err(outcome) => (sent, outcome, None),
        }
    }

    /// The first value that nobody yielded. A condition of a twin does not count: what has no tag is asked for without.
    fn missing(&self, step: &Step) -> Option<String> {
        let request = &step.request;
        let known = |name: &str| {
            name == PASSWORD
                || (name == SINK && self.door.sinks.is_some())
                || self.value(name, &self.captured).is_some()
                || self.door.identities.given(name).is_some()
        };
        let headers = request.headers.iter().filter(|_| step.vector != Vector::Twin);
        let texts = std::iter::once(&request.path).chain(request.query.iter().chain(headers).map(|(_, value)| value));
        let texts = texts.chain(request.body.iter().map(|(_, body)| body));
        texts.flat_map(|text| placeholder::names(text)).find(|name| !known(name)).map(String::from)
    }

    /// `request` with captured values in their places; a header whose value nobody yielded is left out.
    fn filled(&self, request: &Request, body: Option<&String>) -> Request {
        let fill = |text: &String| placeholder::filled(text, &|name| self.value(name, &self.captured));
        let headers = request.headers.iter().map(|(name, value)| (name.clone(), fill(value)));
        Request {
            path: fill(&request.path),
            query: request.query.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            headers: headers.filter(|(_, value)| placeholder::names(value).next().is_none()).collect(),
            body: request.body.as_ref().zip(body).map(|((kind, _), body)| (kind.clone(), body.clone())),
            ..request.clone()
        }
    }

    /// What a placeholder stands for: what an earlier step yielded, or what was learnt.
    fn value(&self, name: &str, captured: &BTreeMap<String, String>) -> Option<String> {
        captured.get(name).cloned().or_else(|| self.door.ledger.value(name).map(|(text, _)| text.into()))
    }

    /// The planted tables that a step is about.
    fn tables<'s>(&'s self, step: &'s Step) -> Vec<&'s str> {
        let access = self.door.plan.target.access(&step.cell.operation);
        let params = access.iter().flat_map(|a| a.params.values().filter_map(|reference| reference.split('.').next()));
        let own = access.and_then(|a| a.table.as_deref());
        params.chain(own).collect()
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
        let (body, broken) = layers(&raw.body, encoding);
        let (sightings, echoes) = self.sightings(step, sent, &raw.headers, &body);
        let lists = step.expect.lists.is_some() && (200..300).contains(&raw.status);
        let read = lists || !step.captures.is_empty() || step.case.is_some();
        let parsed: Option<Value> =
            if read && body.len() <= PARSED_MAX { serde_json::from_slice(&body).ok() } else { None };
        let long = (lists && body.len() > PARSED_MAX).then(|| format!("a list of {} bytes is not read", body.len()));
        let cut = raw.cut.clone().or_else(|| broken.map(String::from)).or(long);
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
        let compared = step.vector == Vector::Twin || self.door.keeps_bodies;
        let telling =
            foreign || compared || (success && matches!(step.expect.answer, Answer::Denied | Answer::Refused));
        let redacted = |text: &str| self.door.identities.redacted(text);
        let excerpt = telling.then(|| redacted(&excerpt(&body)));
        let kept = raw.headers.iter().filter(|(name, _)| KEPT_HEADERS.contains(&name.as_str()));
        let headers = kept.map(|(name, value)| (name.clone(), redacted(value))).collect();
        let answer = Answered {
            status: raw.status,
            headers,
            body_bytes: raw.body.len() as u64,
            sightings,
            echoes,
            list,
            likeness: compared.then(|| Box::new(Likeness::of(&raw.headers, &body, &likeness::sent(request)))),
            shape: parsed.as_ref().filter(|_| step.case.is_some()).map(crate::plan::shape),
            cut,
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
            scanner.scan(value.as_bytes(), &mut |s| meet(Sighting { post: Post::Header, ..s }));
        }
        scanner.scan(body, &mut meet);
        (found, echoes)
    }
}

/// The value at `place` of an answer: a JSON pointer, `header:NAME`, or `sse:id`, the last one.
fn taken(place: &str, raw: &Raw, parsed: Option<&Value>, body: &[u8]) -> Option<String> {
    if let Some(wanted) = place.strip_prefix(HEADER) {
        return raw.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    }
    if place == STREAM_ID {
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

/// As it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].into()
}
