//! Counters that several tenants may share: numbers of what is made, and what is left of a rate limit. One's own steps
//! are told from the others' by who acts; a counter that moves by what the others did is shared.

use std::collections::{BTreeMap, BTreeSet};

use super::Suspicion;
use super::canary_sighting::actor_words;
use crate::history::Observation;
use crate::likeness::Likeness;
use crate::principal::Principal;

/// The sequences under way, and which counters were seen at all.
#[derive(Default)]
pub(super) struct Counters {
    /// By connection: the sequence, whose it is, what its answers held, and how often others acted before the last.
    open: BTreeMap<u32, Count>,
    /// Requirements for which a counter was seen that counts.
    counted: BTreeSet<&'static str>,
}

struct Count {
    sequence: u64,
    observer: Principal,
    own: Vec<Likeness>,
    others: u64,
    /// Own answers before the others acted.
    before: usize,
}

const SEQUENCE: &str = "existence/sequence";
const LIMIT: &str = "existence/rate-limit";

impl Counters {
    /// True for steps that are counted and not compared.
    pub(super) fn concern(observation: &Observation) -> bool {
        [SEQUENCE, LIMIT].contains(&observation.step.requirement.as_str())
    }

    /// Judges the next step of a sequence.
    pub(super) fn observe(&mut self, observation: &Observation) -> Option<Suspicion> {
        let requirement = [SEQUENCE, LIMIT].into_iter().find(|r| observation.step.requirement == *r)?;
        let actor = &observation.step.actor;
        let stale = self.open.get(&observation.connection).is_none_or(|open| open.sequence != observation.sequence);
        if stale {
            let count = Count {
                sequence: observation.sequence,
                observer: actor.clone(),
                own: Vec::new(),
                others: 0,
                before: 0,
            };
            self.open.insert(observation.connection, count);
        }
        let open = self.open.get_mut(&observation.connection)?;
        let answered = observation.answered().filter(|answer| answer.status < 400);
        // One that was not answered may still have counted: nothing can be told any more.
        let Some(likeness) = answered.and_then(|answer| answer.likeness.clone()) else {
            open.own.clear();
            return None;
        };
        if *actor != open.observer {
            open.others += 1;
            return None;
        }
        if open.others == 0 {
            open.before += 1;
        }
        open.own.push(*likeness);
        let told = open.others > 0 && open.own.len() == open.before + 1;
        let open = if told { self.open.remove(&observation.connection)? } else { return None };
        let (counts, shared) = match requirement {
            SEQUENCE => numbers(&open),
            _ => left(&open),
        };
        if counts {
            self.counted.insert(requirement);
        }
        shared.map(|shows| Suspicion {
            requirement: None,
            sentence: format!(
                "{} told the {} how much others did: {shows}",
                observation.step.cell.operation,
                actor_words(observation)
            ),
            owner: None,
            shows: vec![shows],
            beside: Vec::new(),
        })
    }

    /// Why a requirement says nothing about this target, where nothing was counted.
    pub(super) fn nothing_counted(&self, requirement: &str) -> Option<String> {
        let why = match requirement {
            SEQUENCE => "no answer held a number that counts what is made",
            _ => "no answer had a rate-limit header",
        };
        (!self.counted.contains(requirement)).then(|| why.into())
    }
}

/// A number that grows by one with each of one's own, and had grown by the others' as well.
fn numbers(open: &Count) -> (bool, Option<String>) {
    let at = |index: usize, pointer: &str| open.own.get(index).and_then(|own| own.numbers.get(pointer)).copied();
    let steps = |pointer: &str, from: usize| at(from + 1, pointer)?.checked_sub(at(from, pointer)?);
    let last = open.before.saturating_sub(1);
    let pointers = open.own.first().into_iter().flat_map(|own| own.numbers.keys());
    let counting: Vec<&String> =
        pointers.filter(|pointer| last > 1 && (0..last).all(|index| steps(pointer, index) == Some(1))).collect();
    let gap = open.others as i64 + 1;
    let shared = counting.iter().find(|pointer| steps(pointer, last).is_some_and(|step| step >= gap));
    (!counting.is_empty(), shared.map(|pointer| format!("{pointer} grew by {gap} or more, where one was made")))
}

/// What is left fell by the others' requests as well.
fn left(open: &Count) -> (bool, Option<String>) {
    let [.., first, second, third] = open.own.as_slice() else { return (false, None) };
    let mut shared = None;
    for (index, ((a, b), c)) in first.left.iter().zip(&second.left).zip(&third.left).enumerate() {
        // What flows back in meanwhile only makes a fall smaller.
        let (own, then) = ((a - b).max(1), b - c);
        if then >= own + open.others as i64 {
            shared = Some(format!("limit {} fell by {then} for one request of one's own", index + 1));
        }
    }
    (!first.left.is_empty(), shared)
}
