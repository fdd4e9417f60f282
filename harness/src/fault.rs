//! What befalls a connection between the service and its database while a tenant's request is under way.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// When.
    pub moment: Moment,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The connection breaks.
    Drop,
    /// What is asked is held back.
    Delay,
    /// What passes comes byte by byte.
    Fragment,
    /// The statement is cancelled while it runs.
    Cancel,
    /// The statement fails.
    Error,
    /// Every connection is held, so that a pool has none to give.
    Exhaust,
    /// The server is restarted.
    Restart,
}

impl Kind {
    /// What was done to a connection, in words.
    pub fn done(self) -> &'static str {
        match self {
            Self::Drop => "dropped",
            Self::Delay => "delayed",
            Self::Fragment => "cut into single bytes",
            Self::Cancel => "cancelled",
            Self::Error => "made to fail",
            Self::Exhaust => "held with all others",
            Self::Restart => "ended by a restart",
        }
    }
}

/// When it happens, in a transaction that the tenant is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// It was begun, and nothing else was asked in it.
    Begun,
    /// A statement runs in it, or without any.
    Running,
    /// It is about to be committed, or rolled back.
    Ending,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Begun => "once its transaction was begun",
            Moment::Running => "during a statement",
            Moment::Ending => "before its transaction was ended",
        };
        write!(f, "{} {moment}", self.kind.done())
    }
}

/// That a fault struck, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// Process ids of the connections, as the server gave them; none where the server itself was struck.
    pub backends: Vec<u32>,
}
