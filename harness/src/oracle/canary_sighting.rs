//! Attributes every sighting: a canary seen by one without a right to its tenant is a leak.

use super::{Ground, Oracle, SHOWN_MAX, Suspicion};
use crate::canary::{Post, Sighting};
use crate::finding::OracleId;
use crate::history::{Observation, Outcome};

/// The oracle; it needs no account, since a canary names its owner.
#[derive(Default)]
pub struct CanarySighting;

impl Oracle for CanarySighting {
    fn id(&self) -> OracleId {
        OracleId::CanarySighting
    }

    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion> {
        let actor = &observation.step.actor;
        let foreign: Vec<&Sighting> = observation.sightings().iter().filter(|s| !ground.has_right(actor, s)).collect();
        let Some(first) = foreign.first() else { return Vec::new() };
        let place = &observation.step.cell.operation;
        let place = if let Outcome::Overheard { .. } = observation.outcome {
            format!("in {place}")
        } else {
            format!("in the answer of {place}")
        };
        let failed = observation.answered().is_some_and(|answer| answer.status >= 400);
        vec![Suspicion {
            requirement: match first.post {
                Post::Header => Some("read/header"),
                Post::Body => failed.then_some("read/error"),
            },
            sentence: format!(
                "The {} saw {} of {} {place}",
                actor_words(observation),
                plural(foreign.len(), "canary", "canaries"),
                first.owner,
            ),
            owner: Some(first.owner),
            shows: foreign.iter().take(SHOWN_MAX).map(|s| ground.describe(s)).collect(),
            beside: Vec::new(),
        }]
    }
}

pub(super) fn actor_words(observation: &Observation) -> String {
    match observation.step.actor.tenant {
        Some(_) => observation.step.actor.to_string(),
        None => format!("actor `{}`", observation.step.actor),
    }
}

fn plural(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("a {one}") } else { format!("{n} {many}") }
}
