//! Sequences drawn at random over two connections: statements, savepoints, rollbacks, and changes of context and role.
//! One that shows something is shrunk to the fewest acts that still do.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::breach::shows;
use super::engine::Engine;
use super::judge::Record;
use super::subject::{Kind, Subject};
use super::trial::{Act, Command, Context, Expect, Lane, Relation, Trial};
use crate::error::Result;
use crate::seed::Seed;

/// Steps drawn for one sequence.
const STEPS: std::ops::Range<usize> = 6..28;
/// Tries to make one sequence smaller.
const SHRINKS_MAX: usize = 150;
/// What the sequences count as.
pub const SUBJECT: &str = "sequences of statements";

/// One step as drawn: what it becomes depends on what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Bind(usize),
    BindEmpty,
    Savepoint,
    RollBackTo,
    Commit,
    Rollback,
    Role(usize),
    Read(usize),
    Execute(usize),
    Update(usize),
}

/// What sequences are drawn over.
pub struct Stage<'a> {
    /// Tables that may be read, and showed nothing on their own.
    pub tables: Vec<&'a Subject>,
    /// Roles that can be taken, the application's own last.
    pub roles: Vec<String>,
    /// Tenants.
    pub tenants: usize,
    /// True where transactions may be kept, and there may be two connections.
    pub copies: bool,
    /// True where something may be written.
    pub writes: bool,
    /// The seed.
    pub seed: Seed,
}

impl Stage<'_> {
    /// Does `cases` sequences; the smallest form of those that show something.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn play(&self, engine: &mut Engine<'_>, cases: u64) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        if self.tables.is_empty() {
            return Ok(records);
        }
        for case in 0..cases {
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &self.seed.bytes("sequence", case));
            let mut runner = TestRunner::new_with_rng(Config::default(), rng);
            let Ok(mut tree) = self.strategy().new_tree(&mut runner) else { continue };
            let mut tries = 0;
            let mut name = case << 16;
            let mut kept = self.perform(engine, &tree.current(), name).await?;
            let mut smaller = shows(&kept) && tree.simplify();
            while smaller && tries < SHRINKS_MAX {
                tries += 1;
                name += 1;
                let tried = self.perform(engine, &tree.current(), name).await?;
                smaller = if shows(&tried) {
                    kept = tried;
                    tree.simplify()
                } else {
                    tree.complicate()
                };
            }
            records.push(kept);
        }
        Ok(records)
    }

    fn strategy(&self) -> impl Strategy<Value = Vec<(Lane, Step)>> + use<> {
        let (tables, roles, tenants) = (self.tables.len(), self.roles.len().max(1), self.tenants);
        let lanes = if self.copies { vec![Lane::First, Lane::Second] } else { vec![Lane::First] };
        let step = prop_oneof![
            4 => (0..tenants).prop_map(Step::Bind),
            1 => Just(Step::BindEmpty),
            2 => Just(Step::Savepoint),
            2 => Just(Step::RollBackTo),
            2 => Just(Step::Commit),
            1 => Just(Step::Rollback),
            1 => (0..roles).prop_map(Step::Role),
            5 => (0..tables).prop_map(Step::Read),
            4 => (0..tables).prop_map(Step::Execute),
            2 => (0..tables).prop_map(Step::Update),
        ];
        vec((prop::sample::select(lanes), step), STEPS)
    }

    async fn perform(&self, engine: &mut Engine<'_>, steps: &[(Lane, Step)], name: u64) -> Result<Record> {
        let trial = Trial {
            subject: SUBJECT.into(),
            kind: Kind::Table,
            owned: true,
            command: Command::Generated,
            relation: Relation::Switched,
            what: "drawn at random".into(),
            acts: self.acts(steps, name),
            expect: Expect::Sealed,
            group: String::new(),
        };
        let outcomes = engine.perform(&trial).await?;
        Ok(Record { trial, outcomes })
    }

    /// The acts that `steps` become: within a transaction always, and nothing kept that was written.
    fn acts(&self, steps: &[(Lane, Step)], name: u64) -> Vec<(Lane, Act)> {
        let mut acts = Vec::new();
        let mut open: BTreeSet<Lane> = BTreeSet::new();
        let mut saved: BTreeSet<Lane> = BTreeSet::new();
        let mut wrote: BTreeSet<Lane> = BTreeSet::new();
        let mut prepared: BTreeSet<(Lane, usize)> = BTreeSet::new();
        for (lane, step) in steps {
            let ends = matches!(step, Step::Commit | Step::Rollback);
            if ends || (*step == Step::RollBackTo && !saved.contains(lane)) {
                if ends && open.remove(lane) {
                    let keeps = *step == Step::Commit && self.copies && !wrote.contains(lane);
                    acts.push((*lane, if keeps { Act::Commit } else { Act::Rollback }));
                    saved.remove(lane);
                    wrote.remove(lane);
                }
                continue;
            }
            if open.insert(*lane) {
                acts.push((*lane, Act::Begin));
            }
            let mut act = |act: Act| acts.push((*lane, act));
            let table = |number: usize| self.tables[number % self.tables.len()];
            match step {
                Step::Bind(tenant) => act(Act::Bind(Context::Tenant(*tenant))),
                Step::BindEmpty => act(Act::Bind(Context::Empty)),
                Step::Savepoint => {
                    saved.insert(*lane);
                    act(Act::Savepoint);
                }
                Step::RollBackTo => act(Act::RollBackTo),
                Step::Role(number) => {
                    // There and back: what a role may see is tried elsewhere.
                    if let (Some(role), Some(own)) = (self.roles.get(*number), self.roles.last()) {
                        act(Act::Become(role.clone()));
                        act(Act::Become(own.clone()));
                    }
                }
                Step::Read(number) => act(Act::Run(read(table(*number)))),
                Step::Execute(number) => {
                    let table_number = number % self.tables.len();
                    let statement = format!("partywall_story_{name}_{table_number}");
                    if prepared.insert((*lane, table_number)) {
                        act(Act::Run(format!("PREPARE {statement} AS {}", read(table(*number)))));
                        act(Act::Run(vec![format!("EXECUTE {statement}"); 5].join("; ")));
                    }
                    act(Act::Run(format!("EXECUTE {statement}")));
                }
                Step::Update(number) => {
                    let table = table(*number);
                    if let (Some(column), true, Lane::First) = (table.changeable(), self.writes, lane)
                        && column.may_select
                    {
                        wrote.insert(*lane);
                        act(Act::Run(format!("UPDATE {} SET {1} = {1}", table.sql(), column.sql())));
                        act(Act::Look);
                    }
                }
                Step::Commit | Step::Rollback => {}
            }
        }
        acts.extend(open.into_iter().map(|lane| (lane, Act::Rollback)));
        acts
    }
}

fn read(table: &Subject) -> String {
    let columns: Vec<String> = table.columns.iter().filter(|c| c.may_select).map(|c| c.sql()).collect();
    format!("SELECT {} FROM {} LIMIT 5000", columns.join(", "), table.sql())
}
