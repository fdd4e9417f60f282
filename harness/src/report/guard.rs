//! The review of a database as a table for the terminal: worst first, each with what mends it.

use super::text::{clean, count, line};
use crate::guard::{Finding, Report};
use crate::requirement::Severity;

/// The report as text.
pub fn to_text(report: &Report, color: bool) -> String {
    let mut out = format!("{} on PostgreSQL {}\n", line(&report.database), report.server);
    let listed = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
    let roles: Vec<String> =
        report.application_roles.iter().map(|role| format!("{} ({})", line(&role.name), line(&role.because))).collect();
    out.push_str(&format!("  application's database roles: {}\n", listed(&roles)));
    let contexts: Vec<String> = report.tenant_context.iter().map(|context| line(context)).collect();
    out.push_str(&format!("  tenant context: {}\n", listed(&contexts)));
    out.push_str(&format!(
        "  {} of tenants; {} tried\n",
        count(report.tenant_tables.len(), "table"),
        count(report.rules, "rule")
    ));
    for note in &report.notes {
        out.push_str(&format!("note: {}\n", line(note)));
    }
    for reason in &report.not_tried {
        out.push_str(&format!("not tried: {}\n", line(reason)));
    }
    for finding in &report.findings {
        out.push('\n');
        out.push_str(&told(finding, color));
    }
    for suppressed in &report.suppressed {
        let (rule, label) = (&suppressed.finding.rule, suppressed.finding.object.label());
        out.push_str(&format!(
            "\nsuppressed until {}: {rule} {}: {}\n",
            suppressed.expires,
            line(&label),
            line(&suppressed.reason)
        ));
    }
    out.push_str(&format!("\n{}\n", total(report)));
    out
}

fn told(finding: &Finding, color: bool) -> String {
    let (word, paint) = match finding.severity {
        Severity::Critical => ("critical", "\x1b[1;31m"),
        Severity::High => ("high", "\x1b[31m"),
        Severity::Medium => ("medium", "\x1b[33m"),
        Severity::Info => ("info", "\x1b[36m"),
    };
    let word = format!("{word:8}");
    let word = if color { format!("{paint}{word}\x1b[0m") } else { word };
    let certainty = finding.certainty.word();
    let mut out = String::new();
    if let Some(place) = &finding.place {
        out.push_str(&format!("{}\n", line(&place.to_string())));
    }
    out.push_str(&format!(
        "{word}  {certainty:9}  {}  {} {}\n",
        finding.rule,
        finding.object.kind,
        line(&finding.object.label())
    ));
    out.push_str(&format!("  {}\n", line(&finding.sentence)));
    for evidence in &finding.evidence {
        out.push_str(&format!("  - {}\n", line(evidence)));
    }
    for remedy in clean(&finding.remedy).lines() {
        out.push_str(&format!("      {remedy}\n"));
    }
    out
}

fn total(report: &Report) -> String {
    let of = |severity: Severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let parts = [
        (of(Severity::Critical), "critical"),
        (of(Severity::High), "high"),
        (of(Severity::Medium), "medium"),
        (of(Severity::Info), "info"),
    ];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    match parts.is_empty() {
        true if report.is_empty() => "nothing to judge".into(),
        true => "no findings".into(),
        false => format!("findings: {}", parts.join(", ")),
    }
}
