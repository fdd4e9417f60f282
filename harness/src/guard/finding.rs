//! One weakness of one object.

use serde::{Deserialize, Serialize};

use crate::migration::Place;
use crate::requirement::Severity;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The database showed it.
    Proven,
    /// It follows from what the catalogs say.
    Inferred,
    /// It may be; reading cannot decide, and the database was not asked or could not tell.
    Suspected,
}

impl Certainty {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Inferred => "inferred",
            Self::Suspected => "suspected",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Object {
    /// Its schema; none for what has none, such as a role.
    pub schema: Option<String>,
    /// Its name; of a function with the types of its arguments.
    pub name: String,
    /// `table`, `view`, `materialized view`, `foreign table`, `sequence`, `function`, `role`, `publication`, `database`.
    pub kind: String,
}

impl Object {
    /// Its name with its schema, as people read it.
    pub fn label(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// One weakness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Finding {
    /// The rule's ID.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// How sure it is.
    pub certainty: Certainty,
    /// What it is about.
    pub object: Object,
    /// What is wrong, in one sentence.
    pub sentence: String,
    /// What shows it, a line each.
    pub evidence: Vec<String>,
    /// SQL that mends it; a comment where only a person can decide.
    pub remedy: String,
    /// Where in a folder of migrations it comes from, if it was guarded from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}
