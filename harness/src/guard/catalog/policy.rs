//! Row-security policies, their expressions as text.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection};

use super::{Oid, read};
use crate::error::Result;

/// A command that row security tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Command {
    /// SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl Command {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    /// As SQL spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its table.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// Its command; none for ALL.
    pub command: Option<Command>,
    /// `PERMISSIVE`, else `RESTRICTIVE`.
    pub permissive: bool,
    /// The roles it is for; [`super::PUBLIC`] for everybody.
    pub roles: Vec<Oid>,
    /// `USING`.
    pub using: Option<String>,
    /// `WITH CHECK`.
    pub check: Option<String>,
}

impl Policy {
    /// True when it takes part in `command`.
    pub fn covers(&self, command: Command) -> bool {
        self.command.is_none_or(|own| own == command)
    }

    /// What rows that are there must fulfil to be seen or changed by the command.
    pub fn visible(&self, command: Command) -> Option<&str> {
        (command != Command::Insert && self.covers(command)).then_some(self.using.as_deref()).flatten()
    }

    /// What new rows must fulfil: `WITH CHECK`, else `USING`.
    pub fn checked(&self, command: Command) -> Option<&str> {
        let writes = matches!(command, Command::Insert | Command::Update);
        (writes && self.covers(command)).then_some(self.check.as_deref().or(self.using.as_deref())).flatten()
    }
}

#[derive(FromRow)]
struct PolicyRow {
    relation: Oid,
    name: String,
    command: String,
    permissive: bool,
    roles: Vec<Oid>,
    using: Option<String>,
    check: Option<String>,
}

pub(super) async fn policies(connection: &mut PgConnection) -> Result<Vec<Policy>> {
    let query = "SELECT polrelid::int8 AS relation, polname::text AS name, polcmd::text AS command, \
         polpermissive AS permissive, polroles::int8[] AS roles, pg_get_expr(polqual, polrelid) AS \"using\", \
         pg_get_expr(polwithcheck, polrelid) AS \"check\" FROM pg_policy ORDER BY polrelid, polname";
    let found: Vec<PolicyRow> = read::all(connection, "policies", query).await?;
    let command = |letter: &str| match letter {
        "r" => Some(Command::Select),
        "a" => Some(Command::Insert),
        "w" => Some(Command::Update),
        "d" => Some(Command::Delete),
        _ => None,
    };
    let policy = |row: PolicyRow| Policy {
        relation: row.relation,
        name: row.name,
        command: command(&row.command),
        permissive: row.permissive,
        roles: row.roles,
        using: row.using,
        check: row.check,
    };
    Ok(found.into_iter().map(policy).collect())
}
