//! How a tenant is bound: by which settings, by which functions.

use crate::target::file::TargetFile;

/// What of a statement is looked for besides what Postgres itself gives a meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Settings that hold a tenant.
    pub settings: Vec<String>,
    /// Functions that bind the tenant that their first argument names.
    pub functions: Vec<String>,
}

/// The setting that is a database role.
pub const ROLE: &str = "role";
/// Settings that may name a tenant without being made for it.
pub const PLACES: [&str; 2] = ["search_path", ROLE];

impl Binding {
    /// What `target` tells of how a tenant is bound.
    pub fn of(target: &TargetFile) -> Self {
        let setting = target.database.as_ref().and_then(|database| database.tenant_context.clone());
        let wiretap = target.wiretap.clone().unwrap_or_default();
        let lower = |words: Vec<String>| words.iter().map(|word| word.to_ascii_lowercase()).collect::<Vec<_>>();
        Self {
            settings: lower(setting.into_iter().chain(wiretap.settings).collect()),
            functions: lower(wiretap.functions),
        }
    }

    /// Whether a setting, or a function, is made for holding a tenant.
    pub fn binds(&self, name: &str) -> bool {
        self.settings.iter().chain(&self.functions).any(|known| known == name)
    }

    /// Whether a setting may name a tenant.
    pub fn is_of_interest(&self, setting: &str) -> bool {
        PLACES.contains(&setting) || self.settings.iter().any(|known| known == setting)
    }
}
