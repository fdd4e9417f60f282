//! `guard.sarif`: SARIF 2.1.0, <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>. Written as JSON: the
//! crates that model it bring the whole standard for the dozen properties that are used here.

use std::path::{Component, Path};

use serde_json::{Value, json};

use crate::guard::rule::Rule;
use crate::guard::{Certainty, Finding, Report};
use crate::plan::sha256;
use crate::requirement::Severity;

/// `guard.sarif`.
///
/// # Panics
/// Never: it holds strings and numbers.
pub(super) fn to_sarif(report: &Report, rules: &[Rule]) -> String {
    let findings = report.findings.iter().map(|finding| result(finding, rules, None));
    let lived_with = report.suppressed.iter().map(|one| {
        let why = format!("{} (until {})", one.reason, one.expires);
        result(&one.finding, rules, Some(why))
    });
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "partywall guard",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(descriptor).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "properties": { "database": report.database, "server": report.server },
            "results": findings.chain(lived_with).collect::<Vec<_>>(),
        }],
    });
    serde_json::to_string_pretty(&log).expect("strings and numbers") + "\n"
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": { "text": rule.sentence },
        "fullDescription": { "text": rule.why },
        "help": { "text": format!("{}\n\n{}\n\nSource: {}", rule.why, rule.remedy, rule.source) },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": { "tags": ["security", "tenant-isolation"], "security-severity": score(rule.severity) },
    })
}

fn result(finding: &Finding, rules: &[Rule], lived_with: Option<String>) -> Value {
    let mut said = finding.sentence.clone();
    for line in &finding.evidence {
        said.push_str(&format!("\n- {line}"));
    }
    if !finding.remedy.is_empty() {
        said.push_str(&format!("\n\nRemedy:\n{}", finding.remedy));
    }
    let label = finding.object.label();
    let mut location = json!({ "logicalLocations": [{ "fullyQualifiedName": label, "kind": finding.object.kind }] });
    if let Some(place) = &finding.place {
        location["physicalLocation"] = json!({
            "artifactLocation": { "uri": uri(&place.file) },
            "region": { "startLine": place.line },
        });
    }
    let mut result = json!({
        "ruleId": finding.rule,
        "level": match finding.certainty {
            Certainty::Suspected if level(finding.severity) == "error" => "warning",
            _ => level(finding.severity),
        },
        "message": { "text": said },
        "locations": [location],
        // What does not move when lines do.
        "partialFingerprints": { "ruleAndObject/v1": &sha256(format!("{}\n{label}", finding.rule).as_bytes())[..16] },
        "properties": { "certainty": finding.certainty.word(), "security-severity": score(finding.severity) },
    });
    if let Some(at) = rules.iter().position(|rule| rule.id == finding.rule) {
        result["ruleIndex"] = at.into();
    }
    if let Some(why) = lived_with {
        result["suppressions"] = json!([{ "kind": "external", "status": "accepted", "justification": why }]);
    }
    result
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Info => "note",
    }
}

/// A number out of ten, as code scanning sorts by it.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.0",
        Severity::Info => "1.0",
    }
}

/// The path as a reference relative to where the command ran, where it is below; RFC 3986.
fn uri(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut parts = Vec::new();
    for part in path.components().filter(|part| *part != Component::CurDir) {
        let text = part.as_os_str().to_string_lossy();
        let spelt = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        parts.push(if part == Component::RootDir {
            "file://".into()
        } else {
            text.bytes().map(spelt).collect::<String>()
        });
    }
    parts.join("/")
}
