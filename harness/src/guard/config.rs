//! `partywall.toml`: what a team tells guard about its database, and which findings it has decided to live with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::error::{Error, Result, unknown};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "partywall.toml";

/// The configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names of columns that say whose a row is; `*` is anything. They come before those known otherwise.
    pub tenant_columns: Vec<String>,
    /// Tables that are tenants', with the column that says whose a row is, `schema.table.column` or `table.column`.
    pub tenant_tables: Vec<String>,
    /// Tables that are no tenant's, `schema.table` or `table`; `*` is anything.
    pub platform_tables: Vec<String>,
    /// Schemas that are a tenant each; `*` is anything. Those that hold the same tables are found when none is named.
    pub tenant_schemas: Vec<String>,
    /// Settings, or functions written `schema.name()`, that say which tenant is bound.
    pub tenant_context: Vec<String>,
    /// The database roles that the application connects as.
    pub application_roles: Vec<String>,
    /// How migrations are applied.
    pub migrations: Migrations,
    /// Findings to live with.
    pub suppress: Vec<Suppression>,
}

/// How a folder of migrations is applied.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Migrations {
    /// The `search_path` under which a subfolder's files run, such as `tenant = "shared, public"`.
    pub search_path: BTreeMap<PathBuf, String>,
}

/// A finding to live with, for a reason and a time.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suppression {
    /// The rule's ID.
    pub rule: String,
    /// The object as the report labels it; `*` is anything.
    pub object: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The last day on which it counts, `2027-01-31`.
    #[serde(default)]
    pub expires: String,
}

const KEYS: [&str; 8] = [
    "tenant_columns",
    "tenant_tables",
    "platform_tables",
    "tenant_schemas",
    "tenant_context",
    "application_roles",
    "migrations",
    "suppress",
];
const SUPPRESSION_KEYS: [&str; 4] = ["rule", "object", "reason", "expires"];

impl Config {
    /// True for a table, labelled `schema.table`, that is no tenant's.
    pub fn is_platform(&self, label: &str, name: &str) -> bool {
        self.platform_tables.iter().any(|pattern| fits(pattern, label) || fits(pattern, name))
    }

    /// Reads `file`, or the default one where it is.
    ///
    /// # Errors
    /// The file cannot be read, has an unknown key, or suppresses without a reason or an expiry.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let path = match file {
            Some(path) => path.to_path_buf(),
            None if Path::new(DEFAULT_FILE).exists() => PathBuf::from(DEFAULT_FILE),
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads `text`, which came from `place`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let wrong = |why: String| Error::Usage(format!("{place}: {why}"));
        let table: toml::Table = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        known(place, table.keys(), &KEYS)?;
        for suppression in table.get("suppress").and_then(|value| value.as_array()).into_iter().flatten() {
            known(place, suppression.as_table().into_iter().flat_map(|table| table.keys()), &SUPPRESSION_KEYS)?;
        }
        let config: Self = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        for suppression in &config.suppress {
            let named = format!("the suppression of {} on {}", suppression.rule, suppression.object);
            super::rule::named(&suppression.rule)?;
            if suppression.reason.trim().is_empty() {
                return Err(wrong(format!("{named} has no reason: say why it is no danger")));
            }
            suppression.last_day().map_err(|why| wrong(format!("{named} {why}")))?;
        }
        Ok(config)
    }
}

impl Suppression {
    /// The last day on which it counts.
    ///
    /// # Errors
    /// There is none, or it is no date.
    pub fn last_day(&self) -> std::result::Result<Date, String> {
        if self.expires.is_empty() {
            return Err("has no `expires`: give the day on which to look at it again, such as \"2027-01-31\"".into());
        }
        Date::parse(&self.expires, format_description!("[year]-[month]-[day]"))
            .map_err(|_| format!("expires on `{}`, which is no date; write it like 2027-01-31", self.expires))
    }

    /// True once its last day is over.
    pub fn has_expired(&self) -> bool {
        self.last_day().is_ok_and(|last| last < OffsetDateTime::now_utc().date())
    }

    /// True when it is about this finding.
    pub fn matches(&self, rule: &str, object: &str) -> bool {
        self.rule == rule && fits(&self.object, object)
    }
}

/// True when `name` fits `pattern`, in which `*` is anything.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn known<'a>(place: &str, keys: impl Iterator<Item = &'a String>, words: &[&str]) -> Result<()> {
    for key in keys {
        if !words.contains(&key.as_str()) {
            return Err(match unknown("key", key, words.iter().copied()) {
                Error::Usage(text) => Error::Usage(format!("{place}: {text}")),
                other => other,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Config, fits};

    #[test]
    fn stars_are_anything() {
        for (pattern, name, fit) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (text, says) in [
            ("tenant_colums = []", "did you mean `tenant_columns`"),
            ("[[suppress]]\nrule = \"policy/open\"\nobject = \"*\"\nexpires = \"2999-01-01\"", "has no reason"),
            ("[[suppress]]\nrule = \"policy/open\"\nobject = \"*\"\nreason = \"x\"", "has no `expires`"),
            ("[[suppress]]\nrule = \"policy/open\"\nobject = \"*\"\nreason = \"x\"\nexpires = \"soon\"", "no date"),
            (
                "[[suppress]]\nrule = \"policy/opne\"\nobject = \"*\"\nreason = \"x\"\nexpires = \"2999-01-01\"",
                "did you mean `policy/open`",
            ),
            ("[[suppress]]\nrule = \"policy/open\"\nobjct = \"*\"", "did you mean `object`"),
        ] {
            let error = Config::parse(text, "partywall.toml").expect_err(text).to_string();
            assert!(error.contains(says) && error.starts_with("partywall.toml") || error.contains(says), "{error}");
        }
        let good = "[[suppress]]\nrule = \"policy/open\"\nobject = \"*\"\nreason = \"x\"\nexpires = \"2020-01-01\"";
        assert!(Config::parse(good, "f").expect("it is well formed").suppress[0].has_expired());
    }
}
