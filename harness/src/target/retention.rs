//! What of a service goes by its age: the target file's word on it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::{Per, TargetFile};
use crate::error::unknown;

/// How long a tenant's rows are kept, and what sees to it. Rows that are old enough are planted in a copy of the target of
/// its own, which takes a database.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The planted table whose rows go; what refers to them by `ref:TABLE` may go with them.
    pub table: String,
    /// Its column that age counts from, a timestamp; it need not be among `columns`.
    pub column: String,
    /// Every other row is planted so many days old, and is then due; all others are a day old at most, and are not.
    pub days: u32,
    /// The operation by which a tenant has its retention run.
    pub run: String,
    /// How the end of a run shows; without it, once `run` is answered.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// What keeps a tenant's rows however old they are: planted columns (`TABLE.COLUMN`) and what stands there then.
    #[serde(default)]
    pub hold: BTreeMap<String, String>,
    /// True when what goes is kept among the tenant's objects, below the path that `{objects}` stands for in `[launch]`.
    #[serde(default)]
    pub archived: bool,
}

/// How the end of what was begun shows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The operation that tells of it; it is asked again until it does. Its parameter for a row of the table of `run` takes
    /// the id of what that made.
    pub operation: String,
    /// JSON pointer to where it stands in the answer.
    pub at: String,
    /// The values that mean the end, whether good or bad.
    pub is: Vec<String>,
}

/// Checks what `[retention]` names.
pub(super) fn check(file: &TargetFile) -> Result<(), String> {
    let Some(retention) = &file.retention else { return Ok(()) };
    let at = |why: String| format!("[retention]: {why}");
    let tables = || file.plant.table.iter().map(|table| table.name.as_str());
    let table = file.plant.table.iter().find(|table| table.name == retention.table);
    let table = table.ok_or_else(|| at(unknown("planted table", &retention.table, tables()).to_string()))?;
    if table.per != Per::Row || table.rows_max.is_some_and(|rows| rows < 2) {
        return Err(at(format!(
            "{} needs two rows a tenant or more: one that is due, and one that is not",
            table.name
        )));
    }
    if retention.days < 2 {
        return Err(at("days must be 2 or more: rows that are not due are a day old at most".into()));
    }
    for id in std::iter::once(&retention.run).chain(retention.ended.iter().map(|ended| &ended.operation)) {
        if file.access(id).is_none() {
            let known = file.operation.iter().map(|o| o.id.as_str());
            return Err(at(unknown("operation", id, known).to_string()));
        }
    }
    for place in retention.hold.keys() {
        let column = |(table, column): (&str, &str)| {
            file.plant.table.iter().any(|t| t.name == table && t.columns.contains_key(column))
        };
        if !place.split_once('.').is_some_and(column) {
            return Err(at(format!(
                "hold: `{place}` is no planted column; it is TABLE.COLUMN, by the names of [plant]"
            )));
        }
    }
    if retention.archived && !file.keeps_objects() {
        return Err(at("archived: [launch] env gives the service no folder for {objects} to look into".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::target::file::{REFERENCE, TargetFile};

    #[test]
    fn what_is_not_there_or_cannot_be_aged_is_said() {
        for (is, becomes, says) in [
            ("table = \"events\"\ncolumn", "table = \"evnts\"\ncolumn", "did you mean `events`"),
            ("table = \"events\"\ncolumn", "table = \"tenants\"\ncolumn", "two rows a tenant or more"),
            ("days = 400", "days = 1", "2 or more"),
            (
                "\nrun = \"create_retention_run\"",
                "\nrun = \"create_retention_rum\"",
                "did you mean `create_retention_run`",
            ),
            ("retention_policies.legal_hold", "retention_policies.held", "no planted column"),
            ("file://{objects}", "file:///elsewhere", "no folder for {objects}"),
            ("archived = true", "archive = true", "did you mean `archived`"),
        ] {
            assert!(REFERENCE.contains(is), "{is}");
            let error = TargetFile::parse(&REFERENCE.replacen(is, becomes, 1), "their.toml").expect_err(becomes);
            let text = error.to_string();
            assert!(text.contains("their.toml") && text.contains(says), "{becomes}: {text}");
        }
    }
}
