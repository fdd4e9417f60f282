use std::path::{Path, PathBuf};

use super::guide::guides;
use super::*;
use crate::guard::finding::{Certainty, Finding, Object};
use crate::guard::report::Suppressed;
use crate::guard::rule::catalogue;
use crate::migration::Place;
use crate::requirement::Severity;

/// Set to anything, it writes the pages instead of comparing them.
const WRITE: &str = "PARTYWALL_WRITE_GUIDES";

#[test]
fn the_guides_say_what_the_catalogue_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules");
    let pages = guides(&catalogue().expect("rules"));
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(&folder).expect("made");
        for (name, text) in &pages {
            std::fs::write(folder.join(name), text).expect("written");
        }
    }
    for (name, text) in &pages {
        let there = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(&there == text, "docs/rules/{name} has drifted: run this test with {WRITE}=1");
    }
    let files: Vec<String> = std::fs::read_dir(&folder)
        .expect("docs/rules")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files.len(), pages.len(), "a page without a family: {files:?}");
}

fn finding(rule: &str, severity: Severity, certainty: Certainty, place: Option<Place>) -> Finding {
    Finding {
        rule: rule.into(),
        severity,
        certainty,
        object: Object { schema: Some("public".into()), name: "in \"voices\"".into(), kind: "table".into() },
        sentence: "It is open\u{1}.".into(),
        evidence: vec!["web holds SELECT".into()],
        remedy: "ALTER TABLE x;".into(),
        place,
    }
}

fn report() -> Report {
    let rules = catalogue().expect("rules");
    let (first, last) = (rules[0].id.clone(), rules[rules.len() - 1].id.clone());
    let place = Place { file: PathBuf::from("./db/ü x/1.sql"), line: 7 };
    Report {
        version: 1,
        database: "shop".into(),
        server: "15.1".into(),
        application_roles: Vec::new(),
        tenant_tables: Vec::new(),
        tenant_context: Vec::new(),
        tenant_schemas: Vec::new(),
        rules: rules.len(),
        findings: vec![
            finding(&first, Severity::Critical, Certainty::Inferred, Some(place)),
            finding(&last, Severity::High, Certainty::Suspected, None),
        ],
        suppressed: vec![Suppressed {
            finding: finding(&first, Severity::High, Certainty::Proven, None),
            reason: "a trial".into(),
            expires: "2999-01-01".into(),
        }],
        notes: Vec::new(),
        not_tried: Vec::new(),
    }
}

#[test]
fn sarif_has_what_code_scanning_reads() {
    let (rules, report) = (catalogue().expect("rules"), report());
    let log: serde_json::Value =
        serde_json::from_str(&Form::Sarif.render(&report, &Matrix::default(), &rules)).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    let results = log["runs"][0]["results"].as_array().expect("results");
    let levels: Vec<&str> = results.iter().filter_map(|result| result["level"].as_str()).collect();
    assert_eq!(levels, ["error", "warning", "error"], "what is suspected warns");
    let physical = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(physical["artifactLocation"]["uri"], "db/%C3%BC%20x/1.sql");
    assert_eq!(physical["region"]["startLine"], 7);
    assert!(results[1]["locations"][0].get("physicalLocation").is_none());
    assert_eq!(results[2]["suppressions"][0]["justification"], "a trial (until 2999-01-01)");
    let at = results[1]["ruleIndex"].as_u64().expect("an index") as usize;
    assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][at]["id"], results[1]["ruleId"]);
    let print = |at: usize| &results[at]["partialFingerprints"];
    assert_eq!(print(0), print(2), "the same rule on the same object");
    assert_ne!(print(0), print(1));
}

#[test]
fn junit_has_a_case_for_every_rule() {
    let (rules, report) = (catalogue().expect("rules"), report());
    let text = Form::Junit.render(&report, &Matrix::default(), &rules);
    assert_eq!(text.matches("<testcase").count(), rules.len());
    assert_eq!((text.matches("<failure").count(), text.matches("<error").count()), (1, 1));
    assert!(!text.contains('\u{1}') && text.contains("db/ü x/1.sql:7"), "{text}");
    assert!(text.contains("a trial"), "what is lived with is told");
}

#[test]
fn the_page_escapes_what_it_shows() {
    let text = Form::Html.render(&report(), &Matrix::default(), &[]);
    assert!(text.contains("public.in &#34;voices&#34;"), "{text}");
}
