//! Forgeries: another tenant claimed in every place that services have taken one from, and its objects named in other
//! spellings and by other verbs. Each operation meets each of them once a run, in turns of application role and pool
//! state.

use std::collections::{BTreeMap, BTreeSet};

use super::cast::Cast;
use super::claim::{PREFIXES, Way, vector};
use super::requirement::refusal_of;
use super::{Answer, Expect, Planner, Proof, Step, Vector, spelling};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::principal::NOBODY;
use crate::target::credential::{Credential, Flaw};
use crate::target::file::{Access, TargetFile};

/// What some frameworks take another verb from.
const OVERRIDES: [&str; 3] = ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"];
const VERBS: [&str; 9] = ["HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "QUERY"];

/// One forgery of one operation.
#[derive(Clone, Debug)]
pub(super) struct Forgery {
    operation: usize,
    way: Way,
}

/// All forgeries of a plan.
pub(super) fn forgeries(planner: &Planner) -> Vec<Forgery> {
    let names = planner.holdings.tenant_names(Owner::new(0)).len();
    let mut all = Vec::new();
    for (index, operation) in planner.plan.operations.iter().enumerate() {
        let Some(access) = planner.access(operation) else { continue };
        let foreign = access.relations.as_ref().is_none_or(|r| r.contains(&Relation::Foreign));
        if access.open || !foreign || planner.tenant_roles(access).is_empty() {
            continue;
        }
        let ways = planner.ways(index, access, names);
        all.extend(ways.into_iter().map(|way| Forgery { operation: index, way }));
    }
    all
}

impl Planner {
    /// The roles of a tenant that may call an operation.
    pub(super) fn tenant_roles<'a>(&self, access: &'a Access) -> Vec<&'a str> {
        let of_tenant = |role: &&str| self.plan.target.role(role).is_some_and(|r| !r.platform);
        access.allow.iter().map(String::as_str).filter(of_tenant).collect()
    }

    fn ways(&self, index: usize, access: &Access, names: usize) -> Vec<Way> {
        let operation = &self.plan.operations[index];
        let mut ways: Vec<Way> = Vec::new();
        // Which name is claimed changes with the operation, and the form with the number.
        let name = |turn: usize| turn % names;
        ways.extend([Way::Host(name(index)), Way::Forwarded(name(index)), Way::Cookie(name(index))]);
        ways.extend((0..PREFIXES.len()).map(|prefix| Way::Path(prefix, name(index + prefix))));
        ways.extend((names > 1).then(|| Way::Name(1 + index % (names - 1))));
        ways.extend((0..4).map(Way::Repeated));
        for taker in self.takers(operation, access) {
            ways.push(Way::Taker(taker, 0));
            ways.extend((names > 1).then(|| Way::Taker(taker, 1 + (index + taker) % (names - 1))));
        }
        ways.extend(TargetFile::says_tenant(access).then_some(Way::Told));
        if self.filters(operation, access).next().is_some() {
            ways.extend([Way::RepeatedFilter(true), Way::RepeatedFilter(false)]);
        }
        if operation.body.as_ref().is_some_and(|body| body.content_type.contains("json")) {
            ways.extend([Way::RepeatedKey, Way::Nested, Way::Reference]);
            ways.extend(access.lines_of.is_none().then_some(Way::Form));
        }
        if operation.secured && self.login_role(access).is_some() {
            ways.push(Way::Claim);
        }
        if operation.secured {
            let flaws: BTreeSet<Flaw> = self.misleading(access).flat_map(|(_, flaws)| flaws).collect();
            ways.extend(flaws.into_iter().map(Way::Misled));
        }
        if self.object_parameter(operation, access).is_some() {
            ways.extend((0..spelling::ALL.len()).map(Way::Spelled));
            ways.extend((0..3).map(Way::Override));
            let of_path = |o: &&Operation| o.path == operation.path;
            let first = self.plan.operations.iter().find(of_path).is_some_and(|o| o.id == operation.id);
            let documented = |verb: &str| self.plan.operations.iter().filter(of_path).any(|o| o.method == verb);
            ways.extend(VERBS.iter().filter(|verb| first && !documented(verb)).map(|verb| Way::Verb(verb)));
        }
        ways
    }

    /// The last path parameter that names a planted row.
    fn object_parameter<'a>(&self, operation: &'a Operation, access: &'a Access) -> Option<(&'a str, &'a str)> {
        self.plan.target.rows_in_path(operation, access).last()
    }

    pub(super) fn filters<'a>(
        &self,
        operation: &'a Operation,
        access: &'a Access,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let filters = operation.parameters_in(Place::Query);
        filters.filter_map(|p| Some((p.name.as_str(), access.params.get(&p.name)?.as_str())))
    }

    /// A role whose credential is a token with claims.
    fn login_role<'a>(&self, access: &'a Access) -> Option<&'a str> {
        self.tenant_roles(access).into_iter().find(|role| {
            let role = self.plan.target.role(role).and_then(|r| self.plan.target.credential.get(&r.credential));
            matches!(role, Some(Credential::Login { .. } | Credential::Jwt { .. }))
        })
    }

    /// The steps of one forgery.
    pub(super) fn forgery(&self, pool_state: PoolState, forgery: &Forgery, turn: u64) -> Result<Vec<Step>, String> {
        let operation = &self.plan.operations[forgery.operation];
        let Some(access) = self.access(operation) else { return Ok(Vec::new()) };
        let roles = self.tenant_roles(access);
        let role = roles[turn as usize % roles.len()];
        let tenants = self.plan.bounds.tenants;
        let observer = (turn % u64::from(tenants)) as u32;
        let (observer, other) = (Owner::new(observer), Owner::new((observer + 1) % tenants));
        let cast = Cast { operation, access, pool_state, observer, other, turn };
        let mut steps = Vec::new();
        match forgery.way {
            Way::Claim => self.reclaimed(&cast, &mut steps)?,
            Way::Misled(flaw) => self.misled(&cast, flaw, &mut steps)?,
            Way::Spelled(_) | Way::Override(_) | Way::Verb(_) => {
                steps.push(self.named_oddly(&cast, role, forgery.way)?);
            }
            way => {
                let vector = vector(way, operation);
                self.forge(&cast, role, Relation::Foreign, vector, &mut steps, |request| {
                    self.claiming(request, &cast, role, way)
                })?;
                let made = access.creates.is_some() && self.object_parameter(operation, access).is_none();
                if made && matches!(way, Way::RepeatedKey | Way::Nested | Way::Reference | Way::Form | Way::Told) {
                    let before = steps.len();
                    self.read_back(&cast, role, &mut steps)?;
                    for step in &mut steps[before..] {
                        step.vector = vector;
                        step.requirement = self.requirement(&cast, role, Relation::Foreign, vector);
                    }
                }
                if matches!(way, Way::RepeatedKey | Way::Nested | Way::Reference | Way::Form) {
                    self.handed_away(&cast, role, way, &mut steps)?;
                }
            }
        }
        Ok(steps)
    }

    /// What is one's own is changed with the other's tenant in the body: it is not the other's after that.
    fn handed_away(&self, cast: &Cast<'_>, role: &str, way: Way, steps: &mut Vec<Step>) -> Result<(), String> {
        let before = steps.len();
        let changes = !cast.reads() && cast.access.creates.is_none() && cast.operation.method != "DELETE";
        if !changes || self.object_parameter(cast.operation, cast.access).is_none() {
            return Ok(());
        }
        let Some((name, made)) = self.made(cast, role, steps)? else { return Ok(()) };
        let vector = vector(way, cast.operation);
        let mut step = self.step(cast, role, Relation::Own, vector, BTreeMap::from([(name, made)]))?;
        step.request = self.claiming(step.request, cast, role, way);
        step.cell.relation = Relation::Foreign;
        step.subject = Some(cast.other);
        steps.push(step);
        self.read_back(cast, role, steps)?;
        for step in &mut steps[before + 1..] {
            step.vector = vector;
            step.requirement = self.requirement(cast, role, Relation::Foreign, vector);
            // Who takes such a field in earnest may refuse it, and then the row is as it was.
            if step.expect.answer == Answer::Success {
                step.expect.answer = Answer::Either;
            }
        }
        Ok(())
    }

    /// Roles of the tenant that may call it, each with the flaws that its credential's header can have.
    fn misleading<'a>(&self, access: &'a Access) -> impl Iterator<Item = (&'a str, Vec<Flaw>)> {
        self.tenant_roles(access).into_iter().filter_map(|role| {
            let credential = self.plan.target.credential.get(&self.plan.target.role(role)?.credential)?;
            Some((role, credential.misleads()))
        })
    }

    /// The own request with a credential that its header alone makes believable.
    fn misled(&self, cast: &Cast<'_>, flaw: Flaw, steps: &mut Vec<Step>) -> Result<(), String> {
        let roles: Vec<&str> =
            self.misleading(cast.access).filter(|(_, flaws)| flaws.contains(&flaw)).map(|(role, _)| role).collect();
        let Some(role) = roles.get(cast.turn as usize % roles.len().max(1)) else { return Ok(()) };
        let given = self.prepared(cast, role, steps)?;
        let mut step = self.step(cast, role, Relation::Own, Vector::Credential, given)?;
        step.request.proof = Proof::Flawed(flaw);
        step.requirement = refusal_of(&step.request.proof).into();
        step.cell.role = NOBODY.into();
        step.expect = Expect { answer: Answer::Refused, ..Expect::default() };
        steps.push(step);
        Ok(())
    }

    fn reclaimed(&self, cast: &Cast<'_>, steps: &mut Vec<Step>) -> Result<(), String> {
        let Some(role) = self.login_role(cast.access) else { return Ok(()) };
        let given = self.prepared(cast, role, steps)?;
        let named = self.object_parameter(cast.operation, cast.access).map_or(Relation::Own, |_| Relation::Foreign);
        let mut step = self.step(cast, role, named, Vector::ForgedClaim, given)?;
        let id = |owner| self.holdings.tenant_id(owner);
        step.request.proof = Proof::Reclaimed(id(cast.observer), id(cast.other));
        step.cell.role = NOBODY.into();
        step.cell.relation = Relation::Foreign;
        step.subject = Some(cast.other);
        step.expect = Expect { answer: Answer::Refused, ..Expect::default() };
        steps.push(step);
        Ok(())
    }

    /// An object of the subject, in another spelling or by another verb.
    fn named_oddly(&self, cast: &Cast<'_>, role: &str, way: Way) -> Result<Step, String> {
        let mut given = self.below(cast, cast.observer)?;
        if let (Way::Spelled(index), Some((name, reference))) =
            (way, self.object_parameter(cast.operation, cast.access))
        {
            let row = self.row(cast, role);
            let own = self.planted(cast.observer, row, reference)?;
            given.insert(name.to_string(), spelling::ALL[index](&self.planted(cast.other, row, reference)?, &own));
        }
        let mut step = self.step(cast, role, Relation::Foreign, vector(way, cast.operation), given)?;
        step.expect = Expect { answer: Answer::Denied, ..Expect::default() };
        let request = &mut step.request;
        match way {
            Way::Override(form) => {
                let documented = std::mem::replace(&mut request.method, ["GET", "POST", "POST"][form].into());
                let meant = if documented == request.method { "DELETE".into() } else { documented };
                if form == 2 {
                    request.query.push(("_method".into(), meant));
                } else {
                    request.headers.extend(OVERRIDES.map(|name| (name.into(), meant.clone())));
                }
            }
            Way::Verb(verb) => {
                request.method = verb.into();
                // What may be done tells nothing of what is there.
                if verb == "OPTIONS" {
                    step.expect.answer = Answer::Either;
                }
            }
            _ => {}
        }
        Ok(step)
    }
}
