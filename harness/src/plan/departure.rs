//! Principals that leave: one is removed from its tenant, or has its application role taken from it, and what it was issued
//! before opens nothing of that any more. All of it in a copy of the target, where nobody misses them.

use std::collections::{BTreeMap, BTreeSet};

use super::cast::{Cast, id_parameter};
use super::closing::CLOSED;
use super::session::present;
use super::story::field;
use super::{Answer, Expect, Planner, Sequence, Step, Vector};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::operation::Operation;
use crate::principal::NOBODY;
use crate::target::file::{Access, Per, PlantTable};

/// The requirement that whoever was removed is out.
pub const REMOVED: &str = "live/removed";
/// The requirement that a role that was taken gives nothing.
pub const DOWNGRADED: &str = "live/downgraded";
/// All that departures show.
pub const DEPARTURES: [&str; 3] = [REMOVED, DOWNGRADED, CLOSED];

/// Tenants that are left.
const TENANTS: u32 = 4;
/// What is asked again is asked with other values.
const AGAIN: u64 = 1 << 16;
/// A stream is left so many milliseconds after it began.
const STREAMED_MS: u16 = 300;
/// The names of what a principal was issued before it left, and what it is issued after; they say that it is a secret.
const BEFORE: &str = "token of before";
const RENEWED: &str = "token renewed";
const ANEW: &str = "token begun anew";
/// What is planted in a table without which nobody gets in.
const ADMITS: [&str; 3] = ["role", "password", "secret_sha256"];

/// One principal's departure.
struct Departure<'p> {
    operation: &'p Operation,
    access: &'p Access,
    /// The parameter that takes the id of its row, and the row.
    parameter: String,
    row: u32,
    /// The application role that leaves.
    role: &'p str,
    /// The body's field that takes its new role, and that role; none where it is removed.
    demotion: Option<(String, String)>,
    /// What it may read and make until then, and not after.
    opens: Vec<(&'p Operation, &'p Access)>,
}

impl Departure<'_> {
    fn requirement(&self) -> &'static str {
        if self.demotion.is_some() { DOWNGRADED } else { REMOVED }
    }
}

impl Planner {
    /// The tenants whose principals leave.
    pub fn left(&self) -> impl Iterator<Item = Owner> + Clone {
        (0..TENANTS.min(self.plan.bounds.tenants)).map(Owner::new)
    }

    /// The sequences, each of one principal. Nothing where no operation removes principals or changes their roles, or where
    /// nothing is asked of it.
    ///
    /// # Errors
    /// A sentence where the target file and the document do not fit together.
    pub fn departures(&self, pool_state: PoolState) -> Result<Vec<Sequence>, String> {
        let mut gone = BTreeSet::new();
        let mut sequences = Vec::new();
        for departure in self.plan.operations.iter().flat_map(|operation| self.departures_by(operation)) {
            let number = sequences.len() as u64;
            // Whoever has left lets nobody else go.
            let roles = self.tenant_roles(departure.access);
            let set = self.left().cycle().skip(sequences.len()).take(TENANTS as usize).find_map(|owner| {
                let here = |role: &str| !gone.contains(&(owner, role.to_string()));
                let by = roles.iter().find(|by| **by != departure.role && here(by))?;
                here(departure.role).then_some((owner, *by))
            });
            let Some((owner, by)) = set else { continue };
            gone.insert((owner, departure.role.to_string()));
            let roles = self.plan.target.role.iter().filter(|role| !role.platform).map(|role| role.name.as_str());
            // Listening takes seconds: one who is removed and one who is given a lesser role are enough.
            let speaks = |s: &Sequence, id: &str| s.steps.iter().any(|step| step.requirement == id);
            let listened = sequences.iter().any(|s| speaks(s, CLOSED) && speaks(s, departure.requirement()));
            let stays: Vec<&str> =
                roles.filter(|role| !listened && !gone.contains(&(owner, role.to_string()))).collect();
            let steps = self.departed(&departure, pool_state, (owner, number), (by, &stays))?;
            sequences.push(Sequence { number, steps });
        }
        Ok(sequences)
    }

    /// Whom an operation lets go, one of each role that it can.
    fn departures_by<'p>(&'p self, operation: &'p Operation) -> Vec<Departure<'p>> {
        let known = self.access(operation).filter(|access| !access.open && access.creates.is_none());
        let Some((access, table)) = known.and_then(|a| Some((a, self.holdings.table(a.table.as_deref()?)?))) else {
            return Vec::new();
        };
        let admits = table.columns.values().any(|generator| ADMITS.contains(&generator.as_str()));
        let parameter = id_parameter(operation, access, &table.name);
        let (Some(parameter), true) = (parameter, table.per == Per::Principal && admits) else { return Vec::new() };
        let removes = operation.method == "DELETE";
        let role_field = self.role_field(operation, table);
        let of_role = |(row, role): (usize, &'p String)| {
            let departure = |demotion, opens| {
                let (parameter, row) = (parameter.clone(), row as u32);
                Departure { operation, access, parameter, row, role, demotion, opens }
            };
            if removes {
                return Some(departure(None, self.opens_to(role, None, &table.name)));
            }
            let (column, field) = role_field.as_ref()?;
            table.roles.iter().enumerate().find_map(|(lesser_row, lesser)| {
                let opens = self.opens_to(role, Some(lesser), &table.name);
                let value = self.holdings.value(Owner::new(0), lesser_row as u32, &table.name, column).ok()?.text()?;
                (!opens.is_empty()).then(|| departure(Some((field.clone(), value)), opens))
            })
        };
        let tenants = |(_, role): &(usize, &String)| self.plan.target.role(role).is_some_and(|role| !role.platform);
        let all = table.roles.iter().enumerate().filter(tenants).filter_map(of_role);
        all.filter(|d| !d.opens.is_empty() && self.is_wanted(d)).collect()
    }

    /// Whether anything is asked for that it shows.
    fn is_wanted(&self, departure: &Departure<'_>) -> bool {
        let asked = |wanted: &str| self.plan.requirements.iter().any(|id| id == wanted);
        asked(departure.requirement()) || (asked(CLOSED) && departure.opens.iter().any(|opened| self.goes_on(*opened)))
    }

    /// The column that holds a principal's role, and the field of the body that changes it.
    fn role_field(&self, operation: &Operation, table: &PlantTable) -> Option<(String, String)> {
        let (column, _) = table.columns.iter().find(|(_, generator)| *generator == "role")?;
        let schema = &operation.body.as_ref().filter(|_| !operation.is_read())?.schema;
        let field = [column.as_str(), "role"].into_iter().find(|name| field(schema, name))?;
        Some((column.clone(), field.into()))
    }

    /// The rows that `role` may read and make without naming one, and `lesser` may not; rows of `but` are not among them,
    /// which change. What one is told of oneself may outlast a membership.
    fn opens_to(&self, role: &str, lesser: Option<&String>, but: &str) -> Vec<(&Operation, &Access)> {
        let plain = self.plan.operations.iter().filter(|operation| self.is_plain(operation));
        let may = plain.filter_map(|operation| Some((operation, self.access(operation)?))).filter(|(operation, a)| {
            let allowed = |role: &str| a.open || a.allow.iter().any(|allowed| allowed == role);
            let makes = a.creates.is_some() && a.sink.is_none();
            let rows = a.table.as_deref().is_some_and(|table| table != but) && (operation.is_read() || makes);
            let kept = rows && !a.open && a.prepare.is_none();
            kept && allowed(role) && !lesser.is_some_and(|lesser| allowed(lesser))
        });
        let mut all: Vec<_> = may.collect();
        // What shows rows comes first.
        all.sort_by_key(|(_, access)| access.list.is_none());
        all
    }

    /// It reads and makes; another lets it go; it tries again, and once more by what it can be issued now.
    fn departed(
        &self,
        departure: &Departure<'_>,
        pool_state: PoolState,
        (owner, turn): (Owner, u64),
        (by, stays): (&str, &[&str]),
    ) -> Result<Vec<Step>, String> {
        let of = |operation, access, turn| Cast { operation, access, pool_state, observer: owner, other: owner, turn };
        let all = |turn| -> Result<Vec<Step>, String> {
            let opens = departure.opens.iter();
            opens.map(|(o, access)| self.parting(departure, &of(o, access, turn))).collect()
        };
        let (mut steps, mut after) = (all(turn)?, all(turn + AGAIN)?);
        for step in &mut after {
            step.cell.role = NOBODY.into();
            step.expect.answer = Answer::Refused;
        }
        let lets_go = of(departure.operation, departure.access, turn);
        let reference = departure.access.params.get(&departure.parameter).map_or("", String::as_str);
        let row = self.planted(owner, departure.row, reference)?;
        let given = BTreeMap::from([(departure.parameter.clone(), row)]);
        let mut step = self.step(&lets_go, by, Relation::Own, Vector::Story, given)?;
        step.requirement = departure.requirement().into();
        step.expect = Expect { answer: Answer::Success, ..Expect::default() };
        if let (Some((field, role)), Some((_, body))) = (&departure.demotion, &mut step.request.body) {
            let read: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let mut changed = read.as_object().cloned().unwrap_or_default();
            changed.insert(field.clone(), role.clone().into());
            *body = serde_json::Value::Object(changed).to_string();
        }
        let since = match after.first().filter(|_| departure.demotion.is_none()) {
            Some(tried) => self.issued_since(departure, &lets_go, tried, &mut steps)?,
            None => Vec::new(),
        };
        let stream = departure.opens.iter().find(|opened| self.goes_on(**opened));
        let closed = match stream.filter(|_| self.plan.requirements.iter().any(|id| id == CLOSED)) {
            Some((operation, access)) => self.closed(&of(operation, access, turn), departure.role, stays, &step)?,
            None => None,
        };
        steps.extend(closed.unwrap_or_else(|| vec![step]));
        steps.extend(after);
        steps.extend(since);
        Ok(steps)
    }

    /// What whoever leaves does while it may.
    fn parting(&self, departure: &Departure<'_>, cast: &Cast<'_>) -> Result<Step, String> {
        let mut step = self.step(cast, departure.role, Relation::Own, Vector::Story, BTreeMap::new())?;
        step.requirement = departure.requirement().into();
        step.expect = Expect { answer: Answer::Success, ..Expect::default() };
        let streams = cast.operation.answer.as_ref().is_some_and(|a| a.content_type.contains("event-stream"));
        step.cut_after_ms = streams.then_some(STREAMED_MS);
        Ok(step)
    }

    /// It renews a session, begun in `before`, and begins another: it may have an account still, and what it is issued
    /// then must not open what is `tried`.
    fn issued_since(
        &self,
        departure: &Departure<'_>,
        cast: &Cast<'_>,
        tried: &Step,
        before: &mut Vec<Step>,
    ) -> Result<Vec<Step>, String> {
        let Some(entry) = self.entry(departure.role) else { return Ok(Vec::new()) };
        let mut since = Vec::new();
        let mut try_by = |mut issues: Step, to: &str| {
            issues.captures.insert(to.into(), entry.token.into());
            issues.expect.answer = Answer::Either;
            issues.cell.role = NOBODY.into();
            let mut tried = tried.clone();
            present(&mut tried.request, entry.send, to);
            since.extend([issues, tried]);
        };
        for (operation, access) in self.renewers(departure.role, &entry) {
            let cast = Cast { operation, access, ..*cast };
            self.prepared(&cast, departure.role, before)?;
            if let Some(begins) = before.last_mut() {
                begins.requirement = departure.requirement().into();
                begins.captures.insert(BEFORE.into(), entry.token.into());
            }
            let mut renews = self.parting(departure, &cast)?;
            present(&mut renews.request, entry.send, BEFORE);
            try_by(renews, RENEWED);
        }
        let begins = Cast { operation: entry.operation, access: entry.access, ..*cast };
        try_by(self.parting(departure, &begins)?, ANEW);
        Ok(since)
    }
}
