//! Which requirement a step counts against.

use super::{AFTER_FAULT, Proof, Vector};
use crate::cell::Relation;
use crate::operation::Operation;
use crate::principal::NOBODY;
use crate::target::credential::Flaw;
use crate::target::file::{Access, Per, PlantTable, TargetFile};

/// The requirement that a credential presented so is refused by.
pub(super) fn refusal_of(proof: &Proof) -> &'static str {
    match proof {
        Proof::Flawed(Flaw::Expired) => "role/expired",
        Proof::Flawed(
            Flaw::AnothersKey
            | Flaw::AnothersKeyAsOwn
            | Flaw::KeyIdPath
            | Flaw::KeyIdSql
            | Flaw::EmbeddedKey
            | Flaw::NoneCased,
        ) => "role/misleading-header",
        Proof::Flawed(_) => "role/foreign-issuer",
        _ => "role/bad-credential",
    }
}

/// The requirement that a violation by such a step counts against.
pub(super) fn requirement(
    target: &TargetFile,
    operation: &Operation,
    access: &Access,
    table: Option<&PlantTable>,
    role: &str,
    relation: Relation,
    vector: Vector,
) -> &'static str {
    let allowed = access.open || access.allow.iter().any(|r| r == role);
    match vector {
        Vector::Credential => return refusal_of(&Proof::Altered),
        Vector::ForgedClaim => return "context/forged-claim",
        _ if !allowed && role == NOBODY => return "role/no-credential",
        _ if !allowed => return "role/refused",
        Vector::ForgedQuery => return "context/forged-query",
        Vector::ForgedHeader => return "context/forged-header",
        Vector::ForgedBody => return "context/forged-body",
        Vector::ForgedHost => return "context/forged-host",
        Vector::ForgedForwarded => return "context/forged-forwarded",
        Vector::ForgedCookie => return "context/forged-cookie",
        Vector::ForgedPath => return "context/forged-path",
        Vector::ForgedName => return "context/forged-name",
        Vector::Repeated => return "context/repeated",
        Vector::RepeatedKey => return "context/repeated-key",
        Vector::NestedBody => return "context/nested-body",
        Vector::BodyReference => return "context/body-reference",
        Vector::FormBody => return "context/form-body",
        Vector::Spelling => return "context/spelling",
        Vector::Override => return "context/override",
        Vector::Verb => return "context/verb",
        Vector::Cursor => return "read/cursor",
        Vector::HandOver => return "pool/hand-over",
        Vector::AfterFault => return AFTER_FAULT,
        Vector::Generated => return "read/filter",
        Vector::Twin => return "existence/status",
        Vector::Learnt => return "read/learnt",
        Vector::Plain | Vector::Object | Vector::Filter | Vector::Story | Vector::Overheard => {}
    }
    let named = TargetFile::named_in_path(operation, access).next().is_some();
    let objects = named || !target.rows_in_body(access).is_empty();
    let counts = table.is_some_and(|table| table.per == Per::Row);
    match (&access.list, operation.is_read()) {
        (Some(list), _) if !list.complete => "read/search",
        (Some(_), _) if vector == Vector::Filter => "read/filter",
        (Some(_), _) if objects && relation != Relation::Own => "read/by-id",
        (Some(_), _) => "read/list",
        (None, true) if objects => "read/by-id",
        (None, true) if counts => "read/aggregate",
        (None, true) => "read/self",
        (None, false) if access.creates.is_some() => "write/create",
        (None, false) if objects => "write/by-id",
        (None, false) => "role/sign-in",
    }
}
