//! Judges what came between the service and its database: whose rows, while whom the transaction was bound to, and what
//! one tenant's use of a connection left for the next. A row that the service filters afterwards has crossed the wall.

use std::collections::BTreeMap;

use super::{Ground, Oracle, Suspicion};
use crate::canary::Owner;
use crate::cell::{Lanes, PoolState};
use crate::finding::OracleId;
use crate::history::{Observation, Sent};
use crate::plan::Step;
use crate::principal::Principal;
use crate::target::file::Span;
use crate::tenant::WRITTEN;
use crate::wire::{Fact, Means, What, Who, Wire};

const ROWS: &str = "read/query";
const UNBOUND: &str = "context/unbound";
const LEFT: &str = "context/left";
const CARRIED: &str = "pool/carried";
/// The requirements that are judged by the wiretap alone.
pub const WIRETAP_ALONE: [&str; 4] = [ROWS, UNBOUND, LEFT, CARRIED];
/// Those that say nothing unless a connection was handed over.
const POOL: &str = "pool/";

/// The oracle; its account is a few counts.
#[derive(Default)]
pub struct TenantContext {
    heard: bool,
    own_rows: u64,
    bound: u64,
    hand_overs: u64,
    names: Names,
}

/// What tenants are called that were met where nothing is planted.
type Names = BTreeMap<Owner, String>;

impl Oracle for TenantContext {
    fn id(&self) -> OracleId {
        OracleId::TenantContext
    }

    fn observe(&mut self, _: &Ground, _: &Observation) -> Vec<Suspicion> {
        Vec::new()
    }

    fn overhear(&mut self, ground: &Ground, wire: &Wire) -> Vec<(Suspicion, Observation)> {
        self.heard = true;
        self.names.extend(wire.tenants.iter().cloned());
        for backend in &wire.backends {
            self.own_rows += backend.own_rows;
            self.bound += backend.bound;
            self.hand_overs += backend.hand_overs;
        }
        let state = wire.pool_state.unwrap_or(PoolState { pool_size: None, lanes: Lanes::One });
        let suspicions = wire.facts.iter().filter_map(|fact| Some((suspicion(ground, &self.names, fact)?, fact)));
        suspicions.map(|(suspicion, fact)| (suspicion, observation(fact, state))).collect()
    }

    fn doubt(&self, requirement: &str) -> Option<String> {
        let why = match requirement {
            _ if !self.heard => WIRETAP_ALONE.contains(&requirement).then_some("the wiretap heard nothing"),
            ROWS | UNBOUND if self.own_rows == 0 => Some("the wiretap saw no row of a tenant that was bound"),
            LEFT if self.bound == 0 => Some("the wiretap saw no transaction that a tenant was bound to"),
            _ if requirement.starts_with(POOL) && self.hand_overs == 0 => {
                Some("the wiretap saw no connection serve one tenant and then another")
            }
            _ => None,
        };
        why.map(str::to_string)
    }
}

/// For each requirement what `wire` judges of it, and how much of that is its control.
pub(super) fn spoken_for(wire: &Wire) -> [(&'static str, u64, u64); 4] {
    let sum = |count: fn(&crate::wire::Backend) -> u64| wire.backends.iter().map(count).sum::<u64>();
    let (rows, own, bound) = (sum(|b| b.rows), sum(|b| b.own_rows), sum(|b| b.bound));
    let hand_overs = sum(|b| b.hand_overs);
    [(ROWS, rows, own), (UNBOUND, rows, own), (LEFT, bound, bound), (CARRIED, hand_overs, hand_overs)]
}

fn suspicion(ground: &Ground, names: &Names, fact: &Fact) -> Option<Suspicion> {
    let (requirement, sentence, owner) = match &fact.what {
        What::Seen { means, owners, columns } => return seen(ground, names, fact, *means, owners, columns),
        What::Left { .. } if span(ground) == Span::Session => return None,
        What::Left { who } => (
            LEFT,
            format!("The connection was still bound to {} once its transaction was over", called(names, who)),
            *who,
        ),
        What::Open { who } => (
            CARRIED,
            format!("A transaction that was open for {} was taken for the next one's", called(names, who)),
            *who,
        ),
        What::Carried { state, from } => {
            let next = fact.bound.first().map_or_else(|| "the next one".into(), |who| called(names, who));
            (
                CARRIED,
                format!(
                    "{} of {} was there when its connection served {next}",
                    capital(state.words()),
                    called(names, from)
                ),
                *from,
            )
        }
    };
    let owner = match owner {
        Who::Tenant(owner) => Some(owner),
        Who::Stranger(_) => None,
    };
    let shows = told(fact);
    Some(Suspicion { requirement: Some(requirement), sentence, owner, shows, beside: Vec::new() })
}

/// Others' rows, or rows of anyone while nobody is bound.
fn seen(
    ground: &Ground,
    names: &Names,
    fact: &Fact,
    means: Means,
    owners: &[Owner],
    columns: &[u16],
) -> Option<Suspicion> {
    let owner = *owners.first()?;
    let owners: Vec<String> = owners.iter().map(|owner| called(names, &Who::Tenant(*owner))).collect();
    let first = &owners[0];
    let unbound = fact.bound.is_empty();
    if unbound && columns.iter().all(|column| may_read_unbound(ground, &fact.role, *column)) {
        return None;
    }
    let thing = match means {
        Means::Row if owners.len() > 1 => format!("A result with rows of {}", list(&owners)),
        Means::Row => format!("A row of {first}"),
        Means::Words => format!("An error that tells of {first}"),
        Means::Notification => format!("A notification that tells of {first}"),
    };
    let bound = match unbound {
        true => "no tenant was bound".to_string(),
        false => format!("{} was bound", list(&fact.bound.iter().map(|who| called(names, who)).collect::<Vec<_>>())),
    };
    let by_name = tenant_columns(ground);
    let columns = columns.iter().map(|column| match ground.holdings.column(*column) {
        Some(column) => column.to_string(),
        None => by_name
            .get(usize::from(*column))
            .map_or_else(|| "written during the run, or of no one column".into(), |name| format!("by its {name}")),
    });
    let mut shows = told(fact);
    shows.push(format!("of {}: {}", list(&owners), columns.collect::<Vec<_>>().join(", ")));
    Some(Suspicion {
        requirement: Some(if unbound { UNBOUND } else { ROWS }),
        sentence: format!("{thing} came from the database while {bound}"),
        owner: Some(owner),
        shows,
        beside: Vec::new(),
    })
}

/// Whom it is, by name where nothing is planted.
fn called(names: &Names, who: &Who) -> String {
    match who {
        Who::Tenant(owner) if names.contains_key(owner) => format!("tenant {}", names[owner]),
        who => who.to_string(),
    }
}

/// The columns that say whose a row is, where nothing is planted.
fn tenant_columns(ground: &Ground) -> &[String] {
    ground.plan.target.wiretap.as_ref().map_or(&[], |wiretap| &wiretap.tenant_columns)
}

fn span(ground: &Ground) -> Span {
    ground.plan.target.wiretap.as_ref().map(|wiretap| wiretap.span).unwrap_or_default()
}

/// Whether the target file says that a database role reads such a column to find out who a tenant is.
fn may_read_unbound(ground: &Ground, role: &str, column: u16) -> bool {
    let Some(read) = ground.plan.target.wiretap.as_ref().and_then(|wiretap| wiretap.unbound.get(role)) else {
        return false;
    };
    match ground.holdings.column(column) {
        Some(column) => read.iter().any(|word| *word == column.table || *word == column.to_string()),
        None if usize::from(column) < tenant_columns(ground).len() => true,
        // What was written during the run names no column: it may be of any table that is read as a whole.
        None => column == WRITTEN && read.iter().any(|word| !word.contains('.')),
    }
}

/// What proves a fact, for a reader.
fn told(fact: &Fact) -> Vec<String> {
    let times = if fact.times == 1 { "once".into() } else { format!("{} times", fact.times) };
    let mut shows = vec![format!("backend {}, as {}, {times}: {}", fact.backend, fact.role, fact.statement)];
    shows.extend(fact.trace.as_ref().map(|trace| format!("part of the trace {trace}")));
    shows
}

fn list(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

fn capital(words: &str) -> String {
    let mut characters = words.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// What was overheard, as one who was bound, or nobody, did.
fn observation(fact: &Fact, state: PoolState) -> Observation {
    let actor = match fact.bound.first() {
        Some(Who::Tenant(owner)) => Principal::of(*owner, &fact.role),
        _ => Principal::without_tenant(&fact.role),
    };
    let heard = Observation::heard(Step::listening(&fact.statement, actor, ROWS, state), 0, Vec::new());
    Observation { connection: fact.backend, sent: Sent { url: fact.statement.clone(), body: None }, ..heard }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::simulated;
    use super::*;
    use crate::target::file::Wiretap;
    use crate::wire::{Backend, State};

    fn owner(index: u32) -> Owner {
        Owner::new(index)
    }

    fn tenant(index: u32) -> Who {
        Who::Tenant(owner(index))
    }

    fn row_of(owners: &[u32], column: u16) -> What {
        What::Seen { means: Means::Row, owners: owners.iter().map(|n| owner(*n)).collect(), columns: vec![column] }
    }

    /// The simulated target, whose role `gate` reads homes and the ids of things before it knows a tenant.
    fn ground(span: Span) -> Ground {
        let mut plan = (*simulated::ground().plan).clone();
        let read = vec!["homes".to_string(), "things.id".to_string()];
        plan.target.wiretap =
            Some(Wiretap { span, unbound: [("gate".to_string(), read)].into(), ..Wiretap::default() });
        Ground::new(Arc::new(plan))
    }

    /// What is suspected of one fact.
    fn suspected(ground: &Ground, what: What, role: &str, bound: &[Who]) -> Option<(&'static str, String)> {
        let fact = Fact {
            what,
            statement: "SELECT".into(),
            bound: bound.into(),
            backend: 7,
            role: role.into(),
            times: 2,
            trace: None,
        };
        let wire = Wire { facts: vec![fact], ..Wire::default() };
        let mut all = TenantContext::default().overhear(ground, &wire);
        assert!(all.len() < 2);
        all.pop().map(|(suspicion, _)| (suspicion.requirement.expect("its own"), suspicion.sentence))
    }

    fn column(ground: &Ground, name: &str) -> u16 {
        (0..WRITTEN).find(|code| ground.holdings.column(*code).is_some_and(|c| c.to_string() == name)).expect(name)
    }

    #[test]
    fn rows_of_others_and_rows_of_anyone_while_nobody_is_bound_are_seen() {
        let ground = ground(Span::Transaction);
        let name = column(&ground, "things.name");
        for (what, bound, requirement, says) in [
            (
                row_of(&[2], name),
                &[tenant(1)][..],
                ROWS,
                "A row of tenant 2 came from the database while tenant 1 was bound",
            ),
            (row_of(&[1, 2], name), &[tenant(0)], ROWS, "rows of tenant 1 and tenant 2"),
            (row_of(&[1], name), &[tenant(1), tenant(2)], ROWS, "tenant 1 and tenant 2 was bound"),
            (row_of(&[1], name), &[], UNBOUND, "no tenant was bound"),
            (row_of(&[1], WRITTEN), &[Who::Stranger(3)], ROWS, "someone not planted"),
        ] {
            let suspected = suspected(&ground, what, "app", bound);
            assert!(suspected.as_ref().is_some_and(|(r, s)| *r == requirement && s.contains(says)), "{suspected:?}");
        }
    }

    #[test]
    fn what_the_target_file_says_is_read_before_a_tenant_is_known_is_left_alone() {
        let ground = ground(Span::Transaction);
        for (name, role, bound, quiet) in [
            ("homes.id", "gate", None, true),
            ("things.id", "gate", None, true),
            ("things.name", "gate", None, false),
            ("homes.id", "app", None, false),
            ("homes.id", "gate", Some(tenant(2)), false),
        ] {
            let bound: Vec<Who> = bound.into_iter().collect();
            let suspected = suspected(&ground, row_of(&[1], column(&ground, name)), role, &bound);
            assert_eq!(suspected.is_none(), quiet, "{name} as {role}: {suspected:?}");
        }
        // What was written may be of a table that is read as a whole.
        assert_eq!(suspected(&ground, row_of(&[1], WRITTEN), "gate", &[]), None);
    }

    #[test]
    fn what_is_left_and_carried_is_seen_and_a_session_may_keep_what_it_says_it_keeps() {
        let carried = |state| What::Carried { state, from: tenant(1) };
        let transaction = ground(Span::Transaction);
        for (what, requirement, says) in [
            (What::Left { who: tenant(1) }, LEFT, "still bound to tenant 1"),
            (What::Open { who: tenant(1) }, CARRIED, "open for tenant 1"),
            (
                carried(State::TemporaryTable),
                CARRIED,
                "A temporary table of tenant 1 was there when its connection served tenant 2",
            ),
            (carried(State::AdvisoryLock), CARRIED, "An advisory lock"),
            (carried(State::Listening), CARRIED, "A channel"),
        ] {
            let suspected = suspected(&transaction, what, "app", &[tenant(2)]);
            assert!(suspected.as_ref().is_some_and(|(r, s)| *r == requirement && s.contains(says)), "{suspected:?}");
        }
        let session = ground(Span::Session);
        assert_eq!(suspected(&session, What::Left { who: tenant(1) }, "app", &[]), None);
        assert!(suspected(&session, carried(State::Cursor), "app", &[tenant(2)]).is_some());
    }

    #[test]
    fn without_a_hand_over_nothing_is_said_of_pools() {
        let ground = ground(Span::Transaction);
        let mut oracle = TenantContext::default();
        let doubted = |oracle: &TenantContext| {
            ["read/list", "pool/hand-over", CARRIED, ROWS, LEFT].map(|id| oracle.doubt(id).is_some())
        };
        assert_eq!(doubted(&oracle), [false, false, true, true, true], "nothing was heard");
        let backend = Backend { rows: 3, own_rows: 2, bound: 1, ..Backend::default() };
        let wire = |backend| Wire { backends: vec![backend], ..Wire::default() };
        oracle.overhear(&ground, &wire(backend.clone()));
        assert_eq!(doubted(&oracle), [false, true, true, false, false], "nothing was handed over");
        oracle.overhear(&ground, &wire(Backend { hand_overs: 1, ..backend }));
        assert_eq!(doubted(&oracle), [false; 5]);
    }
}
