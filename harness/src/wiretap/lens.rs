//! What is looked for: canaries in whatever passes, and whom a context names.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::binding::{Binding, PLACES};
use super::context::Naming;
use super::frame;
use super::nested;
use super::ownership::Ownership;
use crate::canary::{Owner, Scanner, Sighting};
use crate::wire::Who;

/// What one wiretap looks for.
pub struct Lens {
    scanner: Scanner,
    pub(super) binding: Binding,
    pub(super) ownership: Option<Ownership>,
}

impl Lens {
    /// Finds what `scanner` does, and the contexts that `binding` tells of.
    pub fn new(scanner: Scanner, binding: Binding) -> Self {
        Self { scanner, binding, ownership: None }
    }

    /// Also takes a row for the tenant's that one of `columns` names in it, and whoever a context names for a tenant.
    #[must_use]
    pub fn with_tenant_columns(self, columns: &[String]) -> Self {
        Self { ownership: (!columns.is_empty()).then(|| Ownership::new(columns)), ..self }
    }

    /// Reports every canary in `bytes`.
    pub(super) fn scan(&self, bytes: &[u8], report: &mut dyn FnMut(Sighting)) {
        self.scanner.scan(bytes, report);
    }

    /// Reports the canaries that a value is in binary, or holds as an array, a composite or a range does, where only their
    /// length tells them from others: a number, an instant, an address.
    pub(super) fn scan_value(&self, value: &[u8], report: &mut dyn FnMut(Sighting)) {
        let binary = |value: &[u8]| {
            let whole = || self.scanner.binary(&nested::numeric(value)?.to_be_bytes());
            self.scanner.binary(value).or_else(whole)
        };
        match binary(value) {
            Some(sighting) => report(sighting),
            None => nested::values(value, &mut |part| binary(part).into_iter().for_each(&mut *report)),
        }
    }

    /// [`Lens::scan_value`] for each value of a row, whose message begins at `at`.
    pub(super) fn scan_fields(&self, body: &[u8], at: usize, report: &mut dyn FnMut(Sighting)) {
        for field in frame::fields(body).flatten() {
            self.scan_value(field, &mut |sighting| report(Sighting { offset: at, ..sighting }));
        }
    }
}

impl Naming for Lens {
    fn whom(&self, setting: &str, value: &[u8]) -> Option<Who> {
        let mut named = None;
        self.scanner.scan(value, &mut |sighting| named = named.or(Some(sighting.owner)));
        match named {
            Some(owner) if owner != Owner::ABSENT && owner != Owner::PLATFORM => Some(Who::Tenant(owner)),
            _ if value.is_empty() || PLACES.contains(&setting) => None,
            _ if self.ownership.is_some() && !self.binding.binds(setting) => None,
            _ if let Some(ownership) = &self.ownership => ownership.named(value).map(Who::Tenant),
            _ => {
                let mut hasher = DefaultHasher::new();
                value.hash(&mut hasher);
                Some(Who::Stranger(hasher.finish()))
            }
        }
    }
}
