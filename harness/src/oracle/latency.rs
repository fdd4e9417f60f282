//! How long answers on what is another's and on what is nobody's take: told, never judged, since a median of few
//! requests over a busy machine proves nothing.

use std::collections::BTreeMap;

use crate::history::Observation;

/// Steps in which a time may double: a median is right to a tenth.
const STEPS_PER_DOUBLING: f64 = 8.0;
/// Answers of each kind below which an operation is not spoken of.
const ANSWERS_MIN: u64 = 8;

/// Times by operation, in steps that grow with the time: memory does not grow with the run.
#[derive(Default)]
pub(super) struct Latencies {
    operations: BTreeMap<String, [Times; 2]>,
}

#[derive(Default)]
struct Times {
    steps: BTreeMap<u32, u64>,
    count: u64,
}

impl Times {
    fn take(&mut self, took_us: u64) {
        *self.steps.entry((took_us.max(1) as f64).log2().mul_add(STEPS_PER_DOUBLING, 0.5) as u32).or_default() += 1;
        self.count += 1;
    }

    /// Microseconds.
    fn median_us(&self) -> f64 {
        let mut before = 0;
        let middle = self.steps.iter().find(|(_, count)| {
            before += **count;
            before * 2 >= self.count
        });
        middle.map_or(0.0, |(step, _)| (f64::from(*step) / STEPS_PER_DOUBLING).exp2())
    }
}

impl Latencies {
    /// Takes the times of one comparison.
    pub(super) fn take(&mut self, nobodys: &[Observation], anothers: &[Observation]) {
        for (kind, observations) in [nobodys, anothers].into_iter().enumerate() {
            for observation in observations {
                let operation = self.operations.entry(observation.step.cell.operation.clone()).or_default();
                operation[kind].take(observation.took_us);
            }
        }
    }

    /// The operation whose medians differ most, in words.
    pub(super) fn words(&self) -> String {
        let enough = self.operations.iter().filter(|(_, times)| times.iter().all(|t| t.count >= ANSWERS_MIN));
        let medians = enough.map(|(id, [nobodys, anothers])| (id, nobodys.median_us(), anothers.median_us()));
        let apart = |(_, a, b): &(&String, f64, f64)| (a / b).max(b / a);
        let most = medians.max_by(|one, other| apart(one).total_cmp(&apart(other)));
        match most {
            None => "told, never judged; no operation was asked often enough".into(),
            Some((id, nobodys, anothers)) => format!(
                "told, never judged; medians differ most for {id}: {:.1} ms on another's, {:.1} ms on nobody's",
                anothers / 1_000.0,
                nobodys / 1_000.0
            ),
        }
    }
}
