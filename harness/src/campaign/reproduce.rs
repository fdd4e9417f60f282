//! Plays a finding's fewest steps again, and counts how often they show it.

use std::sync::Mutex;

use super::trial::{Trial, Wanted};
use super::{Campaign, Run};
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::evidence::Evidence;
use crate::finding::Reproduced;
use crate::plan::Plan;
use crate::requirement;
use crate::target::openapi;

use super::Interrupt;

impl Campaign {
    /// Plays the steps of `evidence` so many times, each by fresh tenants on a fresh start of the target.
    ///
    /// # Errors
    /// Whatever keeps the target from being started, planted or driven; steps that do not fit its document.
    pub async fn reproduce(
        &self,
        evidence: &Evidence,
        tries: u32,
        events: Events,
        interrupt: Interrupt,
    ) -> Result<Reproduced> {
        requirement::select(std::slice::from_ref(&evidence.requirement))?;
        let folder = tempfile::tempdir().map_err(|e| Error::write(&std::env::temp_dir(), e))?;
        let id = crate::seed::run_id(time::OffsetDateTime::now_utc());
        let run = Run { id, dir: folder.path().into(), events, interrupt, notes: Mutex::default() };
        tokio::select! {
            reproduced = self.tries(evidence, tries, &run) => reproduced,
            () = run.interrupt.wait() => Err(Error::Interrupted),
        }
    }

    async fn tries(&self, evidence: &Evidence, tries: u32, run: &Run) -> Result<Reproduced> {
        let mut stage = super::stage::Stage::build(self, run).await?;
        if let Err(error) = stage.furnish(self).await {
            stage.strike().await;
            return Err(error);
        }
        let document = stage.document(self, &run.log()).await;
        stage.strike().await;
        let operations = openapi::operations(&document?, &self.target.openapi)?;
        for step in evidence.script.steps() {
            if !operations.iter().any(|o| o.id == step.cell.operation) {
                let known = operations.iter().map(|o| o.id.as_str());
                return Err(crate::error::unknown("operation of the finding", &step.cell.operation, known));
            }
        }
        let ids = vec![evidence.requirement.clone()];
        let (seed, bounds, day) = (evidence.seed, evidence.bounds.clone(), evidence.day_unix_s);
        let plan = Plan::new(seed, bounds, ids, self.target.clone(), operations, day);
        let wanted = Wanted {
            requirement: evidence.requirement.clone(),
            oracle: evidence.oracle,
            operation: evidence.operation.clone(),
        };
        let mut trial = Trial::open(self, run, &plan).await?;
        let mut reproduced = Reproduced { k: 0, n: 0 };
        let mut failed = None;
        while reproduced.n < tries {
            match trial.play(&evidence.script, &wanted).await {
                Ok(take) => {
                    reproduced.n += 1;
                    reproduced.k += u32::from(take.finding.is_some());
                    (run.events)(Event::Progress {
                        done: u64::from(reproduced.n),
                        planned: u64::from(tries),
                        findings: u64::from(reproduced.k),
                    });
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        trial.close().await;
        failed.map_or(Ok(reproduced), Err)
    }
}
