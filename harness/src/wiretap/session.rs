//! One connection as both ends see it: what was asked, in order, and what comes of it. Answers are told apart by a queue
//! of what is expected, so that requests may run ahead of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::account::{Account, Seen};
use super::context::{Context, Given, Naming};
use super::frame::{self, Body, Piece};
use super::lens::Lens;
use super::statement::{Act, Statement};
use crate::canary::{Owner, Sighting};
use crate::tenant::WRITTEN;
use crate::wire::{Means, State, What, Who};

/// Of a message of the client's that comes in parts so much is read, bytes.
const READ_MAX: usize = 1 << 20;
/// Bytes that two parts of a long message share when they are searched: a canary may lie across.
const SHARED: usize = 256;

/// What tells one planted value from another.
type Key = (Owner, Option<u32>, Option<u16>);

/// What the server is to answer next.
enum Expected {
    /// A simple query's statements, those that came to their end left out.
    Query(VecDeque<Statement>, Vec<Key>),
    /// One execution.
    Execute(Arc<Prepared>, Arc<Vec<Option<Box<[u8]>>>>, Vec<Key>),
    /// A function call.
    Call,
    /// The end of what was sent together.
    Sync,
}

/// A prepared statement, and the tenant whose it is if its text names the one that was bound.
struct Prepared {
    statement: Statement,
    of: Option<Who>,
}

/// What is bound to a portal.
struct Portal {
    prepared: Arc<Prepared>,
    parameters: Arc<Vec<Option<Box<[u8]>>>>,
    echoes: Vec<Key>,
}

/// The state of one connection.
pub struct Session {
    lens: Arc<Lens>,
    /// What it has to tell.
    pub account: Account,
    context: Context,
    prepared: HashMap<Vec<u8>, Arc<Prepared>>,
    portals: HashMap<Vec<u8>, Portal>,
    expected: VecDeque<Expected>,
    seen: Seen,
    failed: bool,
    /// Whoever was bound in the transaction that is open, and statements in it.
    bound: Option<Who>,
    statements: u64,
    /// The beginning of a long message of the client's.
    gathered: Vec<u8>,
    /// The end of the last part of a long message of the server's, and what was found in it.
    shared: Vec<u8>,
    in_parts: Vec<Sighting>,
    sightings: Vec<Sighting>,
}

impl Session {
    /// A connection that begins with `parameters`, names and values.
    pub fn new(lens: Arc<Lens>, parameters: &[(String, String)]) -> Self {
        let mut context = Context::default();
        let mut account = Account::default();
        let value = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        account.backend.role = value("user").unwrap_or_default();
        account.backend.database = value("database").unwrap_or_else(|| account.backend.role.clone());
        for (setting, value) in [("user", &account.backend.role), ("database", &account.backend.database)] {
            if let Some(who @ Who::Tenant(_)) = lens.whom(setting, value.as_bytes()) {
                context.begin(setting, value.as_bytes(), &Named(who));
            }
        }
        let known = |name: &str| lens.binding.settings.iter().any(|known| known == name) || name == "search_path";
        for (setting, value) in parameters.iter().filter(|(name, _)| known(name)) {
            context.begin(setting, value.as_bytes(), &*lens);
        }
        Self {
            lens,
            account,
            context,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            expected: VecDeque::new(),
            seen: Seen::default(),
            failed: false,
            bound: None,
            statements: 0,
            gathered: Vec::new(),
            shared: Vec::new(),
            in_parts: Vec::new(),
            sightings: Vec::new(),
        }
    }

    /// The client sent a piece.
    pub fn asked(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Whole(tag, body) => self.request(tag, body),
            Piece::Rows(_) => {}
            // What is copied in is the service's own.
            Piece::Part(b'd', ..) => {}
            Piece::Part(tag, part, last) => {
                let room = READ_MAX.saturating_sub(self.gathered.len());
                self.gathered.extend_from_slice(&part[..part.len().min(room)]);
                if last {
                    let body = std::mem::take(&mut self.gathered);
                    self.request(tag, &body);
                }
            }
        }
    }

    fn request(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'Q' => {
                let text = body.strip_suffix(&[0]).unwrap_or(body);
                let echoes = self.echoes(text, &[]);
                let statements = self.lens.binding.read(&String::from_utf8_lossy(text)).into();
                self.expected.push_back(Expected::Query(statements, echoes));
            }
            b'P' => {
                let mut body = Body::new(body);
                let (Some(name), Some(text)) = (body.text(), body.text()) else { return };
                let mut statements = self.lens.binding.read(&String::from_utf8_lossy(text));
                let statement = if statements.is_empty() { Statement::default() } else { statements.swap_remove(0) };
                let bound = self.context.bound().first().copied().filter(|_| !name.is_empty());
                let of = bound.filter(|who| self.lens.whom("", text) == Some(*who));
                self.prepared.insert(name.into(), Arc::new(Prepared { statement, of }));
            }
            b'B' => {
                let _ = self.bind(body);
            }
            b'E' => {
                let name = Body::new(body).text().unwrap_or_default();
                let Some(portal) = self.portals.get(name) else { return };
                let Portal { prepared, parameters, echoes } = portal;
                let expected = Expected::Execute(prepared.clone(), parameters.clone(), echoes.clone());
                self.expected.push_back(expected);
            }
            b'C' => match body.split_first() {
                Some((b'S', name)) => drop(self.prepared.remove(name.strip_suffix(&[0]).unwrap_or(name))),
                Some((b'P', name)) => drop(self.portals.remove(name.strip_suffix(&[0]).unwrap_or(name))),
                _ => {}
            },
            b'F' => self.expected.push_back(Expected::Call),
            b'S' => self.expected.push_back(Expected::Sync),
            // Whatever was sent to be ended before the copying was, the server has passed over.
            b'c' | b'f' => {
                while let Some(Expected::Sync) = self.expected.back() {
                    self.expected.pop_back();
                }
            }
            _ => {}
        }
    }

    /// Portal, statement, formats, values: read only as far as they may matter.
    fn bind(&mut self, body: &[u8]) -> Option<()> {
        let mut rest = Body::new(body);
        let (portal, name) = (rest.text()?, rest.text()?);
        let prepared = self.prepared.get(name)?.clone();
        for _ in 0..rest.int16()? {
            rest.int16()?;
        }
        let mut parameters = Vec::new();
        let needed = prepared.statement.acts.iter().any(|act| matches!(act, Act::Configure(..) | Act::Bind(..)));
        let mut values: Vec<&[u8]> = Vec::new();
        for _ in 0..rest.int16()? {
            let value = rest.value()?;
            values.extend(value);
            if needed {
                parameters.push(value.map(Box::from));
            }
        }
        let echoes = self.echoes(body, &values);
        self.portals.insert(portal.into(), Portal { prepared, parameters: Arc::new(parameters), echoes });
        Some(())
    }

    /// What the client itself says: to be told it again shows nothing.
    fn echoes(&self, text: &[u8], values: &[&[u8]]) -> Vec<Key> {
        let mut echoes = Vec::new();
        let mut note = |sighting: Sighting| echoes.push(key(&sighting));
        self.lens.scan(text, &mut note);
        for value in values {
            self.lens.scan_value(value, &mut note);
        }
        echoes
    }

    /// The server sent a piece.
    pub fn answered(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Rows(rows) => self.rows(rows),
            Piece::Whole(tag, body) => self.answer(tag, body),
            Piece::Part(tag, part, last) => self.part(tag, part, last),
        }
    }

    /// Judges whole rows: one search for all of them, then each sighting is given to its row.
    fn rows(&mut self, rows: &[u8]) {
        let mut sightings = std::mem::take(&mut self.sightings);
        self.lens.scan(rows, &mut |sighting| sightings.push(sighting));
        let planted_text = !sightings.is_empty();
        let mut ends = 0;
        for (tag, body, end) in frame::messages(rows) {
            if self.seen.rows == 0 {
                let first = frame::fields(body).next().flatten();
                self.seen.refused = tag == b'D' && matches!(first, Some([b'f' | 0]));
            }
            self.seen.rows += 1;
            if tag == b'D' {
                self.lens.scan_fields(body, ends, &mut |sighting| sightings.push(sighting));
            }
            ends = end;
        }
        if !sightings.is_empty() {
            if planted_text {
                sightings.sort_unstable_by_key(|sighting| sighting.offset);
            }
            let mut rest = sightings.as_slice();
            for (_, _, end) in frame::messages(rows) {
                let of_row = rest.partition_point(|sighting| sighting.offset < end);
                let (row, others) = rest.split_at(of_row);
                self.row(row);
                rest = others;
            }
            sightings.clear();
            // A result of canaries alone would keep as much memory as it has of them.
            sightings.shrink_to(64);
        }
        self.sightings = sightings;
    }

    /// Judges what was seen in one row.
    fn row(&mut self, sightings: &[Sighting]) {
        let echoes = match self.expected.front() {
            Some(Expected::Query(_, echoes) | Expected::Execute(_, _, echoes)) => echoes.as_slice(),
            _ => &[],
        };
        let (mut own, mut others) = (false, false);
        for sighting in sightings.iter().filter(|s| of_tenant(s)) {
            if rightful(self.context.bound(), sighting.owner) {
                own = true;
            } else if !echoes.contains(&key(sighting)) {
                others = true;
                self.seen.note(sighting.owner, sighting.column.unwrap_or(WRITTEN));
            }
        }
        self.seen.own_rows += u64::from(own && !others);
    }

    /// Searches a long message as it comes.
    fn part(&mut self, tag: u8, part: &[u8], last: bool) {
        let mut sightings = std::mem::take(&mut self.in_parts);
        self.shared.extend_from_slice(&part[..part.len().min(SHARED)]);
        self.lens.scan(&self.shared, &mut |sighting| sightings.push(sighting));
        self.lens.scan(part, &mut |sighting| sightings.push(sighting));
        self.shared.clear();
        self.shared.extend_from_slice(&part[part.len().saturating_sub(SHARED)..]);
        // Of a long message it matters whose, not how often.
        sightings.sort_unstable_by_key(|s| (s.owner, s.column, s.row));
        sightings.dedup_by_key(|s| key(s));
        if last {
            self.shared.clear();
            if matches!(tag, b'D' | b'd') {
                self.seen.rows += 1;
                self.row(&sightings);
            }
            sightings = Vec::new();
        }
        self.in_parts = sightings;
    }

    fn answer(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'C' => self.complete(body),
            b'I' => self.complete(b""),
            b's' => {
                let front = self.expected.pop_front();
                if let Some(Expected::Execute(prepared, ..)) = &front {
                    self.settle(&prepared.statement);
                }
            }
            b'E' => self.fail(body),
            b'N' => self.said(body, Means::Words),
            b'A' => self.said(body, Means::Notification),
            b'Z' => self.ready(body.first().copied().unwrap_or(b'I')),
            b'K' => {
                if let Some(pid) = Body::new(body).int32() {
                    self.account.backend.pid = pid as u32;
                }
            }
            _ => {}
        }
    }

    /// Judges words that are no row.
    fn said(&mut self, body: &[u8], means: Means) {
        let mut sightings = Vec::new();
        self.lens.scan(body, &mut |sighting| sightings.push(sighting));
        let before = std::mem::take(&mut self.seen);
        self.row(&sightings);
        let Seen { owners, columns, .. } = std::mem::replace(&mut self.seen, before);
        if !owners.is_empty() {
            let (statement, trace) = self.front();
            let statement = if means == Means::Notification { "a notification".into() } else { statement };
            let what = What::Seen { means, owners, columns };
            self.account.tell(what, &statement, self.context.bound(), trace.as_deref());
        }
    }

    /// The statement that is answered.
    fn front(&self) -> (String, Option<String>) {
        let statement = match self.expected.front() {
            Some(Expected::Query(left, _)) => left.front(),
            Some(Expected::Execute(prepared, ..)) => Some(&prepared.statement),
            _ => None,
        };
        statement.map_or_else(|| ("no statement".into(), None), |s| (s.shape.clone(), s.trace.clone()))
    }

    /// Tells what was seen in a result.
    fn settle(&mut self, statement: &Statement) {
        let Seen { rows, own_rows, owners, columns, .. } = std::mem::take(&mut self.seen);
        self.account.backend.rows += rows;
        self.account.backend.own_rows += own_rows;
        if !owners.is_empty() {
            let what = What::Seen { means: Means::Row, owners, columns };
            self.account.tell(what, &statement.shape, self.context.bound(), statement.trace.as_deref());
        }
    }

    /// A statement came to its end; `tag` is what the server calls it.
    fn complete(&mut self, tag: &[u8]) {
        self.account.backend.statements += 1;
        self.statements += 1;
        match self.expected.front_mut() {
            Some(Expected::Query(left, _)) => {
                let Some(statement) = left.pop_front() else { return drop(std::mem::take(&mut self.seen)) };
                self.ended(&statement, None, &[], tag);
            }
            Some(Expected::Execute(..)) => {
                let Some(Expected::Execute(prepared, parameters, _)) = self.expected.pop_front() else { return };
                self.ended(&prepared.statement, prepared.of, &parameters, tag);
            }
            _ => drop(std::mem::take(&mut self.seen)),
        }
    }

    fn ended(&mut self, statement: &Statement, of: Option<Who>, parameters: &[Option<Box<[u8]>>], tag: &[u8]) {
        let (any_row, refused) = (self.seen.rows > 0, self.seen.refused);
        self.settle(statement);
        let Statement { shape, trace, .. } = statement;
        for act in &statement.acts {
            if *act == Act::Begin
                && self.context.in_transaction
                && let Some(who) = self.bound
            {
                self.account.tell(What::Open { who }, shape, self.context.bound(), trace.as_deref());
            }
            // What was to be committed after it failed is rolled back.
            let act = if *act == Act::Commit && tag.starts_with(b"ROLLBACK") { &Act::Rollback } else { act };
            self.context.act(act, Given { parameters, any_row, refused }, &*self.lens);
            if let Act::Execute(name) = act {
                self.carried(shape, trace.as_deref(), |state, held| state == State::Prepared && held == name);
            }
            if matches!(act, Act::Commit | Act::Rollback) {
                self.over(shape, trace.as_deref());
            }
        }
        // To begin or to end is no use: whom a transaction serves shows in what comes between.
        let edge = statement.acts.iter().any(|act| matches!(act, Act::Begin | Act::Commit | Act::Rollback));
        let Some(who) = self.context.bound().first().copied().filter(|_| !edge) else { return };
        if let Some(from) = of.filter(|from| *from != who) {
            let what = What::Carried { state: State::Prepared, from };
            self.account.tell(what, shape, self.context.bound(), trace.as_deref());
        }
        match self.bound.replace(who) {
            None => self.carried(shape, trace.as_deref(), |state, _| state != State::Prepared),
            Some(before) if before != who && self.context.in_transaction => {
                self.account.tell(What::Open { who: before }, shape, self.context.bound(), trace.as_deref());
            }
            Some(_) => {}
        }
    }

    /// Tells what others than the bound tenant left on the connection.
    fn carried(&mut self, shape: &str, trace: Option<&str>, which: impl Fn(State, &str) -> bool) {
        let bound = self.context.bound();
        for held in self.context.held().iter().filter(|held| which(held.state, &held.name)) {
            if bound.first().is_some_and(|who| *who != held.by) {
                let what = What::Carried { state: held.state, from: held.by };
                self.account.tell(what, shape, bound, trace);
            }
        }
    }

    fn fail(&mut self, body: &[u8]) {
        self.said(body, Means::Words);
        self.failed = true;
        match self.expected.front_mut() {
            Some(Expected::Query(left, _)) => {
                let statement = left.pop_front().unwrap_or_default();
                left.clear();
                self.settle(&statement);
            }
            Some(Expected::Execute(prepared, ..)) => {
                let prepared = prepared.clone();
                self.settle(&prepared.statement);
                // The server passes over all that was sent together.
                while self.expected.front().is_some_and(|next| !matches!(next, Expected::Sync)) {
                    self.expected.pop_front();
                }
            }
            _ => {}
        }
    }

    /// The server waits for more; `status` tells whether a transaction is open.
    fn ready(&mut self, status: u8) {
        while let Some(front) = self.expected.pop_front() {
            if !matches!(front, Expected::Execute(..)) {
                break;
            }
        }
        drop(std::mem::take(&mut self.seen));
        self.context.in_transaction = status != b'I';
        if status == b'I' && self.statements > 0 {
            self.context.end(!self.failed);
            self.over("the end of the transaction", None);
        }
        self.failed = false;
    }

    /// The transaction is over: whom it served, and what is left of them.
    fn over(&mut self, shape: &str, trace: Option<&str>) {
        let left: Vec<Who> = self.context.left().collect();
        for who in left {
            self.account.tell(What::Left { who }, shape, &[], trace);
        }
        self.account.served(self.bound.take());
        self.statements = 0;
    }
}

/// Names one, whatever it is asked.
struct Named(Who);

impl Naming for Named {
    fn whom(&self, _: &str, _: &[u8]) -> Option<Who> {
        Some(self.0)
    }
}

fn key(sighting: &Sighting) -> Key {
    (sighting.owner, sighting.row, sighting.column)
}

fn of_tenant(sighting: &Sighting) -> bool {
    sighting.owner != Owner::ABSENT && sighting.owner != Owner::PLATFORM
}

/// Whether a row of `owner` may come while those are bound.
fn rightful(bound: &[Who], owner: Owner) -> bool {
    !bound.is_empty() && bound.iter().all(|who| *who == Who::Tenant(owner))
}
