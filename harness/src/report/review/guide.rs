//! `docs/rules`: a page a family, from the catalogue of rules.

use std::collections::BTreeMap;

use super::junit::families;
use crate::guard::rule::Rule;
use crate::requirement::Severity;

/// What each family is about.
fn about(family: &str) -> &'static str {
    match family {
        "schema" => "Tables and what else holds rows: whether there is a wall at all, and what cannot have one.",
        "role" => "Database roles: what the application's may do past every wall, by itself or by becoming another.",
        "policy" => "Row-security policies: what they let through together, to whom, and when nothing is bound.",
        "view" => "Views, rules and materialised views: as whom they read, and what they show of what they read.",
        "function" => "Functions and triggers: as whom they run, what they find on their path, and what they return.",
        "constraint" => "Keys and constraints: what their answers tell of rows that cannot be seen.",
        _ => "Rules of guard.",
    }
}

/// The pages by file name.
pub fn guides(rules: &[Rule]) -> BTreeMap<String, String> {
    let page = |family: &str| {
        let mut text = format!("# `{family}/`\n\n{}\n\nMade from the catalogue of rules.\n", about(family));
        for rule in rules.iter().filter(|rule| rule.id.starts_with(&format!("{family}/"))) {
            text.push_str(&format!("\n## `{}`\n\n{}\n\n", rule.id, rule.sentence.trim()));
            text.push_str(&format!("Severity: {}.\n\n{}\n\n", word(rule.severity), rule.why.trim()));
            text.push_str(&format!("**Remedy.** {}\n\nSource: {}\n", rule.remedy.trim(), rule.source.trim()));
        }
        (format!("{family}.md"), text)
    };
    families(rules).into_iter().map(page).collect()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Info => "information",
    }
}
