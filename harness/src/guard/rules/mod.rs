//! The checks, one file a family. What each rule says is in `scenarios/rules`.

mod constraint;
mod function;
mod policy;
mod policy_text;
mod role;
mod schema;
mod tenant_schema;
mod view;

use super::review::Review;
use crate::error::Result;

/// All families.
pub(super) const FAMILIES: [fn(&mut Review<'_>) -> Result<()>; 8] = [
    schema::check,
    role::check,
    policy::check,
    policy_text::check,
    view::check,
    function::check,
    constraint::check,
    tenant_schema::check,
];
