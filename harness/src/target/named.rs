//! What a request of an operation names: the tenant itself, by which some services begin every path, and planted rows, in
//! the path or in the body.

use serde_json::Value;

use super::file::{Access, Per, TargetFile};
use crate::operation::{Operation, Place};

/// The reference that is the tenant's own id, wherever it is planted.
pub const TENANT: &str = "tenant";

impl TargetFile {
    /// Whether `TABLE.COLUMN` is the tenant itself and no row of it.
    pub fn is_tenants_own(&self, reference: &str) -> bool {
        let table = reference.split('.').next().unwrap_or(reference);
        reference == TENANT || self.plant.table.iter().any(|t| t.name == table && t.per == Per::Tenant)
    }

    /// Path parameters that hold a planted value, with its reference, in the document's order.
    pub fn named_in_path<'a>(operation: &'a Operation, access: &'a Access) -> impl Iterator<Item = (&'a str, &'a str)> {
        let path = operation.parameters_in(Place::Path);
        path.filter_map(|p| Some((p.name.as_str(), access.params.get(&p.name)?.as_str())))
    }

    /// Those of them that name a row: what lies below the tenant.
    pub fn rows_in_path<'a>(
        &self,
        operation: &'a Operation,
        access: &'a Access,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        Self::named_in_path(operation, access).filter(|(_, reference)| !self.is_tenants_own(reference))
    }

    /// References of the body to rows that are planted per row, each once.
    pub fn rows_in_body<'a>(&self, access: &'a Access) -> Vec<&'a str> {
        let mut found = Vec::new();
        access.body.iter().for_each(|body| self.collect(body, &mut found));
        found
    }

    /// Whether its body says whose it is.
    pub fn says_tenant(access: &Access) -> bool {
        let word = format!("\"{{{TENANT}}}\"");
        access.body.as_ref().is_some_and(|body| body.to_string().contains(&word))
    }

    fn collect<'a>(&self, body: &'a Value, found: &mut Vec<&'a str>) {
        match body {
            Value::String(text) => {
                let reference = reference_of(text).filter(|reference| self.is_row(reference));
                found.extend(reference.filter(|reference| !found.contains(reference)));
            }
            Value::Object(fields) => fields.values().for_each(|field| self.collect(field, found)),
            Value::Array(items) => items.iter().for_each(|item| self.collect(item, found)),
            _ => {}
        }
    }

    /// Whether `TABLE.COLUMN` is of a table planted per row.
    pub fn is_row(&self, reference: &str) -> bool {
        let table = reference.split_once('.').map(|(table, _)| table);
        table.is_some_and(|table| self.plant.table.iter().any(|t| t.name == table && t.per == Per::Row))
    }
}

/// What stands between the braces of a body's text.
pub fn reference_of(text: &str) -> Option<&str> {
    text.strip_prefix('{').and_then(|t| t.strip_suffix('}'))
}
