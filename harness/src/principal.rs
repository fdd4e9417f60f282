//! Who acts: a principal of a tenant with one application role, the platform's operator, or nobody.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canary::Owner;

/// The application role of a request without a credential.
pub const NOBODY: &str = "nobody";

/// The actor of one step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Principal {
    /// The tenant it belongs to; none for the platform's operator and for nobody.
    pub tenant: Option<Owner>,
    /// The application role, as the target file names it.
    pub role: String,
}

impl Principal {
    /// A principal of a tenant.
    pub fn of(tenant: Owner, role: &str) -> Self {
        Self { tenant: Some(tenant), role: role.into() }
    }

    /// An actor without a tenant: the platform's operator or nobody.
    pub fn without_tenant(role: &str) -> Self {
        Self { tenant: None, role: role.into() }
    }

    /// The shell variable that stands for its credential wherever a command is shown.
    pub fn token_variable(&self) -> String {
        let name = match self.tenant {
            Some(tenant) => format!("TOKEN_{}_{}", self.role, tenant.index()),
            None => format!("TOKEN_{}", self.role),
        };
        name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant {
            Some(tenant) => write!(f, "{} of {tenant}", self.role),
            None => f.write_str(&self.role),
        }
    }
}
