//! Rows that their owner was shown, and is shown no more once another has changed or deleted its own of the same name.

use std::collections::BTreeMap;

use super::canary_sighting::actor_words;
use super::{Suspicion, witness};
use crate::cell::Relation;
use crate::finding::Witness;
use crate::history::Observation;
use crate::principal::Principal;

/// By connection, which runs one sequence at a time: what was shown in it, and what was written last.
#[derive(Default)]
pub(super) struct Namesakes(BTreeMap<u32, Shown>);

#[derive(Default)]
struct Shown {
    sequence: u64,
    /// By who asked, and for what.
    read: BTreeMap<(Principal, String), Witness>,
    write: Option<Witness>,
}

impl Namesakes {
    fn of(&mut self, observation: &Observation) -> &mut Shown {
        let shown = self.0.entry(observation.connection).or_default();
        if shown.sequence != observation.sequence {
            *shown = Shown { sequence: observation.sequence, ..Shown::default() };
        }
        shown
    }

    /// Takes down a write that may take another's row with it.
    pub(super) fn wrote(&mut self, observation: &Observation) {
        self.of(observation).write = Some(witness::of(observation, "write", Vec::new()));
    }

    /// Compares what an owner is shown with what it was shown before another wrote.
    pub(super) fn read(&mut self, observation: &Observation) -> Option<Suspicion> {
        let step = &observation.step;
        let answer = observation.answered().filter(|_| step.cell.relation == Relation::Own)?;
        let place = (step.actor.clone(), observation.sent.url.clone());
        let shown = self.of(observation);
        if (200..300).contains(&answer.status) {
            let read = || witness::of(observation, "read before", Vec::new());
            shown.read.entry(place).or_insert_with(read);
            return None;
        }
        let before = shown.read.get(&place).filter(|_| matches!(answer.status, 404 | 410))?;
        Some(Suspicion {
            requirement: None,
            sentence: format!(
                "The {} no longer finds its own row since another tenant wrote to one of the same name",
                actor_words(observation)
            ),
            owner: step.actor.tenant,
            shows: vec![format!("status {} where it was there before", answer.status)],
            beside: std::iter::once(before.clone()).chain(shown.write.clone()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Told, ground, history, suspected};
    use super::super::write_containment::WriteContainment;
    use crate::plan::{NAMESAKE, Step};

    /// What is suspected where the last reading of the story is answered with `last`.
    fn check(last: u16) -> Vec<(String, String)> {
        let ground = ground();
        let read = |step: &Step| {
            step.requirement == NAMESAKE && step.cell.operation == "read" && step.request.path.contains("theirs")
        };
        let all = history(&ground, |_, _| Told { status: 200, ..Told::default() });
        let end = all.iter().rposition(|o| read(&o.step)).expect("the plan tells of namesakes");
        let told = |number: u64, step: &Step| match number as usize == end && read(step) {
            true => last,
            false => 200,
        };
        let all = history(&ground, |step, number| Told { status: told(number, step), ..Told::default() });
        suspected(&ground, &mut WriteContainment::default(), &all)
    }

    #[test]
    fn a_row_that_goes_with_its_namesake_is_suspected_and_one_that_stays_is_not() {
        assert_eq!(check(200), []);
        // A service that is out of order says nothing of the row.
        assert_eq!(check(503), []);
        let found = check(404);
        assert!(found.len() == 1 && found[0].0 == NAMESAKE, "{found:?}");
    }
}
