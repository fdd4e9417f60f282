//! `guard-junit.xml`: a suite a family, a case a rule.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use crate::guard::rule::Rule;
use crate::guard::{Certainty, Finding, Report};
use crate::report::text::{clean, line};
use crate::requirement::Severity;

/// `guard-junit.xml`.
///
/// # Panics
/// Never: the text is built in memory, and what XML cannot hold is replaced before.
pub(super) fn to_junit(report: &Report, rules: &[Rule]) -> String {
    let mut junit = Junit::new(format!("partywall guard {}", line(&report.database)));
    for family in families(rules) {
        let mut suite = TestSuite::new(family);
        for rule in rules.iter().filter(|rule| self::family(rule) == family) {
            let mut case = TestCase::new(line(&rule.id), status(report, rule));
            case.set_classname(format!("partywall.guard.{family}"));
            let lived_with = report.suppressed.iter().filter(|one| one.finding.rule == rule.id);
            let mut told = vec![line(&rule.sentence)];
            told.extend(lived_with.map(|one| {
                line(&format!("lived with until {}: {}: {}", one.expires, one.finding.sentence, one.reason))
            }));
            case.set_system_out(told.join("\n"));
            suite.add_test_case(case);
        }
        junit.add_test_suite(suite);
    }
    junit.to_string().expect("XML written to memory")
}

/// The families of rules, in their order.
pub(crate) fn families(rules: &[Rule]) -> Vec<&str> {
    let mut families: Vec<&str> = rules.iter().map(family).collect();
    families.dedup();
    families
}

fn family(rule: &Rule) -> &str {
    rule.id.split('/').next().unwrap_or_default()
}

fn status(report: &Report, rule: &Rule) -> TestCaseStatus {
    let violates = |finding: &&Finding| finding.rule == rule.id && finding.severity != Severity::Info;
    let findings: Vec<&Finding> = report.findings.iter().filter(violates).collect();
    let Some(first) = findings.first() else { return TestCaseStatus::success() };
    let sure = findings.iter().any(|finding| finding.certainty != Certainty::Suspected);
    let kind = if sure { NonSuccessKind::Failure } else { NonSuccessKind::Error };
    let mut status = TestCaseStatus::non_success(kind);
    let more = if findings.len() > 1 { format!(" (and {} more)", findings.len() - 1) } else { String::new() };
    status.set_type(first.certainty.word()).set_message(format!("{}{more}", line(&first.sentence)));
    status.set_description(findings.iter().map(|finding| tell(finding)).collect::<Vec<_>>().join("\n\n"));
    status
}

/// A finding with what shows it, as plain text.
fn tell(finding: &Finding) -> String {
    let place = finding.place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
    let mut lines = vec![format!("{}{} ({})", line(&place), line(&finding.sentence), finding.certainty.word())];
    lines.extend(finding.evidence.iter().map(|shown| format!("  {}", line(shown))));
    lines.push(clean(&finding.remedy));
    lines.join("\n")
}
