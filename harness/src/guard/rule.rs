//! The rules of guard: what each says and why is data in `scenarios/rules`, embedded in the binary; the check is code.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown};
use crate::requirement::Severity;

/// One rule.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `family/name`.
    pub id: String,
    /// What is wrong where it is broken.
    pub sentence: String,
    /// How bad that is.
    pub severity: Severity,
    /// Why it matters, and where it does not.
    pub why: String,
    /// What to do, in general.
    pub remedy: String,
    /// Where the rule comes from.
    pub source: String,
}

#[derive(Deserialize)]
struct Family {
    rule: Vec<Rule>,
}

const FAMILIES: &[&str] = &[
    include_str!("../../../scenarios/rules/schema.toml"),
    include_str!("../../../scenarios/rules/role.toml"),
    include_str!("../../../scenarios/rules/policy.toml"),
    include_str!("../../../scenarios/rules/view.toml"),
    include_str!("../../../scenarios/rules/function.toml"),
    include_str!("../../../scenarios/rules/constraint.toml"),
];

/// All rules, family by family.
///
/// # Errors
/// A catalogue that does not parse is a defect of this build.
pub fn catalogue() -> Result<Vec<Rule>> {
    let mut all = Vec::new();
    for text in FAMILIES {
        let family: Family = toml::from_str(text).map_err(|e| Error::Defect(e.to_string()))?;
        all.extend(family.rule);
    }
    Ok(all)
}

/// The rule with that ID.
///
/// # Errors
/// There is none: the nearest right word is named.
pub fn named(id: &str) -> Result<Rule> {
    let mut all = catalogue()?;
    match all.iter().position(|rule| rule.id == id) {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(unknown("rule", id, all.iter().map(|rule| rule.id.as_str()))),
    }
}
