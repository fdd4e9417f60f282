//! `junit.xml`: a suite a family with a case a requirement, and a suite for the coverage with a case an operation.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::matrix::{Matrix, Row};
use super::text::{clean, ended_early, line, times};
use super::{SEED_SENTENCE, text};
use crate::finding::Finding;
use crate::verdict::{Report, RequirementVerdict, Verdict};

/// `junit.xml`.
///
/// # Panics
/// Never: the text is built in memory, and what XML cannot hold is replaced before.
pub fn to_junit(report: &Report) -> String {
    let mut junit = Junit::new(format!("partywall {}", line(&report.run.target)));
    junit.set_time(Duration::from_millis(report.run.elapsed_ms));
    let mut suites: Vec<TestSuite> = Vec::new();
    for requirement in &report.judgement.requirements {
        let family = line(requirement.requirement.split('/').next().unwrap_or_default());
        let mut case = TestCase::new(line(&requirement.requirement), status(report, requirement));
        case.set_classname(format!("partywall.{family}"));
        case.set_system_out(format!(
            "{}\n{} judged, {} controls succeeded",
            line(&requirement.sentence),
            requirement.judged,
            requirement.controls
        ));
        let at = suites.iter().position(|suite| suite.name.as_str() == family);
        let at = at.unwrap_or_else(|| {
            suites.push(TestSuite::new(family));
            suites.len() - 1
        });
        suites[at].add_test_case(case);
    }
    suites.push(coverage(report));
    for suite in &mut suites {
        suite.add_property(("seed", report.plan.seed.to_string().as_str()));
        suite.add_property(("reproduce", line(&report.run.reproduce).as_str()));
    }
    junit.add_test_suites(suites);
    junit.to_string().expect("XML written to memory")
}

fn status(report: &Report, requirement: &RequirementVerdict) -> TestCaseStatus {
    match &requirement.verdict {
        Verdict::Upheld => TestCaseStatus::success(),
        Verdict::Violated => {
            let findings: Vec<&Finding> =
                report.judgement.findings.iter().filter(|f| f.requirement == requirement.requirement).collect();
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let (kind, message) = match findings.as_slice() {
                [] => ("violated", line(&requirement.sentence)),
                [only] => (only.oracle.word(), line(&only.sentence)),
                [first, rest @ ..] => {
                    (first.oracle.word(), format!("{} (and {} more)", line(&first.sentence), rest.len()))
                }
            };
            let told: Vec<String> = findings.iter().map(|f| tell(f)).collect();
            status.set_type(kind).set_message(message);
            status.set_description(told.join("\n\n"));
            status
        }
        Verdict::Inconclusive(why) => inconclusive(line(why)),
        Verdict::NotApplicable(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(line(why));
            status
        }
    }
}

fn inconclusive(message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type("inconclusive").set_message(message);
    status
}

/// A finding with its proof, as plain text.
fn tell(finding: &Finding) -> String {
    let mut lines = vec![format!(
        "{}: {} (seen {}, first after {} requests)",
        line(&finding.id),
        line(&finding.sentence),
        times(finding.occurrences),
        finding.found_after_requests
    )];
    for witness in &finding.witness {
        let status = witness.status.map_or("no answer".into(), |s| format!("status {s}"));
        lines.push(format!(
            "{}: {} -> {status}, by {}, {}",
            line(&witness.part),
            line(&witness.request),
            line(&witness.actor),
            line(&witness.pool_state)
        ));
        lines.extend(witness.shows.iter().map(|s| format!("  shows {}", line(s))));
        lines.push(format!("  {}", clean(&witness.curl)));
    }
    lines.join("\n")
}

fn coverage(report: &Report) -> TestSuite {
    let mut suite = TestSuite::new("coverage");
    for row in &Matrix::of(&report.judgement).rows {
        let mut case = TestCase::new(line(row.operation), covered(row));
        case.set_classname("partywall.coverage");
        suite.add_test_case(case);
    }
    if let Some(early) = ended_early(report) {
        suite.set_system_err(early);
    }
    let states = report.plan.pool_states.iter().map(|s| line(s));
    suite.set_system_out(format!(
        "{}; seed {}. {SEED_SENTENCE}",
        states.collect::<Vec<_>>().join("; "),
        report.plan.seed
    ));
    suite
}

fn covered(row: &Row<'_>) -> TestCaseStatus {
    let open = row.inconclusive();
    if open.is_empty() {
        return TestCaseStatus::success();
    }
    let cells = text::count(row.cells.len(), "cell");
    let mut status = inconclusive(format!("{} of {cells} inconclusive", open.len()));
    let lines = open.iter().map(|(verdict, why)| {
        let cell = &verdict.cell;
        format!("{}, {} object, {}: {}", line(&cell.role), cell.relation.word(), cell.pool_state, line(why))
    });
    status.set_description(lines.collect::<Vec<_>>().join("\n"));
    status
}
