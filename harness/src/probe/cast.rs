//! One subject with its parts given out: who calls, whose rows it reaches for, and the acts that most trials share.

use std::collections::BTreeMap;

use super::engine::by_key;
use super::ground::{Ground, Row};
use super::subject::{Subject, literal};
use super::trial::{Act, Command, Context, Expect, Lane, Relation, Trial};

/// Something that is bound and is no tenant.
pub const MALFORMED: &str = "partywall: no tenant";

/// What the trials of one subject are made from.
#[derive(Clone, Copy)]
pub struct Cast<'a> {
    /// What is reached for.
    pub subject: &'a Subject,
    /// Whose rows there are.
    pub ground: &'a Ground,
    /// Number of the tenant that calls.
    pub caller: usize,
    /// Number of the tenant whose rows it reaches for.
    pub victim: usize,
    /// `server_version_num`.
    pub version: i32,
    /// True where the privileged role may leave out triggers.
    pub may_replicate: bool,
}

impl<'a> Cast<'a> {
    /// A row of `tenant` that nothing refers to, if it has any: the last one.
    pub fn row(&self, tenant: usize) -> Option<&'a Row> {
        let ground = self.ground;
        let own = ground.rows_of(self.subject.oid, tenant).last();
        // A table that is kept in partitions has its rows there, and a view over a table those of the table.
        own.or_else(|| ground.rows.iter().filter(|row| row.tenant == Some(tenant)).rfind(|row| self.holds(row)))
    }

    /// A row of `tenant` to insert.
    pub fn spare(&self, tenant: usize) -> Option<&'a Row> {
        let ground = self.ground;
        let own = ground.spare_of(self.subject.oid, tenant);
        own.or_else(|| ground.spares.iter().filter(|row| row.tenant == Some(tenant)).rfind(|row| self.holds(row)))
    }

    /// True where a row has every column of the subject: it is one of a partition, or of the table below a view.
    fn holds(&self, row: &Row) -> bool {
        !self.subject.kind.is_leaf() && self.subject.columns.iter().all(|column| row.values.contains_key(&column.name))
    }

    /// The columns that may be read, for a select list.
    pub fn readable(&self) -> String {
        let columns = &self.subject.columns;
        match columns.iter().all(|column| column.may_select) {
            true => "*".into(),
            false => columns.iter().filter(|c| c.may_select).map(|c| c.sql()).collect::<Vec<_>>().join(", "),
        }
    }

    /// True where all columns of the key may be read, so that a row can be named.
    pub fn can_name(&self) -> bool {
        self.subject.key().iter().all(|name| self.subject.column(name).is_some_and(|column| column.may_select))
    }

    /// The condition that finds `row`.
    pub fn at(&self, row: &Row) -> String {
        by_key(self.subject, &row.values, "")
    }

    /// The condition that finds the rows of `tenant`, where a column says so.
    pub fn of(&self, tenant: usize) -> Option<String> {
        let column = self.subject.column(self.subject.tenant.as_deref()?).filter(|column| column.may_select)?;
        Some(format!("{} = {}::{}", column.sql(), literal(&self.ground.tenants[tenant].id), column.kind))
    }

    /// The statement that inserts `row`, with some columns changed; none of its columns may be given.
    pub fn insert(&self, row: &Row, changed: &BTreeMap<String, Option<String>>) -> Option<String> {
        let (names, values) = self.given(row, changed)?;
        let identity =
            self.subject.columns.iter().any(|column| column.always && row.given.iter().any(|(n, _)| *n == column.name));
        let overriding = if identity { "OVERRIDING SYSTEM VALUE " } else { "" };
        Some(format!("INSERT INTO {} ({names}) {overriding}VALUES ({values})", self.subject.sql()))
    }

    /// Columns and values of `row` that the caller may give.
    pub fn given(&self, row: &Row, changed: &BTreeMap<String, Option<String>>) -> Option<(String, String)> {
        let given = row.given.iter().filter_map(|(name, value)| {
            let column = self.subject.column(name).filter(|column| column.may_insert && !column.generated)?;
            let value = changed.get(name).unwrap_or(value);
            let value = value.as_ref().map_or_else(|| "NULL".into(), |value| literal(value));
            Some((column.sql(), format!("{value}::{}", column.kind)))
        });
        let (names, values): (Vec<String>, Vec<String>) = given.unzip();
        (!names.is_empty()).then(|| (names.join(", "), values.join(", ")))
    }

    /// A trial in one transaction, which is not kept.
    pub fn trial(&self, command: Command, relation: Relation, what: &str, acts: Vec<Act>) -> Trial {
        let context = match relation {
            Relation::None => None,
            Relation::Empty => Some(Context::Empty),
            Relation::Malformed => Some(Context::Malformed(MALFORMED.into())),
            Relation::Own | Relation::Foreign | Relation::Switched => Some(Context::Tenant(self.caller)),
        };
        let lane = if relation == Relation::None { Lane::Virgin } else { Lane::First };
        let mut all = vec![Act::Begin];
        all.extend(context.map(Act::Bind));
        all.extend(acts);
        all.push(Act::Rollback);
        let expect = if relation == Relation::Own { Expect::Own } else { Expect::Sealed };
        self.made(command, relation, what, all.into_iter().map(|act| (lane, act)).collect(), expect)
    }

    /// A trial of any acts.
    pub fn made(
        &self,
        command: Command,
        relation: Relation,
        what: &str,
        acts: Vec<(Lane, Act)>,
        expect: Expect,
    ) -> Trial {
        Trial {
            subject: self.subject.title(),
            kind: self.subject.kind,
            owned: self.subject.owned,
            command,
            relation,
            what: what.into(),
            acts,
            expect,
            group: String::new(),
        }
    }

    /// The same cast with the parts of caller and victim exchanged.
    pub fn exchanged(&self) -> Self {
        Self { caller: self.victim, victim: self.caller, ..*self }
    }
}

/// The relations without a tenant.
pub const UNBOUND: [Relation; 3] = [Relation::None, Relation::Empty, Relation::Malformed];
