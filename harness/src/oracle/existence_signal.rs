//! What is another's and what is nobody's must be answered alike. Four answers are compared: two on nobody's, between two
//! on another's. What differs between the two of a kind is noise; what is the same within each kind and differs between
//! them tells that there is something.

use std::collections::{BTreeMap, BTreeSet};

use super::canary_sighting::actor_words;
use super::counters::Counters;
use super::latency::Latencies;
use super::{Ground, Oracle, SHOWN_MAX, Suspicion, witness};
use crate::cell::Relation;
use crate::finding::OracleId;
use crate::history::{Answered, Observation};
use crate::likeness::Part;
use crate::plan::Vector;

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

#[cfg(test)]
mod tests {
    use super::super::simulated::{Told, ground, history, suspected};
    use super::*;
    use crate::plan::Step;

    fn with(mut told: Told, name: &str, value: impl ToString) -> Told {
        told.headers.push((name.into(), value.to_string()));
        told
    }

    fn body(mut told: Told, body: &str) -> Told {
        told.body = body.into();
        told
    }

    /// A service that keeps its counsel, and whose answers are never quite the same: clocks, request ids, echoes, servers
    /// in turn, counters of the caller's own.
    fn sound(step: &Step, number: u64, own: &mut BTreeMap<String, u64>) -> Told {
        let actor = step.actor.to_string();
        let asked = own.entry(actor).or_default();
        *asked += 1;
        let (status, text) = match (step.cell.relation, step.requirement.as_str()) {
            (_, "existence/account") => (401, r#"{"detail":"who are you?"}"#.to_string()),
            (_, "existence/cursor") => (400, r#"{"detail":"no such cursor"}"#.to_string()),
            _ if step.request.method == "POST" => (201, format!(r#"{{"id":"{number}-x","rank":{asked}}}"#)),
            (Relation::Own, _) => (200, "{}".into()),
            _ if step.cell.operation == "list" => (200, r#"{"items":[]}"#.into()),
            _ => (404, format!(r#"{{"detail":"no {} here","trace":"t{number}"}}"#, step.request.path)),
        };
        let told = Told { status, headers: Vec::new(), body: text };
        let told = with(told, "x-request-id", format!("r{number}"));
        let told = with(with(told, "x-served-by", number % 2), "x-shard", number % 3);
        let told = with(with(told, "x-clock", number / 10), "content-length", number);
        with(told, "x-ratelimit-remaining", 1_000_000 - *asked)
    }

    /// What is suspected of the sound service with `defect` laid over its answers.
    fn check(mut defect: impl FnMut(&Step, u64, Told) -> Told) -> BTreeSet<String> {
        let ground = ground();
        let mut own = BTreeMap::new();
        let history = history(&ground, |step, number| {
            let told = sound(step, number, &mut own);
            defect(step, number, told)
        });
        let oracle = &mut ExistenceSignal::default();
        suspected(&ground, oracle, &history).into_iter().map(|(requirement, _)| requirement).collect()
    }

    #[test]
    fn a_service_that_answers_alike_is_not_suspected_whatever_its_noise() {
        assert_eq!(check(|_, _, told| told), BTreeSet::new());
        // Nor one that is too busy for some, or fails at random.
        assert_eq!(
            check(|_, number, told| if number % 7 == 0 { Told { status: 503, ..told } } else { told }),
            BTreeSet::new()
        );
        // Nor one that takes any cursor: what it shows is judged elsewhere.
        let any = |step: &Step, _: u64, told: Told| match (step.requirement.as_str(), step.cell.relation) {
            ("existence/cursor", Relation::Foreign) => Told { status: 200, ..told },
            _ => told,
        };
        assert_eq!(check(any), BTreeSet::new());
    }

    #[test]
    fn each_signal_is_suspected_by_its_name() {
        type Defect = fn(&Step, Told) -> Told;
        let status: Defect = |_, told| Told { status: 403, ..told };
        let gone: Defect = |_, told| Told { status: 500, ..told };
        let tag: Defect = |_, told| with(told, "etag", "x");
        let shard: Defect = |_, told| with(told, "x-content", "held");
        let words: Defect = |_, told| body(told, r#"{"detail":"not yours","trace":"t"}"#);
        let empty: Defect = |_, told| body(told, "");
        let unchanged: Defect = |step, told| match step.request.headers.iter().any(|(name, _)| name == "if-none-match")
        {
            true => Told { status: 304, ..told },
            false => told,
        };
        for (operation, requirement, defect) in [
            ("read", "existence/status", status),
            ("read", "existence/status", gone),
            ("read", "existence/headers", tag),
            ("read", "existence/headers", shard),
            ("read", "existence/body", words),
            ("read", "existence/body", empty),
            ("read", "existence/conditional", unchanged),
            ("look_up", "existence/name", status),
            ("list", "existence/name", words),
            ("change", "existence/write", status),
            ("change", "existence/write", tag),
            ("make", "existence/conflict", status),
            ("make", "existence/idempotency", status),
            ("list", "existence/cursor", words),
            ("enter", "existence/account", words),
        ] {
            let found = check(|step, _, told| {
                let here = step.vector == Vector::Twin && step.cell.operation == operation;
                if here && step.cell.relation == Relation::Foreign { defect(step, told) } else { told }
            });
            assert!(found.contains(requirement), "{operation}, {requirement}: {found:?}");
        }
    }

    #[test]
    fn counters_that_tenants_share_are_suspected_and_their_own_are_not() {
        let ranked = |_: &Step, number: u64, told: Told| {
            if told.status == 201 { body(told, &format!(r#"{{"id":"x","rank":{number}}}"#)) } else { told }
        };
        assert_eq!(check(ranked), ["existence/sequence".to_string()].into());
        let shared = |_: &Step, number: u64, mut told: Told| {
            told.headers.retain(|(name, _)| name != "x-ratelimit-remaining");
            with(told, "ratelimit", format!("\"all\";r={};t=1", 1_000_000 - number))
        };
        assert_eq!(check(shared), ["existence/rate-limit".to_string()].into());
    }

    #[test]
    fn nothing_is_said_of_counters_that_were_not_there() {
        let mut oracle = ExistenceSignal::default();
        assert!(oracle.remark("existence/sequence").is_some() && oracle.remark("existence/rate-limit").is_some());
        let ground = ground();
        let mut own = BTreeMap::new();
        suspected(&ground, &mut oracle, &history(&ground, |step, number| sound(step, number, &mut own)));
        assert!(oracle.remark("existence/sequence").is_none() && oracle.remark("existence/rate-limit").is_none());
        assert!(oracle.remark("existence/timing").is_some_and(|words| words.contains("never judged")));
    }
}
