//! One cell of the coverage: operation × application role × relation × pool state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whose object a step names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The actor's own tenant's.
    Own,
    /// Another tenant's.
    Foreign,
    /// Nobody's: it does not exist.
    Absent,
}

impl Relation {
    /// All three, in the order reports show them.
    pub const ALL: [Self; 3] = [Self::Own, Self::Foreign, Self::Absent];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Foreign => "foreign",
            Self::Absent => "absent",
        }
    }
}

/// How requests meet the target's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lanes {
    /// All tenants alternate on one keep-alive connection.
    One,
    /// Tenants alternate on many connections at once.
    Many,
}

/// The size of the target's pool, and how it is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PoolState {
    /// Connections in the target's pool; none when the target file gives no way to set it.
    pub pool_size: Option<u32>,
    /// How requests meet it.
    pub lanes: Lanes,
}

impl fmt::Display for PoolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pool_size {
            Some(size) => write!(f, "pool {size}")?,
            None => f.write_str("pool as it is")?,
        }
        f.write_str(match self.lanes {
            Lanes::One => ", one connection",
            Lanes::Many => ", many connections",
        })
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Cell {
    /// The operation's ID.
    pub operation: String,
    /// The actor's application role.
    pub role: String,
    /// Whose object was named.
    pub relation: Relation,
    /// Where it ran.
    pub pool_state: PoolState,
}
