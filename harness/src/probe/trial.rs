//! A trial: what is done as the application's database role, in order, and what it is to show.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::subject::Kind;

/// A statement's kind: a column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// `SELECT`.
    Select,
    /// `SELECT … FOR UPDATE`.
    SelectForUpdate,
    /// A function in the condition that sees each row before it is left out.
    SelectBy,
    /// `DECLARE` and `FETCH`.
    Cursor,
    /// `EXECUTE`, six times and more.
    Prepared,
    /// `EXPLAIN (ANALYZE)`.
    Explain,
    /// `COPY … TO STDOUT`.
    CopyTo,
    /// `SET row_security = off`.
    RowSecurityOff,
    /// `SET ROLE`.
    SetRole,
    /// `INSERT`.
    Insert,
    /// `INSERT … ON CONFLICT DO UPDATE`.
    OnConflict,
    /// `COPY … FROM STDIN`.
    CopyFrom,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`.
    Merge,
    /// `TRUNCATE`.
    Truncate,
    /// `LOCK TABLE`.
    Lock,
    /// What keys, exclusions and foreign keys answer.
    Constraint,
    /// `SELECT last_value`.
    LastValue,
    /// `setval`.
    Setval,
    /// `nextval`.
    Nextval,
    /// A call.
    Call,
    /// What an answer tells of others' rows without showing one.
    Influence,
    /// Drawn at random.
    Generated,
}

impl Command {
    /// Every command, in the order of the matrix.
    pub const ALL: [Self; 24] = [
        Self::Select,
        Self::SelectForUpdate,
        Self::SelectBy,
        Self::Cursor,
        Self::Prepared,
        Self::Explain,
        Self::CopyTo,
        Self::RowSecurityOff,
        Self::SetRole,
        Self::Insert,
        Self::OnConflict,
        Self::CopyFrom,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Truncate,
        Self::Lock,
        Self::Constraint,
        Self::LastValue,
        Self::Setval,
        Self::Nextval,
        Self::Call,
        Self::Influence,
        Self::Generated,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::SelectForUpdate => "FOR UPDATE",
            Self::SelectBy => "WHERE f(row)",
            Self::Cursor => "cursor",
            Self::Prepared => "EXECUTE",
            Self::Explain => "EXPLAIN",
            Self::CopyTo => "COPY TO",
            Self::RowSecurityOff => "row_security",
            Self::SetRole => "SET ROLE",
            Self::Insert => "INSERT",
            Self::OnConflict => "ON CONFLICT",
            Self::CopyFrom => "COPY FROM",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Merge => "MERGE",
            Self::Truncate => "TRUNCATE",
            Self::Lock => "LOCK",
            Self::Constraint => "constraint",
            Self::LastValue => "last_value",
            Self::Setval => "setval",
            Self::Nextval => "nextval",
            Self::Call => "call",
            Self::Influence => "influence",
            Self::Generated => "generated",
        }
    }
}

/// How the caller stands to the rows it reaches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Its own.
    Own,
    /// Another tenant's.
    Foreign,
    /// Anybody's, with no tenant bound on a connection that never had one.
    None,
    /// Anybody's, with an empty text bound.
    Empty,
    /// Anybody's, with something bound that is no tenant.
    Malformed,
    /// Anybody's, after another tenant was bound, or was and is no more.
    Switched,
}

impl Relation {
    /// All, in the order of reports.
    pub const ALL: [Self; 6] = [Self::Own, Self::Foreign, Self::None, Self::Empty, Self::Malformed, Self::Switched];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Foreign => "foreign",
            Self::None => "none",
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::Switched => "switched",
        }
    }
}

/// What is bound before a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// The tenant of that number.
    Tenant(usize),
    /// The empty text.
    Empty,
    /// Something that names no tenant.
    Malformed(String),
}

/// One thing done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// `BEGIN`, as the application's database role.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `SAVEPOINT`.
    Savepoint,
    /// `ROLLBACK TO SAVEPOINT`.
    RollBackTo,
    /// Binds the tenant context.
    Bind(Context),
    /// `SET LOCAL ROLE`.
    Become(String),
    /// A statement.
    Run(String),
    /// A `COPY … TO STDOUT`, and the columns it tells.
    CopyOut(String, Vec<String>),
    /// A `COPY … FROM STDIN`, and its lines.
    CopyIn(String, String),
    /// By the privileged role, in the same transaction: what each tenant's rows have become.
    Look,
    /// A statement of the privileged role in the same transaction.
    Privileged(String),
}

/// Which connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// The first.
    #[default]
    First,
    /// The second.
    Second,
    /// One on which nothing was ever bound.
    Virgin,
}

/// What a trial is to show, besides that nobody sees or changes what is another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Nothing more.
    Sealed,
    /// The caller sees, or changes, what is its own: the control of its cells.
    Own,
    /// The last statement does not succeed.
    Refused,
    /// It is answered like the others of its group: the control is `Own` of the same group.
    Alike(Answered),
    /// The answers of the statements numbered so among those run: the first two are noise, the third is after others' rows
    /// went.
    Unmoved,
}

/// Which of the answers that are to be alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// With a value that is another tenant's.
    Foreign,
    /// With a value that is nobody's.
    Absent,
}

/// One trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The subject, qualified.
    pub subject: String,
    /// What it is.
    pub kind: Kind,
    /// True where tenants own its rows: then its owner is to see some.
    pub owned: bool,
    /// The command.
    pub command: Command,
    /// The relation.
    pub relation: Relation,
    /// What it tries, in a few words.
    pub what: String,
    /// What is done.
    pub acts: Vec<(Lane, Act)>,
    /// What it is to show.
    pub expect: Expect,
    /// Trials of one name are compared, or are one another's control.
    pub group: String,
}

impl Trial {
    /// The tenant that is bound when each act begins: what `SET LOCAL` promises, whoever keeps it.
    pub fn bound(&self) -> Vec<Option<usize>> {
        let mut lanes: std::collections::BTreeMap<Lane, Bound> = std::collections::BTreeMap::new();
        let told = self.acts.iter().map(|(lane, act)| {
            let bound = lanes.entry(*lane).or_default();
            let before = bound.now;
            match act {
                Act::Begin | Act::Commit | Act::Rollback => *bound = Bound::default(),
                Act::Savepoint => bound.saved.push(bound.now),
                Act::RollBackTo => bound.now = bound.saved.last().copied().flatten(),
                Act::Bind(Context::Tenant(tenant)) => bound.now = Some(*tenant),
                Act::Bind(_) => bound.now = None,
                _ => {}
            }
            before
        });
        told.collect()
    }

    /// The tenants that were bound in the transaction that act `number` is in, up to it.
    pub fn bound_before(&self, number: usize) -> Vec<usize> {
        let Some((lane, _)) = self.acts.get(number) else { return Vec::new() };
        let before = self.acts[..number].iter().filter(|(other, _)| other == lane).map(|(_, act)| act);
        let since: Vec<&Act> = before.rev().take_while(|act| !matches!(act, Act::Begin)).collect();
        let tenant = |act: &&Act| match act {
            Act::Bind(Context::Tenant(tenant)) => Some(*tenant),
            _ => None,
        };
        since.iter().filter_map(tenant).collect()
    }

    /// True where it can be done on a connection of the caller's own alone.
    pub fn is_callers_own(&self) -> bool {
        !self.acts.iter().any(|(_, act)| matches!(act, Act::Look | Act::Privileged(_)))
    }

    /// True where something is kept of it.
    pub fn commits(&self) -> bool {
        self.acts.iter().any(|(_, act)| *act == Act::Commit)
    }
}

#[derive(Default)]
struct Bound {
    now: Option<usize>,
    saved: Vec<Option<usize>>,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("BEGIN"),
            Self::Commit => f.write_str("COMMIT"),
            Self::Rollback => f.write_str("ROLLBACK"),
            Self::Savepoint => f.write_str("SAVEPOINT a"),
            Self::RollBackTo => f.write_str("ROLLBACK TO SAVEPOINT a"),
            Self::Bind(Context::Tenant(tenant)) => write!(f, "bind tenant {tenant}"),
            Self::Bind(Context::Empty) => f.write_str("bind ''"),
            Self::Bind(Context::Malformed(text)) => write!(f, "bind '{text}'"),
            Self::Become(role) => write!(f, "SET LOCAL ROLE {role}"),
            Self::Run(sql) | Self::CopyOut(sql, _) | Self::CopyIn(sql, _) => f.write_str(sql),
            Self::Look => f.write_str("look at every tenant's rows"),
            Self::Privileged(sql) => write!(f, "as the privileged role: {sql}"),
        }
    }
}
