//! Stories: sequences that mean something only as a whole, such as a key used by one tenant and then by another, a job
//! and the file that it makes, a credential and its end. What fits into which story is read from the document.

use std::collections::BTreeMap;

use super::cast::{Cast, id_parameter};
use super::namesake::Apart;
use super::{Answer, Expect, Planner, Step, Vector};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::principal::{NOBODY, Principal};
use crate::target::file::Access;

/// Milliseconds that a stream is listened to; services look for news about once a second.
const LISTENED_MS: u16 = 2_200;
/// Milliseconds until what is asked beside a stream, so that the stream is open.
const LATER_MS: u16 = 600;
/// Tenants that are let go at the same instant.
const TOGETHER: u32 = 3;

/// One story, by the operations that play in it.
#[derive(Clone, Debug)]
pub(super) enum Story {
    /// A key that makes a repeated write harmless; the header that takes it.
    Repeated(usize, String),
    /// A read that may be answered from what is kept.
    Kept(usize),
    /// An answer's field that opens another operation to whoever holds it.
    Signed(usize, usize, String),
    /// What is made, and what of it is fetched.
    Fetched(usize, usize),
    /// A stream.
    Live(usize),
    /// A stream taken up again; the header that says where.
    Resumed(usize, String),
    /// A credential's end: what issues it, what ends it, what it opens.
    Revoked(usize, usize, usize),
    /// A session's end: what ends it.
    Ended(usize),
    /// Rows of two tenants that are alike in all but one text.
    Namesakes(usize, Apart),
    /// What tells the target where to send news.
    Sent(usize),
    /// A list that several tenants ask for at the same instant.
    Together(usize),
    /// The same, asked for on one connection by one request behind the other.
    Piped(usize),
    /// The same, read slowly by one and not to its end by another.
    Slow(usize),
}

/// All stories that a plan's document has.
pub(super) fn stories(planner: &Planner) -> Vec<Story> {
    let all: Vec<(usize, &Operation, &Access)> = planner
        .plan
        .operations
        .iter()
        .enumerate()
        .filter_map(|(index, operation)| Some((index, operation, planner.access(operation)?)))
        .collect();
    let own = |access: &Access| !access.open && !planner.tenant_roles(access).is_empty();
    let plain = |o: &Operation| planner.is_plain(o);
    let plain_connection = planner.plan.channels().contains(&"plain");
    let mut stories = Vec::new();
    for &(index, operation, access) in all.iter().filter(|(_, _, access)| own(access)) {
        let header = |word: &str| {
            let mut headers = operation.parameters_in(Place::Header);
            headers.find(|p| p.name.to_lowercase().contains(word)).map(|p| p.name.clone())
        };
        let streams = operation.answer.as_ref().is_some_and(|a| a.content_type.contains("event-stream"));
        if let (Some(name), true) = (header("idempoten"), access.creates.is_some()) {
            stories.push(Story::Repeated(index, name));
        }
        if planner.goes_on((operation, access)) {
            stories.push(Story::Live(index));
            stories.extend(header("last-event-id").map(|name| Story::Resumed(index, name)));
        } else if operation.is_read() && plain(operation) && access.list.as_ref().is_none_or(|list| list.complete) {
            stories.push(Story::Kept(index));
            stories.extend(access.list.is_some().then_some(Story::Together(index)));
            if access.list.is_some() && plain_connection {
                stories.extend([Story::Piped(index), Story::Slow(index)]);
            }
        }
        stories.extend(access.sink.is_some().then_some(Story::Sent(index)));
        if planner.makes_what_is_read(operation, access) {
            stories.extend([Apart::First, Apart::Last].map(|apart| Story::Namesakes(index, apart)));
        }
        if access.creates.is_none() {
            continue;
        }
        for &(other, consumer, opens) in &all {
            let signed = consumer.parameters_in(Place::Path).find(|p| opens.open && answers(operation, &p.name));
            stories.extend(signed.map(|p| Story::Signed(index, other, p.name.clone())));
            let table = access.table.as_deref().filter(|t| opens.table.as_deref() == Some(t));
            let takes = table.and_then(|t| id_parameter(consumer, opens, t)).is_some();
            let file = consumer.answer.as_ref().is_some_and(|a| !a.content_type.contains("json"));
            if takes && file && consumer.is_read() && !streams {
                stories.push(Story::Fetched(index, other));
            }
            let used = access.issues.as_ref().and_then(|issued| {
                let fits = |(_, o, a): &&(usize, &Operation, &Access)| {
                    o.is_read() && plain(o) && a.table.is_none() && !a.open && a.allow.contains(&issued.role)
                };
                all.iter().find(fits).map(|(used, _, _)| *used)
            });
            if let (true, "DELETE", Some(used)) = (takes, consumer.method.as_str(), used) {
                stories.push(Story::Revoked(index, other, used));
            }
        }
    }
    stories.extend(planner.enders().into_iter().map(|(index, _)| Story::Ended(index)));
    stories
}

/// Whether an operation's answer has a field of that name.
fn answers(operation: &Operation, name: &str) -> bool {
    operation.answer.as_ref().is_some_and(|answer| field(&answer.schema, name))
}

/// Whether an object of that schema may have a field of that name.
pub(super) fn field(schema: &serde_json::Value, name: &str) -> bool {
    let parts = schema.get("allOf").and_then(|all| all.as_array()).into_iter().flatten();
    schema.get("properties").is_some_and(|p| p.get(name).is_some()) || parts.into_iter().any(|part| field(part, name))
}

impl Planner {
    /// The steps of one story.
    pub(super) fn story(&self, pool_state: PoolState, story: &Story, turn: u64) -> Result<Vec<Step>, String> {
        let tenants = self.plan.bounds.tenants;
        let owner = |k: u64| Owner::new(((turn + k) % u64::from(tenants)) as u32);
        let (observer, other) = (owner(0), owner(1));
        let of = |index: usize| -> Result<Cast<'_>, String> {
            let operation = &self.plan.operations[index];
            let access = self.access(operation).ok_or("a story of an operation that the target file does not have")?;
            Ok(Cast { operation, access, pool_state, observer, other, turn })
        };
        match story {
            Story::Repeated(index, header) => self.repeated(&of(*index)?, header),
            Story::Kept(index) => self.kept(&of(*index)?),
            Story::Signed(maker, opener, name) => self.signed(&of(*maker)?, &of(*opener)?, name),
            Story::Fetched(maker, fetcher) => self.fetched(&of(*maker)?, &of(*fetcher)?),
            Story::Live(index) => self.live(&of(*index)?),
            Story::Resumed(index, header) => self.resumed(&of(*index)?, header),
            Story::Revoked(maker, ender, used) => self.revoked(&of(*maker)?, &of(*ender)?, &of(*used)?),
            Story::Ended(index) => {
                let roles = self.enders().into_iter().find(|(ender, _)| ender == index).map(|(_, roles)| roles);
                self.signed_out(&of(*index)?, &roles.unwrap_or_default())
            }
            Story::Namesakes(index, apart) => self.namesakes(&of(*index)?, *apart),
            Story::Sent(index) => self.sent(&of(*index)?),
            Story::Together(index) => self.together(&of(*index)?),
            Story::Piped(index) => self.piped(&of(*index)?),
            Story::Slow(index) => self.slow(&of(*index)?),
        }
    }

    /// Whether an operation's path names nothing but the tenant itself.
    pub(super) fn is_plain(&self, operation: &Operation) -> bool {
        let tenants = |name: &str| {
            self.access(operation).and_then(|a| a.params.get(name)).is_some_and(|r| self.plan.target.is_tenants_own(r))
        };
        operation.parameters_in(Place::Path).all(|p| tenants(&p.name))
    }

    /// The same story with the parts exchanged.
    pub(super) fn turned<'a>(&self, cast: &Cast<'a>) -> Cast<'a> {
        Cast { observer: cast.other, other: cast.observer, ..*cast }
    }

    /// A role of the tenant that sees all its rows, the same one in all the story's parts where it can be.
    pub(super) fn player<'a>(&self, cast: &Cast<'a>) -> &'a str {
        let roles = self.tenant_roles(cast.access);
        let whole = roles.iter().find(|role| self.narrowing(role, cast.access.table.as_deref()).is_none());
        whole.or(roles.first()).copied().unwrap_or(NOBODY)
    }

    /// The observer's own request, which must succeed.
    pub(super) fn told(&self, cast: &Cast<'_>, id: &str, given: BTreeMap<String, String>) -> Result<Step, String> {
        let role = self.player(cast);
        let mut step = self.step(cast, role, Relation::Own, Vector::Story, given)?;
        step.requirement = id.into();
        step.expect = Expect { answer: Answer::Success, ..Expect::default() };
        if let (Some(_), Some(table)) = (&cast.access.list, &cast.access.table) {
            step.expect.lists = Some(self.listing(role, table, false));
        }
        if let (Some(pointer), Some(table)) = (&cast.access.creates, &cast.access.table) {
            step.captures.insert("made".into(), pointer.clone());
            step.expect.adds_to = Some((table.clone(), 1));
        }
        Ok(step)
    }

    /// The observer's request for what the other has: `answer` says what must come of it.
    fn tried(
        &self,
        cast: &Cast<'_>,
        id: &str,
        answer: Answer,
        given: BTreeMap<String, String>,
    ) -> Result<Step, String> {
        let mut step = self.told(cast, id, given)?;
        step.cell.relation = Relation::Foreign;
        step.subject = Some(cast.other);
        step.expect.answer = answer;
        step.captures.clear();
        Ok(step)
    }

    fn repeated(&self, cast: &Cast<'_>, header: &str) -> Result<Vec<Step>, String> {
        let id = "store/idempotency";
        let key = (header.to_string(), format!("key-{}", self.write_number(cast.pool_state, cast.turn)));
        let mut first = self.told(cast, id, BTreeMap::new())?;
        first.request.headers.push(key.clone());
        let mut again = first.clone();
        again.expect.adds_to = None;
        let mut stranger = self.tried(&self.turned(cast), id, Answer::Either, BTreeMap::new())?;
        stranger.request.headers.push(key);
        Ok(vec![first, again, stranger])
    }

    fn kept(&self, cast: &Cast<'_>) -> Result<Vec<Step>, String> {
        let ask = |cast: &Cast<'_>| self.told(cast, "store/cache", BTreeMap::new());
        Ok(vec![ask(cast)?, ask(&self.turned(cast))?, ask(cast)?])
    }

    fn signed(&self, maker: &Cast<'_>, opener: &Cast<'_>, name: &str) -> Result<Vec<Step>, String> {
        let id = "store/signed-url";
        let mut made = self.told(maker, id, BTreeMap::new())?;
        made.captures.insert("signed".into(), format!("/{name}"));
        let role = self.player(maker);
        let open = |change: &str, actor: Principal| -> Result<Step, String> {
            let given = BTreeMap::from([(name.to_string(), format!("⟦signed{change}⟧"))]);
            let mut step = self.step(opener, role, Relation::Own, Vector::Story, given)?;
            (step.actor, step.requirement) = (actor, id.into());
            step.expect = Expect { answer: Answer::Success, ..Expect::default() };
            Ok(step)
        };
        let mut steps = vec![made, open("", Principal::of(maker.observer, role))?];
        for change in ["|altered", "|late", "|cut"] {
            for actor in [Principal::of(maker.other, role), Principal::without_tenant(NOBODY)] {
                let mut probe = open(change, actor)?;
                probe.cell.relation = Relation::Foreign;
                probe.subject = Some(maker.observer);
                probe.expect.answer = Answer::Denied;
                steps.push(probe);
            }
        }
        Ok(steps)
    }

    fn fetched(&self, maker: &Cast<'_>, fetcher: &Cast<'_>) -> Result<Vec<Step>, String> {
        let table = maker.access.table.as_deref().unwrap_or_default();
        let Some(parameter) = id_parameter(fetcher.operation, fetcher.access, table) else { return Ok(Vec::new()) };
        let given = || BTreeMap::from([(parameter.clone(), "⟦made⟧".to_string())]);
        let mut steps = Vec::new();
        for (maker, fetcher) in [(*maker, *fetcher), (self.turned(maker), self.turned(fetcher))] {
            steps.push(self.told(&maker, "work/export", BTreeMap::new())?);
            steps.push(self.told(&fetcher, "work/export", given())?);
            let mut own = self.told(&fetcher, "work/job", given())?;
            own.expect.control = true;
            steps.push(own);
            steps.push(self.tried(&self.turned(&fetcher), "work/job", Answer::Denied, given())?);
            // Nor is anyone else told how far it is.
            if let Some((operation, access, parameter)) = self.reader_of(&maker) {
                let given = BTreeMap::from([(parameter, "⟦made⟧".to_string())]);
                let reader = Cast { operation, access, ..self.turned(&fetcher) };
                steps.push(self.tried(&reader, "work/job", Answer::Denied, given)?);
            }
        }
        Ok(steps)
    }

    /// What writes a row that a stream shows.
    pub(super) fn writer_to(&self, stream: &Cast<'_>) -> Option<(&Operation, &Access)> {
        self.plan.operations.iter().find_map(|operation| {
            let access = self.access(operation)?;
            let fits = access.creates.is_some()
                && access.lines_of.is_none()
                && access.table == stream.access.table
                && self.is_plain(operation);
            fits.then_some((operation, access))
        })
    }

    fn listened(&self, cast: &Cast<'_>, id: &str, ms: u16) -> Result<Step, String> {
        let mut step = self.told(cast, id, BTreeMap::new())?;
        self.goes_on_for(cast, &mut step, ms);
        step.captures = BTreeMap::from([("place".into(), "sse:id".into())]);
        Ok(step)
    }

    fn live(&self, cast: &Cast<'_>) -> Result<Vec<Step>, String> {
        let id = "live/stream";
        let Some((operation, access)) = self.writer_to(cast) else { return Ok(Vec::new()) };
        let back = self.turned(cast);
        let mut beside = self.listened(&back, id, LISTENED_MS)?;
        beside.beside_ms = Some(LATER_MS / 2);
        let mut steps = vec![self.listened(cast, id, LISTENED_MS)?, beside];
        for cast in [cast, &back] {
            let mut write = self.told(&Cast { operation, access, ..*cast }, id, BTreeMap::new())?;
            write.captures.clear();
            write.beside_ms = Some(LATER_MS);
            steps.push(write);
        }
        Ok(steps)
    }

    fn resumed(&self, cast: &Cast<'_>, header: &str) -> Result<Vec<Step>, String> {
        let id = "live/resume";
        let Some((operation, access)) = self.writer_to(cast) else { return Ok(Vec::new()) };
        let back = self.turned(cast);
        let mut write = self.told(&Cast { operation, access, ..back }, id, BTreeMap::new())?;
        write.captures.clear();
        let mut steps = vec![self.listened(&back, id, LATER_MS)?, write];
        for (cast, answer) in [(&back, Answer::Success), (cast, Answer::Either)] {
            let mut again = self.listened(cast, id, LATER_MS)?;
            again.captures.clear();
            again.request.headers.retain(|(name, _)| name != header);
            again.request.headers.push((header.into(), "⟦place⟧".into()));
            if answer == Answer::Either {
                (again.cell.relation, again.subject) = (Relation::Foreign, Some(cast.other));
                again.expect.answer = answer;
            }
            steps.push(again);
        }
        Ok(steps)
    }

    /// Each of two tenants tells where its news goes, and writes what may be news; what came of it is heard in the end.
    fn sent(&self, cast: &Cast<'_>) -> Result<Vec<Step>, String> {
        let Some(body) = &cast.access.sink else { return Ok(Vec::new()) };
        let both = [*cast, self.turned(cast)];
        let mut steps = Vec::new();
        for cast in both {
            let mut told = self.told(&cast, "write/create", BTreeMap::new())?;
            let naming = self.named(&cast, self.player(&cast), cast.observer);
            let filled = self.fill(body, &naming, &self.writer(naming.writer, naming.write))?;
            let kind = told.request.body.map_or_else(|| "application/json".into(), |(kind, _)| kind);
            told.request.body = Some((kind, filled.to_string()));
            steps.push(told);
        }
        let mut known = Vec::new();
        for access in &self.plan.target.operation {
            let Some(operation) = self.operation(&access.id).filter(|o| self.is_plain(o)) else {
                continue;
            };
            let writes = access.creates.is_some() && access.table.is_some() && access.sink.is_none();
            if !writes || access.lines_of.is_some() || self.tenant_roles(access).is_empty() {
                continue;
            }
            known.push((operation, access));
        }
        for (operation, access) in known {
            for cast in both {
                let mut write = self.told(&Cast { operation, access, ..cast }, "write/create", BTreeMap::new())?;
                write.captures.clear();
                steps.push(write);
            }
        }
        Ok(steps)
    }

    fn together(&self, cast: &Cast<'_>) -> Result<Vec<Step>, String> {
        let tenants = self.plan.bounds.tenants;
        let parts = (0..TOGETHER.min(tenants)).map(|k| {
            let observer = Owner::new((cast.observer.index() + k) % tenants);
            let other = Owner::new((observer.index() + 1) % tenants);
            let mut step = self.told(&Cast { observer, other, ..*cast }, "pool/together", BTreeMap::new())?;
            step.beside_ms = (k > 0).then_some(0);
            Ok(step)
        });
        parts.collect()
    }
}
