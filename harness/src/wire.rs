//! What was seen between a service and its database: whose rows came while which tenant was bound, what a tenant's use
//! of a connection left on it, and which connections were handed from one tenant to another. Counts, not rows: its size
//! depends on how many kinds of statement there are, never on how many rows came.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::Owner;
use crate::cell::PoolState;

/// Whom a context names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A planted tenant.
    Tenant(Owner),
    /// Someone that nobody planted, by a digest of the value.
    Stranger(u64),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(owner) => owner.fmt(f),
            Self::Stranger(digest) => write!(f, "someone not planted ({digest:016x})"),
        }
    }
}

/// What was seen since the last time it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// The pool state that was driven meanwhile; none where nothing was driven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_state: Option<PoolState>,
    /// The connections that had something to do.
    pub backends: Vec<Backend>,
    /// What is to be judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// Tenants that were met for the first time where nothing is planted, and what they are called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<(Owner, String)>,
    /// Facts beyond what one connection may hold: of kinds that were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One connection of the database's, and what it served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The process id that the server gave.
    pub pid: u32,
    /// The database role that connected.
    pub role: String,
    /// The database.
    pub database: String,
    /// Statements that came to their end.
    pub statements: u64,
    /// Rows that were judged.
    pub rows: u64,
    /// Those in which something of the bound tenant, and of nobody else, was seen.
    pub own_rows: u64,
    /// Those that were to say whose they are by a column, in results whose columns nobody asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undescribed: u64,
    /// Transactions that a tenant was bound to.
    pub bound: u64,
    /// How often it served a tenant after it had served another one.
    pub hand_overs: u64,
    /// How often it served nobody right after a tenant.
    pub to_nobody: u64,
    /// A hand-over that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub such_as: Option<(Who, Who)>,
}

/// Something that is to be judged, and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// What.
    pub what: What,
    /// The statement, its values left out.
    pub statement: String,
    /// Who was bound, in every way that a context is told; nobody when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<Who>,
    /// The connection.
    pub backend: u32,
    /// The database role that connected.
    pub role: String,
    /// How often.
    #[serde(default)]
    pub times: u64,
    /// The trace that the service told the database of, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// What a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum What {
    /// An answer held what is not the bound tenant's alone.
    Seen {
        /// In which part of it.
        means: Means,
        /// Whose, the first few.
        owners: Vec<Owner>,
        /// Codes of the planted columns.
        columns: Vec<u16>,
    },
    /// The transaction was over, and a tenant was still bound to the connection.
    Left {
        /// Who.
        who: Who,
    },
    /// A transaction was begun, or another tenant bound, in one that was open for `who`.
    Open {
        /// Who.
        who: Who,
    },
    /// Something that `from` left on the connection was there when the bound tenant came.
    Carried {
        /// What.
        state: State,
        /// Who left it.
        from: Who,
    },
}

/// In which part of an answer something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// A row, or a line of COPY.
    Row,
    /// An error's or a notice's text.
    Words,
    /// A notification.
    Notification,
}

/// State that outlives a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A temporary table.
    TemporaryTable,
    /// An advisory lock of the session's.
    AdvisoryLock,
    /// A channel listened on.
    Listening,
    /// A cursor with hold.
    Cursor,
    /// A database role that was changed to.
    Role,
    /// A prepared statement that names its tenant.
    Prepared,
}

impl State {
    /// The words.
    pub fn words(self) -> &'static str {
        match self {
            Self::TemporaryTable => "a temporary table",
            Self::AdvisoryLock => "an advisory lock",
            Self::Listening => "a channel listened on",
            Self::Cursor => "an open cursor",
            Self::Role => "a changed database role",
            Self::Prepared => "a prepared statement with a tenant in it",
        }
    }
}
