//! What came of one act: facts alone, from which a judge can conclude again without the database.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The recorded outcome of one act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of the act in its trial.
    pub act: usize,
    /// The error's code; none where it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The error's text, without values that are nobody's of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Rows that the command says it changed or told.
    #[serde(default)]
    pub affected: u64,
    /// Rows told.
    #[serde(default)]
    pub rows: u64,
    /// Rows told by the tenant whose they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of: BTreeMap<usize, u64>,
    /// Rows told of tenants that are none of the run's.
    #[serde(default)]
    pub of_others: u64,
    /// Tenants whose canaries the error's text held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_of: Vec<usize>,
    /// What the rows hash to, in any order.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// A few rows, where they are planted ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excerpt: Vec<String>,
    /// What a look found changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// A tenant's rows of one table, changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The table, qualified.
    pub table: String,
    /// Number of the tenant.
    pub tenant: usize,
    /// Rows before.
    pub before: i64,
    /// Rows after.
    pub after: i64,
    /// True where the rows hold what they held, and were written all the same.
    #[serde(default)]
    pub rewritten: bool,
}

impl Outcome {
    /// True where the statement succeeded.
    pub fn succeeded(&self) -> bool {
        self.sqlstate.is_none()
    }

    /// The answer as one word: a code, or that it succeeded.
    pub fn answer(&self) -> &str {
        self.sqlstate.as_deref().unwrap_or("success")
    }
}
