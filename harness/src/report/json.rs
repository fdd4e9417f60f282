//! `report.json`: the report as it is, for programs.

use crate::verdict::Report;

/// `report.json`, ending in a line break. Text is as it was observed; JSON escapes it.
///
/// # Panics
/// Never on a report that was built: its maps have whole numbers for keys and all else is plain data.
pub fn to_json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}
