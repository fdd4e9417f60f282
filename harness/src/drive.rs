//! Drives a plan over HTTP: each lane is one keep-alive connection that runs whole sequences in order. Every outcome
//! is observed, also timeouts, resets and 500s.

mod answer;
mod calm;
mod ready;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::sync::{Mutex, mpsc};

use crate::canary::Scanner;
use crate::error::Result;
use crate::fault::{Fault, Kind, Struck};
use crate::history::{Answered, Observation, Outcome, Sent};
use crate::ledger::Ledger;
use crate::patience::Patience;
use crate::plan::{Answer, ByHand, Plan, Sequence, Step, Vector};
use crate::postgres::Restart;
use crate::target::connection::{self, Ready};
use crate::target::file::ListShape;
use crate::target::http::{self, Raw};
use crate::target::identity::{Identities, Secrets};
use crate::target::sink::Sinks;
use crate::wiretap::Faults;
use calm::{Calm, PutOff};

/// A step that is told "not now" is tried so often, and so long after.
const TRIES_MAX: u32 = 60;
const AGAIN: Duration = Duration::from_millis(250);
/// After a fault so many in a row must succeed: of several connections to the database one may fail for ever.
const STEADY: u32 = 4;
/// A connection beside another is numbered so much higher.
const BESIDE: u32 = 1 << 16;
/// Pages that one walk follows at most; a list that never ends must not hold the run.
const PAGES_MAX: u32 = 400;

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
    /// What strikes connections between the target and its database, where they can be struck.
    pub faults: Option<Arc<Faults>>,
    /// What restarts the database, where it is ours.
    pub restart: Option<Restart>,
    /// When driving began.
    pub began: Instant,
    /// Whether every body is kept, or only those that a finding may need.
    pub keeps_bodies: bool,
    /// Whether what follows on something that was only taken on is asked again in the end, when it has been done.
    pub asks_again: bool,
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
    let mut put_off = Vec::new();
    loop {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(());
        }
        let next = sequences.lock().await.next();
        let Some(sequence) = next else { return calm::ask_again(put_off).await };
        let sequence = sequence?;
        let mut run = Run {
            door: &door,
            client: client.clone(),
            connection,
            captured: BTreeMap::new(),
            shown: BTreeMap::new(),
            numbers: BTreeSet::new(),
            read: (0, 0),
            before: Duration::ZERO,
            sent: false,
            status: None,
            later: None,
            ended: false,
            taken_on: None,
            calm: None,
            out: &out,
        };
        let mut rest = sequence.steps.as_slice();
        while !rest.is_empty() {
            let piped = rest.iter().take_while(|step| step.by_hand == Some(ByHand::Pipelined)).count();
            let beside = rest[1..].iter().take_while(|step| step.beside_ms.is_some()).count();
            let (group, later) = rest.split_at(piped.max(1 + beside));
            let first = sequence.steps.len() - rest.len();
            let heard = match piped {
                0 => run.group(&sequence, first, group).await?,
                _ => run.pipeline(&sequence, first, group).await,
            };
            if !heard {
                return Ok(());
            }
            rest = later;
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        put_off.extend(PutOff::of(sequence, run));
    }
}

/// What was sent, what came, and the parameter of the next page.
type Exchanged = (Sent, Outcome, Option<(String, String)>);

/// One sequence under way.
#[derive(Clone)]
struct Run<'a> {
    door: &'a Door,
    client: Client,
    connection: u32,
    captured: BTreeMap<String, String>,
    /// The same, as it may be shown: what came from a place whose name says that it is a secret is left out.
    shown: BTreeMap<String, String>,
    /// Those of them that the answer had as numbers.
    numbers: BTreeSet<String>,
    /// Pages and rows of the list that is walked, so far.
    read: (u32, u64),
    /// How long the exchange before took.
    before: Duration,
    /// Whether the exchange before was sent, and what it was answered.
    sent: bool,
    status: Option<u16>,
    /// How long it asks to be left alone.
    later: Option<Duration>,
    /// Whether it told the end that its step waits for.
    ended: bool,
    /// The first step of the sequence that was only taken on.
    taken_on: Option<u32>,
    /// Where it is asked until the answer stays as it is: what it was last, and since when.
    calm: Option<Calm>,
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
        let heard = futures_util::future::try_join_all(each).await?;
        for run in &mut runs[1..] {
            self.captured.append(&mut run.captured);
            self.shown.append(&mut run.shown);
            self.numbers.append(&mut run.numbers);
        }
        let own = runs.swap_remove(0);
        self.captured.extend(own.captured);
        self.shown.extend(own.shown);
        self.numbers.extend(own.numbers);
        (self.before, self.status, self.later) = (own.before, own.status, own.later);
        self.taken_on = self.taken_on.or(own.taken_on);
        Ok(heard.into_iter().all(|heard| heard))
    }

    /// Runs one step, again and again while it must succeed and is told "not now", or is told "later"; false when nobody
    /// listens any more.
    async fn step(&mut self, sequence: &Sequence, position: u32, step: &Step) -> Result<bool> {
        let busy = self.door.plan.target.access(&step.cell.operation).map_or_else(Vec::new, |a| a.busy.clone());
        let within = step.within_ms.filter(|_| self.door.patience.hopes());
        let until = within.map(|ms| Instant::now() + Duration::from_millis(ms.into()));
        let tries = if until.is_some() { u32::MAX } else { TRIES_MAX };
        let mut steady = 0;
        for _ in 0..tries {
            if !self.walk(sequence, position, step).await? {
                return Ok(false);
            }
            // Accepted (RFC 9110, 15.3.3).
            if self.status == Some(202) {
                self.taken_on.get_or_insert(position);
            }
            let told = self.status.is_some_and(|status| busy.contains(&status));
            let failed = self.sent && self.status.is_none_or(|status| status >= 400);
            steady = if failed { 0 } else { steady + 1 };
            let wait = match self.later {
                Some(later) if self.door.patience.spend(later) => later,
                None if told && step.expect.answer == Answer::Success => AGAIN,
                None if failed && until.is_some() => {
                    let waits = until.is_some_and(|until| Instant::now() < until) && self.door.patience.spend(AGAIN);
                    if !waits {
                        self.door.patience.give_up();
                        break;
                    }
                    AGAIN
                }
                None if until.is_some() && self.sent && steady < STEADY => Duration::ZERO,
                None if step.until.is_some() && !self.ended => AGAIN,
                _ => break,
            };
            tokio::time::sleep(wait).await;
        }
        Ok(true)
    }

    /// Runs one step once, page by page where it walks; false when nobody listens any more.
    async fn walk(&mut self, sequence: &Sequence, position: u32, step: &Step) -> Result<bool> {
        let shape = self.door.plan.target.access(&step.cell.operation).and_then(|a| a.list.as_ref());
        let mut on: Option<(String, String)> = None;
        let mut fault = step.fault;
        self.read = (0, 0);
        for page in 0..PAGES_MAX {
            let mut step = Step { fault, ..step.clone() };
            if let Some((name, value)) = on {
                step.request.query.retain(|(known, _)| *known != name);
                step.request.query.push((name, value));
            }
            let sent_at = Instant::now();
            let ((sent, outcome, next), struck) = self.befallen(&step, shape).await?;
            self.sent = !matches!(outcome, Outcome::NotSent { .. });
            // Once is enough.
            fault = fault.filter(|_| struck.is_none());
            let ended = !step.walk || next.is_none();
            let more = !ended && page + 1 < PAGES_MAX;
            on = next;
            let mut outcome = outcome;
            if let Outcome::Answered(Answered { list: Some(list), .. }) = &mut outcome {
                // A walk that is given up has not ended: what it did not show may come yet.
                list.last = ended;
            }
            let place = (sequence.number, position, page);
            if !self.observed(place, step, sent_at, sent, struck, outcome).await {
                return Ok(false);
            }
            if !more {
                break;
            }
        }
        Ok(true)
    }

    /// One exchange while the step's fault is armed, and where it struck.
    async fn befallen(&mut self, step: &Step, shape: Option<&ListShape>) -> Result<(Exchanged, Option<Struck>)> {
        let (faults, restart) = (self.door.faults.clone(), self.door.restart.clone());
        match (step.fault, faults, restart, step.actor.tenant) {
            (Some(Fault { kind: Kind::Restart, .. }), _, Some(restart), _) => {
                let (exchanged, restarted) = tokio::join!(self.exchange(step, shape), restart.now());
                restarted?;
                Ok((exchanged, Some(Struck { backends: Vec::new() })))
            }
            (Some(fault), Some(faults), _, Some(tenant)) => {
                faults.arm(fault, tenant);
                let exchanged = self.exchange(step, shape).await;
                Ok((exchanged, faults.disarm()))
            }
            _ => Ok((self.exchange(step, shape).await, None)),
        }
    }

    /// Writes steps to one connection at once, each with its own answer; false when nobody listens any more.
    async fn pipeline(&mut self, sequence: &Sequence, first: usize, steps: &[Step]) -> bool {
        let sent_at = Instant::now();
        let (mut told, mut ready) = (Vec::new(), Vec::new());
        for step in steps {
            told.push(self.ready(step).map(|(sent, one)| {
                ready.push(one);
                sent
            }));
        }
        let timeout = self.door.plan.target.timeout();
        let answers = connection::exchanges(&self.door.base_url, &ready, ByHand::Pipelined, timeout).await;
        let mut answers = answers.into_iter().zip(&ready);
        for (index, (step, told)) in steps.iter().zip(told).enumerate() {
            let (sent, outcome) = match told {
                Err(why) => unsent(step, why),
                Ok(sent) => {
                    let shape = self.door.plan.target.access(&step.cell.operation).and_then(|a| a.list.as_ref());
                    let outcome = match answers.next() {
                        Some((Ok(raw), ready)) => {
                            Outcome::Answered(self.answered(step, shape, &sent, &ready.request, raw).0)
                        }
                        Some((Err(outcome), _)) => outcome,
                        None => Outcome::Abandoned,
                    };
                    (sent, outcome)
                }
            };
            let place = (sequence.number, (first + index) as u32, 0);
            if !self.observed(place, step.clone(), sent_at, sent, None, outcome).await {
                return false;
            }
        }
        true
    }

    /// Hands on what came of a step; false when nobody listens any more.
    async fn observed(
        &self,
        (sequence, position, page): (u64, u32, u32),
        step: Step,
        sent_at: Instant,
        sent: Sent,
        struck: Option<Struck>,
        outcome: Outcome,
    ) -> bool {
        let observation = Observation {
            number: 0,
            sequence,
            position,
            page,
            step,
            world: None,
            connection: self.connection,
            sent_at_us: sent_at.duration_since(self.door.began).as_micros() as u64,
            took_us: sent_at.elapsed().as_micros() as u64,
            sent,
            struck,
            outcome,
        };
        self.out.send(observation).await.is_ok()
    }

    async fn exchange(&mut self, step: &Step, shape: Option<&ListShape>) -> Exchanged {
        (self.status, self.later, self.ended) = (None, None, false);
        let (sent, ready) = match self.ready(step) {
            Ok(ready) => ready,
            Err(why) => {
                let (sent, outcome) = unsent(step, why);
                return (sent, outcome, None);
            }
        };
        let cut = step.cut_after_ms.map(|ms| Duration::from_millis(ms.into()));
        let begun = Instant::now();
        let raw = self.answer(step, &ready, cut);
        let raw = match step.abandon_after {
            Some(percent) => tokio::select! {
                raw = raw => raw,
                () = passed(self.before * u32::from(percent) / 100) => return (sent, Outcome::Abandoned, None),
            },
            None => raw.await,
        };
        self.before = begun.elapsed();
        self.status = raw.as_ref().ok().map(|raw| raw.status);
        match raw {
            Ok(raw) => {
                // What a fault leaves behind is waited for no longer than the step says.
                let waits = raw.status == 429 || step.vector != Vector::AfterFault;
                self.later = http::retry_after(&raw).filter(|_| waits);
                let (answer, next) = self.answered(step, shape, &sent, &ready.request, raw);
                (sent, Outcome::Answered(answer), next)
            }
            Err(outcome) => (sent, outcome, None),
        }
    }

    async fn answer(&self, step: &Step, ready: &Ready, cut: Option<Duration>) -> std::result::Result<Raw, Outcome> {
        let (base_url, Ready { request, url, credential }) = (&self.door.base_url, ready);
        let Some(by) = step.by_hand else {
            return http::exchange(&self.client, base_url, request, url, credential, cut).await;
        };
        let timeout = self.door.plan.target.timeout();
        let mut answers = connection::exchanges(base_url, std::slice::from_ref(ready), by, timeout).await;
        answers.pop().unwrap_or(Err(Outcome::Abandoned))
    }
}

/// What came of a request that could not be made.
fn unsent(step: &Step, why: String) -> (Sent, Outcome) {
    (Sent { url: step.request.path.clone(), body: None }, Outcome::NotSent { why })
}

/// Ends after `time`, to the microsecond: the runtime's timer counts in milliseconds, and a request is over in one.
async fn passed(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        tokio::task::yield_now().await;
    }
}
