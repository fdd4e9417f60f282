//! One connection as both ends see it: what was asked, in order, and what comes of it. Answers are told apart by a queue
//! of what is expected, so that requests may run ahead of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::account::{Account, Key, Seen};
use super::act::Act;
use super::context::{Context, Given, Naming};
use super::expected::{Bind, Expected, Portal, Prepared};
use super::frame::{self, Body, Piece};
use super::lens::Lens;
use super::ownership::Layout;
use super::rows::key;
use super::statement::Statement;
use crate::canary::{Owner, Sighting};
use crate::fault::Moment;
use crate::wire::{Means, State, What, Who};

/// Of a message of the client's that comes in parts so much is read, bytes.
const READ_MAX: usize = 1 << 20;
/// The state of one connection.
pub struct Session {
    pub(super) lens: Arc<Lens>,
    /// What it has to tell.
    pub account: Account,
    pub(super) context: Context,
    prepared: HashMap<Vec<u8>, Arc<Prepared>>,
    portals: HashMap<Vec<u8>, Arc<Portal>>,
    pub(super) expected: VecDeque<Expected>,
    pub(super) seen: Seen,
    /// Which columns of a simple query's result name a tenant.
    pub(super) described: Option<Layout>,
    /// Whether values of what comes may be in binary, where the server tells: in a simple query's result, and in COPY.
    pub(super) in_binary: bool,
    failed: bool,
    /// What a request to cancel names this connection by.
    pub(super) key: Vec<u8>,
    /// Whether all was answered, and whether anything was asked in this transaction since a tenant was bound.
    idle: bool,
    used: bool,
    /// Whoever was bound in the transaction that is open, and statements in it.
    bound: Option<Who>,
    statements: u64,
    /// The beginning of a long message of the client's.
    gathered: Vec<u8>,
    /// The end of the last part of a long message of the server's, and what was found in it.
    pub(super) shared: Vec<u8>,
    pub(super) in_parts: Vec<Sighting>,
    pub(super) sightings: Vec<Sighting>,
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
            described: None,
            in_binary: true,
            failed: false,
            key: Vec::new(),
            idle: false,
            used: false,
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
        self.idle = false;
        self.used |= self.context.in_transaction && !self.context.bound().is_empty();
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

    /// At which moment of a transaction that `owner` is bound to the client sends `batch`; none while it waits for an
    /// answer, and where others are bound.
    pub fn moment(&self, owner: Owner, batch: &[u8]) -> Option<Moment> {
        if !self.idle || !self.context.bound().contains(&Who::Tenant(owner)) {
            return None;
        }
        let ends = |statement: &Statement| statement.acts.iter().any(|act| matches!(act, Act::Commit | Act::Rollback));
        let read = |text: &[u8]| self.lens.binding.read(&String::from_utf8_lossy(text)).iter().any(ends);
        let ending = frame::messages(batch).any(|(tag, body, _)| {
            let mut rest = Body::new(body);
            match tag {
                b'Q' => read(body.strip_suffix(&[0]).unwrap_or(body)),
                b'P' => rest.text().and_then(|_| rest.text()).is_some_and(read),
                b'B' => rest.text().and_then(|_| self.prepared.get(rest.text()?)).is_some_and(|p| ends(&p.statement)),
                _ => false,
            }
        });
        Some(match self.context.in_transaction {
            _ if ending => Moment::Ending,
            true if !self.used => Moment::Begun,
            _ => Moment::Running,
        })
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
                self.prepared.insert(name.into(), Arc::new(Prepared { statement, of, ..Prepared::default() }));
            }
            b'B' => {
                let _ = self.bind(body);
            }
            b'E' => {
                let name = Body::new(body).text().unwrap_or_default();
                let Some(portal) = self.portals.get(name) else { return };
                self.expected.push_back(Expected::Execute(portal.clone()));
            }
            b'D' if self.lens.ownership.is_some() => {
                let (kind, name) = body.split_first().unwrap_or((&0, b""));
                let name = name.strip_suffix(&[0]).unwrap_or(name);
                let prepared = match kind {
                    b'S' => self.prepared.get(name),
                    _ => self.portals.get(name).map(|portal| &portal.prepared),
                };
                self.expected.extend(prepared.cloned().map(Expected::Describe));
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

    fn bind(&mut self, body: &[u8]) -> Option<()> {
        let bind = Bind::read(body)?;
        let prepared = self.prepared.get(bind.names.1)?.clone();
        let parameters = bind.needed_by(&prepared.statement);
        let values: Vec<&[u8]> = bind.values.iter().flatten().copied().collect();
        let echoes = self.echoes(body, &values);
        let is_binary = bind.formats.iter().any(|format| *format != 0);
        let formats = if self.lens.ownership.is_some() { bind.formats } else { Vec::new() };
        let portal = Portal { prepared, parameters, formats, is_binary, echoes };
        self.portals.insert(bind.names.0.into(), Arc::new(portal));
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

    fn answer(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'C' => self.complete(body),
            b'I' => self.complete(b""),
            b's' => {
                let front = self.expected.pop_front();
                if let Some(Expected::Execute(portal)) = &front {
                    self.settle(&portal.prepared.statement);
                }
            }
            b'T' | b'n' => self.describe((tag == b'T').then_some(body)),
            b'H' => self.in_binary = body.first() != Some(&0),
            b'E' => self.fail(body),
            b'N' => self.said(body, Means::Words),
            b'A' => self.said(body, Means::Notification),
            b'Z' => self.ready(body.first().copied().unwrap_or(b'I')),
            b'K' => {
                self.key = body.into();
                if let Some(pid) = Body::new(body).int32() {
                    self.account.backend.pid = pid as u32;
                }
            }
            _ => {}
        }
    }

    /// The server tells what a result looks like; nothing where there is none.
    fn describe(&mut self, body: Option<&[u8]>) {
        self.in_binary = body.is_none_or(frame::is_binary);
        let Some(ownership) = &self.lens.ownership else { return };
        let layout = body.map(|body| ownership.layout(body));
        if let Some(Expected::Describe(_)) = self.expected.front() {
            let Some(Expected::Describe(prepared)) = self.expected.pop_front() else { return };
            // Described again, it is what it was.
            let _ = layout.map(|layout| prepared.layout.set(layout));
        } else {
            self.described = layout;
        }
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
        self.described = None;
        self.in_binary = true;
        match self.expected.front_mut() {
            Some(Expected::Query(left, _)) => {
                let Some(statement) = left.pop_front() else { return drop(std::mem::take(&mut self.seen)) };
                self.ended(&statement, None, &[], tag);
            }
            Some(Expected::Execute(..)) => {
                let Some(Expected::Execute(portal)) = self.expected.pop_front() else { return };
                self.ended(&portal.prepared.statement, portal.prepared.of, &portal.parameters, tag);
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
            if let Act::Execute(name, _) = act {
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
            Some(front) if front.is_passed_over() => {
                if let Some(Expected::Execute(portal)) = self.expected.pop_front() {
                    self.settle(&portal.prepared.statement);
                }
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
            if !front.is_passed_over() {
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
        self.idle = true;
    }

    /// The transaction is over: whom it served, and what is left of them.
    fn over(&mut self, shape: &str, trace: Option<&str>) {
        let left: Vec<Who> = self.context.left().collect();
        for who in left {
            self.account.tell(What::Left { who }, shape, &[], trace);
        }
        self.account.served(self.bound.take());
        self.used = false;
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
