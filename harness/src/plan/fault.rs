//! Faults: a tenant's request is hit between the service and its database, and whoever comes next must be answered, and
//! be told of their own rows alone.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::Rng;

use super::cast::Cast;
use super::planner::FAULT_TURN;
use super::{AFTER_FAULT, AFTER_RESTART, Answer, Expect, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{Lanes, PoolState};
use crate::fault::{Fault, Kind, Moment};
use crate::principal::{NOBODY, Principal};
use crate::target::file::Access;

/// How long a service may take until it answers again, milliseconds.
const RECOVERY_MS: u16 = 20_000;
/// Tenants that come after a fault: as many at once as lets one of them meet the connection that was hit.
const NEXT: u32 = 3;
/// Requests that wait for a connection beyond those that a pool has, and all of them at most.
const WAITING: u32 = 2;
const WAITING_MAX: u32 = 10;
/// Tenants that ask while the database is away, each so long after the one before, milliseconds.
const AWAY: u32 = 5;
const AWAY_APART_MS: u16 = 90;

/// Every fault once; the last ones take their time, and are left to where many ask at once.
const ALL: [Fault; 13] = {
    use Kind::{Cancel, Delay, Drop, Error, Exhaust, Fragment, Restart};
    use Moment::{Begun, Ending, Running};
    [
        Fault { kind: Error, moment: Running },
        Fault { kind: Drop, moment: Begun },
        Fault { kind: Cancel, moment: Running },
        Fault { kind: Error, moment: Ending },
        Fault { kind: Drop, moment: Running },
        Fault { kind: Fragment, moment: Begun },
        Fault { kind: Error, moment: Begun },
        Fault { kind: Delay, moment: Running },
        Fault { kind: Cancel, moment: Ending },
        Fault { kind: Drop, moment: Ending },
        Fault { kind: Delay, moment: Ending },
        Fault { kind: Exhaust, moment: Running },
        Fault { kind: Restart, moment: Running },
    ]
};
/// Those of [`ALL`] that take their time.
const LONG: usize = 2;

impl Planner {
    /// What a fault may hit: what reads all rows of a tenant, and what makes one.
    fn victims(&self) -> Vec<&Access> {
        let fits = |access: &&Access| {
            let operation = self.operation(&access.id);
            let plain = operation.is_some_and(|operation| self.is_plain(operation));
            let makes = access.creates.is_some() && access.lines_of.is_none() && access.sink.is_none();
            let reads = access.list.as_ref().is_some_and(|list| list.complete);
            plain && access.table.is_some() && (makes || reads) && !self.tenant_roles(access).is_empty()
        };
        self.plan.target.operation.iter().filter(fits).collect()
    }

    /// How many sequences a fault hits in each pool state.
    pub(super) fn faults(&self) -> u64 {
        let hit = self.plan.target.is_tapped() && !self.complete_lists().is_empty();
        if hit { self.plan.bounds.faults.into() } else { 0 }
    }

    /// A tenant's request that a fault hits, what other tenants are told next, and what has become of the request.
    pub(super) fn faulted(&self, pool_state: PoolState, turn: u64) -> Result<Vec<Step>, String> {
        let place = self.plan.pool_states().position(|state| state == pool_state).unwrap_or(0) as u64;
        let mut draw = self.plan.seed.stream("fault", place << 32 | turn);
        let many = pool_state.lanes == Lanes::Many;
        let known = if many { ALL.len() } else { ALL.len() - LONG };
        let fault = ALL[turn as usize % known];
        let (victims, lists) = (self.victims(), self.complete_lists());
        let (Some(hit), Some(list)) = (pick(&victims, &mut draw), pick(&lists, &mut draw)) else {
            return Ok(Vec::new());
        };
        let tenants = self.plan.bounds.tenants;
        let first = draw.random_range(0..tenants);
        let id = if fault.kind == Kind::Restart { AFTER_RESTART } else { AFTER_FAULT };
        let of = |access, k: u32| self.cast_of(access, pool_state, (first + k) % tenants, turn);
        let asked = |cast: Result<Cast<'_>, String>| -> Result<Step, String> {
            let cast = cast?;
            let mut step = self.told(&cast, id, BTreeMap::new())?;
            step.vector = Vector::AfterFault;
            if let Some(listing) = &mut step.expect.lists {
                listing.complete = true;
                step.walk = cast.access.list.as_ref().is_some_and(|list| list.next.is_some());
            }
            Ok(step)
        };
        let must = |step: Step| Step { within_ms: Some(RECOVERY_MS), ..step };
        let mut steps = vec![asked(of(hit, 0))?];
        steps[0].fault = Some(fault);
        let waiting = (pool_state.pool_size.unwrap_or(WAITING_MAX) + WAITING).min(WAITING_MAX);
        let (meanwhile, apart_ms) = match fault.kind {
            Kind::Exhaust => (waiting - 1, 0),
            Kind::Restart => (AWAY, AWAY_APART_MS),
            _ => (0, 0),
        };
        for k in 1..=meanwhile {
            let beside_ms = Some(apart_ms * u16::try_from(k).unwrap_or(u16::MAX));
            steps.push(Step { beside_ms, ..asked(of(list, k))? });
        }
        // What is hit may fail, and so may what has to wait meanwhile; what is said must be true.
        steps.iter_mut().for_each(|step| step.expect.answer = Answer::Either);
        for k in 1..=NEXT {
            let beside_ms = (many && k > 1).then_some(0);
            steps.push(must(Step { beside_ms, ..asked(of(list, k))? }));
        }
        if !many {
            let mut nobody = asked(of(list, 1))?;
            (nobody.actor, nobody.cell.role) = (Principal::without_tenant(NOBODY), NOBODY.into());
            nobody.expect = Expect { answer: Answer::Refused, ..Expect::default() };
            steps.push(nobody);
        }
        steps.push(must(asked(of(list, 0))?));
        // What was said to be made is there.
        if let Some((operation, access, parameter)) = self.reader_of(&of(hit, 0)?).filter(|_| hit.creates.is_some()) {
            let cast = Cast { operation, access, ..of(hit, 0)? };
            let mut back = self.told(&cast, id, BTreeMap::from([(parameter, "⟦made⟧".into())]))?;
            back.vector = Vector::AfterFault;
            steps.push(must(back));
        }
        Ok(steps)
    }

    /// The part that tenant `observer` plays with an operation.
    fn cast_of<'a>(
        &'a self,
        access: &'a Access,
        pool_state: PoolState,
        observer: u32,
        turn: u64,
    ) -> Result<Cast<'a>, String> {
        let operation = self.operation(&access.id).ok_or("an operation that the document does not have")?;
        let other = Owner::new((observer + 1) % self.plan.bounds.tenants);
        Ok(Cast { operation, access, pool_state, observer: Owner::new(observer), other, turn: FAULT_TURN + turn })
    }

    /// The numbers of the sequences that a fault hits: they are driven when nothing else is.
    pub fn faulted_numbers(&self, pool_state: PoolState) -> Range<u64> {
        let end = self.generated_from(pool_state);
        end - if self.plan.recorded.is_empty() { self.faults() } else { 0 }..end
    }
}

fn pick<'a>(all: &[&'a Access], draw: &mut impl Rng) -> Option<&'a Access> {
    (!all.is_empty()).then(|| all[draw.random_range(0..all.len())])
}
