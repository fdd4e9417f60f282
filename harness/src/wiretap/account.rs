//! What one connection has to tell: counts, and facts by kind, until they are asked for.

use std::collections::HashMap;

use crate::canary::Owner;
use crate::wire::{Backend, Fact, What, Who};

/// Kinds of facts that one connection keeps between two times that it is asked.
const FACTS_MAX: usize = 2_000;

/// What tells one planted value from another.
pub type Key = (Owner, Option<u32>, Option<u16>);

/// The account.
#[derive(Default)]
pub struct Account {
    /// Its connection, and the counts.
    pub backend: Backend,
    facts: HashMap<Fact, (u64, Option<String>)>,
    left_out: u64,
    /// The tenant that was served last, and whether somebody is served at the moment.
    last: Option<Who>,
    idle: bool,
}

impl Account {
    /// Something is to be judged.
    pub fn tell(&mut self, what: What, statement: &str, bound: &[Who], trace: Option<&str>) {
        let fact = Fact {
            what,
            statement: statement.into(),
            bound: bound.into(),
            backend: self.backend.pid,
            role: self.backend.role.clone(),
            times: 0,
            trace: None,
        };
        let full = self.facts.len() >= FACTS_MAX;
        match self.facts.entry(fact) {
            std::collections::hash_map::Entry::Vacant(_) if full => self.left_out += 1,
            entry => {
                let (times, last) = entry.or_default();
                *times += 1;
                *last = trace.map(str::to_string).or(last.take());
            }
        }
    }

    /// A transaction has ended that `who` was bound to, or nobody.
    pub fn served(&mut self, who: Option<Who>) {
        let Some(who) = who else {
            self.backend.to_nobody += u64::from(self.last.is_some() && !self.idle);
            self.idle = true;
            return;
        };
        self.backend.bound += 1;
        self.idle = false;
        let before = self.last.replace(who);
        if let Some(before) = before.filter(|before| *before != who) {
            self.backend.hand_overs += 1;
            self.backend.such_as = Some((before, who));
        }
    }

    /// What there is to tell since the last time.
    pub fn take(&mut self) -> (Option<Backend>, Vec<Fact>, u64) {
        let Backend { pid, role, database, .. } = &self.backend;
        let fresh = Backend { pid: *pid, role: role.clone(), database: database.clone(), ..Backend::default() };
        let told = std::mem::replace(&mut self.backend, fresh);
        let told = (told.statements > 0).then_some(told);
        let facts = self.facts.drain().map(|(fact, (times, trace))| Fact { times, trace, ..fact });
        let mut facts: Vec<Fact> = facts.collect();
        facts.sort_by(|a, b| (&a.statement, &a.bound).cmp(&(&b.statement, &b.bound)));
        (told, facts, std::mem::take(&mut self.left_out))
    }
}

/// What was seen in one result so far.
#[derive(Default)]
pub struct Seen {
    /// Rows.
    pub rows: u64,
    /// Rows of the bound tenant's alone.
    pub own_rows: u64,
    /// Others' rows: whose.
    pub owners: Vec<Owner>,
    /// And in which columns.
    pub columns: Vec<u16>,
    /// The first value of the first row is false.
    pub refused: bool,
}

impl Seen {
    /// Owners of one result that are told apart.
    const OWNERS_MAX: usize = 4;

    /// Something of `owner` was seen, where it does not belong.
    pub fn note(&mut self, owner: Owner, column: u16) {
        if !self.owners.contains(&owner) && self.owners.len() < Self::OWNERS_MAX {
            self.owners.push(owner);
        }
        if !self.columns.contains(&column) {
            self.columns.push(column);
            self.columns.sort_unstable();
        }
    }
}
