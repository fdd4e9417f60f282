//! What is another's and what is nobody's must be answered alike. Four answers are compared: two on nobody's, between two
//! on another's. What differs between the two of a kind is noise; what is the same within each kind and differs between
//! them tells that there is something.

use std::collections::{BTreeMap, BTreeSet};

use super::canary_sighting::actor_words;
use super::counters::Counters;
use super::latency::Latencies;
use super::{Ground, Oracle, Suspicion, witness};
use crate::cell::Relation;
use crate::finding::OracleId;
use crate::history::{Answered, Observation};
use crate::likeness::Part;
use crate::plan::Vector;

/// Differences shown in one finding.
const SHOWN_MAX: usize = 6;
/// Statuses that tell of the moment and not of the object.
const PASSING: [u16; 5] = [408, 429, 502, 503, 504];

/// The oracle, with the comparisons under way and the noise it has learnt.
#[derive(Default)]
pub struct ExistenceSignal {
    /// By connection, which runs one sequence at a time.
    open: BTreeMap<u32, Comparison>,
    /// Parts that differed between two answers on what is nobody's: headers of any operation, all else of one.
    noise: BTreeSet<(Option<String>, Part)>,
    counters: Counters,
    latencies: Latencies,
}

/// A comparison under way.
#[derive(Default)]
struct Comparison {
    sequence: u64,
    nobodys: Vec<Observation>,
    anothers: Vec<Observation>,
}

impl Oracle for ExistenceSignal {
    fn id(&self) -> OracleId {
        OracleId::ExistenceSignal
    }

    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion> {
        if observation.step.vector != Vector::Twin {
            return Vec::new();
        }
        if Counters::concern(observation) {
            return self.counters.observe(observation).into_iter().collect();
        }
        let open = self.open.entry(observation.connection).or_default();
        if open.sequence != observation.sequence {
            *open = Comparison { sequence: observation.sequence, ..Comparison::default() };
        }
        match observation.step.cell.relation {
            Relation::Foreign => open.anothers.push(observation.clone()),
            _ => open.nobodys.push(observation.clone()),
        }
        if open.nobodys.len() < 2 || open.anothers.len() < 2 {
            return Vec::new();
        }
        let Some(whole) = self.open.remove(&observation.connection) else { return Vec::new() };
        self.compare(ground, &whole)
    }

    fn remark(&self, requirement: &str) -> Option<String> {
        match requirement {
            "existence/timing" => Some(self.latencies.words()),
            "existence/rate-limit" | "existence/sequence" => self.counters.nothing_counted(requirement),
            _ => None,
        }
    }
}

impl ExistenceSignal {
    fn compare(&mut self, ground: &Ground, whole: &Comparison) -> Vec<Suspicion> {
        let [Some(a), Some(b), Some(c), Some(d)] =
            [&whole.nobodys[0], &whole.nobodys[1], &whole.anothers[0], &whole.anothers[1]].map(|o| usable(ground, o))
        else {
            return Vec::new();
        };
        let probe = &whole.anothers[1];
        let requirement = probe.step.requirement.as_str();
        if requirement == "existence/status" {
            self.latencies.take(&whole.nobodys, &whole.anothers);
        }
        // A cursor that serves another as well is no signal: what it shows is judged where lists are.
        if requirement == "existence/cursor" && (200..300).contains(&c.status) {
            return Vec::new();
        }
        let [a, b, c, d] = [a, b, c, d].map(parts);
        let mut signals = Vec::new();
        let all: BTreeSet<&Part> = a.keys().chain(b.keys()).chain(c.keys()).chain(d.keys()).collect();
        for part in all {
            let noise = (operation_of(part, probe), part.clone());
            if a.get(part) != b.get(part) {
                self.noise.insert(noise);
            } else if c.get(part) == d.get(part) && a.get(part) != c.get(part) && !self.noise.contains(&noise) {
                signals.push((part.clone(), a.get(part).cloned(), c.get(part).cloned()));
            }
        }
        found(whole, &signals)
    }
}

/// Headers are noise wherever they are; the rest is an operation's own.
fn operation_of(part: &Part, probe: &Observation) -> Option<String> {
    (!matches!(part, Part::Header(_) | Part::HeaderValue(_))).then(|| probe.step.cell.operation.clone())
}

fn parts(answer: &Answered) -> BTreeMap<Part, String> {
    answer.likeness.as_ref().map(|likeness| likeness.parts(answer.status)).unwrap_or_default()
}

/// The answer, unless it tells of the moment only: too busy, too many, not now.
fn usable<'o>(ground: &Ground, observation: &'o Observation) -> Option<&'o Answered> {
    let answer = observation.answered().filter(|answer| answer.likeness.is_some())?;
    let busy = ground.plan.target.access(&observation.step.cell.operation).map_or(&[][..], |access| &access.busy);
    (!PASSING.contains(&answer.status) && !busy.contains(&answer.status)).then_some(answer)
}

type Signal = (Part, Option<String>, Option<String>);

/// One suspicion a requirement: where the status tells, the rest follows from it.
fn found(whole: &Comparison, signals: &[Signal]) -> Vec<Suspicion> {
    let probe = &whole.anothers[1];
    let mut by_requirement: BTreeMap<Option<&'static str>, Vec<&Signal>> = BTreeMap::new();
    let status = signals.iter().any(|(part, ..)| *part == Part::Status);
    for signal in signals {
        let requirement = match (&signal.0, probe.step.requirement.as_str()) {
            (Part::Header(_) | Part::HeaderValue(_), "existence/status") if !status => Some("existence/headers"),
            (Part::Shape(_) | Part::Value(_), "existence/status") if !status => Some("existence/body"),
            _ => None,
        };
        by_requirement.entry(requirement).or_default().push(signal);
    }
    let suspicion = |(requirement, signals): (Option<&'static str>, Vec<&Signal>)| Suspicion {
        requirement,
        sentence: format!(
            "{} told the {} that something is there: {}",
            probe.step.cell.operation,
            actor_words(probe),
            words(signals[0])
        ),
        owner: probe.step.subject,
        shows: signals.iter().take(SHOWN_MAX).map(|signal| words(signal)).collect(),
        beside: vec![
            witness::of(&whole.nobodys[1], "on what is nobody's", Vec::new()),
            witness::of(&whole.anothers[0], "probe, the first time", Vec::new()),
        ],
    };
    by_requirement.into_iter().map(suspicion).collect()
}

fn words((part, nobodys, anothers): &Signal) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    let (nobodys, anothers) = (value(nobodys), value(anothers));
    match part {
        Part::Status => format!("status {anothers} for another's and {nobodys} for nobody's"),
        Part::Header(name) if anothers == "nothing" => format!("header {name} only for nobody's"),
        Part::Header(name) => format!("header {name} only for another's"),
        Part::HeaderValue(name) => format!("header {name}: `{anothers}` for another's and `{nobodys}` for nobody's"),
        Part::Shape(at) => format!("body{}: {anothers} for another's and {nobodys} for nobody's", place(at)),
        Part::Value(at) => format!("body{}: another value for another's than for nobody's", place(at)),
    }
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at {at}") }
}
