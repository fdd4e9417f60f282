//! Judges whether a service answers again once its connections to the database were struck, and whether what it said
//! while they were is true.

use std::collections::{BTreeMap, BTreeSet};

use super::canary_sighting::actor_words;
use super::{Ground, Oracle, Suspicion};
use crate::fault::Kind;
use crate::finding::OracleId;
use crate::history::{Observation, Outcome};
use crate::plan::{AFTER_FAULT, AFTER_RESTART, RECOVERY, Vector};

/// The oracle; its account is one entry a connection of the driver's, one an operation, and one a kind of fault.
#[derive(Default)]
pub struct Recovery {
    /// When each connection first sent the step that it sends: sequence, position, microseconds.
    since: BTreeMap<u32, (u64, u32, u64)>,
    /// Operations that were answered at all: what never was cannot come back.
    answered: BTreeSet<String>,
    tried: BTreeSet<Kind>,
    struck: BTreeSet<Kind>,
}

impl Oracle for Recovery {
    fn id(&self) -> OracleId {
        OracleId::Recovery
    }

    fn observe(&mut self, _: &Ground, observation: &Observation) -> Vec<Suspicion> {
        let step = &observation.step;
        if let Some(fault) = step.fault {
            self.tried.insert(fault.kind);
            self.struck.extend(observation.struck.as_ref().map(|_| fault.kind));
        }
        if observation.answered().is_some_and(|answer| (200..400).contains(&answer.status)) {
            self.answered.insert(step.cell.operation.clone());
        }
        let (Some(within_ms), Vector::AfterFault) = (step.within_ms, step.vector) else { return Vec::new() };
        let here = (observation.sequence, observation.position, observation.sent_at_us);
        let since = self.since.entry(observation.connection).or_insert(here);
        if (since.0, since.1) != (here.0, here.1) {
            *since = here;
        }
        let waited_us = (observation.sent_at_us + observation.took_us).saturating_sub(since.2);
        // The driver's clock ran a moment longer.
        if waited_us < u64::from(within_ms) * 990 {
            return Vec::new();
        }
        let status = match &observation.outcome {
            Outcome::Answered(answer) if answer.status >= 400 => format!("with {}", answer.status),
            Outcome::TimedOut | Outcome::Failed { .. } => "not at all".into(),
            _ => return Vec::new(),
        };
        let Some(object) = step.request.path.contains('⟦').then_some(step.subject).flatten() else {
            if !self.answered.contains(&step.cell.operation) {
                return Vec::new();
            }
            return vec![Suspicion {
                requirement: Some(RECOVERY),
                sentence: format!(
                    "{} answered the {} {status}, still {} s after a fault on a connection to the database",
                    step.cell.operation,
                    actor_words(observation),
                    within_ms / 1_000
                ),
                owner: step.actor.tenant,
                shows: vec![format!("answered {status} where it must succeed")],
                beside: Vec::new(),
            }];
        };
        vec![Suspicion {
            requirement: None,
            sentence: format!(
                "{} answered the {} {status} for what {object} was told is made, as a fault struck a connection to the \
                 database",
                step.cell.operation,
                actor_words(observation)
            ),
            owner: Some(object),
            shows: vec![format!("answered {status} for what was said to be made")],
            beside: Vec::new(),
        }]
    }

    fn doubt(&self, requirement: &str) -> Option<String> {
        let mut missed = self.tried.difference(&self.struck);
        let missed = match requirement {
            AFTER_FAULT => missed.find(|kind| **kind != Kind::Restart),
            AFTER_RESTART => missed.find(|kind| **kind == Kind::Restart),
            RECOVERY => missed.find(|_| self.struck.is_empty()),
            _ => None,
        }?;
        Some(format!("no connection to the database was seen to be {}", missed.done()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Told, ground, history, observed};
    use super::*;
    use crate::fault::{Fault, Moment, Struck};
    use crate::plan::Step;

    /// A step that must succeed within 2 s, answered so at each of those milliseconds; what is suspected.
    fn suspected(step: Step, told: &[(u64, u16)]) -> Vec<(Option<&'static str>, String)> {
        let (ground, mut oracle) = (ground(), Recovery::default());
        let step = Step { within_ms: Some(2_000), vector: Vector::AfterFault, ..step };
        let mut found = Vec::new();
        for (at_ms, status) in told {
            let answer = Told { status: *status, ..Told::default() };
            let observation = observed(&step, 0, (7, 1), answer);
            found.extend(oracle.observe(&ground, &Observation { sent_at_us: at_ms * 1_000, ..observation }));
        }
        found.into_iter().map(|suspicion| (suspicion.requirement, suspicion.sentence)).collect()
    }

    fn list() -> Step {
        let all = history(&ground(), |_, _| Told::default());
        all.into_iter().map(|o| o.step).find(|step| step.cell.operation == "list").expect("a list")
    }

    #[test]
    fn who_is_not_answered_again_in_time_is_seen_and_who_is_late_is_not() {
        assert_eq!(suspected(list(), &[(0, 503), (400, 500), (1_900, 200)]), []);
        assert_eq!(suspected(list(), &[(5_000, 503), (5_300, 503)]), [], "there is time left");
        let found = suspected(list(), &[(0, 503), (1_000, 200), (2_100, 500)]);
        assert!(matches!(&found[..], [(Some(RECOVERY), said)] if said.contains("with 500")), "{found:?}");
        assert_eq!(suspected(list(), &[(0, 500), (2_100, 500)]), [], "it never was there");
        let mut made = list();
        made.request.path.push_str("/⟦made⟧");
        let found = suspected(made, &[(0, 404), (2_000, 404)]);
        assert!(matches!(&found[..], [(None, said)] if said.contains("told is made")), "{found:?}");
    }

    #[test]
    fn a_fault_that_struck_nobody_proves_nothing() {
        let (ground, mut oracle) = (ground(), Recovery::default());
        let doubted = |oracle: &Recovery| [AFTER_FAULT, AFTER_RESTART, RECOVERY].map(|id| oracle.doubt(id).is_some());
        assert_eq!(doubted(&oracle), [false; 3]);
        let mut tried = |kind, struck: bool| {
            let fault = Some(Fault { kind, moment: Moment::Running });
            let observation = observed(&Step { fault, ..list() }, 0, (0, 0), Told::default());
            let struck = struck.then(|| Struck { backends: vec![3] });
            oracle.observe(&ground, &Observation { struck, ..observation });
            doubted(&oracle)
        };
        assert_eq!(tried(Kind::Drop, false), [true, false, true]);
        assert_eq!(tried(Kind::Restart, false), [true, true, true]);
        assert_eq!(tried(Kind::Drop, true), [false, true, false]);
        assert_eq!(tried(Kind::Restart, true), [false, false, false]);
    }
}
