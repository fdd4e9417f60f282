//! Looks for the fewest steps that show each finding again: first how much of what came before it is needed, then what
//! can be left out.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::bundle::{self, Bundle};
use super::trial::{Take, Teller, Trial, Wanted};
use super::{Campaign, Run, Shrink};
use crate::canary::Scanner;
use crate::cell::Lanes;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::evidence::Evidence;
use crate::finding::{Finding, Minimised, OracleId, Reproduced};
use crate::minimise::Minimiser;
use crate::plan::{DEPARTURES, Plan, Planner, RECOVERY, RETENTION, RETENTION_REACH, Script, Sequence, Step};
use crate::report::{self, Shown};
use crate::verdict::Judgement;
use crate::world::World;

/// Tries of a script before it counts as showing nothing, of a finding that depends on chance.
const TRIES: u32 = 4;
/// Tries that tell whether it does: a finding that all of them show is tried once a script.
const TRIES_FIRST: u32 = 3;
/// Tries of the smallest script, for "k of n".
const TRIES_LAST: u32 = 10;
/// Sequences before the finding's own that may have had a part in it.
const BEFORE: [u64; 6] = [0, 1, 3, 7, 15, 31];

/// One finding on its way to its fewest steps.
struct Shrinking<'s, 't> {
    run: &'s Run,
    trial: &'s mut Trial<'t>,
    wanted: Wanted,
    until: Instant,
    /// Tries of one script.
    tries: u32,
}

impl Campaign {
    /// Makes the worst findings smaller, one a cause, and writes each one's evidence. What keeps it from that is returned
    /// beside what was done.
    pub(super) async fn shrink(&self, run: &Run, plan: &Arc<Plan>, judgement: &mut Judgement) -> Result<()> {
        let Some(bounds) = self.shrink.filter(|_| !judgement.findings.is_empty()) else { return Ok(()) };
        (run.events)(Event::Stage("shrink"));
        let quiet = Run {
            id: run.id.clone(),
            dir: run.dir.clone(),
            events: Arc::new(|_| {}),
            interrupt: run.interrupt.clone(),
            notes: Mutex::default(),
        };
        let mut trial = Trial::open(self, &quiet, plan).await?;
        let firsts: Vec<String> =
            judgement.causes.iter().take(bounds.causes_max).filter_map(|c| c.findings.first().cloned()).collect();
        let mut ended = Ok(());
        for finding in judgement.findings.iter_mut().filter(|f| firsts.contains(&f.id)) {
            // What passed between the target and its database no try listens to; what is judged in a copy is a few steps
            // already, and each try whether a service comes back takes as long as it may take to.
            let mut as_it_is = [RETENTION, RETENTION_REACH, RECOVERY].iter().chain(&DEPARTURES);
            if finding.oracle == OracleId::TenantContext || as_it_is.any(|id| *id == finding.requirement) {
                continue;
            }
            if run.interrupt.is_raised() {
                break;
            }
            let shrunk = self.shrunk(run, plan, &mut trial, finding, bounds).await;
            if let Err(error) = shrunk {
                ended = Err(error);
                break;
            }
        }
        trial.close().await;
        ended
    }

    async fn shrunk(
        &self,
        run: &Run,
        plan: &Arc<Plan>,
        trial: &mut Trial<'_>,
        finding: &mut Finding,
        bounds: Shrink,
    ) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(bounds.time_s);
        let wanted = Wanted::from(&*finding);
        let mut shrinking = Shrinking { run, trial, wanted, until, tries: TRIES };
        let Some((script, first)) = shrinking.begin(plan, finding).await? else {
            (run.events)(Event::Note(format!("{} was not seen again by itself; it stays as it was", finding.id)));
            return Ok(());
        };
        let (sure, _) = shrinking.again(&script, TRIES_FIRST).await?;
        shrinking.tries = if sure.k == sure.n { 1 } else { TRIES };
        let (script, cut_short) = shrinking.smallest(script).await?;
        let (reproduced, last) = shrinking.again(&script, TRIES_LAST).await?;
        let take = last.unwrap_or(first);
        let folder = format!("findings/{}", finding.id);
        finding.minimised = Some(Minimised {
            steps: script.steps().count() as u32,
            tenants: script.tenants,
            reproduced,
            cut_short,
            folder: folder.clone(),
        });
        let judged = shrinking.trial.judged(&script);
        let evidence = Evidence::new(self, &run.id, plan, finding, script, reproduced);
        let Some(shown) = &take.finding else { return Ok(()) };
        let shown = Shown { finding: shown, plan: &judged, observations: &take.observations };
        report::write_evidence(&run.dir.join(folder), &evidence, plan, &shown)
    }
}

impl Shrinking<'_, '_> {
    fn over(&self) -> bool {
        self.run.interrupt.is_raised() || Instant::now() >= self.until
    }

    /// A script that shows the finding: its own sequence, with as much as is needed of what came before; on one
    /// connection where that will do, else as it was seen.
    async fn begin(&mut self, plan: &Arc<Plan>, finding: &Finding) -> Result<Option<(Script, Take)>> {
        let state = finding.seen.pool_state;
        let teller = self.wanted.teller();
        if teller == Teller::Worlds {
            return self.begin_in_worlds(plan, finding).await;
        }
        let planner = Planner::new(plan.clone());
        let scanner = Scanner::new(plan.canary_key(), plan.window());
        let smallest = plan.pool_states().filter_map(|s| s.pool_size).min().filter(|_| state.pool_size.is_some());
        if teller != Teller::Answer {
            return self.begin_with_bundles(plan, finding, smallest).await;
        }
        for before in BEFORE {
            let from = finding.seen.sequence.saturating_sub(before);
            let sequences = (from..=finding.seen.sequence).map(|number| planner.sequence(state, number));
            let sequences: Vec<Sequence> = sequences.filter_map(Result::transpose).collect::<Result<_>>()?;
            let lanes: Vec<Vec<Step>> = sequences.into_iter().enumerate().map(apart).collect();
            let one = vec![lanes.concat()];
            let mut ways = vec![(smallest, one.clone()), (state.pool_size, one)];
            ways.dedup_by_key(|(size, _)| *size);
            if state.lanes == Lanes::Many && lanes.len() > 1 {
                ways.push((state.pool_size, spread(lanes, plan.bounds.workers)));
            }
            for (size, lanes) in ways {
                let script = Script::of(lanes, size, planner.holdings(), &scanner);
                if let Some(take) = self.shows(&script).await? {
                    return Ok(Some((script, take)));
                }
                if self.over() {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// A script of what the observer asked: what the others have is there anyhow.
    async fn begin_in_worlds(&mut self, plan: &Plan, finding: &Finding) -> Result<Option<(Script, Take)>> {
        let plan = Arc::new(plan.for_worlds());
        let planner = Planner::new(plan.clone());
        let sequences = planner.transcript(World::Few, Aside::state(&plan)).map_err(Error::Usage)?;
        let asked = sequences.into_iter().find(|sequence| sequence.number == finding.seen.sequence);
        let Some(asked) = asked else { return Ok(None) };
        let scanner = Scanner::new(plan.canary_key(), plan.window());
        let script = Script::of(vec![asked.steps], finding.seen.pool_state.pool_size, planner.holdings(), &scanner);
        let take = self.shows(&script).await?;
        Ok(take.map(|take| (script, take)))
    }

    /// A script of many things, one of which did it: no answer says which.
    async fn begin_with_bundles(
        &mut self,
        plan: &Arc<Plan>,
        finding: &Finding,
        pool_size: Option<u32>,
    ) -> Result<Option<(Script, Take)>> {
        let scanner = Scanner::new(plan.canary_key(), plan.window());
        let bundles: &[Bundle] = match (self.wanted.teller(), self.wanted.requirement.as_str()) {
            (Teller::Tables, _) => &[Bundle::Seen, Bundle::Kin, Bundle::Writes],
            (_, "work/webhook") => &[Bundle::News, Bundle::Own],
            _ => &[Bundle::Own, Bundle::Foreign],
        };
        for bundle in bundles {
            let sequences = bundle::of(*bundle, plan, finding)?;
            let lane: Vec<Step> = sequences.into_iter().enumerate().flat_map(apart).collect();
            if lane.is_empty() {
                continue;
            }
            let script = Script::of(vec![lane], pool_size, &plan.holdings(), &scanner);
            if let Some(take) = self.shows(&script).await? {
                return Ok(Some((script, take)));
            }
            if self.over() {
                break;
            }
        }
        Ok(None)
    }

    /// The smallest script found from `script` on, and whether time ended first.
    async fn smallest(&mut self, script: Script) -> Result<(Script, bool)> {
        let mut minimiser = Minimiser::new(script);
        while let Some(script) = minimiser.propose() {
            if self.over() {
                return Ok((minimiser.best().clone(), true));
            }
            if self.shows(&script).await?.is_some() {
                minimiser.shown();
            }
        }
        Ok((minimiser.best().clone(), false))
    }

    /// The first of a few tries that shows the finding.
    async fn shows(&mut self, script: &Script) -> Result<Option<Take>> {
        for _ in 0..self.tries {
            let take = self.trial.play(script, &self.wanted).await?;
            if take.finding.is_some() {
                return Ok(Some(take));
            }
            if self.over() {
                break;
            }
        }
        Ok(None)
    }

    /// How often so many tries show the finding, and the last one that did.
    async fn again(&mut self, script: &Script, tries: u32) -> Result<(Reproduced, Option<Take>)> {
        let mut reproduced = Reproduced { k: 0, n: 0 };
        let mut last = None;
        while reproduced.n < tries && !self.run.interrupt.is_raised() {
            let take = self.trial.play(script, &self.wanted).await?;
            reproduced.n += 1;
            if take.finding.is_some() {
                reproduced.k += 1;
                last = Some(take);
            }
        }
        Ok((reproduced, last))
    }
}

/// A sequence's steps with names of captured values that no other sequence has.
fn apart((number, sequence): (usize, Sequence)) -> Vec<Step> {
    sequence.steps.into_iter().map(|step| step.with_captures_named(&|name| format!("{name} {number}"))).collect()
}

/// Sequences dealt out to so many connections; the last one comes last.
fn spread(sequences: Vec<Vec<Step>>, connections: u32) -> Vec<Vec<Step>> {
    let connections = (connections as usize).min(sequences.len());
    let mut lanes = vec![Vec::new(); connections.max(1)];
    for (number, steps) in sequences.into_iter().enumerate() {
        lanes[number % connections].extend(steps);
    }
    lanes
}
