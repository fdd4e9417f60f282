//! Which sequences the sweep is made of: every operation × application role × relation, in every variant that it has.

use super::request::Forge;
use super::{Planner, Proof};
use crate::cell::Relation;
use crate::operation::{Operation, Place};
use crate::principal::NOBODY;
use crate::target::file::{Access, TargetFile};

/// Marks "the commonest word"; resolved by name, not by position.
const TENANT_ID_WORD: u64 = u64::MAX;

/// What one sequence of the sweep is about.
#[derive(Clone, Debug)]
pub(super) struct Template {
    operation: usize,
    pub role: String,
    pub relation: Relation,
    pub variant: Variant,
}

/// How the objects of the relation are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// The request as it is meant, naming objects by `relation`.
    Plain,
    /// Only one path parameter belongs to the subject, the others to the actor: parent and child swapped.
    Child,
    /// Below the own tenant's place in the path, every object is the subject's.
    Below,
    /// A list in the body names a row of the actor's and one of the subject's, which is the first or the last.
    Among(bool),
    /// A planted value in the named filter.
    Filter(String),
    /// A cursor of the subject.
    Cursor,
    /// The subject forged into the request; one word of those known, or all.
    Forged(Forge, Option<u64>),
    /// An altered credential.
    Credential(Proof),
}

impl Template {
    /// Whether it is what a tenant's principal may do without another tenant.
    pub(super) fn is_of_itself(&self, planner: &Planner) -> bool {
        let tenants = planner.plan.target.role(&self.role).is_some_and(|role| !role.platform);
        let allowed =
            self.described(planner).is_some_and(|(_, access)| !access.open && access.allow.contains(&self.role));
        tenants && allowed && self.relation != Relation::Foreign && !matches!(self.variant, Variant::Credential(_))
    }

    /// Its operation, and what the target file says of it.
    pub(super) fn described<'p>(&self, planner: &'p Planner) -> Option<(&'p Operation, &'p Access)> {
        let operation = &planner.plan.operations[self.operation];
        Some((operation, planner.access(operation)?))
    }
}

/// All templates, in an order that lets tenants alternate.
pub(super) fn templates(planner: &Planner) -> Vec<Template> {
    let mut all = Vec::new();
    for (index, operation) in planner.plan.operations.iter().enumerate() {
        let Some(access) = planner.access(operation) else { continue };
        let relations = access.relations.clone().unwrap_or_else(|| Relation::ALL.to_vec());
        for relation in relations {
            for role in planner.plan.roles() {
                for variant in variants(&planner.plan.target, operation, access, role, relation) {
                    all.push(Template { operation: index, role: role.into(), relation, variant });
                }
            }
        }
        if operation.secured && !access.open {
            for proof in planner.bad_proofs(access) {
                let variant = Variant::Credential(proof);
                all.push(Template { operation: index, role: NOBODY.into(), relation: Relation::Own, variant });
            }
        }
    }
    all
}

fn variants(
    target: &TargetFile,
    operation: &Operation,
    access: &Access,
    role: &str,
    relation: Relation,
) -> Vec<Variant> {
    let objects = TargetFile::named_in_path(operation, access).count();
    let rows = target.rows_in_path(operation, access).count();
    let in_body = !target.rows_in_body(access).is_empty();
    let filters = || {
        let filters = operation.parameters_in(Place::Query).filter(|p| access.params.contains_key(&p.name));
        filters.map(|p| Variant::Filter(p.name.clone()))
    };
    let allowed = access.open || access.allow.iter().any(|r| r == role);
    if !allowed {
        return vec![Variant::Plain];
    }
    let mut all = Vec::new();
    let listing = access.list.as_ref();
    if relation == Relation::Own {
        // What shows nothing unless it is told of something is asked by that.
        if listing.is_none_or(|list| list.complete) || in_body {
            all.push(Variant::Plain);
        }
        all.extend(filters());
        return all;
    }
    if objects > 0 || in_body {
        all.push(Variant::Plain);
    }
    if objects > 1 {
        all.push(Variant::Child);
    }
    if rows < objects && (rows > 1 || (in_body && rows == 0)) {
        all.push(Variant::Below);
    }
    if in_body && relation == Relation::Foreign {
        all.extend([Variant::Among(true), Variant::Among(false)]);
    }
    all.extend(filters());
    all.push(Variant::Forged(Forge::Query, None));
    if relation == Relation::Foreign {
        // One word alone too: what takes it may refuse the others.
        all.push(Variant::Forged(Forge::Query, Some(TENANT_ID_WORD)));
        all.push(Variant::Forged(Forge::Header, None));
        // Below one object there may be too few rows for a second page.
        if rows == 0 && listing.is_some_and(|list| list.cursor.is_some() && list.complete) {
            all.push(Variant::Cursor);
        }
    }
    if operation.body.is_some() {
        all.push(Variant::Forged(Forge::Body, None));
    }
    all
}
