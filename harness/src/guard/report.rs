//! What guard concluded.

use serde::{Deserialize, Serialize};

use super::finding::{Certainty, Finding};
use crate::exit_code::ExitCode;
use crate::requirement::Severity;

/// The version of the report's form.
pub const VERSION: u32 = 1;

/// A database role or table, and why it counts as what it does.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Why.
    pub because: String,
}

/// A finding that the configuration lives with.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Suppressed {
    /// The finding.
    pub finding: Finding,
    /// Why it is lived with.
    pub reason: String,
    /// Until when.
    pub expires: String,
}

/// The review of one database.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The database's name.
    pub database: String,
    /// The server's version.
    pub server: String,
    /// The application's database roles.
    pub application_roles: Vec<Taken>,
    /// The tenants' tables.
    pub tenant_tables: Vec<Taken>,
    /// Schemas that are a tenant each, in groups that hold the same tables.
    pub tenant_schemas: Vec<Vec<String>>,
    /// What says which tenant is bound.
    pub tenant_context: Vec<String>,
    /// How many rules were tried.
    pub rules: usize,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// What the configuration lives with.
    pub suppressed: Vec<Suppressed>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// What was not tried, and why.
    pub not_tried: Vec<String>,
}

impl Report {
    /// True when there was nothing to judge.
    pub fn is_empty(&self) -> bool {
        self.tenant_schemas.is_empty() && (self.tenant_tables.is_empty() || self.application_roles.is_empty())
    }

    /// The exit code: a violation that is sure, then what could not be decided or nothing to judge, then none.
    pub fn exit_code(&self) -> ExitCode {
        let violations: Vec<&Finding> = self.findings.iter().filter(|f| f.severity != Severity::Info).collect();
        let nothing = self.is_empty();
        match () {
            () if violations.iter().any(|finding| finding.certainty != Certainty::Suspected) => ExitCode::Violated,
            () if nothing || !violations.is_empty() => ExitCode::Inconclusive,
            () => ExitCode::Upheld,
        }
    }
}
