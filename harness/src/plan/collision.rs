//! What tenants make at the same time: the same values and keys, numbers that count on, and requests that are counted.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::existence::{ORDER, compare};
use super::request::{Naming, text_of};
use super::{Answer, Expect, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{Lanes, Relation};
use crate::operation::Place;

/// Requests of another tenant between two of one's own.
pub(crate) const BURST: usize = 5;
/// What another tenant makes between two of one's own.
pub(crate) const OTHERS: usize = 3;

impl Planner {
    /// What another has made twice is made again, beside what nobody has made: with the same values throughout, or, where
    /// `key` names a header, with the same key alone.
    pub(super) fn collisions(&self, cast: &Cast<'_>, role: &str, key: Option<&str>) -> Result<Vec<Step>, String> {
        let requirement = if key.is_some() { "existence/idempotency" } else { "existence/conflict" };
        let maker = Cast { observer: cast.other, other: cast.observer, ..*cast };
        let mut steps = Vec::new();
        for turn in 0..2 {
            let mut made = self.making(&Cast { turn: cast.turn + turn, ..maker }, role, cast.turn + turn, key)?;
            made.expect.answer = Answer::Success;
            steps.push(made);
        }
        for (number, (relation, second)) in (2u64..).zip(ORDER) {
            // The maker's values are numbered 0 and 1; with a key, only the key is.
            let again = u64::from(second);
            let fresh = cast.turn + number;
            let (values, keyed) = match (relation, key) {
                (Relation::Foreign, None) => (cast.turn + again, fresh),
                (Relation::Foreign, Some(_)) => (fresh, cast.turn + again),
                _ => (fresh, fresh),
            };
            let mut step = self.making(&Cast { turn: values, ..*cast }, role, keyed, key)?;
            let adds_to = step.expect.adds_to.take();
            step.cell.relation = relation;
            step.subject = (relation == Relation::Foreign).then_some(cast.other);
            let mut step = compare(step, requirement)?;
            step.expect.adds_to = adds_to;
            steps.push(step);
        }
        Ok(steps)
    }

    /// Makes one object whose values are nobody's: two tenants may well send the same. `keyed` numbers the key.
    fn making(&self, cast: &Cast<'_>, role: &str, keyed: u64, key: Option<&str>) -> Result<Step, String> {
        let mut step = self.step(cast, role, Relation::Own, Vector::Plain, BTreeMap::new())?;
        let write = self.write_number(cast.pool_state, cast.turn);
        let mut given = BTreeMap::new();
        let header = |name: &&str| cast.operation.parameters_in(Place::Header).find(|p| p.name == **name);
        if let Some(parameter) = key.as_ref().and_then(header) {
            let keyed = self.writer(Owner::ABSENT, self.write_number(cast.pool_state, keyed));
            given.insert(parameter.name.clone(), text_of(&keyed.body(&parameter.schema)));
        }
        let naming = Naming {
            owner: cast.observer,
            row: self.row(cast, role),
            writer: Owner::ABSENT,
            write,
            role,
            given,
            among: None,
        };
        step.request = self.request(cast.operation, &naming)?;
        step.expect.adds_to = cast.access.table.clone().map(|table| (table, self.lines(cast)));
        Ok(step)
    }

    /// One makes three, another makes some, and one makes another: is what another made counted in one's own numbers?
    /// On one connection only, so that nobody else makes anything meanwhile.
    pub(super) fn numbers(&self, cast: &Cast<'_>, role: &str) -> Result<Vec<Step>, String> {
        if cast.pool_state.lanes != Lanes::One {
            return Ok(Vec::new());
        }
        let other = Cast { observer: cast.other, other: cast.observer, ..*cast };
        let order = [&[cast; 3][..], &[&other; OTHERS], &[cast]].concat();
        let made = (0u64..).zip(order).map(|(number, cast)| {
            let turn = cast.turn + number;
            let mut step = self.making(&Cast { turn, ..*cast }, role, turn, None)?;
            step.vector = Vector::Twin;
            step.requirement = "existence/sequence".into();
            step.expect.answer = Answer::Success;
            Ok(step)
        });
        made.collect()
    }

    /// One asks twice, another often, and one again. On one connection only, so that nobody else asks meanwhile.
    pub(super) fn limits(&self, cast: &Cast<'_>, role: &str) -> Result<Vec<Step>, String> {
        if cast.pool_state.lanes != Lanes::One {
            return Ok(Vec::new());
        }
        let ask = |cast: &Cast<'_>| -> Result<Step, String> {
            let mut step = self.step(cast, role, Relation::Own, Vector::Plain, BTreeMap::new())?;
            let limit = cast.access.list.as_ref().and_then(|list| list.limit.clone());
            step.request.query.extend(limit.map(|name| (name, "1".into())));
            let mut step = compare(step, "existence/rate-limit")?;
            step.expect = Expect { answer: Answer::Success, ..Expect::default() };
            Ok(step)
        };
        let own = ask(cast)?;
        let other = ask(&Cast { observer: cast.other, other: cast.observer, ..*cast })?;
        Ok([&[own.clone(), own.clone()][..], &vec![other; BURST], &[own]].concat())
    }
}
