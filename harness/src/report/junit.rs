//! `junit.xml`: a suite a family with a case a requirement, and a suite for the coverage with a case an operation.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::matrix::{Matrix, Square};
use crate::error::{Error, Result};
use crate::verdict::{Report, Verdict};

/// `junit.xml`.
///
/// # Errors
/// A defect of this build.
pub fn to_junit(report: &Report) -> Result<String> {
    let mut junit = Junit::new(format!("partywall {}", report.run.target));
    junit.set_time(Duration::from_millis(report.run.elapsed_ms));
    let mut suites: Vec<TestSuite> = Vec::new();
    for requirement in &report.judgement.requirements {
        let family = requirement.requirement.split('/').next().unwrap_or_default();
        let status = match &requirement.verdict {
            Verdict::Upheld => TestCaseStatus::success(),
            Verdict::Violated => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let findings = report.judgement.findings.iter().filter(|f| f.requirement == requirement.requirement);
                let texts: Vec<String> = findings
                    .map(|f| {
                        let proof = f
                            .witness
                            .iter()
                            .map(|w| format!("{}: {}\n{}\n{}", w.part, w.request, w.shows.join("\n"), w.curl));
                        format!("{}\n{}", f.sentence, proof.collect::<Vec<_>>().join("\n"))
                    })
                    .collect();
                status.set_message(requirement.sentence.clone()).set_description(texts.join("\n\n"));
                status
            }
            Verdict::Inconclusive(why) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status.set_type("inconclusive").set_message(why.clone());
                status
            }
            Verdict::NotApplicable(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why.clone());
                status
            }
        };
        let mut case = TestCase::new(requirement.requirement.clone(), status);
        case.set_classname(format!("partywall.{family}"));
        match suites.iter_mut().find(|suite| suite.name.as_str() == family) {
            Some(suite) => suite.add_test_case(case),
            None => {
                let mut suite = TestSuite::new(family);
                suite.add_test_case(case);
                suites.push(suite);
                continue;
            }
        };
    }
    let mut coverage = TestSuite::new("coverage");
    for row in Matrix::of(&report.judgement).rows {
        let status = if row.squares.contains(&Square::Inconclusive) {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status
                .set_type("inconclusive")
                .set_message("not every cell was shown")
                .set_description(row.wanting(20).join("\n"));
            status
        } else {
            TestCaseStatus::success()
        };
        let mut case = TestCase::new(row.operation.to_string(), status);
        case.set_classname("partywall.coverage");
        coverage.add_test_case(case);
    }
    suites.push(coverage);
    junit.add_test_suites(suites);
    junit.to_string().map_err(|e| Error::Defect(e.to_string()))
}
